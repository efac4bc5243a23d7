"""Confidence intervals that stay right for small hospitals and for perfect results."""

import math

Z_95 = 1.959963984540054
_BISECTIONS = 80


def wilson(successes: float, trials: float) -> tuple[float, float] | None:
    """Wilson's 95 % score interval of a proportion; None without trials (Wilson 1927).

    >>> tuple(round(end, 4) for end in wilson(9, 10))
    (0.5958, 0.9821)
    """
    if trials <= 0:
        return None
    share = min(max(successes / trials, 0.0), 1.0)
    squared = Z_95 * Z_95
    scale = 1 + squared / trials
    centre = (share + squared / (2 * trials)) / scale
    spread = math.sqrt(share * (1 - share) / trials + squared / (4 * trials * trials))
    half = Z_95 * spread / scale
    low = 0.0 if share == 0.0 else centre - half
    high = 1.0 if share == 1.0 else centre + half
    return max(low, 0.0), min(high, 1.0)


def auroc_interval(auroc: float, positives: int, negatives: int) -> tuple[float, float]:
    """95 % score interval of an AUROC: the values that the data do not reject.

    Solves |theta - auroc| = z * sqrt(V(theta)) with Hanley and McNeil's variance, so that an
    AUROC of 1 from few patients gets an honest width. (Newcombe 2006, Statistics in Medicine 25,
    559-573, method 5)
    """
    low = _score_bound(auroc, 0.0, positives, negatives)
    high = _score_bound(auroc, 1.0, positives, negatives)
    return low, high


def _score_bound(auroc: float, far: float, positives: int, negatives: int) -> float:
    if auroc == far:
        return far
    rejected, kept = far, auroc
    for _ in range(_BISECTIONS):
        middle = (rejected + kept) / 2
        distance = (middle - auroc) ** 2
        if distance > Z_95 * Z_95 * _variance(middle, positives, negatives):
            rejected = middle
        else:
            kept = middle
    return (rejected + kept) / 2


def _variance(theta: float, positives: int, negatives: int) -> float:
    pairs = (positives + negatives) / 2 - 1
    spread = 1 + pairs * (1 - theta) / (2 - theta) + pairs * theta / (1 + theta)
    return theta * (1 - theta) * spread / (positives * negatives)


def inside(value: float) -> float:
    """The nearest number in [0, 1]."""
    return min(max(value, 0.0), 1.0)
