"""The tables of the OMOP CDM 5.4 that are read, and how two databases count days and seconds.

(OHDSI, Common Data Model 5.4, field definitions.) Loaded only where an OMOP database is read:
SQLAlchemy comes with the extra `sql`.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Boolean, ColumnElement, Integer, String, TableClause, column, table
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import GenericFunction

_CONCEPTS = {
    "visit_occurrence": "visit",
    "condition_occurrence": "condition",
    "procedure_occurrence": "procedure",
    "drug_exposure": "drug",
    "measurement": "measurement",
    "observation": "observation",
    "death": "cause",
}
_STARTS = {
    "visit_occurrence": "visit_start",
    "condition_occurrence": "condition_start",
    "drug_exposure": "drug_exposure_start",
    "procedure_occurrence": "procedure",
}


@dataclass(frozen=True, slots=True)
class CdmTable:
    """One table of events: its columns by what they mean, the same for every table.

    `row` tells rows apart that are of one time; a death has none, it is one a person.
    """

    table: TableClause
    row: ColumnElement[Any]
    concept: ColumnElement[Any]
    source_concept: ColumnElement[Any]
    date: ColumnElement[Any]
    time: ColumnElement[Any]

    @property
    def person(self) -> ColumnElement[Any]:
        """Whose row it is."""
        return self.table.c.person_id


def cdm_table(name: str, schema: str | None) -> CdmTable:
    """A table of events, named anew each time so that it can stand twice in one query."""
    start, concept = _STARTS.get(name, name), _CONCEPTS[name]
    row = "person_id" if name == "death" else f"{name}_id"
    more = {
        "visit_occurrence": ["visit_end_date"],
        "measurement": ["value_as_number", "value_as_concept_id", "unit_concept_id"],
        "observation": ["value_as_number", "value_as_concept_id", "unit_concept_id"],
    }.get(name, [])
    names = [f"{concept}_concept_id", f"{concept}_source_concept_id"]
    times = [f"{start}_date", f"{start}_datetime"]
    every = dict.fromkeys([row, "person_id", *names, *times, *more])
    own = table(name, *(column(one) for one in every), schema=schema)
    return CdmTable(own, own.c[row], *(own.c[one] for one in (*names, *times)))


def person_table(schema: str | None) -> TableClause:
    """The table person."""
    born = ("year_of_birth", "month_of_birth", "day_of_birth")
    concepts = ("gender_concept_id", "race_concept_id", "ethnicity_concept_id")
    names = ("person_id", *born, *concepts)
    return table("person", *(column(name) for name in names), schema=schema)


def ancestor_table(schema: str | None) -> TableClause:
    """The vocabulary's table of which concept is below which."""
    names = ("ancestor_concept_id", "descendant_concept_id")
    return table("concept_ancestor", *(column(name) for name in names), schema=schema)


class day_text(GenericFunction[str]):  # noqa: N801 - a function of SQL
    """A date or time as 2150-03-01, which sorts as dates do."""

    type = String()
    inherit_cache = True


class days_between(GenericFunction[int]):  # noqa: N801 - a function of SQL
    """How many days the first is behind the second."""

    type = Integer()
    inherit_cache = True


class seconds_between(GenericFunction[int]):  # noqa: N801 - a function of SQL
    """How many seconds the first is behind the second; parts of a second are cut off."""

    type = Integer()
    inherit_cache = True


class is_number(GenericFunction[bool]):  # noqa: N801 - a function of SQL
    """Whether it is a number. SQLite's columns hold whatever was put in, and text reckons as 0."""

    type = Boolean()
    inherit_cache = True


def _arguments(element: Any, compiler: Any) -> list[str]:
    return [compiler.process(part) for part in element.clauses]


@compiles(day_text, "sqlite")
def _day_of_sqlite(element: Any, compiler: Any, **_: object) -> str:
    return "date({})".format(*_arguments(element, compiler))


@compiles(day_text, "postgresql")
def _day_of_postgresql(element: Any, compiler: Any, **_: object) -> str:
    return "to_char({}, 'YYYY-MM-DD')".format(*_arguments(element, compiler))


@compiles(days_between, "sqlite")
def _days_of_sqlite(element: Any, compiler: Any, **_: object) -> str:
    parts = _arguments(element, compiler)
    return "CAST(julianday(date({})) - julianday(date({})) AS INTEGER)".format(*parts)


@compiles(days_between, "postgresql")
def _days_of_postgresql(element: Any, compiler: Any, **_: object) -> str:
    return "(CAST({} AS DATE) - CAST({} AS DATE))".format(*_arguments(element, compiler))


@compiles(seconds_between, "sqlite")
def _seconds_of_sqlite(element: Any, compiler: Any, **_: object) -> str:
    parts = _arguments(element, compiler)
    return "(CAST(strftime('%s', {}) AS INTEGER) - CAST(strftime('%s', {}) AS INTEGER))".format(
        *parts
    )


@compiles(seconds_between, "postgresql")
def _seconds_of_postgresql(element: Any, compiler: Any, **_: object) -> str:
    parts = _arguments(element, compiler)
    return "(FLOOR(EXTRACT(EPOCH FROM {})) - FLOOR(EXTRACT(EPOCH FROM {})))".format(*parts)


@compiles(is_number, "sqlite")
def _number_of_sqlite(element: Any, compiler: Any, **_: object) -> str:
    return "(typeof({}) IN ('integer', 'real'))".format(*_arguments(element, compiler))


@compiles(is_number, "postgresql")
def _number_of_postgresql(element: Any, compiler: Any, **_: object) -> str:
    # A column of PostgreSQL has one type; where it is none of numbers, the arithmetic is refused.
    return "({} IS NOT NULL)".format(*_arguments(element, compiler))
