"""What is told of each group where the label is not one of yes or no: rows of any metric.

The rules are those of `subgroups`: a group that may not be shown has no number, and what others do
better holds jointly for all groups.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict
from statistics import NormalDist

import numpy as np

from wardround.canonical import Json
from wardround.evaluation.apart import Apart, Headline
from wardround.evaluation.histograms import Counts, CountsMode
from wardround.evaluation.intervals import Z_95
from wardround.evaluation.metrics import Estimate, rounded
from wardround.evaluation.subgroups import Groups
from wardround.evaluation.suppression import Standing, standings


def group_metrics(
    apart: Apart,
    groupings: Sequence[tuple[Groups, Sequence[Counts]]],
    *,
    smallest: int,
    cell_noise_sd: float,
) -> list[Json]:
    """Every group that may be shown with its metrics, and by how much it is worse than the others.

    `worse_by` compares the headline metric of a group with that of all others of its grouping,
    hidden ones included; more is worse. Its intervals hold jointly for all groups (Bonferroni).
    """
    exact, result = cell_noise_sd == 0.0, []
    told = [
        standings([apart.totals(cell) for cell in cells], smallest, exact=exact)
        for _, cells in groupings
    ]
    gaps = [
        [
            _worse_by(apart, cells, at, cell_noise_sd) if word is Standing.SHOWN else None
            for at, word in enumerate(words)
        ]
        for (_, cells), words in zip(groupings, told, strict=True)
    ]
    looks = sum(gap is not None for found in gaps for gap in found)
    wide = NormalDist().inv_cdf(1 - 0.025 / looks) if looks else Z_95
    mode = CountsMode.EXACT if exact else CountsMode.NOISED
    for (groups, cells), words, found in zip(groupings, told, gaps, strict=True):
        said = [
            _group(apart, name, word, cell, cell_noise_sd)
            | {"worse_by": None if gap is None else _with_ends(gap, wide, exact=exact)}
            for name, word, cell, gap in zip(groups.cells(mode), words, cells, found, strict=True)
        ]
        result.append(
            {
                "column": groups.column,
                "unit": groups.unit,
                "smallest": smallest,
                "count_noise": _count_noise(apart, cell_noise_sd),
                "compared_by": apart.compared.name,
                "outcomes": list(apart.kinds),
                "groups": said,
            }
        )
    return result


def _count_noise(apart: Apart, cell_noise_sd: float) -> float:
    """Half of the 95 % interval of the noise in a group's number of patients."""
    noise: float = rounded(Z_95 * cell_noise_sd * math.sqrt(apart.cells_of_patients))
    return noise


def _group(apart: Apart, name: str, word: Standing, lanes: Counts, cell_noise_sd: float) -> Json:
    said: Json = {"group": name, "standing": word.value, "patients": None, "of_outcome": []}
    if word is not Standing.SHOWN:
        return said | {"patients": 0 if word is Standing.NOBODY else None, "metrics": []}
    return said | {
        "patients": apart.patients(lanes),
        "of_outcome": list(apart.totals(lanes)),
        "metrics": [
            {
                "name": metric.name,
                "of": metric.of,
                "unit": metric.unit,
                "estimate": metric.estimate and rounded(asdict(metric.estimate)),
            }
            for metric in apart.metrics(lanes, cell_noise_sd)
        ],
    }


def _worse_by(
    apart: Apart, cells: Sequence[Counts], at: int, cell_noise_sd: float
) -> Headline | None:
    """The difference of the headline, with the errors of both."""
    rest = [cell for place, cell in enumerate(cells) if place != at]
    own = apart.headline(cells[at], cell_noise_sd)
    others = apart.headline(np.sum(rest, axis=0), cell_noise_sd * math.sqrt(len(rest)))
    if own is None or others is None or own.sampling is None or others.sampling is None:
        return None
    known = own.noise is not None and others.noise is not None
    return Headline(
        apart.compared.worse_by(others.value, own.value),
        math.hypot(own.sampling, others.sampling),
        math.hypot(own.noise or 0.0, others.noise or 0.0) if known else None,
    )


def _with_ends(gap: Headline, wide: float, *, exact: bool) -> Json:
    half, noise = wide * (gap.sampling or 0.0), 1.0 if gap.noise is None else wide * gap.noise
    said: Json = rounded(
        asdict(
            Estimate(
                value=gap.value,
                low=gap.value - half,
                high=gap.value + half,
                noise_low=None if exact else max(gap.value - noise, -1.0),
                noise_high=None if exact else min(gap.value + noise, 1.0),
            )
        )
    )
    return said
