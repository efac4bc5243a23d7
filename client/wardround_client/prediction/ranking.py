"""Several predicted numbers of one patient, each against what is typical of it here.

ln IC50 of two drugs are not comparable: one is always given in larger doses. So each drug is
compared with itself: how much better than in this hospital's own patients, in their deviations.
"""

from collections.abc import Sequence

import numpy as np

from wardround.study.treatment import Ranking
from wardround_client.prediction.answers import Channel, Number
from wardround_client.prediction.choices import Interval, RankedDrug, RankingChoice
from wardround_client.training.plan import PatientRecords

FEWEST = 10  # patients with a known number, before there is a typical level
_OF_NORMAL = 1.3489795003921634  # between the quartiles of a normal distribution, in deviations
Level = tuple[float, float, int]
"""Median, deviation and number of the patients who have one."""


def typical_levels(
    parts: Sequence[PatientRecords], ranges: Sequence[tuple[float, float]]
) -> tuple[Level | None, ...]:
    """For each target the level of this hospital's own patients, in its unit; None for too few.

    The deviation is that of a normal distribution with the same quartiles, which a few strange
    patients do not move.
    """
    places = np.concatenate([part.labels.numpy() for part in parts]).astype(np.float64)
    levels: list[Level | None] = []
    for column, (low, high) in zip(places.T, ranges, strict=True):
        values = low + (column[~np.isnan(column)] + 1.0) / 2.0 * (high - low)
        quarter, median, three_quarters = (
            np.percentile(values, [25, 50, 75]) if len(values) >= FEWEST else (0.0, 0.0, 0.0)
        )
        spread = float(three_quarters - quarter) / _OF_NORMAL
        levels.append((float(median), spread, len(values)) if spread > 0 else None)
    return tuple(levels)


def ranked(
    channels: Sequence[Channel], levels: Sequence[Level | None], ranking: Ranking
) -> RankingChoice | None:
    """The drugs by how much better than typical they are; None where no number was predicted."""
    drugs, without = [], []
    for channel, level in zip(channels, levels, strict=True):
        if not isinstance(channel, Number):
            continue
        if level is None:
            without.append(channel.channel)
        else:
            drugs.append(_against(channel, level, ranking))
    drugs.sort(key=lambda drug: -drug.better_by.value)
    if not drugs:
        return None
    first, others = drugs[0], drugs[1:]
    overlapping = tuple(o.channel for o in others if o.better_by.high >= first.better_by.low)
    alone = bool(others) and not overlapping
    return RankingChoice(
        drugs=tuple(drugs),
        stands_out=first.channel if alone else None,
        overlapping=overlapping,
        without_level=tuple(without),
    )


def _against(number: Number, level: Level, ranking: Ranking) -> RankedDrug:
    median, spread, known = level
    sign = -1.0 if ranking.better == "lower" else 1.0
    value, *ends = (
        sign * (one - median) / spread for one in (number.value, number.low, number.high)
    )
    return RankedDrug(
        channel=number.channel,
        better_by=Interval(value=value, low=min(ends), high=max(ends)),
        typical=median,
        spread=spread,
        unit=number.unit,
        known=known,
    )
