"""How well numbers are ranked: Pearson's correlation of truth and prediction, and its mean.

It is what studies of drug response are judged by: unlike R squared it does not care how far
predictions are shrunk, which calibration says.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict

from wardround.canonical import Json
from wardround.evaluation.intervals import Z_95
from wardround.evaluation.metrics import Estimate

FEWEST = 4  # Fisher's interval has no width below


def correlation_of(truths: float, predictions: float, products: float) -> float | None:
    """From sums of squared deviations, and of products of deviations; None where one is 0.

    >>> correlation_of(4.0, 1.0, 1.0)
    0.5
    """
    if truths <= 0 or predictions <= 0:
        return None
    return max(-1.0, min(1.0, products / math.sqrt(truths * predictions)))


def fisher(correlation: float, patients: int) -> tuple[float, float] | None:
    """95 % interval; None for fewer than four patients (Fisher 1921, the z transform).

    >>> tuple(round(end, 3) for end in fisher(0.5, 103))
    (0.339, 0.632)
    """
    if patients < FEWEST:
        return None
    if abs(correlation) == 1.0:
        return correlation, correlation
    centre, spread = math.atanh(correlation), Z_95 / math.sqrt(patients - 3)
    return math.tanh(centre - spread), math.tanh(centre + spread)


def mean_correlation(found: Sequence[Json | None]) -> Json | None:
    """The mean over the targets that have one; None where none has.

    `found` are estimates as JSON. Targets of the same patients hang together in a way that no count
    tells: so the half width of sampling is the mean of the targets' own, which is the most that the
    mean can have. Noise is drawn for each target anew: its half widths add as squares.
    """
    known = [one for one in found if one is not None]
    if not known:
        return None
    value = math.fsum(one["value"] for one in known) / len(known)
    said = Estimate(value=value)
    if all(one["low"] is not None for one in known):
        half = math.fsum((one["high"] - one["low"]) / 2 for one in known) / len(known)
        said = Estimate(value=value, low=max(-1.0, value - half), high=min(1.0, value + half))
    if all(one["noise_low"] is not None for one in known):
        halves = [(one["noise_high"] - one["noise_low"]) / 2 for one in known]
        noise = math.sqrt(math.fsum(half**2 for half in halves)) / len(known)
        ends = {"noise_low": value - noise, "noise_high": value + noise}
        return asdict(said) | ends
    return asdict(said)
