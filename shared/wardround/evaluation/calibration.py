"""Do predicted risks mean what they say? Calibration from pooled counts.

Mode exact: means of scores per group come from the fixed-point sums, within 2^-25 per patient.
Mode noised: bin centres stand for scores, within 1/(2 bins). Slope and intercept use bin centres
in both modes.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from wardround.evaluation.histograms import CLASSES, SCORE_ONE, CountsMode, EvaluationCounts, Scores

_MAX_ROUNDS = 100
_SETTLED = 1e-10
_STEEPEST = 1e3
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationGroup:
    """Patients whose score lies in [low, high): how many, predicted and observed risk.

    Risks are None for an empty group. Noised `patients` and `positives` may be negative.
    """

    low: float
    high: float
    patients: int
    positives: int
    predicted: float | None
    observed: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationLine:
    """logit(risk) = intercept + slope * logit(score), with standard errors; ideal is 0 and 1."""

    intercept: float
    slope: float
    intercept_se: float
    slope_se: float


def calibration_groups(counts: EvaluationCounts) -> tuple[CalibrationGroup, ...]:
    """Groups of equal width over [0, 1] (at most 10, bin edges)."""
    groups = counts.layout.groups
    members = counts.histogram.reshape(CLASSES, groups, -1).sum(axis=2)
    sums = score_sums_by_group(counts)
    result = []
    for at in range(groups):
        patients, positives = int(members[:, at].sum()), int(members[1, at])
        result.append(
            CalibrationGroup(
                low=at / groups,
                high=(at + 1) / groups,
                patients=patients,
                positives=positives,
                predicted=_share(float(sums[at]), patients),
                observed=_share(positives, patients),
            )
        )
    return tuple(result)


def score_sums_by_group(counts: EvaluationCounts) -> Scores:
    """Sum of the scores of both classes, per group."""
    if counts.layout.mode is CountsMode.EXACT:
        return np.asarray(counts.score_sums.sum(axis=0) / SCORE_ONE)
    weighted = counts.histogram.sum(axis=0) * counts.layout.centres
    return np.asarray(weighted.reshape(counts.layout.groups, -1).sum(axis=1))


def expected_calibration_error(groups: tuple[CalibrationGroup, ...]) -> float | None:
    """Mean |observed - predicted| over groups, by patients (Naeini et al. 2015).

    Groups that noise left without patients do not count; noise can only raise it on average.
    """
    filled = [
        (group.patients, abs(group.observed - group.predicted))
        for group in groups
        if group.observed is not None and group.predicted is not None
    ]
    patients = sum(weight for weight, _ in filled)
    return math.fsum(weight * gap for weight, gap in filled) / patients if patients else None


def calibration_line(counts: EvaluationCounts) -> CalibrationLine | None:
    """Logistic recalibration by Newton's method on bin centres (Cox 1958).

    None when it has no finite answer: one class, all scores in one bin, or classes that a
    threshold separates. Negative noised cells count as zero.
    """
    cells = np.maximum(counts.histogram, 0).astype(np.float64)
    negatives, positives = cells
    if _separated(negatives, positives) or _separated(positives, negatives):
        return None
    centres = counts.layout.centres
    logits = np.log(centres / (1 - centres))
    design = np.stack([np.ones_like(logits), logits])
    return _newton(design, negatives, positives)


def _newton(design: Scores, negatives: Scores, positives: Scores) -> CalibrationLine | None:
    answer = np.zeros(2)
    fit = _log_likelihood(answer, design, negatives, positives)
    for _ in range(_MAX_ROUNDS):
        risk = expit(answer @ design)
        gradient = design @ (positives - (positives + negatives) * risk)
        hessian = (design * ((positives + negatives) * risk * (1 - risk))) @ design.T
        determinant = hessian[0, 0] * hessian[1, 1] - hessian[0, 1] ** 2
        if determinant <= 0 or np.abs(answer).max() > _STEEPEST:
            return None
        inverse = np.array([[hessian[1, 1], -hessian[0, 1]], [-hessian[0, 1], hessian[0, 0]]])
        inverse /= determinant
        step = inverse @ gradient
        if np.abs(step).max() < _SETTLED:
            errors = np.sqrt(np.diag(inverse))
            return CalibrationLine(
                intercept=float(answer[0]),
                slope=float(answer[1]),
                intercept_se=float(errors[0]),
                slope_se=float(errors[1]),
            )
        # A full Newton step can overshoot; the likelihood is concave, so a shorter one climbs.
        better = _log_likelihood(answer + step, design, negatives, positives)
        while better < fit - _ROUNDING * abs(fit) and np.abs(step).max() > _SETTLED:
            step /= 2
            better = _log_likelihood(answer + step, design, negatives, positives)
        answer, fit = answer + step, better
    return None


def _log_likelihood(answer: Scores, design: Scores, negatives: Scores, positives: Scores) -> float:
    log_odds = answer @ design
    return float(-(positives @ np.logaddexp(0, -log_odds) + negatives @ np.logaddexp(0, log_odds)))


def _separated(lower: Scores, upper: Scores) -> bool:
    # True when no member of `upper` lies below a member of `lower`: the slope would run away.
    lower_at, upper_at = np.flatnonzero(lower), np.flatnonzero(upper)
    return not lower_at.size or not upper_at.size or bool(lower_at[-1] <= upper_at[0])


def _share(part: float, whole: int) -> float | None:
    return min(max(part / whole, 0.0), 1.0) if whole > 0 else None
