"""Harrell's C from counts of patients by event, time bin and risk bin."""

import math
from typing import NamedTuple

import numpy as np

from wardround.evaluation.histograms import Counts, Scores
from wardround.evaluation.intervals import inside


class Concordance(NamedTuple):
    """Harrell's C, its standard error, and what bins can hide.

    The C of the risks and times themselves lies in [lower, upper] when the counts are exact.
    `pairs` is how many pairs of patients it is over, those of one time bin as far as they count.
    """

    c_index: float
    lower: float
    upper: float
    standard_error: float
    pairs: float


def concordance(histogram: Counts) -> Concordance | None:
    """Harrell's C of counts [2, time bins, risk bins]; row 0 is censored, row 1 had the event.

    A pair counts when the earlier one had the event; it is concordant when that one had the higher
    risk, half when both are in one risk bin. In one time bin the order is not known. Of two events
    there, either came first: half concordant. Of an event and a censoring, the event came first
    half of the time: half a pair, by their risks. Both are what narrow bins tend to. None without a
    pair, for instance in a hospital without an event. (Harrell et al. 1996; its standard error by
    the infinitesimal jackknife, Efron 1981)
    """
    censored, events = histogram
    everyone = censored + events
    # Of each event: partners that count, twice; and how many of these it outranks, four times.
    later = 2 * _after(everyone) + censored
    outranked = 2 * _under(later) + later
    partners = later.sum(axis=1, keepdims=True)
    both = events.sum(axis=1, keepdims=True)
    twice = int((events * partners).sum() + (both * (both - 1)).sum())
    if twice <= 0:
        return None
    four_times = int((events * outranked).sum() + (both * (both - 1)).sum())
    c_index = four_times / (2 * twice)
    earlier = 2 * _before(events)
    same = np.stack([earlier + events, earlier])  # an event of one bin comes before a censoring
    outranking = same.sum(axis=2, keepdims=True) * 2 - 2 * _under(same) - same
    of_later = outranking / 4 - c_index * same.sum(axis=2, keepdims=True) / 2
    of_event = outranked / 4 + (both - 1) / 2 - c_index * (partners / 2 + both - 1)
    lower, upper = _bracket(histogram)
    return Concordance(
        c_index=inside(c_index),
        lower=inside(lower),
        upper=inside(upper),
        standard_error=_jackknife(histogram, of_event, of_later, twice / 2),
        pairs=twice / 2,
    )


def _bracket(histogram: Counts) -> tuple[float, float]:
    """C, were all pairs that a bin holds discordant, or concordant."""
    events, everyone = histogram[1], histogram.sum(axis=0)
    later = _after(everyone)
    won, tied = int((events * _under(later)).sum()), int((events * later).sum())
    of_time = events.sum(axis=1)
    lost_sight = everyone.sum(axis=1) - of_time
    hidden = max(int((of_time * (of_time - 1) // 2 + of_time * lost_sight).sum()), 0)
    whole = int((of_time * later.sum(axis=1)).sum()) + hidden
    return (won / whole, (won + tied + hidden) / whole) if whole > 0 else (0.0, 1.0)


def _jackknife(histogram: Counts, of_event: Scores, of_later: Scores, pairs: float) -> float:
    counts = np.maximum(histogram, 0)
    influence = counts[0] * of_later[0] ** 2 + counts[1] * (of_later[1] + of_event) ** 2
    return math.sqrt(math.fsum(influence.ravel())) / pairs


def _after(cells: Counts) -> Counts:
    """[time, risk]: how many are in later time bins, by risk."""
    later: Counts = cells.sum(axis=0) - np.cumsum(cells, axis=0)
    return later


def _before(cells: Counts) -> Counts:
    earlier: Counts = np.cumsum(cells, axis=0) - cells
    return earlier


def _under(cells: Counts) -> Counts:
    """[..., time, risk]: how many are in lower risk bins of the same row."""
    below: Counts = np.cumsum(cells, axis=-1) - cells
    return below
