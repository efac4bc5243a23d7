"""What a study asks about the patients: columns, bins, patient cohorts. All of it is public."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from wardround.study.contract import (
    Column,
    ColumnKind,
    Contract,
    Frozen,
    Label,
    LabelKind,
    Name,
    Target,
)

MOST_COHORTS = 16
MOST_BINS = 64
BINARY_VALUES = ("0", "1")
_OF_ONE_VALUE = {ColumnKind.CONTINUOUS, ColumnKind.BINARY, ColumnKind.CATEGORICAL}


class Condition(Frozen):
    """One condition on one column: a `range`, or a list of `values`.

    A range holds from its first number up to, not including, its second; the upper bound of the
    column's own range is included. `values` are categories; "0" and "1" for a binary column and for
    a label that is yes or no, the classes of one that has them. A patient whose value is missing
    does not fulfil it.
    """

    column: Name
    range: tuple[float, float] | None = None
    values: tuple[str, ...] = Field(default=(), max_length=1000)

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if (self.range is None) == (not self.values):
            raise ValueError(f"condition on {self.column}: either `range` or `values` is due")
        if self.range is not None and not self.range[0] < self.range[1]:
            raise ValueError(f"condition on {self.column}: `range` = [low, high], low < high")
        if len(set(self.values)) != len(self.values):
            raise ValueError(f"condition on {self.column}: a value is named twice")
        return self

    def fault(self, contract: Contract) -> str | None:
        """Why this condition does not fit the contract; None when it does."""
        what = f"condition on {self.column}"
        if self.column == contract.label.name:
            return self._values_fault(label_values(contract.label), what)
        column = next((c for c in contract.columns if c.name == self.column), None)
        if column is None or column.kind not in _OF_ONE_VALUE:
            return f"{what}: the contract has no such column of numbers or categories"
        if column.kind is not ColumnKind.CONTINUOUS:
            return self._values_fault(categories_of(column), what)
        if self.range is None or column.range is None:
            return f"{what}: a continuous column takes a `range`"
        inside = column.range[0] <= self.range[0] and self.range[1] <= column.range[1]
        return None if inside else f"{what}: its range is not within the contract's"

    def _values_fault(self, known: tuple[str, ...], what: str) -> str | None:
        if set(self.values) <= set(known) and self.values:
            return None
        return f"{what}: `values` out of {', '.join(known)} are due"


class PatientCohort(Frozen):
    """How many patients fulfil all of these conditions? One cell of the release."""

    name: Name
    conditions: tuple[Condition, ...] = Field(min_length=1, max_length=20)

    @model_validator(mode="after")
    def _one_condition_a_column(self) -> Self:
        columns = [condition.column for condition in self.conditions]
        if len(set(columns)) != len(columns):
            raise ValueError(f"cohort {self.name}: two conditions on one column")
        return self


class StatisticsPlan(Frozen):
    """The section [statistics] of a study.

    `epsilon` is a ceiling over all `attempts`, each of which is charged; the study's delta goes
    with it. It touches every patient, training and held out. `columns` are all columns and
    targets unless named; `bins` are those of each histogram, 0 for none (then without quantiles,
    and with less noise in the rest). With `standardise`, training and evaluation use
    (x - mean) / sd from the released values instead of the contract's range.
    """

    epsilon: Annotated[float, Field(gt=0, le=50)]
    attempts: Annotated[int, Field(ge=1, le=10)] = 1
    columns: tuple[Name, ...] | None = Field(default=None, max_length=1000)
    bins: Annotated[int, Field(ge=0, le=MOST_BINS)] = 10
    standardise: bool = False
    cohort: tuple[PatientCohort, ...] = Field(default=(), max_length=MOST_COHORTS)

    @model_validator(mode="after")
    def _names_once(self) -> Self:
        for what, names in (
            ("columns", self.columns or ()),
            ("cohort", tuple(cohort.name for cohort in self.cohort)),
        ):
            if len(set(names)) != len(names):
                raise ValueError(f"statistics: `{what}` names one twice")
        if self.bins == 1:
            raise ValueError("statistics: `bins` is 0 or at least 2")
        return self

    def faults(self, contract: Contract) -> tuple[str, ...]:
        """What does not fit the contract, in words; empty when all does."""
        known = {column.name for column in contract.columns}
        known |= {target.name for target in contract.label.targets}
        found = [
            f"statistics: {name} is no column or target in the contract that can be counted"
            for name in self.columns or ()
            if name not in known
        ]
        conditions = (condition for cohort in self.cohort for condition in cohort.conditions)
        found += [f"statistics: {fault}" for c in conditions if (fault := c.fault(contract))]
        if self.standardise and contract.grid is not None:
            found.append("statistics: `standardise` does not go with columns over time")
        if self.standardise and not self._standardised(contract):
            found.append("statistics: `standardise` needs a continuous column among `columns`")
        return tuple(found)

    def asked(self, contract: Contract) -> tuple[Column, ...]:
        """The columns that are counted, in the contract's order."""
        return tuple(
            column
            for column in contract.columns
            if self.columns is None or column.name in self.columns
        )

    def targets(self, contract: Contract) -> tuple[Target, ...]:
        """The label's targets that are counted, in the contract's order."""
        return tuple(
            target
            for target in contract.label.targets
            if self.columns is None or target.name in self.columns
        )

    def _standardised(self, contract: Contract) -> bool:
        return any(column.kind is ColumnKind.CONTINUOUS for column in self.asked(contract))


def categories_of(column: Column) -> tuple[str, ...]:
    """The values a column of categories can have, in the order of its cells."""
    return BINARY_VALUES if column.kind is ColumnKind.BINARY else column.categories


def label_values(label: Label) -> tuple[str, ...]:
    """The values of the label that a condition may name, in the order of its cells; or none."""
    if label.kind is LabelKind.BINARY:
        return BINARY_VALUES
    return label.classes
