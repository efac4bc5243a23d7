"""What every reader of a table keeps to, so that a further kind of source is one file.

A kind of source is a word in a description's `format` and, where it has something to say, a table
in the TOML with that name. To add the kind `fhir`:

1. `fhir_table.py` has a `Frozen` model with the keys of `[fhir]`, and one function,
   `read_fhir(source, asked)`. It returns what `text_table` makes (and, where it leaves something
   out as declared, sentences that say so, for the remarks of `data check`): a column of
   stripped text for each name, "" where nothing is, one row a record, in an order that is the same
   each time. It may leave out columns that are not in `asked.columns`. It raises BadInput, with
   counts and names of columns in it and never a value, and no library's own error: `from None`,
   since such a message may quote a record. It bounds what it takes before it allocates: by the
   file's size, and by a `Bound` for what unpacks to more.
2. `description.py` has the model as a field, `fhir: FhirSource | None = None`, and the word `fhir`
   in `Format` (and in `_OWN_KEYS`, when the table is due with the format).
3. `table.py` calls the function in `_main`, by that word.

All that comes after (joins, own rows, first rows of a patient, units, missing codes, labels,
checks) works on text and is the same for every kind. Values become text as a CSV export would have
them: `as_text` says how, so that one table read from two kinds of source is one table.
"""

import datetime as dt
import decimal
import math
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from wardround.errors import BadInput
from wardround_client.data.text import TABLE_LIMIT_BYTES

MOST_ROWS = 100_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a reader is asked for: a path in the data folder, and the columns that anybody uses.

    A name in `columns` may be another file's, where files are joined, or nobody's: who misses a
    column says so later.
    """

    folder: Path
    path: str
    columns: frozenset[str]


class Bound:
    """Counts rows and characters as they come. Raises BadInput beyond the limits.

    A cell counts its characters and one more, as the same table would take in a CSV file.
    """

    def __init__(
        self, what: str, *, rows: int = MOST_ROWS, characters: int = TABLE_LIMIT_BYTES
    ) -> None:
        self._what, self._rows, self._characters = what, rows, characters
        self._rows_left, self._characters_left = rows, characters

    def rows(self, count: int) -> None:
        """So many rows more."""
        self._rows_left -= count
        if self._rows_left < 0:
            raise BadInput(f"{self._what}: over {self._rows} rows")

    def cells(self, count: int, characters: int) -> None:
        """So many cells more, with so many characters in all."""
        self._characters_left -= count + characters
        if self._characters_left < 0:
            raise BadInput(f"{self._what}: over {self._characters} characters")


def text_table(columns: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Columns of text, stripped, as every reader returns them."""
    stripped = {name: list(map(str.strip, own)) for name, own in columns.items()}
    return pd.DataFrame(stripped, columns=list(columns), dtype=str)


def as_text(value: object) -> str | None:
    """One value as a CSV export would write it; None for a kind that no column is made of.

    What is missing, a float that is no number included, is "". Numbers are written so that they
    are read back exactly; yes and no as 1 and 0; times as 2150-03-01 07:30:00, in UTC with +00:00
    when they have a zone. Bytes, lists, maps and spans of time are None.

    >>> [as_text(value) for value in (None, 7.0, 0.1, True, "a ", decimal.Decimal("1E+2"))]
    ['', '7.0', '0.1', '1', 'a ', '100']
    >>> as_text(dt.date(2150, 3, 1)), as_text(b"raw")
    ('2150-03-01', None)
    """
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, int | uuid.UUID):
        return str(value)
    if isinstance(value, float | decimal.Decimal):
        return _number(value)
    return _time(value)


def _number(value: float | decimal.Decimal) -> str:
    if math.isnan(value):
        return ""
    if isinstance(value, decimal.Decimal) and value.is_finite():
        # Without an exponent, which would be short for a very long text: a database has its limit.
        return format(value, "f")
    return str(value)


def _time(value: object) -> str | None:
    if isinstance(value, dt.datetime):
        own = value if value.tzinfo is None else value.astimezone(dt.UTC)
        return own.isoformat(sep=" ")
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    return None
