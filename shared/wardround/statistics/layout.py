"""How the one vector of a statistics release is cut, and what one patient can change in it.

Every patient is one row. Cells are integers in units of 1/256 (`ONE` lanes are one patient, or a
sum of 1.0), so that sums of numbers travel beside counts. In this order:

    patients, one cell per outcome (negatives and positives where the label is yes or no),
    per number:   [missing,] sum of v, sum of v^2 - 1/2, [one cell per bin]
    per category: [missing,] one cell per category
    one cell per patient cohort

Which numbers and categories a column gives, and a target of the label, says
`wardround.statistics.cells`: a continuous column is one number, an image, a series and a
molecule are several.

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
from wardround.statistics.cells import (
    ONE,
    ColumnCells,
    cells_of,
    cells_of_target,
    outcome_cells,
    over_time,
)
from wardround.statistics.plan import Condition, PatientCohort, StatisticsPlan
from wardround.study.contract import Contract

Sums = npt.NDArray[np.int64]

PATIENTS = 0
_FIRST_OUTCOME = 1


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
        columns = [
            *(cells for column in plan.asked(contract) for cells in cells_of(column, plan.bins)),
            *over_time(contract, plan.asked(contract)),
            *(cells_of_target(target, plan.bins) for target in plan.targets(contract)),
        ]
        return cls(tuple(columns), plan.cohort, contract)

    @cached_property
    def outcomes(self) -> tuple[str, ...]:
        """What the label's cells count, in words; each patient is in one of them at most."""
        return outcome_cells(self.contract.label)

    @property
    def outcome_cells(self) -> slice:
        """Where the label is."""
        return slice(_FIRST_OUTCOME, self._first_column)

    @property
    def _first_column(self) -> int:
        return _FIRST_OUTCOME + len(self.outcomes)

    @property
    def lanes(self) -> int:
        """Length of the vector."""
        columns = sum(column.cells for column in self.columns)
        return self._first_column + columns + len(self.cohorts)

    @property
    def cohort_cells(self) -> slice:
        """Where the patient cohorts are."""
        return slice(self.lanes - len(self.cohorts), self.lanes)

    def placed(self) -> Iterator[tuple[ColumnCells, slice]]:
        """Every column with its place in the vector."""
        start = self._first_column
        for column in self.columns:
            yield column, slice(start, start + column.cells)
            start += column.cells

    @property
    def values_needed(self) -> tuple[str, ...]:
        """Names of the contract's columns that a hospital has to look at, label excluded."""
        asked = {column.source for column in self.columns}
        asked |= {c.column for cohort in self.cohorts for c in cohort.conditions}
        return tuple(column.name for column in self.contract.columns if column.name in asked)

    @cached_property
    def sensitivity_squared(self) -> int:
        """The squared L2 distance, in lanes, of two vectors that differ in one patient: at most.

        Exact but for the cohorts: the patient itself, its label, each column at its worst, and as
        many cohorts as no two of which exclude each other.
        """
        columns = sum(column.one_patient_squared for column in self.columns)
        label = ONE**2 if self.outcomes else 0
        return ONE**2 + label + columns + ONE**2 * _most_at_once(self.cohorts)

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
