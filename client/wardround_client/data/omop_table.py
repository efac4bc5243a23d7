"""An OMOP database as a table of text: one row a person, within bounds, in one snapshot."""

import datetime as dt
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from wardround.errors import BadInput
from wardround_client.data.database import BATCH_ROWS
from wardround_client.data.omop_source import (
    PERSON_ID,
    EventColumn,
    OmopSource,
    PersonColumn,
)
from wardround_client.data.sql_source import SqlSource
from wardround_client.data.table_source import Asked, Bound, as_text, text_table

if TYPE_CHECKING:
    from sqlalchemy import Connection

_MEAN_DIGITS = 12


def read_omop(
    connection: "Connection", omop: OmopSource, source: SqlSource, asked: Asked
) -> pd.DataFrame:
    """The cohort, with those of the form's columns that anybody uses, as stripped text.

    `connection` is one that `database.opened` gave: all is read of one state of the database, a
    statement for each column. Raises BadInput when nobody
    is in the cohort, when persons, dates or units are not what they have to be (counted), and as
    the database refuses.
    """
    what = asked.path
    limit = time.monotonic() + source.timeout_s
    _plan_for_many(connection)
    rows = _people(connection, omop, source, what)
    own = [column for column in omop.columns if column.name in asked.columns]
    _check(rows, own, what)
    keys = [row.person_id for row in rows]
    table = {PERSON_ID: [str(key) for key in keys]}
    bound, broken = Bound(what), list[str]()
    for column in own:
        if time.monotonic() > limit:
            raise BadInput(f"{what}: it took longer than `timeout_s`, {source.timeout_s} s")
        if isinstance(column, PersonColumn):
            texts = [_of_person(row, column) for row in rows]
        else:
            broken += _faults(connection, omop, column)
            found = _values(connection, omop, column)
            none = "0" if column.take in {"any", "count"} else ""
            texts = [found.get(key, none) for key in keys]
        bound.cells(len(texts), sum(map(len, texts)))
        table[column.name] = texts
    if broken:
        raise BadInput(f"{what}: " + "; ".join(broken))
    return text_table(table)


def _plan_for_many(connection: "Connection") -> None:
    """PostgreSQL takes a cohort for a few rows and would search an index again for each person."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(
            "SET LOCAL enable_nestloop = off", execution_options={"stream_results": False}
        )


def _people(
    connection: "Connection", omop: OmopSource, source: SqlSource, what: str
) -> Sequence[Any]:
    from wardround_client.data.omop_query import people  # noqa: PLC0415  # loads an extra

    bound, rows = Bound(what, rows=source.most_rows), list[Any]()
    for batch in connection.execute(people(omop)).partitions(BATCH_ROWS):
        bound.rows(len(batch))
        rows += batch
    if not rows:
        raise BadInput(f"{what}: nobody is in the cohort")
    return rows


def _check(
    rows: Sequence[Any],
    columns: Sequence[PersonColumn | EventColumn],
    what: str,
) -> None:
    """What would be read as "did not happen", and means "is not known", is a fault."""
    windows = [column for column in columns if isinstance(column, EventColumn)]
    by_hour = any(one.hours is not None for one in windows)
    by_visit = any(one.within is not None for one in windows)
    faults = {
        "have no row in the table person": sum(row.described is None for row in rows),
        "have an index whose date cannot be read": sum(row.index_date is None for row in rows),
        "have an index without a time of day, which `hours` count from": by_hour
        * sum(not row.has_time for row in rows),
        "have a visit without an end, which `within` asks for": by_visit
        * sum(not row.has_end for row in rows),
    }
    found = [f"{count} of {len(rows)} persons {why}" for why, count in faults.items() if count]
    if found:
        raise BadInput(f"{what}: cohort: " + "; ".join(found))


def _of_person(row: Any, column: PersonColumn) -> str:
    if column.value == "age":
        return "" if row.year is None else str(_age(row))
    value = row.year if column.value == "year_of_birth" else getattr(row, column.value)
    return as_text(value) or ""


def _age(row: Any) -> int:
    """Full years at the index; without month or day of birth the difference of the years."""
    index = dt.date.fromisoformat(row.index_date)
    years = index.year - int(row.year)
    if row.month is None or row.day is None:
        return years
    return years - ((index.month, index.day) < (int(row.month), int(row.day)))


def _faults(connection: "Connection", omop: OmopSource, column: EventColumn) -> list[str]:
    from wardround_client.data.omop_query import faults  # noqa: PLC0415  # loads an extra

    if not column.is_number:
        return []
    values, wrong, strange = (int(n or 0) for n in connection.execute(faults(omop, column)).one())
    found = []
    if wrong:
        found.append(f"column {column.name}: {wrong} of {values} values are not numbers")
    if strange:
        found.append(
            f"column {column.name}: {strange} of {values} values are in another unit than "
            f"{column.unit} (how to convert it belongs in `units`)"
        )
    return found


def _values(connection: "Connection", omop: OmopSource, column: EventColumn) -> dict[Any, str]:
    from wardround_client.data.omop_query import values  # noqa: PLC0415  # loads an extra

    found = {}
    for batch in connection.execute(values(omop, column)).partitions(BATCH_ROWS):
        for person, value in batch:
            found[person] = _text(value, column)
    return found


def _text(value: Any, column: EventColumn) -> str:
    if column.take == "any":
        return "1"
    if not column.is_number:
        return str(int(value))
    # Databases differ in their types of numbers, and in the order in which they add up.
    number = float(value)
    return str(float(f"{number:.{_MEAN_DIGITS}g}")) if column.take == "mean" else str(number)
