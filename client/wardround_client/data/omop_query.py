"""A description's OMOP form as SQL: built by SQLAlchemy, every id and number a bound parameter."""

from typing import Any

from sqlalchemy import (
    CTE,
    ColumnElement,
    Select,
    and_,
    case,
    exists,
    func,
    literal,
    null,
    or_,
    select,
    true,
)

from wardround_client.data.omop_source import (
    NO_UNIT,
    Chosen,
    Criterion,
    EventColumn,
    OmopSource,
    Window,
)
from wardround_client.data.omop_tables import (
    CdmTable,
    ancestor_table,
    cdm_table,
    day_text,
    days_between,
    is_number,
    person_table,
    seconds_between,
)

_HOUR_S = 3600


def people(omop: OmopSource) -> Select[Any]:
    """Who is a record, by id: the index as a date, whether it has a time and an end, and birth."""
    cohort, person = _cohort(omop), person_table(omop.schema_)
    found = cohort.outerjoin(person, person.c.person_id == cohort.c.person_id)
    return (
        select(
            cohort.c.person_id,
            day_text(cohort.c.index_date).label("index_date"),
            case((cohort.c.index_time.is_(None), 0), else_=1).label("has_time"),
            case((cohort.c.index_end.is_(None), 0), else_=1).label("has_end"),
            person.c.person_id.label("described"),
            person.c.year_of_birth.label("year"),
            person.c.month_of_birth.label("month"),
            person.c.day_of_birth.label("day"),
            person.c.gender_concept_id.label("gender"),
            person.c.race_concept_id.label("race"),
            person.c.ethnicity_concept_id.label("ethnicity"),
        )
        .select_from(found)
        .order_by(cohort.c.person_id)
    )


def values(omop: OmopSource, column: EventColumn) -> Select[Any]:
    """(person_id, value) for each person of the cohort that has one in the window."""
    cohort, event = _cohort(omop), cdm_table(column.table, omop.schema_)
    person = cohort.c.person_id.label("person_id")
    if column.take in {"any", "count"}:
        found = _apart(_in_window(omop, cohort, event, column, person))
        return select(found.c.person_id, func.count()).group_by(found.c.person_id)
    value, usable = _value(event, column)
    if column.take in {"first", "last"}:
        place = _place(event, column.take).label("place")
        rows = _in_window(omop, cohort, event, column, person, value.label("value"), place)
        numbered = rows.where(usable).subquery()
        return select(numbered.c.person_id, numbered.c.value).where(numbered.c.place == 1)
    rows = _in_window(omop, cohort, event, column, person, value.label("value"))
    found = _apart(rows.where(usable))
    taken = _taken(column.take, found.c.value)
    return select(found.c.person_id, taken).group_by(found.c.person_id)


def _apart(rows: Select[Any]) -> CTE:
    """PostgreSQL would group while it joins, and sort the whole table of events by person."""
    return rows.cte("found").prefix_with("MATERIALIZED", dialect="postgresql")


def faults(omop: OmopSource, column: EventColumn) -> Select[Any]:
    """Of the values in the window: how many, how many no numbers, how many in a strange unit."""
    cohort, event = _cohort(omop), cdm_table(column.table, omop.schema_)
    value = event.table.c.value_as_number
    strange = and_(is_number(value), ~_unit_known(event, column))
    counts = (
        func.count(),
        func.sum(case((is_number(value), 0), else_=1)),
        func.sum(case((strange, 1), else_=0)),
    )
    return _in_window(omop, cohort, event, column, *counts).where(value.is_not(None))


def _cohort(omop: OmopSource) -> CTE:
    """(person_id, index_date, index_time, index_end), one row a person."""
    asked = omop.cohort
    event = cdm_table(asked.table, omop.schema_)
    end = event.table.c.visit_end_date if asked.table == "visit_occurrence" else null()
    rows = select(
        event.person.label("person_id"),
        event.date.label("index_date"),
        event.time.label("index_time"),
        end.label("index_end"),
        _place(event, asked.which).label("place"),
    ).where(event.date.is_not(None), _fits(omop, event, asked))
    if asked.after is not None:
        rows = rows.where(day_text(event.date) >= asked.after.isoformat())
    if asked.before is not None:
        rows = rows.where(day_text(event.date) <= asked.before.isoformat())
    numbered = rows.subquery("numbered")
    columns = (numbered.c[name] for name in ("person_id", "index_date", "index_time", "index_end"))
    first = select(*columns).where(numbered.c.place == 1)
    if not asked.require and not asked.exclude:
        return first.cte("cohort")
    indexed = first.cte("indexed")
    kept = select(indexed)
    for criterion in asked.require:
        kept = kept.where(_met(omop, indexed, criterion))
    for criterion in asked.exclude:
        kept = kept.where(~_met(omop, indexed, criterion))
    return kept.cte("cohort")


