"""Survival curves from counts of events and censorings in time bins."""

import math
from typing import NamedTuple

import numpy as np

from wardround.evaluation.histograms import Counts, Scores
from wardround.evaluation.intervals import Z_95


class Curve(NamedTuple):
    """Survival at the end of each time bin; NaN from where nobody is left of those who lived.

    `variance` is Greenwood's sum, the variance of log S.
    """

    survival: Scores
    variance: Scores
    at_risk: Scores


def kaplan_meier(events: Counts, censored: Counts) -> Curve:
    """The life table of [time bins] events and censorings, the last bin being beyond the horizon.

    Within a bin half of the censored count as at risk: with one time in a bin that is Kaplan and
    Meier's curve, but for a bin that has both. Negative noised counts are zero. (Cutler and Ederer
    1958)
    """
    died, lost = np.maximum(events, 0), np.maximum(censored, 0)
    gone = died + lost
    start = gone.sum() - (np.cumsum(gone) - gone)
    exposed = start - lost / 2.0
    with np.errstate(divide="ignore", invalid="ignore"):
        hazard = np.where(died > 0, died / exposed, 0.0)
        greenwood = np.where(died > 0, died / (exposed * (exposed - died)), 0.0)
    survival = np.cumprod(1.0 - np.minimum(hazard, 1.0))
    unknown = (start <= 0) & (survival > 0)
    return Curve(np.where(unknown, np.nan, survival), np.cumsum(greenwood), start)


def log_log_interval(survival: float, variance: float) -> tuple[float, float] | None:
    """95 % interval of a survival that stays in [0, 1] (Kalbfleisch and Prentice 2002, 1.4).

    None at 0 and 1, where it has no width to give.
    """
    if not 0.0 < survival < 1.0 or not math.isfinite(variance):
        return None
    spread = Z_95 * math.sqrt(variance) / abs(math.log(survival))
    return survival ** math.exp(spread), survival ** math.exp(-spread)
