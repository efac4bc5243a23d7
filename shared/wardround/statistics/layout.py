"""How the one vector of a statistics release is cut, and what one patient can change in it.

Every patient is one row. Cells are integers in units of 1/256 (`ONE` lanes are one patient, or a
sum of 1.0), so that sums of numbers travel beside counts. In this order:

    patients, negatives, positives,
    per continuous column: [missing,] sum of v, sum of v^2 - 1/2, [one cell per bin]
    per other column:      [missing,] one cell per category
    one cell per patient cohort

v is the value on the contract's range, [low, high] -> [-1, 1]. Three choices keep one patient's
part small, and so the noise: v is centred (half the noise in a mean of one scaled to [0, 1]); v^2
is shifted by 1/2; and the MISSING are counted, not the present, as a patient is one of the two.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from math import sqrt
from typing import Self

import numpy as np
import numpy.typing as npt

from wardround.errors import BadInput
from wardround.statistics.plan import (
    Condition,
    PatientCohort,
    StatisticsPlan,
    categories_of,
)
from wardround.study.contract import ColumnKind, Contract

Sums = npt.NDArray[np.int64]

ONE = 1 << 8
HALF = ONE // 2
PATIENTS = 0
LABELS = slice(1, 3)
_FIRST_COLUMN = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberCells:
    """The cells of a continuous column: [missing], sum, square, bins."""

    name: str
    unit: str
    low: float
    high: float
    may_be_missing: bool
    bins: int

    @property
    def cells(self) -> int:
        """How many lanes it takes."""
        return int(self.may_be_missing) + 2 + self.bins

    @property
    def one_patient_squared(self) -> int:
        """Most that one patient adds to the squared norm: 1 + 1/4 (at v = +-1), and 1 for a bin.

        A lane of v is rounded from at most ONE, one of v^2 - 1/2 from at most ONE / 2, both
        integers: rounding adds nothing.
        """
        return ONE**2 + HALF**2 + (ONE**2 if self.bins else 0)

    @property
    def half_range(self) -> float:
        """What v = 1 is in the column's unit."""
        return (self.high - self.low) / 2

    @property
    def edges(self) -> npt.NDArray[np.float64]:
        """The `bins + 1` edges in the column's unit; a value on an edge is in the bin above."""
        return self.low + (self.high - self.low) * (np.arange(self.bins + 1) / self.bins)


@dataclass(frozen=True, slots=True, kw_only=True)
class CategoryCells:
    """The cells of a binary or categorical column: [missing], one per category."""

    name: str
    categories: tuple[str, ...]
    may_be_missing: bool

    @property
    def cells(self) -> int:
        """How many lanes it takes."""
        return int(self.may_be_missing) + len(self.categories)

    @property
    def one_patient_squared(self) -> int:
        """A patient is in one cell."""
        return ONE**2


ColumnCells = NumberCells | CategoryCells


@dataclass(frozen=True)
class StatisticsLayout:
    """The layout of one study: the same at every hospital, from contract and plan alone."""

    columns: tuple[ColumnCells, ...]
    cohorts: tuple[PatientCohort, ...]
    contract: Contract

    @classmethod
    def of(cls, contract: Contract, plan: StatisticsPlan) -> Self:
        """Lay out what `plan` asks. Raises BadInput when it does not fit the contract."""
        faults = plan.faults(contract)
        if faults:
            raise BadInput("; ".join(faults))
        columns: list[ColumnCells] = []
        for column in plan.asked(contract):
            if column.kind is ColumnKind.CONTINUOUS and column.range is not None:
                columns.append(
                    NumberCells(
                        name=column.name,
                        unit=column.unit,
                        low=column.range[0],
                        high=column.range[1],
                        may_be_missing=column.may_be_missing,
                        bins=plan.bins,
                    )
                )
            else:
                columns.append(
                    CategoryCells(
                        name=column.name,
                        categories=categories_of(column),
                        may_be_missing=column.may_be_missing,
                    )
                )
        return cls(tuple(columns), plan.cohort, contract)

    @property
    def lanes(self) -> int:
        """Length of the vector."""
        return _FIRST_COLUMN + sum(column.cells for column in self.columns) + len(self.cohorts)

    @property
    def cohort_cells(self) -> slice:
        """Where the patient cohorts are."""
        return slice(self.lanes - len(self.cohorts), self.lanes)

    def placed(self) -> Iterator[tuple[ColumnCells, slice]]:
        """Every column with its place in the vector."""
        start = _FIRST_COLUMN
        for column in self.columns:
            yield column, slice(start, start + column.cells)
            start += column.cells

    @property
    def values_needed(self) -> tuple[str, ...]:
        """Names of the contract's columns that a hospital has to look at, label excluded."""
        asked = {column.name for column in self.columns}
        asked |= {c.column for cohort in self.cohorts for c in cohort.conditions}
        return tuple(column.name for column in self.contract.columns if column.name in asked)

    @cached_property
    def sensitivity_squared(self) -> int:
        """The squared L2 distance, in lanes, of two vectors that differ in one patient: at most.

        Exact but for the cohorts: the patient itself, its label, each column at its worst, and as
        many cohorts as no two of which exclude each other.
        """
        columns = sum(column.one_patient_squared for column in self.columns)
        return 2 * ONE**2 + columns + ONE**2 * _most_at_once(self.cohorts)

    @property
    def sensitivity_lanes(self) -> float:
        """The L2 sensitivity to one patient, in lanes; rounding to integers is in it."""
        return sqrt(self.sensitivity_squared)


def _most_at_once(cohorts: tuple[PatientCohort, ...]) -> int:
    """The size of the largest set of cohorts no two of which exclude each other."""
    together = {
        frozenset(pair)
        for pair in combinations(range(len(cohorts)), 2)
        if not _exclusive(cohorts[pair[0]], cohorts[pair[1]])
    }

    def largest(candidates: tuple[int, ...]) -> int:
        if not candidates:
            return 0
        first, rest = candidates[0], candidates[1:]
        with_first = tuple(other for other in rest if frozenset((first, other)) in together)
        if len(with_first) == len(rest):  # it excludes nobody, so it belongs to the largest
            return 1 + largest(rest)
        return max(1 + largest(with_first), largest(rest))

    return largest(tuple(range(len(cohorts))))


def _exclusive(one: PatientCohort, other: PatientCohort) -> bool:
    """Whether some column allows no value that both accept."""
    theirs = {condition.column: condition for condition in other.conditions}
    return any(
        _disjoint(condition, theirs[condition.column])
        for condition in one.conditions
        if condition.column in theirs
    )


def _disjoint(one: Condition, other: Condition) -> bool:
    if one.range is not None and other.range is not None:
        # Ranges are half open: two that touch share no value.
        return one.range[1] <= other.range[0] or other.range[1] <= one.range[0]
    return not set(one.values) & set(other.values)
