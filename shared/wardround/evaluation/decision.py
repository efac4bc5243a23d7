"""Is anybody better off for the model? Net benefit by threshold, precision and F1, from counts.

Counts are whole patients, so that everything here is exact at a bin's edge.
"""

import math

import numpy as np

from wardround.evaluation.histograms import Counts, EvaluationCounts
from wardround.evaluation.intervals import Z_95

_MOST_THRESHOLDS = 50


def odds(counts: EvaluationCounts, cut: int) -> float:
    """What one patient treated for nothing weighs at the threshold of bin `cut`: t / (1 - t)."""
    return cut / (counts.layout.bins - cut)


def net_benefit(counts: EvaluationCounts, cut: int) -> float | None:
    """True positives less weighted false ones, per patient; None without patients.

    0 is what treating nobody brings. (Vickers and Elkin 2006)
    """
    patients = int(counts.histogram.sum())
    if patients <= 0:
        return None
    false, true = counts.histogram[:, cut:].sum(axis=1).tolist()
    return float(true - odds(counts, cut) * false) / patients


def net_benefit_interval(counts: EvaluationCounts, cut: int) -> tuple[float, float] | None:
    """95 % of sampling: it is a mean over patients, each counts 1, minus the odds, or 0."""
    value, patients = net_benefit(counts, cut), int(counts.histogram.sum())
    if value is None or patients < 2:
        return None
    weight = odds(counts, cut)
    false, true = counts.histogram[:, cut:].sum(axis=1).tolist()
    variance = max((true + weight**2 * false) / patients - value**2, 0.0)
    spread = Z_95 * math.sqrt(variance / (patients - 1))
    return max(value - spread, -weight), min(value + spread, 1.0)


def decision_curve(counts: EvaluationCounts) -> tuple[tuple[float, float, float], ...]:
    """(threshold, net benefit of the model, of treating everybody), at most 50 thresholds.

    At bins' edges in equal steps, none at 0 or 1; empty without patients.
    """
    bins = counts.layout.bins
    patients, positives = int(counts.histogram.sum()), int(counts.histogram[1].sum())
    points = []
    for cut in range(*_steps(bins)):
        of_model = net_benefit(counts, cut)
        if of_model is None:
            return ()
        of_all = (positives - odds(counts, cut) * (patients - positives)) / patients
        points.append((cut / bins, of_model, of_all))
    return tuple(points)


def _steps(bins: int) -> tuple[int, int, int]:
    step = max(1, math.ceil(bins / _MOST_THRESHOLDS))
    return step, bins, step


def average_precision(histogram: Counts) -> float | None:
    """The area under precision over recall, step by step, from counts [2, bins].

    A bin is one threshold, as one score is in scikit-learn's. None without positives. Where noise
    leaves nobody above an edge that edge counts as nothing.
    """
    false, true = np.cumsum(histogram[:, ::-1], axis=1)
    positives = int(histogram[1].sum())
    if positives <= 0:
        return None
    flagged = false + true
    precision = np.where(flagged > 0, true / np.maximum(flagged, 1), 0.0)
    return math.fsum(histogram[1, ::-1] * precision) / positives


def average_precision_interval(histogram: Counts) -> tuple[float, float] | None:
    """95 % of sampling, on the logit's scale; None where the value is 0 or 1.

    (Boyd, Eng and Page 2013)
    """
    value = average_precision(histogram)
    if value is None or not 0.0 < value < 1.0:
        return None
    spread = Z_95 / math.sqrt(int(histogram[1].sum()) * value * (1 - value))
    at = math.log(value / (1 - value))
    return _risk(at - spread), _risk(at + spread)


def _risk(log_odds: float) -> float:
    return 1 / (1 + math.exp(-log_odds))


def f1_score(counts: EvaluationCounts, cut: int) -> float | None:
    """Harmonic mean of sensitivity and positive predictive value; None where both have no patients.

    It has no interval here: it depends on how many have the outcome, and belongs into an annex.
    """
    false, true = counts.histogram[:, cut:].sum(axis=1).tolist()
    missed = int(counts.histogram[1, :cut].sum())
    whole = 2 * true + false + missed
    return 2 * true / whole if whole > 0 else None
