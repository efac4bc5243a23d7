"""What a description asks of a database in the OMOP Common Data Model 5.4 (OHDSI).

A record is a person with an index date; a column is what one of the CDM's tables says of the
person in a window about it. Concepts are named by their public ids.
"""

import datetime as dt
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from wardround.study.contract import Frozen
from wardround_client.data.sources import SourceName

Concept = Annotated[int, Field(ge=0, le=2_147_483_647)]
Concepts = Annotated[tuple[Concept, ...], Field(max_length=10_000)]
Schema = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,62}$")]
Events = Literal[
    "visit_occurrence",
    "condition_occurrence",
    "procedure_occurrence",
    "drug_exposure",
    "measurement",
    "observation",
    "death",
]
PERSON_ID = "person_id"
NO_UNIT = 0

_WITH_VALUES = {"measurement", "observation"}
_PERSON = {"age", "gender", "race", "ethnicity", "year_of_birth"}
_ORDERED = {"first", "last"}
_OF_NUMBERS = {*_ORDERED, "min", "max", "mean"}
_OF_ROWS = {"any", "count"}


class Chosen(Frozen):
    """Rows of one of the CDM's tables, by their concepts.

    `concepts` are standard ones, `source_concepts` those of the hospital's own codes (their ids
    begin at 2,000,000,000); a row fits that has one of either. `descendants` adds all that the
    vocabulary (concept_ancestor) has below `concepts`. A death needs neither: its concept is the
    cause.
    """

    table: Events
    concepts: Concepts = ()
    source_concepts: Concepts = ()
    descendants: bool = False

    @model_validator(mode="after")
    def _says_which(self) -> Self:
        if not self.concepts and not self.source_concepts and self.table != "death":
            raise ValueError(f"omop: which {self.table}? `concepts` or `source_concepts` are due")
        if self.descendants and not self.concepts:
            raise ValueError("omop: `descendants` belongs to `concepts`")
        return self


class Window(Frozen):
    """When, counted from the index: one of three.

    `days` from and to, both included, by the dates: [-365, 0] is the year before, with the day of
    the index. `hours` from, and up to without it, by the times: [0, 24] is the first day; what has
    no time of day is in no such window. `within = "visit"` is from the first to the last day of
    the visit that is the index.
    """

    days: tuple[int, int] | None = None
    hours: tuple[float, float] | None = None
    within: Literal["visit"] | None = None

    @model_validator(mode="after")
    def _one_window(self) -> Self:
        if sum(part is not None for part in (self.days, self.hours, self.within)) != 1:
            raise ValueError('one of `days`, `hours` and `within = "visit"` is due')
        if self.days is not None and not -200_000 <= self.days[0] <= self.days[1] <= 200_000:
            raise ValueError("`days` = [from, to] is due")
        if self.hours is not None and not -1e6 <= self.hours[0] < self.hours[1] <= 1e6:
            raise ValueError("`hours` = [from, to] is due, from < to")
        return self


class Criterion(Chosen, Window):
    """Who has such a row in the window, `at_least` so many. The window is none of `hours`."""

    at_least: Annotated[int, Field(ge=1, le=1_000_000)] = 1

    @model_validator(mode="after")
    def _by_the_day(self) -> Self:
        # Without a time of day nobody could say who meets it, and nobody would be told.
        if self.hours is not None:
            raise ValueError("omop: `require` and `exclude` go by `days` or `within`")
        return self


class Cohort(Chosen):
    """Who is a record, and the index: each person's first or last such row.

    `after` and `before` are dates that the index lies on or between. `require` keeps those who
    meet all of its criteria, `exclude` leaves out who meets one.
    """

    which: Literal["first", "last"] = "first"
    after: dt.date | None = None
    before: dt.date | None = None
    require: tuple[Criterion, ...] = Field(default=(), max_length=50)
    exclude: tuple[Criterion, ...] = Field(default=(), max_length=50)


class UnitConversion(Frozen):
    """`value * scale + offset` is the value in the unit that is due."""

    scale: float
    offset: float = 0.0

    @model_validator(mode="after")
    def _keeps_the_value(self) -> Self:
        if self.scale == 0:
            raise ValueError("a scale of 0 would make all values equal")
        return self


class PersonColumn(Frozen):
    """What the table person says: full years at the index, or a concept's id.

    Where month or day of birth are not known, the age is the difference of the years.
    """

    name: SourceName
    table: Literal["person"]
    value: Literal["age", "gender", "race", "ethnicity", "year_of_birth"]


class EventColumn(Chosen, Window):
    """One value of a person, from the rows that fit in the window.

    `take` is `any` (1 or 0) or `count` of rows, of every table. Of a measurement or observation it
    is also the `first`, `last`, `min`, `max` or `mean` of `value`: the number, with `unit`, the
    concept of the unit that is due, and `units` for others that can be converted (0 is no unit); or
    the `concept`, the first or the last. Rows with any other unit are counted and refused. Who has
    no value in the window has an empty field, which counts as missing.
    """

    name: SourceName
    take: Literal["first", "last", "min", "max", "mean", "count", "any"]
    value: Literal["number", "concept"] = "number"
    unit: Concept | None = None
    units: dict[Concept, UnitConversion] = Field(default_factory=dict, max_length=100)

    @model_validator(mode="after")
    def _takes_what_is_there(self) -> Self:
        what = f"omop: column {self.name}"
        if self.take in _OF_NUMBERS and self.table not in _WITH_VALUES:
            raise ValueError(f"{what}: of a {self.table} `any` or `count` is taken")
        if self.value == "concept" and self.take not in _ORDERED:
            raise ValueError(f"{what}: of concepts the `first` or the `last` is taken")
        if self.is_number != (self.unit is not None):
            raise ValueError(f"{what}: `unit` is due for a number ({NO_UNIT} when it has none)")
        if self.unit in self.units or (self.units and not self.is_number):
            raise ValueError(f"{what}: `units` are those of numbers that are not in `unit`")
        return self

    @property
    def is_number(self) -> bool:
        """Whether a measured number is taken."""
        return self.value == "number" and self.take in _OF_NUMBERS


Column = Annotated[EventColumn | PersonColumn, Field(discriminator="table")]


class OmopSource(Frozen):
    """The form `[omop]`: a cohort and columns; `schema` is where the CDM's tables are.

    The table that comes of it has a column `person_id` and one for each of `columns`, one row a
    person, in the order of the ids.
    """

    schema_: Schema | None = Field(default=None, alias="schema")
    cohort: Cohort
    columns: tuple[Column, ...] = Field(min_length=1, max_length=5000)

    @model_validator(mode="after")
    def _names_once(self) -> Self:
        names = [column.name for column in self.columns]
        if len({*names, PERSON_ID}) != len(names) + 1:
            raise ValueError(f"omop: names in `columns` differ, and none is {PERSON_ID}")
        asked = (*self.columns, *self.cohort.require, *self.cohort.exclude)
        by_visit = any(isinstance(one, Window) and one.within is not None for one in asked)
        if by_visit and self.cohort.table != "visit_occurrence":
            raise ValueError('omop: `within = "visit"` is due with a visit as the index')
        return self
