"""Text files as text: strictly parsed, nothing interpreted, no value in an error.

One file, or the files of a folder or archive whose names fit a pattern, as one table.
"""

import csv
import gzip
import io
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TextIO

import pandas as pd

from wardround.errors import BadInput, why
from wardround_client.data.listing import FILE, files_table, parts_of
from wardround_client.data.sources import NOT_UNPACKED, CsvFormat, file_inside

# Text is Python's own, with pyarrow installed as without it: its regular expressions are others.
pd.set_option("mode.string_storage", "python")

TABLE_LIMIT_BYTES = 2 << 30
_PART_CHARS = 1 << 20

Rows = list[list[str]]


def read_text(folder: Path, path: str, csv_format: CsvFormat) -> pd.DataFrame:
    """One file as columns of stripped text; a name that ends in .gz is unpacked on the way.

    Raises BadInput when it is missing, empty, too large, outside the folder, not UTF-8 or not
    rectangular. Fields of the file appear in no message.
    """
    found = file_inside(folder, path)
    within_limit(found.stat().st_size, path)
    try:
        with open_text(found) as file:
            rows = _parsed(_lines(file, path), path, csv_format)
    except UnicodeDecodeError:
        raise BadInput(
            f"{path}: not UTF-8 text; save it as UTF-8 (of Latin-1: iconv -f ISO-8859-1 -t UTF-8)"
        ) from None
    except PermissionError as error:
        raise BadInput(f"{path}: cannot be read ({why(error)})") from None
    except (OSError, EOFError, zlib.error) as error:
        raise _no_table(path, csv_format, error) from None
    if not rows:
        raise BadInput(f"{path}: the file is empty")
    names = _names(rows, path, csv_format)
    if not rows:
        raise BadInput(f"{path}: the file has a header and no rows")
    _refuse_uneven(sum(len(row) != len(names) for row in rows), len(rows), names, path, csv_format)
    return _stripped(rows, names)


def read_texts(
    folder: Path,
    path: str,
    pattern: str,
    csv_format: CsvFormat,
    only: Mapping[str, Collection[str]],
) -> pd.DataFrame:
    """The rows of all files of a folder or .zip whose names fit, as one table.

    The parts that `pattern` names are columns before those of the files, which are the same in all
    of them. Of a column in `only` the rows with one of its values are kept; a file whose name says
    that none is in it stays closed. No row may be left, but a file has to be. Raises BadInput as
    `read_text` does.
    """
    parts, only = list(parts_of(pattern)), {name: frozenset(own) for name, own in only.items()}
    listed = files_table(folder, path, pattern)
    if repeated := int(listed[FILE].duplicated().sum()):
        raise BadInput(f"{path}: {repeated} of {len(listed)} files have the name of another one")
    for part in parts:
        if part in only:
            listed = listed[listed[part].isin(only[part])]
    if listed.empty:
        raise BadInput(f"{path}: no file of a record of this hospital")
    keys = listed[parts].to_numpy(dtype=object).tolist()
    names: list[str] = []
    kept: Rows = []
    uneven = total = 0
    for key, text in zip(keys, _texts(folder, path, list(listed[FILE])), strict=True):
        rows = _parsed(io.StringIO(text, newline=""), path, csv_format)
        own = _names(rows, path, csv_format)
        names = names or own
        if own != names:
            raise BadInput(f"{path}: the files differ in their header")
        fitting = [row for row in rows if len(row) == len(names)]
        uneven += len(rows) - len(fitting)
        total += len(rows)
        kept += [[*key, *row] for row in _wanted(fitting, names, only)]
    _refuse_uneven(uneven, total, names, path, csv_format)
    if both := sorted(set(parts) & set(names)):
        raise BadInput(f"{path}: {', '.join(both)} is a part of the name and a column")
    return _stripped(kept, [*parts, *names])


def _wanted(rows: Rows, names: list[str], only: Mapping[str, Collection[str]]) -> Rows:
    for place, name in enumerate(names):
        if name in only:
            values = only[name]
            rows = [row for row in rows if row[place].strip() in values]
    return rows


