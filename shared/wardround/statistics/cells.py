"""Which cells each column of a contract, and its label, has in a statistics release.

Everything is a number or a category of a PATIENT, of several records or pictures the mean. So an
image, a series and a molecule add what one patient adds to a few numbers, however many pixels,
steps or atoms it has.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from wardround.statistics.plan import BINARY_VALUES, categories_of
from wardround.study.contract import Column, ColumnKind, Contract, Label, LabelKind, Target

ONE = 1 << 8
HALF = ONE // 2
# The grid of a series in so many parts of equal length: when measurements were made.
MOST_PARTS = 4
# A neighbour's grey value is off by a few hundredths of the range; noise alone reaches a quarter.
SHARPEST = 0.25
SIDES_LOG2 = (2.0, 14.0)
# Drugs have up to some 70; what is larger counts as that.
MOST_HEAVY_ATOMS = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberCells:
    """The cells of one number of each patient: [missing], sum, square, bins.

    `of` is the column of the contract that it is computed from, None for the column itself.
    """

    name: str
    unit: str
    low: float
    high: float
    may_be_missing: bool
    bins: int
    of: str | None = None

    @property
    def source(self) -> str:
        """The contract's column, or the label's target, that a hospital has to look at."""
        return self.of or self.name

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
    def source(self) -> str:
        """The contract's column, or the label's target, that a hospital has to look at."""
        return self.name

    @property
    def cells(self) -> int:
        """How many lanes it takes."""
        return int(self.may_be_missing) + len(self.categories)

    @property
    def one_patient_squared(self) -> int:
        """A patient is in one cell."""
        return ONE**2


ColumnCells = NumberCells | CategoryCells


INTENSITY, CONTRAST, AT_LOW_END, AT_HIGH_END, USED, SHARPNESS, SIDE = (
    "intensity",
    "contrast",
    "at the low end",
    "at the high end",
    "range used",
    "sharpness",
    "side",
)


MEASURED = "measured"
HEAVY_ATOMS, LOWER_CASE, DOUBLE_BONDS, IN_BRACKETS, SEVERAL_PARTS = (
    "heavy atoms",
    "atoms in lower case",
    "double bonds an atom",
    "atoms in brackets",
    "several parts",
)


def part_of(column: str, what: str) -> str:
    """The name of one number of a column; no column of a contract can be called so."""
    return f"{column}: {what}"


def cells_of(column: Column, bins: int) -> Iterator[ColumnCells]:
    """The cells of one column of the contract."""
    if column.kind is ColumnKind.FINGERPRINT:
        yield from _of_molecule(column.name, bins)
        return
    if column.range is None:
        yield CategoryCells(
            name=column.name,
            categories=categories_of(column),
            may_be_missing=column.may_be_missing,
        )
        return
    low, high = column.range
    if column.kind is ColumnKind.IMAGE:
        yield from _of_image(column.name, column.unit, (low, high), bins)
        return
    series = column.kind is ColumnKind.SERIES
    yield NumberCells(
        name=column.name,
        unit=column.unit,
        low=low,
        high=high,
        may_be_missing=column.may_be_missing or series,
        bins=bins,
    )
    if series:
        yield _share(column.name, MEASURED)


def _of_image(
    name: str, unit: str, limits: tuple[float, float], bins: int
) -> Iterator[NumberCells]:
    """What tells one scanner from another, each a mean over a patient's pictures."""
    low, high = limits
    yield _number(name, INTENSITY, unit, (low, high), bins)
    # No set of numbers between two ends has a larger standard deviation than half their distance.
    yield _number(name, CONTRAST, unit, (0.0, (high - low) / 2), bins)
    yield _share(name, AT_LOW_END)
    yield _share(name, AT_HIGH_END)
    yield _share(name, USED)
    yield _number(name, SHARPNESS, "1", (0.0, SHARPEST), 0)
    yield _number(name, SIDE, "log2 pixels", SIDES_LOG2, 0)


def _of_molecule(name: str, bins: int) -> Iterator[NumberCells]:
    """How large molecules are, and how their SMILES are written. Without a structure: missing."""
    yield NumberCells(
        name=part_of(name, HEAVY_ATOMS),
        unit="atoms",
        low=0.0,
        high=MOST_HEAVY_ATOMS,
        may_be_missing=True,
        bins=bins,
        of=name,
    )
    for what in (LOWER_CASE, DOUBLE_BONDS, IN_BRACKETS, SEVERAL_PARTS):
        yield _share(name, what)


def over_time(contract: Contract, asked: Iterable[Column]) -> Iterator[NumberCells]:
    """Which share of all series has a measurement in a step, in each part of the grid."""
    series = [column.name for column in asked if column.kind is ColumnKind.SERIES]
    if contract.grid is None or not series:
        return
    for part in parts_of(contract.grid.steps):
        yield NumberCells(
            name=measured_in(part),
            unit="1",
            low=0.0,
            high=1.0,
            may_be_missing=False,
            bins=0,
            of=series[0],
        )


def measured_in(part: tuple[int, int]) -> str:
    """The name of the share that is measured in one part of the grid."""
    return f"all series: measured in steps {part[0] + 1} to {part[1]}"


def parts_of(steps: int) -> tuple[tuple[int, int], ...]:
    """The parts of a grid of so many steps, as half-open ranges of steps.

    >>> parts_of(10)
    ((0, 2), (2, 5), (5, 7), (7, 10))
    """
    count = min(MOST_PARTS, steps)
    edges = [steps * at // count for at in range(count + 1)]
    return tuple(pairwise(edges))


def cells_of_target(target: Target, bins: int) -> ColumnCells:
    """The cells of one of several things that are predicted together; each may be unknown."""
    if target.range is None:
        return CategoryCells(name=target.name, categories=BINARY_VALUES, may_be_missing=True)
    low, high = target.range
    return NumberCells(
        name=target.name, unit=target.unit, low=low, high=high, may_be_missing=True, bins=bins
    )


def outcome_cells(label: Label) -> tuple[str, ...]:
    """What the label's cells count; a patient is in one of them at most.

    Time to event: who had the event in each interval, who left in it without, and who was followed
    to the horizon. So events, censoring and follow-up are one histogram over public times.
    """
    if label.time is not None:
        until = [f"until {edge:g} {label.time.unit}" for edge in label.time.edges]
        return (
            *(f"event {when}" for when in until),
            *(f"left {when}" for when in until),
            "followed to the horizon",
        )
    if label.kind is LabelKind.CLASSES:
        return label.classes
    return ("negative", "positive") if label.positive is not None else ()


def _share(column: str, what: str) -> NumberCells:
    return _number(column, what, "1", (0.0, 1.0), 0)


def _number(
    column: str, what: str, unit: str, limits: tuple[float, float], bins: int
) -> NumberCells:
    return NumberCells(
        name=part_of(column, what),
        unit=unit,
        low=limits[0],
        high=limits[1],
        may_be_missing=False,
        bins=bins,
        of=column,
    )
