"""The text file as text: strictly parsed, nothing interpreted, no value in an error."""

import csv
import gzip
import hashlib
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pandas as pd

from wardround.errors import BadInput
from wardround_client.data.description import CsvFormat, DatasetDescription, Join, RowFilter
from wardround_client.data.listing import arrays_table, files_table
from wardround_client.data.scaffold import scaffold
from wardround_client.data.sources import file_inside

TABLE_LIMIT_BYTES = 2 << 30
_PART_CHARS = 1 << 20


def read_table(description: DatasetDescription, folder: Path) -> pd.DataFrame:
    """Read the hospital's rows as columns of stripped text, named as in the files.

    Other files are joined to the main one, then only the hospital's own rows are kept, or of them
    each patient's first; the index stays the number of the row in the main file. Raises BadInput
    when a file is missing, empty, too large, outside the folder, not UTF-8 or not rectangular, when
    a join is not one row to one, or when no row is left. Fields of the file appear in no message.
    """
    table = _main(description, folder)
    for join in description.join:
        table = _joined(table, join, folder)
    for kept in description.rows:
        if kept.source not in table.columns:
            raise BadInput(f"{description.path}: rows: the file has no column {kept.source!r}")
        table = table[_wanted(table[kept.source], kept)]
        if table.empty:
            raise BadInput(f"{description.path}: no row is what `rows` wants in {kept.source!r}")
    patient = description.patient.source
    if description.patient.first_row_only and patient in table.columns:
        # Rows without a key stay: they are counted as a fault, and not taken for one patient.
        table = table[~table[patient].duplicated() | (table[patient] == "")]
    return table


def in_part(value: str, parts: int) -> int:
    """Which of so many parts a value falls into: the same everywhere and for ever.

    >>> [in_part(value, 3) for value in ("p1", "p2", "p3", "p4")]
    [0, 1, 2, 1]
    """
    digest = hashlib.sha256(b"wardround/1 part " + value.encode()).digest()
    return int.from_bytes(digest[:8], "big") % parts


def read_text(folder: Path, path: str, csv_format: CsvFormat) -> pd.DataFrame:
    """One file as columns of stripped text; a name that ends in .gz is unpacked on the way."""
    found = file_inside(folder, path)
    if found.stat().st_size > TABLE_LIMIT_BYTES:
        raise BadInput(f"{path}: over {TABLE_LIMIT_BYTES} bytes")
    rows = _rows(found, path, csv_format.separator)
    names = _names(rows, path, csv_format)
    uneven = sum(len(row) != len(names) for row in rows)
    if uneven:
        where = "the header" if csv_format.header else "csv.columns"
        raise BadInput(
            f"{path}: {uneven} of {len(rows)} rows do not have the {len(names)} fields of {where}"
        )
    return pd.DataFrame(rows, columns=names, dtype=str).map(str.strip)


def _main(description: DatasetDescription, folder: Path) -> pd.DataFrame:
    if description.format == "files":
        return files_table(folder, description.path, description.pattern or "")
    if description.format == "npz":
        return arrays_table(folder, description.path, description.arrays)
    return read_text(folder, description.path, description.csv)


def _wanted(text: "pd.Series[str]", kept: RowFilter) -> "pd.Series[bool]":
    if kept.values:
        return text.isin(kept.values)
    if kept.except_values:
        return ~text.isin(kept.except_values)
    if kept.parts is None:
        raise BadInput(f"rows: nothing is said about {kept.source!r}")
    of, own = kept.parts.of, kept.parts.own
    # What is no SMILES has no scaffold; whoever gets it is told so by the check of its column.
    keys = text.map(lambda smiles: scaffold(smiles) or "") if kept.scaffold else text
    return keys.map(lambda value: in_part(value, of) in own).astype(bool)


def _joined(table: pd.DataFrame, join: Join, folder: Path) -> pd.DataFrame:
    other = read_text(folder, join.path, join.csv)
    for name, columns in ((join.path, other.columns), ("the rows so far", table.columns)):
        if join.key not in columns:
            raise BadInput(f"join {join.path}: no column {join.key!r} in {name}")
    repeated = int(other[join.key].duplicated().sum())
    if repeated:
        raise BadInput(
            f"join {join.path}: {repeated} of {len(other)} rows repeat a key in {join.key!r}"
        )
    both = sorted((set(other.columns) & set(table.columns)) - {join.key})
    if both:
        raise BadInput(f"join {join.path}: {', '.join(both)} is a column of both files")
    found = other.set_index(join.key).reindex(table[join.key]).fillna("")
    return pd.concat([table, found.set_index(table.index)], axis=1)


def _rows(path: Path, name: str, separator: str) -> list[list[str]]:
    # pandas' reader fills a short line up with empty fields and says nothing; this one does not
    try:
        with _opened(path) as file:
            lines = _within_limit(file, name)
            return [row for row in csv.reader(lines, delimiter=separator, strict=True) if row]
    except UnicodeDecodeError:
        raise BadInput(f"{name}: not UTF-8 text") from None
    except (csv.Error, OSError, EOFError, zlib.error) as error:
        # `from None`: a parser's message may quote the line that it fell over
        raise BadInput(
            f"{name}: not a table with separator {separator!r} ({type(error).__name__}): "
            "a quote is not closed, a field is too long, or the file is cut off"
        ) from None


def _opened(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _within_limit(file: TextIO, name: str) -> Iterator[str]:
    """The file's lines; a packed file, or one long line, cannot fill the memory unseen."""
    left = TABLE_LIMIT_BYTES
    while line := file.readline(_PART_CHARS):
        left -= len(line)
        if left < 0:
            raise BadInput(f"{name}: over {TABLE_LIMIT_BYTES} characters")
        yield line


def _names(rows: list[list[str]], name: str, csv_format: CsvFormat) -> list[str]:
    if not rows:
        raise BadInput(f"{name}: the file is empty")
    if not csv_format.header:
        return list(csv_format.columns)
    names = [cell.strip() for cell in rows.pop(0)]
    if len(set(names)) != len(names):
        raise BadInput(f"{name}: the header names a column twice")
    if not rows:
        raise BadInput(f"{name}: the file has a header and no rows")
    return names
