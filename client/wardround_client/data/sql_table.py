"""What a query gives, as a table of text: streamed, bounded, no value in an error."""

import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from wardround.errors import BadInput, why
from wardround_client.data.database import BATCH_ROWS
from wardround_client.data.sources import file_inside
from wardround_client.data.sql_source import SqlSource
from wardround_client.data.sql_statement import single_query
from wardround_client.data.table_source import Asked, Bound, as_text, text_table

if TYPE_CHECKING:
    from sqlalchemy import Connection

QUERY_LIMIT_BYTES = 1 << 20


def read_sql(connection: "Connection", source: SqlSource, asked: Asked) -> pd.DataFrame:
    """The rows of the query in the file `asked.path`, as columns of stripped text.

    `connection` is one that `database.opened` gave.

    The query is one SELECT; it should end in ORDER BY, since a row's place is its number. Raises
    BadInput when it is none, when the database refuses it, when it gives no row, too many or too
    much, names a column twice, or has a value of a kind that no column is made of.
    """
    query = single_query(_query(asked), asked.path)
    # As it stands: no `:name` or `%s` in it is a parameter.
    as_it_stands = {"no_parameters": True}
    result = connection.exec_driver_sql(query, execution_options=as_it_stands)
    names = [name.strip() for name in map(str, result.keys())]
    if len(set(names)) != len(names):
        raise BadInput(f"{asked.path}: the query names a column twice")
    columns = streamed(result.partitions(BATCH_ROWS), names, source, asked.path)
    if not any(columns.values()):
        raise BadInput(f"{asked.path}: the query gives no row")
    return text_table(columns)


def streamed(
    batches: Iterable[Sequence[Any]], names: Sequence[str], source: SqlSource, what: str
) -> dict[str, list[str]]:
    """The rows of a result as columns of text, within the source's bounds."""
    columns: dict[str, list[str]] = {name: [] for name in names}
    bound, strange = Bound(what, rows=source.most_rows), Counter[str]()
    limit = time.monotonic() + source.timeout_s
    for batch in batches:
        bound.rows(len(batch))
        if time.monotonic() > limit:
            raise BadInput(f"{what}: it took longer than `timeout_s`, {source.timeout_s} s")
        for place, name in enumerate(names):
            texts = [as_text(row[place]) for row in batch]
            strange[name] += texts.count(None)
            own = [text or "" for text in texts]
            bound.cells(len(own), sum(map(len, own)))
            columns[name] += own
    faults = [f"column {name!r}: {count} values" for name, count in strange.items() if count]
    if faults:
        due = "are neither text nor numbers, times, or yes and no"
        raise BadInput(f"{what}: {', '.join(faults)} {due}")
    return columns


def _query(asked: Asked) -> str:
    path = file_inside(asked.folder, asked.path)
    if path.stat().st_size > QUERY_LIMIT_BYTES:
        raise BadInput(f"{asked.path}: over {QUERY_LIMIT_BYTES} bytes")
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{asked.path}: cannot be read ({why(error)})") from None
