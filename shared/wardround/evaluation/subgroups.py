"""The same evaluation for each group of patients: how well the model does for whom.

A grouping parts the patients, so each is in one group of it. In mode exact a hospital does not
count a group apart where it has too few patients in it: they go into one more cell, `OTHER`, so
that no small count leaves the building, masked or not (`suppression.told_at_the_source` says
which). What is told of a group with a label of yes or no stands here, of other labels in
`group_metrics`.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from statistics import NormalDist

import numpy as np

from wardround.canonical import Json
from wardround.evaluation.apart import Flags
from wardround.evaluation.discrimination import auroc_standard_error, ranking, unbounded_auroc
from wardround.evaluation.histograms import Counts, CountsMode, EvaluationCounts
from wardround.evaluation.intervals import Z_95
from wardround.evaluation.metrics import Estimate, Evaluation, evaluate_counts, rounded
from wardround.evaluation.propagation import noise_spread
from wardround.evaluation.suppression import Standing, standings, told_at_the_source

NOT_KNOWN = "not known"
OTHER = "not counted apart"


@dataclass(frozen=True, slots=True)
class Groups:
    """One grouping: the column or columns, their unit, the groups; in none is `NOT_KNOWN`."""

    column: str
    unit: str
    names: tuple[str, ...]

    def cells(self, mode: CountsMode) -> tuple[str, ...]:
        """What is counted apart, in order; group number g of a patient is the g-th cell."""
        other = (OTHER,) if mode is CountsMode.EXACT else ()
        return (*self.names, NOT_KNOWN, *other)


def counted_apart(groups: Counts, kinds: Flags, cells: int, smallest: int) -> Counts:
    """The cell of each patient in mode exact: its group, or the last one where that is too small.

    `groups` is [patients], `kinds` [patients, kinds of outcome]; of `cells` the last is `OTHER`.
    """
    sizes = [tuple(kinds[groups == cell].sum(axis=0).tolist()) for cell in range(cells - 1)]
    # Who is of no kind is in no count: a group of such patients alone has nothing to tell.
    apart = np.array([*told_at_the_source(sizes, smallest), False])
    return np.where(apart[groups], groups, cells - 1)


@dataclass(frozen=True, slots=True)
class _Gap:
    """How much better the others are ranked than a group; errors are one standard deviation."""

    value: float
    sampling: float
    noise: float | None


def subgroup_metrics(
    groupings: Sequence[tuple[Groups, Sequence[EvaluationCounts]]],
    *,
    threshold: float,
    smallest: int,
    cell_noise_sd: float,
) -> list[Json]:
    """The evaluation of every group that may be shown; what may not is None.

    `auroc_gap` is the AUROC of all others of the grouping less that of the group. Its intervals
    hold jointly for all gaps that are told (Bonferroni), since one looks for the worst.
    """
    exact = cell_noise_sd == 0.0
    told = [
        standings([_cell(counts) for counts in cells], smallest, exact=exact)
        for _, cells in groupings
    ]
    gaps = [
        [
            _gap(cells, at, cell_noise_sd) if word is Standing.SHOWN else None
            for at, word in enumerate(words)
        ]
        for (_, cells), words in zip(groupings, told, strict=True)
    ]
    looks = sum(gap is not None for found in gaps for gap in found)
    wide = NormalDist().inv_cdf(1 - 0.025 / looks) if looks else Z_95
    evaluate = partial(_group, threshold=threshold, cell_noise_sd=cell_noise_sd)
    result = []
    for (groups, cells), words, found in zip(groupings, told, gaps, strict=True):
        names = groups.cells(CountsMode.EXACT if exact else CountsMode.NOISED)
        parts = zip(names, words, cells, found, strict=True)
        result.append(
            {
                "column": groups.column,
                "unit": groups.unit,
                "smallest": smallest,
                "count_noise": _count_noise(cells[0], cell_noise_sd),
                "groups": [
                    {"group": name, "standing": word.value, **evaluate(word, counts, gap, wide)}
                    for name, word, counts, gap in parts
                ],
            }
        )
    return result


def _cell(counts: EvaluationCounts) -> tuple[int, int]:
    negatives, positives = (int(total) for total in counts.histogram.sum(axis=1))
    return negatives, positives


def _count_noise(counts: EvaluationCounts, cell_noise_sd: float) -> float:
    """Half of the 95 % interval of the noise in a group's number of patients."""
    noise: float = rounded(Z_95 * cell_noise_sd * math.sqrt(counts.histogram.size))
    return noise


