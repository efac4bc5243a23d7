"""What a description asks of a bulk export of FHIR R4: a cohort, and columns about it.

The words are those of `[omop]`: a record is a patient with an index date, a column is what the
resources of one type say of the patient in a window about it. Codes are `system|code`.
(HL7 FHIR R4; FHIR Bulk Data Access, NDJSON)
"""

import datetime as dt
from collections import Counter
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from wardround.study.contract import Frozen
from wardround_client.data.omop_source import UnitConversion, Window
from wardround_client.data.sources import SourceName

Code = Annotated[str, StringConstraints(pattern=r"^[^|\s]{1,300}\|[^|\s]{1,200}$")]
System = Annotated[str, StringConstraints(pattern=r"^[^|\s]{1,300}$")]
Unit = Annotated[str, StringConstraints(min_length=1, max_length=40)]
Resource = Literal[
    "Encounter", "Condition", "Procedure", "MedicationRequest", "Observation", "death"
]
Fault = Literal[
    "not-json",
    "other-resource",
    "modifier",
    "no-reference",
    "not-in-export",
    "repeated",
    "replaced",
    "medication",
    "undated-death",
    "unit",
    "bound",
]
# What was wrong, by its name and in words, and how often.
Faults = Counter[tuple[Fault, str]]
PATIENT = "patient"
_ORDERED = {"first", "last"}


class Chosen(Frozen):
    """Resources of one type that have one of `codes`.

    A death has none: it is the patient's `deceasedDateTime`. Encounters without `codes` are all. Of
    an observation the code may be its own or that of one of its components, whose value counts
    then.
    """

    resource: Resource
    codes: tuple[Code, ...] = Field(default=(), max_length=10_000)

    @model_validator(mode="after")
    def _says_which(self) -> Self:
        if self.resource == "death" and self.codes:
            raise ValueError("fhir: a death has no `codes`")
        if not self.codes and self.resource not in {"Encounter", "death"}:
            raise ValueError(f"fhir: which {self.resource}? `codes` are due, as system|code")
        return self


class Criterion(Chosen, Window):
    """Who has such a resource in the window, `at_least` so many."""

    at_least: Annotated[int, Field(ge=1, le=1_000_000)] = 1


class Cohort(Frozen):
    """Who is a record, and the index: each patient's first or last such resource.

    Or everybody in the export, with the day `on` as the index. `after` and `before` are dates that
    the index lies on or between. `require` keeps those who meet all of its criteria, `exclude`
    leaves out who meets one.
    """

    index: Chosen | None = None
    on: dt.date | None = None
    which: Literal["first", "last"] = "first"
    after: dt.date | None = None
    before: dt.date | None = None
    require: tuple[Criterion, ...] = Field(default=(), max_length=50)
    exclude: tuple[Criterion, ...] = Field(default=(), max_length=50)

    @model_validator(mode="after")
    def _one_index(self) -> Self:
        if (self.index is None) == (self.on is None):
            raise ValueError("fhir: cohort: `index` or `on` is due, not both")
        return self


class PatientColumn(Frozen):
    """What the resource Patient says: full years at the index, the gender, the year of birth.

    Where month or day of birth are not known, the age is the difference of the years.
    """

    name: SourceName
    resource: Literal["Patient"]
    value: Literal["age", "gender", "year_of_birth"]


class EventColumn(Chosen, Window):
    """One value of a patient, from the resources that fit in the window.

    `take` is `any` (1 or 0) or `count` of resources, of every type. Of an Observation it is also
    the `first`, `last`, `min`, `max` or `mean` of `value`: the number, with `unit` in UCUM, and
    `units` for others that can be converted; or the `code` of a coded value in `system`, the first
    or the last. Values with any other unit are counted and refused; so are those below or above a
    bound ("<5"), unless `bounds` leaves them out or takes the bound for the value. Who has no value
    in the window has an empty field, which counts as missing.
    """

    name: SourceName
    take: Literal["first", "last", "min", "max", "mean", "count", "any"]
    value: Literal["number", "code"] = "number"
    unit: Unit | None = None
    units: dict[Unit, UnitConversion] = Field(default_factory=dict, max_length=100)
    bounds: Literal["refuse", "leave-out", "take"] = "refuse"
    system: System | None = None

    @model_validator(mode="after")
    def _takes_what_is_there(self) -> Self:
        what = f"fhir: column {self.name}"
        if self.take not in {"any", "count"} and self.resource != "Observation":
            raise ValueError(f"{what}: of a {self.resource} `any` or `count` is taken")
        if (self.value == "code") != (self.system is not None):
            raise ValueError(f"{what}: `system` is due with `value` = code, and only then")
        if self.value == "code" and self.take not in _ORDERED:
            raise ValueError(f"{what}: of codes the `first` or the `last` is taken")
        if self.is_number != (self.unit is not None):
            raise ValueError(f"{what}: `unit` is due for a number, in UCUM (1 when it has none)")
        if self.unit in self.units or (self.units and not self.is_number):
            raise ValueError(f"{what}: `units` are those of numbers that are not in `unit`")
        return self

    @property
    def is_number(self) -> bool:
        """Whether a measured number is taken."""
        return self.value == "number" and self.take not in {"any", "count"}


Column = Annotated[PatientColumn | EventColumn, Field(discriminator="resource")]


class FhirSource(Frozen):
    """The form `[fhir]` of what lies in the folder `path`: a cohort and columns.

    The table that comes of it has a column `patient`, the id of the resource Patient, and one for
    each of `columns`, one row a patient, in the order of the ids. Files are found by their names:
    Observation.ndjson, Observation.000.ndjson.gz and 1.Observation.ndjson hold observations. What
    is wrong ends the reading, counted by name, unless it is in `leave_out`: then those lines or
    resources are not used.
    """

    cohort: Cohort
    columns: tuple[Column, ...] = Field(min_length=1, max_length=5000)
    leave_out: tuple[Fault, ...] = ()

    @model_validator(mode="after")
    def _names_once(self) -> Self:
        names = [column.name for column in self.columns]
        if len({*names, PATIENT}) != len(names) + 1:
            raise ValueError(f"fhir: names in `columns` differ, and none is {PATIENT}")
        asked = (*self.columns, *self.cohort.require, *self.cohort.exclude)
        by_visit = any(isinstance(one, Window) and one.within is not None for one in asked)
        index = self.cohort.index
        if by_visit and (index is None or index.resource != "Encounter"):
            raise ValueError('fhir: `within = "visit"` is due with an Encounter as the index')
        return self

    def chosen(self) -> tuple[Chosen, ...]:
        """All that is asked of the resources, in one order."""
        cohort = self.cohort
        own = tuple(column for column in self.columns if isinstance(column, EventColumn))
        index = (cohort.index,) if cohort.index is not None else ()
        return (*index, *cohort.require, *cohort.exclude, *own)
