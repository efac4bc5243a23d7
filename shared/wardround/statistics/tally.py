"""From one row per patient to the vector of one hospital, and the stages that it passes.

PatientRows -> RawStatistics -> NoisedStatistics. Only the last has an encoding: `lanes` that may be
masked.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from wardround.errors import BadInput
from wardround.privacy.noise_shares import NoiseShare
from wardround.statistics.cells import ONE, CategoryCells, NumberCells
from wardround.statistics.layout import PATIENTS, StatisticsLayout, Sums
from wardround.statistics.plan import Condition, PatientCohort, categories_of, label_values
from wardround.study.contract import Column, ColumnKind

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]
Members = npt.NDArray[np.bool_]

MISSING = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientRows:
    """One row per patient: `outcomes` [patients], and per cells' name a vector of that length.

    `outcomes` is the place of each patient's outcome in the layout's, -1 for none (0 and 1 where
    the label is yes or no). `numbers` holds numbers, NaN where missing; `codes` the place of a
    category in the contract's order, -1 where missing.
    """

    outcomes: Codes = field(repr=False)
    numbers: Mapping[str, Floats] = field(repr=False)
    codes: Mapping[str, Codes] = field(repr=False)

    def __post_init__(self) -> None:
        """All vectors have one length. Raises BadInput."""
        due = self.outcomes.shape
        columns = {**self.numbers, **self.codes}
        wrong = sorted(name for name, values in columns.items() if values.shape != due)
        if len(due) != 1 or wrong:
            raise BadInput(f"statistics: {', '.join(wrong)}: one value per patient was due")

    @property
    def patients(self) -> int:
        """How many rows; a number that belongs to the hospital."""
        return int(self.outcomes.size)


@dataclass(frozen=True, slots=True, eq=False)
class NoisedStatistics:
    """A hospital's vector with its noise: the lanes that may be masked."""

    lanes: npt.NDArray[np.int32] = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class RawStatistics:
    """A hospital's exact vector. It has no encoding: `noised` makes one that has."""

    layout: StatisticsLayout
    values: Sums = field(repr=False)

    def noised(self, noise: Sums, share: NoiseShare) -> NoisedStatistics:
        """Add one integer of noise, of the variance that `share` says, to every lane.

        Before that the values are clamped, so that value and noise fit into the limit: clamping
        brings two vectors no further apart, so the sensitivity stays. It reaches no hospital with
        fewer than (limit - tail) / 256 patients.
        """
        if noise.shape != (self.layout.lanes,) or noise.dtype.kind != "i":
            raise BadInput(f"statistics: {self.layout.lanes} integers of noise were due")
        room = share.limit - share.tail
        sums = np.clip(self.values, -room, room) + noise
        return NoisedStatistics(np.clip(sums, -share.limit, share.limit).astype(np.int32))


def tally(rows: PatientRows, layout: StatisticsLayout) -> RawStatistics:
    """Add up one hospital's patients, each of them once.

    A number outside the contract's range counts as the bound that it passed, so that the layout's
    sensitivity holds whatever the rows are. Raises BadInput for a value that is missing where the
    contract wants one, or a category that it does not have; the error counts them.
    """
    values = np.zeros(layout.lanes, dtype=np.int64)
    values[PATIENTS] = rows.patients * ONE
    values[layout.outcome_cells] = _counts(rows.outcomes, len(layout.outcomes), "the label")
    for column, place in layout.placed():
        if isinstance(column, NumberCells):
            values[place] = _of_numbers(rows.numbers[column.name], column)
        else:
            values[place] = _of_codes(rows.codes[column.name], column)
    members = [members_of(cohort, rows, layout) for cohort in layout.cohorts]
    values[layout.cohort_cells] = [ONE * int(np.count_nonzero(inside)) for inside in members]
    return RawStatistics(layout, values)


def members_of(cohort: PatientCohort, rows: PatientRows, layout: StatisticsLayout) -> Members:
    """Which patients fulfil all conditions of `cohort`."""
    columns = {column.name: column for column in layout.contract.columns}
    inside = np.ones(rows.patients, dtype=np.bool_)
    for condition in cohort.conditions:
        column = columns.get(condition.column)
        inside &= (
            _coded(label_values(layout.contract.label), condition, rows.outcomes)
            if column is None
            else _fits(condition, column, rows)
        )
    return inside


def _of_numbers(numbers: Floats, column: NumberCells) -> Sums:
    present = numbers[~np.isnan(numbers)]
    missing = _missing_cell(numbers.size - present.size, column)
    present = np.clip(present, column.low, column.high)
    scaled = (present - column.low) / column.half_range - 1.0
    centred = np.clip(scaled, -1.0, 1.0)  # rounding must not carry a bound past 1
    sums = [
        int(np.rint(centred * ONE).astype(np.int64).sum()),
        int(np.rint((centred**2 - 0.5) * ONE).astype(np.int64).sum()),
    ]
    bins: list[int] = []
    if column.bins:
        at = np.searchsorted(column.edges, present, side="right") - 1
        at = np.clip(at, 0, column.bins - 1)
        bins = (ONE * np.bincount(at, minlength=column.bins)).tolist()
    return np.array([*missing, *sums, *bins], dtype=np.int64)


def _of_codes(codes: Codes, column: CategoryCells) -> Sums:
    counts = _counts(codes, len(column.categories), f"column {column.name}")
    missing = _missing_cell(int(np.count_nonzero(codes == MISSING)), column)
    return np.array([*missing, *counts], dtype=np.int64)


def _counts(codes: Codes, places: int, what: str) -> list[int]:
    """Lanes of how many have each place; those that have none are left out."""
    known = codes[codes != MISSING]
    strange = int(np.count_nonzero((known < 0) | (known >= places)))
    if strange:
        raise BadInput(f"statistics: {what}: {strange} values are no category")
    lanes: list[int] = (ONE * np.bincount(known, minlength=places)).tolist()
    return lanes


def _missing_cell(missing: int, column: NumberCells | CategoryCells) -> list[int]:
    if column.may_be_missing:
        return [missing * ONE]
    if missing:
        raise BadInput(f"statistics: column {column.name}: {missing} values are missing")
    return []


def _coded(values: tuple[str, ...], condition: Condition, codes: Codes) -> Members:
    """Whose code stands for one of the values; the last place is what -1 (missing) reaches."""
    fits: Members = np.array([*(value in condition.values for value in values), False])[codes]
    return fits


def _fits(condition: Condition, column: Column, rows: PatientRows) -> Members:
    if column.kind is not ColumnKind.CONTINUOUS:
        return _coded(categories_of(column), condition, rows.codes[column.name])
    low, high = condition.range or (0.0, 0.0)
    numbers = rows.numbers[column.name]
    above = numbers >= low
    top = column.range is not None and high == column.range[1]
    return above & (numbers <= high if top else numbers < high)