def _group(
    word: Standing,
    counts: EvaluationCounts,
    gap: _Gap | None,
    wide: float,
    *,
    threshold: float,
    cell_noise_sd: float,
) -> Json:
    """Numbers of one group; hidden ones stay hidden, and of nobody nothing can be said."""
    if word is not Standing.SHOWN:
        count = 0 if word is Standing.NOBODY else None
        said = {"patients": count, "positives": count, "auroc": None, "sensitivity": None}
        return said | {"specificity": None, "calibration_in_the_large": None, "auroc_gap": None}
    found = evaluate_counts(counts, threshold=threshold, cell_noise_sd=cell_noise_sd)
    parts = (_noised_auroc(found, counts, cell_noise_sd), found.sensitivity, found.specificity)
    auroc, sensitivity, specificity = (rounded(asdict(part)) if part else None for part in parts)
    return {
        "patients": found.patients,
        "positives": found.positives,
        "auroc": auroc,
        "sensitivity": sensitivity,
        "specificity": specificity,
        "calibration_in_the_large": _in_the_large(counts, found, cell_noise_sd),
        "auroc_gap": None if gap is None else _gap_json(gap, wide, exact=cell_noise_sd == 0.0),
    }


def _noised_auroc(
    found: Evaluation, counts: EvaluationCounts, cell_noise_sd: float
) -> Estimate | None:
    """The AUROC with what the noise does to it before it is put back into [0, 1]."""
    if found.auroc is None or not cell_noise_sd:
        return found.auroc
    spread = noise_spread(unbounded_auroc, counts.histogram, cell_noise_sd)
    spread = 1.0 if spread is None else spread
    low, high = max(found.auroc.value - spread, 0.0), min(found.auroc.value + spread, 1.0)
    return replace(found.auroc, noise_low=low, noise_high=high)


def _in_the_large(counts: EvaluationCounts, found: Evaluation, cell_noise_sd: float) -> Json | None:
    """Observed less predicted risk; its variance is that of a patient's outcome less its score."""
    value, brier = found.calibration_in_the_large, found.brier
    if value is None or brier is None:
        return None
    half = Z_95 * math.sqrt(max(brier.value - value**2, 0.0) / found.patients)
    estimate = Estimate(value=value, low=value - half, high=value + half)
    if cell_noise_sd:
        centres = counts.layout.centres

        def moved(cells: Counts) -> float | None:
            patients = int(cells.sum())
            predicted = float((cells * centres).sum())
            return (int(cells[1].sum()) - predicted) / patients if patients > 0 else None

        spread = noise_spread(moved, counts.histogram, cell_noise_sd)
        spread = 1.0 if spread is None else spread
        estimate = replace(estimate, noise_low=value - spread, noise_high=value + spread)
    said: Json = rounded(asdict(estimate))
    return said


def _gap(cells: Sequence[EvaluationCounts], at: int, cell_noise_sd: float) -> _Gap | None:
    """The others are all of the grouping but this group, hidden ones included."""
    own = cells[at].histogram
    others = np.sum([each.histogram for each in cells], axis=0) - own
    here, there = auroc_of(own), auroc_of(others)
    errors = (auroc_standard_error(own), auroc_standard_error(others))
    if here is None or there is None or errors[0] is None or errors[1] is None:
        return None
    noise: float | None = 0.0
    if cell_noise_sd:
        spreads = (
            noise_spread(unbounded_auroc, own, cell_noise_sd),
            noise_spread(unbounded_auroc, others, cell_noise_sd * math.sqrt(len(cells) - 1)),
        )
        known = [spread for spread in spreads if spread is not None]
        noise = math.hypot(*known) / Z_95 if len(known) == len(spreads) else None
    return _Gap(there - here, math.hypot(errors[0], errors[1]), noise)


def auroc_of(histogram: Counts) -> float | None:
    """The AUROC of counts [2, bins]; None without both outcomes."""
    ranked = ranking(histogram)
    return ranked.auroc if ranked else None


def _gap_json(gap: _Gap, wide: float, *, exact: bool) -> Json:
    half = wide * gap.sampling
    estimate = Estimate(value=gap.value, low=gap.value - half, high=gap.value + half)
    if not exact:
        noise = 1.0 if gap.noise is None else wide * gap.noise
        estimate = replace(estimate, noise_low=gap.value - noise, noise_high=gap.value + noise)
    said: Json = rounded(asdict(estimate))
    return said