def _met(omop: OmopSource, indexed: CTE, criterion: Criterion) -> ColumnElement[bool]:
    event = cdm_table(criterion.table, omop.schema_)
    conditions = and_(
        event.person == indexed.c.person_id,
        _fits(omop, event, criterion),
        _within(event, indexed, criterion),
    )
    if criterion.at_least == 1:
        return exists(select(literal(1)).select_from(event.table).where(conditions))
    counted = select(func.count()).select_from(event.table).where(conditions)
    return counted.scalar_subquery() >= criterion.at_least


def _in_window(
    omop: OmopSource, cohort: CTE, event: CdmTable, column: EventColumn, *what: ColumnElement[Any]
) -> Select[Any]:
    return (
        select(*what)
        .select_from(cohort.join(event.table, event.person == cohort.c.person_id))
        .where(_fits(omop, event, column), _within(event, cohort, column))
    )


def _fits(omop: OmopSource, event: CdmTable, chosen: Chosen) -> ColumnElement[bool]:
    ways: list[ColumnElement[bool]] = []
    if chosen.concepts:
        ways.append(event.concept.in_(chosen.concepts))
    if chosen.descendants:
        below = ancestor_table(omop.schema_)
        found = select(below.c.descendant_concept_id).where(
            below.c.ancestor_concept_id.in_(chosen.concepts)
        )
        ways.append(event.concept.in_(found))
    if chosen.source_concepts:
        ways.append(event.source_concept.in_(chosen.source_concepts))
    return or_(*ways) if ways else true()


def _within(event: CdmTable, cohort: CTE, window: Window) -> ColumnElement[bool]:
    if window.hours is not None:
        behind = seconds_between(event.time, cohort.c.index_time)
        low, high = (_HOUR_S * hours for hours in window.hours)
        return and_(behind >= low, behind < high)
    days = days_between(event.date, cohort.c.index_date)
    if window.days is not None:
        return days.between(*window.days)
    # A criterion takes a visit without an end as one that goes on; of a column it is a fault.
    open_end = cohort.c.index_end.is_(None)
    return and_(days >= 0, or_(open_end, days_between(event.date, cohort.c.index_end) <= 0))


def _place(event: CdmTable, which: str) -> ColumnElement[int]:
    """1 for a person's first or last row; rows of one time are told apart by their ids."""
    keys: list[ColumnElement[Any]] = [day_text(event.date), event.time, event.row]
    ordered = [key.desc() if which == "last" else key.asc() for key in keys]
    return func.row_number().over(
        partition_by=event.person, order_by=[key.nulls_last() for key in ordered]
    )


def _value(event: CdmTable, column: EventColumn) -> tuple[ColumnElement[Any], ColumnElement[bool]]:
    """What is taken of a row, in the unit that is due, and whether there is something to take."""
    if column.value == "concept":
        concept = event.table.c.value_as_concept_id
        return concept, concept != 0
    number, unit = event.table.c.value_as_number, _unit(event)
    converted = [
        (unit == other, number * literal(way.scale) + literal(way.offset))
        for other, way in column.units.items()
    ]
    value = case(*converted, else_=number) if converted else number
    return value, and_(is_number(number), _unit_known(event, column))


def _taken(take: str, value: ColumnElement[Any]) -> ColumnElement[Any]:
    if take == "mean":
        return func.avg(value)
    return func.min(value) if take == "min" else func.max(value)


def _unit(event: CdmTable) -> ColumnElement[int]:
    return func.coalesce(event.table.c.unit_concept_id, NO_UNIT)


def _unit_known(event: CdmTable, column: EventColumn) -> ColumnElement[bool]:
    return _unit(event).in_([column.unit, *column.units])