def _texts(folder: Path, path: str, names: Sequence[str]) -> Iterator[str]:
    """The files' texts, in this order; their sizes are known to be within the limit before."""
    try:
        for content in _contents(folder, path, names):
            yield content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadInput(f"{path}: a file is not UTF-8 text") from None
    except NOT_UNPACKED:
        raise BadInput(f"{path}: a file cannot be read or unpacked") from None


def _contents(folder: Path, path: str, names: Sequence[str]) -> Iterator[bytes]:
    if not path.endswith(".zip"):
        found = [file_inside(folder, f"{path}/{name}") for name in names]
        within_limit(sum(file.stat().st_size for file in found), path)
        for file in found:
            yield file.read_bytes()
        return
    with zipfile.ZipFile(file_inside(folder, path)) as archive:
        entries = [archive.getinfo(name) for name in names]
        # zipfile unpacks no more of a member than the size it declares.
        within_limit(sum(entry.file_size for entry in entries), path)
        for entry in entries:
            yield archive.read(entry)


def _parsed(lines: Iterable[str], name: str, csv_format: CsvFormat) -> Rows:
    if csv_format.separator == " ":
        return [row for line in lines if (row := line.split())]
    # pandas' reader fills a short line up with empty fields and says nothing; this one does not
    try:
        return [
            row for row in csv.reader(lines, delimiter=csv_format.separator, strict=True) if row
        ]
    except csv.Error as error:
        raise _no_table(name, csv_format, error) from None


def _no_table(name: str, csv_format: CsvFormat, error: Exception) -> BadInput:
    """To be raised `from None`: a parser's message may quote the line that it fell over."""
    return BadInput(
        f"{name}: not a table with separator {csv_format.separator!r} ({type(error).__name__}): "
        "a quote is not closed, a field is too long, or the file is cut off"
    )


def open_text(path: Path) -> TextIO:
    """The file as UTF-8 text with its own line ends; one whose name ends in .gz is unpacked."""
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _lines(file: TextIO, name: str) -> Iterator[str]:
    """The file's lines; a packed file, or one long line, cannot fill the memory unseen."""
    left = TABLE_LIMIT_BYTES
    while line := file.readline(_PART_CHARS):
        left -= len(line)
        if left < 0:
            raise BadInput(f"{name}: over {TABLE_LIMIT_BYTES} characters")
        yield line


def within_limit(size: int, name: str) -> None:
    """Raises BadInput when a file of this name is larger than any table may be."""
    if size > TABLE_LIMIT_BYTES:
        raise BadInput(f"{name}: over {TABLE_LIMIT_BYTES} bytes")


def _names(rows: Rows, name: str, csv_format: CsvFormat) -> list[str]:
    """The columns; the header is taken off the rows."""
    if not csv_format.header:
        return list(csv_format.columns)
    if not rows:
        raise BadInput(f"{name}: a file without a header")
    names = [cell.strip() for cell in rows.pop(0)]
    if csv_format.unnamed is not None:
        if "" not in names:
            raise BadInput(f"{name}: csv.unnamed is declared, every field of the header has a name")
        names = [cell or csv_format.unnamed for cell in names]
    if len(set(names)) != len(names):
        raise BadInput(f"{name}: the header names a column twice")
    return names


def _refuse_uneven(
    uneven: int, total: int, names: Sequence[str], name: str, csv_format: CsvFormat
) -> None:
    if uneven:
        where = "the header" if csv_format.header else "csv.columns"
        raise BadInput(
            f"{name}: {uneven} of {total} rows do not have the {len(names)} fields of {where}"
        )


def _stripped(rows: Rows, names: Sequence[str]) -> pd.DataFrame:
    columns = zip(*rows, strict=True) if rows else [()] * len(names)
    stripped = {name: list(map(str.strip, own)) for name, own in zip(names, columns, strict=True)}
    return pd.DataFrame(stripped, columns=list(names), dtype=str)
