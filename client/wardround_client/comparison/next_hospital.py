"""What the next hospital may expect of a model, from how it did at hospitals it had not seen."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import t as student

FEWEST = 3
_ROUNDS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class NextHospital:
    """A random-effects summary over hospitals; all but `between` on the scale of the metric.

    `interval` is the 95 % confidence interval of the mean, `prediction` where 95 % of further
    hospitals would lie. `between` is the standard deviation between hospitals, in log odds.
    """

    hospitals: int
    mean: float
    interval: tuple[float, float]
    prediction: tuple[float, float]
    between: float


def next_hospital(found: Sequence[tuple[float, float]]) -> NextHospital | None:
    """From (value in [0, 1], standard error) of each hospital; None from fewer than three.

    Hospitals whose value is 0 or 1, or whose error is 0, say nothing about their spread and are
    left out. Log odds, the between-hospital variance by restricted maximum likelihood, intervals
    with Hartung's and Knapp's variance (never below the plain one) and Student's t on k - 1 and
    k - 2 degrees of freedom. (Riley et al. 2011, BMJ 342:d549; Snell et al. 2018, Statistical
    Methods in Medical Research 27, 3505)
    """
    usable = [(value, error) for value, error in found if 0 < value < 1 and error > 0]
    if len(usable) < FEWEST:
        return None
    odds = [math.log(value / (1 - value)) for value, _ in usable]
    variances = [(error / (value * (1 - value))) ** 2 for value, error in usable]
    between = _between(odds, variances)
    weights = [1 / (variance + between) for variance in variances]
    mean, many = _mean(odds, weights), len(usable)
    plain = 1 / math.fsum(weights)
    spread = math.fsum(w * (y - mean) ** 2 for w, y in zip(weights, odds, strict=True))
    of_mean = max(plain, plain * spread / (many - 1))
    half = float(student.ppf(0.975, many - 1)) * math.sqrt(of_mean)
    reach = float(student.ppf(0.975, many - 2)) * math.sqrt(between + of_mean)
    return NextHospital(
        hospitals=many,
        mean=_back(mean),
        interval=(_back(mean - half), _back(mean + half)),
        prediction=(_back(mean - reach), _back(mean + reach)),
        between=math.sqrt(between),
    )


def _between(odds: Sequence[float], variances: Sequence[float]) -> float:
    """The variance between hospitals: the fixed point of the restricted likelihood, 0 or more."""
    between = 0.0
    for _ in range(_ROUNDS):
        weights = [1 / (variance + between) for variance in variances]
        mean = _mean(odds, weights)
        squares = [w * w for w in weights]
        parts = [
            square * ((y - mean) ** 2 - variance)
            for square, y, variance in zip(squares, odds, variances, strict=True)
        ]
        moved = max(0.0, math.fsum(parts) / math.fsum(squares) + 1 / math.fsum(weights))
        if abs(moved - between) <= 1e-12 * (1 + between):
            return moved
        between = moved
    return between


def _mean(values: Sequence[float], weights: Sequence[float]) -> float:
    return math.fsum(v * w for v, w in zip(values, weights, strict=True)) / math.fsum(weights)


def _back(odds: float) -> float:
    """Log odds as a share.

    >>> _back(0.0)
    0.5
    """
    if odds < 0:
        return math.exp(odds) / (1 + math.exp(odds))
    return 1 / (1 + math.exp(-odds))
