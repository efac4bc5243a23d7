"""How well scores rank patients: AUROC with its certified bracket, standard error, ROC curve."""

import math
from dataclasses import dataclass

import numpy as np

from wardround.evaluation.histograms import Counts
from wardround.evaluation.intervals import inside


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """An AUROC from bins, and what ties inside bins can hide.

    The AUROC of the scores themselves lies in [lower, upper] when the counts are exact.
    """

    auroc: float
    lower: float
    upper: float


def ranking(histogram: Counts) -> Ranking | None:
    """AUROC from counts [2, bins]; a pair inside one bin counts as half.

    None without both classes. All sums are of integers. Noised counts give a numerator without bias
    (the noise of the two classes is independent); what leaves [0, 1] is put back to its end.
    """
    negatives, positives = histogram
    below = np.cumsum(negatives) - negatives
    ordered, tied = int(positives @ below), int(positives @ negatives)
    ill, well = int(positives.sum()), int(negatives.sum())
    if ill <= 0 or well <= 0:
        return None
    pairs = ill * well
    return Ranking(
        auroc=inside((2 * ordered + tied) / (2 * pairs)),
        lower=inside(ordered / pairs),
        upper=inside((ordered + tied) / pairs),
    )


def unbounded_auroc(histogram: Counts) -> float | None:
    """The AUROC before it is put back into [0, 1]; None without both classes.

    What noise does to it has to be followed here: at the end of the scale the bounded one stands
    still, and would seem to have less noise than it has.
    """
    negatives, positives = histogram
    below = np.cumsum(negatives) - negatives
    pairs = int(positives.sum()) * int(negatives.sum())
    if min(int(positives.sum()), int(negatives.sum())) <= 0:
        return None
    return float((2 * int(positives @ below) + int(positives @ negatives)) / (2 * pairs))


def auroc_standard_error(histogram: Counts) -> float | None:
    """DeLong's standard error from bins; None below two patients of a class.

    Negative noised cells count as zero. (DeLong et al. 1988)
    """
    negatives, positives = np.maximum(histogram, 0)
    ill, well = int(positives.sum()), int(negatives.sum())
    if ill < 2 or well < 2:
        return None
    outranked = (np.cumsum(negatives) - negatives / 2) / well
    outranking = (ill - np.cumsum(positives) + positives / 2) / ill
    auroc = math.fsum(positives * outranked) / ill
    of_ill = math.fsum(positives * (outranked - auroc) ** 2) / (ill - 1)
    of_well = math.fsum(negatives * (outranking - auroc) ** 2) / (well - 1)
    return math.sqrt(of_ill / ill + of_well / well)


def roc_points(histogram: Counts) -> tuple[tuple[float, float], ...]:
    """(1 - specificity, sensitivity) at the bins' edges from (0, 0) to (1, 1), each corner once.

    Negative noised cells count as zero, so that the curve only rises; empty without both classes.
    """
    negatives, positives = np.maximum(histogram, 0)
    ill, well = int(positives.sum()), int(negatives.sum())
    if not ill or not well:
        return ()
    points = [(0.0, 0.0)]
    false_positives = np.cumsum(negatives[::-1]).tolist()
    true_positives = np.cumsum(positives[::-1]).tolist()
    for false, true in zip(false_positives, true_positives, strict=True):
        point = (false / well, true / ill)
        if point != points[-1]:
            points.append(point)
    return tuple(points)
