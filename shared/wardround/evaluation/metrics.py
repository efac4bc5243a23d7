"""Every number of an evaluation, from pooled counts and the pre-registered threshold alone.

Whoever has the counts gets the same `Evaluation`, and the same JSON: a verifier recomputes the
metrics of a report. What the data cannot say is None (printed NA): never 0.5, never a crash.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from wardround.canonical import Json
from wardround.errors import BadInput
from wardround.evaluation.calibration import (
    CalibrationGroup,
    CalibrationLine,
    calibration_groups,
    calibration_line,
    expected_calibration_error,
    score_sums_by_group,
)
from wardround.evaluation.decision import (
    average_precision,
    average_precision_interval,
    decision_curve,
    f1_score,
    net_benefit,
    net_benefit_interval,
    odds,
)
from wardround.evaluation.discrimination import (
    auroc_standard_error,
    ranking,
    roc_points,
    unbounded_auroc,
)
from wardround.evaluation.histograms import SCORE_ONE, Counts, CountsMode, EvaluationCounts
from wardround.evaluation.intervals import auroc_interval, inside, wilson
from wardround.evaluation.propagation import noise_spread

JSON_DIGITS = 6


class _Metric(NamedTuple):
    """From counts and the first positive bin: the value, and its 95 % sampling interval.

    It lies between `least` and 1. The value is not put back there, which noise may leave: what
    noise does to it is followed outside as well, since at the end of the scale a bounded one would
    stand still.
    """

    value: Callable[[EvaluationCounts, int], float | None]
    interval: Callable[[EvaluationCounts, int], tuple[float, float] | None]
    least: Callable[[EvaluationCounts, int], float] = lambda _counts, _cut: 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A metric with two 95 % intervals: of sampling [low, high], and of the noise on the counts.

    The noise's interval is None for exact counts; it is [0, 1] where noise leaves nothing known.
    """

    value: float
    low: float | None = None
    high: float | None = None
    noise_low: float | None = None
    noise_high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The evaluation of a model on pooled held-out patients. None means not available.

    `auroc_lower` and `auroc_upper` bracket the AUROC of the unbinned scores with certainty (mode
    exact only). `score_error` bounds how far a bin's stand-in lies from a score, `brier_error` what
    that does to the Brier score. `negative_cells` counts noised cells below zero.
    """

    mode: CountsMode
    bins: int
    threshold: float
    patients: int
    positives: int
    negative_cells: int
    prevalence: Estimate | None
    auroc: Estimate | None
    auroc_lower: float | None
    auroc_upper: float | None
    auroc_se: float | None
    sensitivity: Estimate | None
    specificity: Estimate | None
    ppv: Estimate | None
    npv: Estimate | None
    accuracy: Estimate | None
    net_benefit: Estimate | None
    average_precision: Estimate | None
    f1: Estimate | None
    brier: Estimate | None
    brier_error: float
    calibration_in_the_large: float | None
    calibration_error: float | None
    calibration_line: CalibrationLine | None
    calibration: tuple[CalibrationGroup, ...]
    roc: tuple[tuple[float, float], ...]
    decision_curve: tuple[tuple[float, float, float], ...]

    def to_json(self) -> Json:
        """Plain JSON with every float rounded to 6 digits after the point.

        The last bits of exp and log differ between machines; six digits do not.
        """
        return {name: rounded(value) for name, value in asdict(self).items()}


def evaluate_counts(
    counts: EvaluationCounts, *, threshold: float, cell_noise_sd: float = 0.0
) -> Evaluation:
    """Compute the evaluation of pooled counts; score >= threshold is positive.

    `cell_noise_sd` is the standard deviation of the noise in one POOLED cell (the square root of
    the sum of the hospitals' variances): 0 for mode exact, positive for noised. Noise intervals are
    by propagation: 1.96 standard deviations, from central differences of one standard deviation
    in each cell; no simulation, so that every reader gets the same digits. Raises BadInput for a
    threshold off a bin's edge or a noise that does not fit the mode.
    """
    layout = counts.layout
    exact = layout.mode is CountsMode.EXACT
    if exact != (cell_noise_sd == 0.0) or not 0 <= cell_noise_sd < math.inf:
        raise BadInput(f"evaluation: cell noise {cell_noise_sd} does not fit {layout.mode} counts")
    cut = layout.threshold_bin(threshold)
    patients, positives = int(counts.histogram.sum()), int(counts.histogram[1].sum())
    ranked = ranking(counts.histogram)
    groups = calibration_groups(counts)
    return Evaluation(
        mode=layout.mode,
        bins=layout.bins,
        threshold=threshold,
        patients=patients,
        positives=positives,
        negative_cells=int((counts.histogram < 0).sum()),
        auroc_lower=ranked.lower if ranked and exact else None,
        auroc_upper=ranked.upper if ranked and exact else None,
        auroc_se=auroc_standard_error(counts.histogram),
        brier_error=2 / SCORE_ONE if exact else 1 / layout.bins,
        calibration_in_the_large=_in_the_large(counts),
        calibration_error=expected_calibration_error(groups),
        calibration_line=calibration_line(counts),
        calibration=groups,
        roc=roc_points(counts.histogram),
        decision_curve=decision_curve(counts),
        **{name: _estimate(each, counts, cut, cell_noise_sd) for name, each in _METRICS.items()},
    )


def _estimate(
    metric: _Metric, counts: EvaluationCounts, cut: int, cell_noise_sd: float
) -> Estimate | None:
    found = metric.value(counts, cut)
    if found is None:
        return None
    least = metric.least(counts, cut)
    value = _within(found, least)
    low, high = metric.interval(counts, cut) or (None, None)
    if cell_noise_sd == 0.0:
        return Estimate(value=value, low=low, high=high)

    def of_cells(cells: Counts) -> float | None:
        moved = EvaluationCounts(counts.layout, cells, counts.score_sums, counts.square_sums)
        return metric.value(moved, cut)

    spread = noise_spread(of_cells, counts.histogram, cell_noise_sd)
    ends = (least, 1.0)
    if spread is not None:
        ends = (_within(found - spread, least), _within(found + spread, least))
    return Estimate(value=value, low=low, high=high, noise_low=ends[0], noise_high=ends[1])


def _within(value: float, least: float) -> float:
    return min(max(value, least), 1.0)


def _proportion(parts: Callable[[EvaluationCounts, int], tuple[int, int]]) -> _Metric:
    def value(counts: EvaluationCounts, cut: int) -> float | None:
        part, whole = parts(counts, cut)
        return part / whole if whole > 0 else None

    return _Metric(value, lambda counts, cut: wilson(*parts(counts, cut)))


def _prevalence_parts(counts: EvaluationCounts, _: int) -> tuple[int, int]:
    return int(counts.histogram[1].sum()), int(counts.histogram.sum())


def _sensitivity_parts(counts: EvaluationCounts, cut: int) -> tuple[int, int]:
    return int(counts.histogram[1, cut:].sum()), int(counts.histogram[1].sum())


def _specificity_parts(counts: EvaluationCounts, cut: int) -> tuple[int, int]:
    return int(counts.histogram[0, :cut].sum()), int(counts.histogram[0].sum())


def _ppv_parts(counts: EvaluationCounts, cut: int) -> tuple[int, int]:
    return int(counts.histogram[1, cut:].sum()), int(counts.histogram[:, cut:].sum())


def _npv_parts(counts: EvaluationCounts, cut: int) -> tuple[int, int]:
    return int(counts.histogram[0, :cut].sum()), int(counts.histogram[:, :cut].sum())


def _accuracy_parts(counts: EvaluationCounts, cut: int) -> tuple[int, int]:
    right = counts.histogram[1, cut:].sum() + counts.histogram[0, :cut].sum()
    return int(right), int(counts.histogram.sum())


def _auroc(counts: EvaluationCounts, _: int) -> float | None:
    return unbounded_auroc(counts.histogram)


def _auroc_interval(counts: EvaluationCounts, cut: int) -> tuple[float, float] | None:
    auroc = _auroc(counts, cut)
    well, ill = (int(total) for total in counts.histogram.sum(axis=1))
    return None if auroc is None else auroc_interval(inside(auroc), ill, well)


def _brier(counts: EvaluationCounts, _: int) -> float | None:
    patients = int(counts.histogram.sum())
    if patients <= 0:
        return None
    if counts.layout.mode is CountsMode.EXACT:
        of_ill = int(counts.score_sums[1].sum())
        fixed = int(counts.square_sums.sum()) - 2 * of_ill
        total = int(counts.histogram[1].sum()) + fixed / SCORE_ONE
    else:
        centres = counts.layout.centres
        errors = np.stack([centres**2, (1 - centres) ** 2])
        total = math.fsum((counts.histogram * errors).ravel())
    return total / patients


_METRICS = {
    "prevalence": _proportion(_prevalence_parts),
    "auroc": _Metric(_auroc, _auroc_interval),
    "sensitivity": _proportion(_sensitivity_parts),
    "specificity": _proportion(_specificity_parts),
    "ppv": _proportion(_ppv_parts),
    "npv": _proportion(_npv_parts),
    "accuracy": _proportion(_accuracy_parts),
    "net_benefit": _Metric(
        net_benefit, net_benefit_interval, least=lambda counts, cut: -odds(counts, cut)
    ),
    "average_precision": _Metric(
        lambda counts, _cut: average_precision(counts.histogram),
        lambda counts, _cut: average_precision_interval(counts.histogram),
    ),
    "f1": _Metric(f1_score, lambda _counts, _cut: None),
    "brier": _Metric(_brier, lambda _counts, _cut: None),
}


def _in_the_large(counts: EvaluationCounts) -> float | None:
    """Observed minus mean predicted risk; 0 is ideal."""
    patients = int(counts.histogram.sum())
    if patients <= 0:
        return None
    predicted = math.fsum(score_sums_by_group(counts))
    return (int(counts.histogram[1].sum()) - predicted) / patients


def rounded(value: Any) -> Any:
    """Nested results as plain JSON, every float with 6 digits after the point."""
    if isinstance(value, float):
        return round(value, JSON_DIGITS) + 0.0  # no minus zero
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items()}
    if isinstance(value, tuple | list):
        return [rounded(part) for part in value]
    if isinstance(value, CountsMode):
        return value.value
    return value
