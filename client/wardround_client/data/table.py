"""The text file as text: strictly parsed, nothing interpreted, no value in an error."""

import csv
from pathlib import Path

import pandas as pd

from wardround.errors import BadInput
from wardround_client.data.description import CsvFormat, DatasetDescription

TABLE_LIMIT_BYTES = 2 << 30


def read_table(description: DatasetDescription, folder: Path) -> pd.DataFrame:
    """Read the file as columns of stripped text, named as in the file.

    Raises BadInput when the file is missing, empty, too large, outside the folder, not UTF-8 or
    not rectangular. Fields of the file appear in no message.
    """
    path = file_inside(folder, description.path)
    name = description.path
    if path.stat().st_size > TABLE_LIMIT_BYTES:
        raise BadInput(f"{name}: over {TABLE_LIMIT_BYTES} bytes")
    rows = _rows(path, name, description.csv.separator)
    names = _names(rows, name, description.csv)
    uneven = sum(len(row) != len(names) for row in rows)
    if uneven:
        where = "the header" if description.csv.header else "csv.columns"
        raise BadInput(
            f"{name}: {uneven} of {len(rows)} rows do not have the {len(names)} fields of {where}"
        )
    return pd.DataFrame(rows, columns=names, dtype=str).map(str.strip)


def file_inside(folder: Path, path: str) -> Path:
    """The file at `path` in `folder`, links followed. Raises BadInput when there is none inside."""
    root = folder.resolve()
    found = (folder / path).resolve()
    if not found.is_relative_to(root):
        raise BadInput(f"{path}: leads out of the data folder")
    if not found.is_file():
        raise BadInput(f"{path}: no such file in the data folder")
    return found


def _rows(path: Path, name: str, separator: str) -> list[list[str]]:
    # pandas' reader fills a short line up with empty fields and says nothing; this one does not
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return [row for row in csv.reader(file, delimiter=separator, strict=True) if row]
    except UnicodeDecodeError:
        raise BadInput(f"{name}: not UTF-8 text") from None
    except (csv.Error, OSError) as error:
        # `from None`: a parser's message may quote the line that it fell over
        raise BadInput(
            f"{name}: not a table with separator {separator!r} ({type(error).__name__}): "
            "a quote is not closed, or a field is too long"
        ) from None


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
