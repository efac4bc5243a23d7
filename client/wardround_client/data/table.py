"""A hospital's main table: its files put beside each other, its own rows kept, all as text."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from wardround.errors import BadInput
from wardround_client.data.arff_table import read_arff
from wardround_client.data.database import opened
from wardround_client.data.description import DatasetDescription, Join, Pivot, RowFilter
from wardround_client.data.dicom_folder import read_dicom_folder
from wardround_client.data.fhir_table import read_fhir
from wardround_client.data.listing import arrays_table, files_table
from wardround_client.data.omop_table import read_omop
from wardround_client.data.parquet_table import read_parquet
from wardround_client.data.scaffold import scaffold
from wardround_client.data.sql_source import SqlSource
from wardround_client.data.sql_table import read_sql
from wardround_client.data.table_source import Asked
from wardround_client.data.text import read_text, read_texts


@dataclass(frozen=True, slots=True)
class Tables:
    """The hospital's rows; `lines` are the measurements of `[series]` out of the same database.

    `remarks` say what was left out of the source, as its description wants it.
    """

    rows: pd.DataFrame = field(repr=False)
    lines: pd.DataFrame | None = field(default=None, repr=False)
    remarks: tuple[str, ...] = ()


def read_table(description: DatasetDescription, folder: Path) -> pd.DataFrame:
    """The rows that `read_tables` reads."""
    return read_tables(description, folder).rows


def read_tables(description: DatasetDescription, folder: Path) -> Tables:
    """Read the hospital's rows as columns of stripped text, named as in the files.

    Other files are joined to the main one, then only the hospital's own rows are kept, or of them
    each patient's first; the index stays the number of the row in the main file. Raises BadInput
    when a file is missing, empty, too large, outside the folder, not UTF-8 or not rectangular, when
    a join is not one row to one, or when no row is left. Fields of the file appear in no message.
    """
    read = _main(description, folder)
    table = read.rows
    for join in description.join:
        table = _joined(table, join, folder, description.sources())
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
    return Tables(table, read.lines, read.remarks)


def in_part(value: str, parts: int) -> int:
    """Which of so many parts a value falls into: the same everywhere and for ever.

    >>> [in_part(value, 3) for value in ("p1", "p2", "p3", "p4")]
    [0, 1, 2, 1]
    """
    digest = hashlib.sha256(b"wardround/1 part " + value.encode()).digest()
    return int.from_bytes(digest[:8], "big") % parts


def _main(description: DatasetDescription, folder: Path) -> Tables:
    asked = Asked(folder=folder, path=description.path, columns=description.sources())
    if description.sql is not None:
        return _from_database(description, description.sql, asked)
    if description.dicom is not None:
        table, remarks = read_dicom_folder(description.dicom, asked)
        return Tables(table, remarks=remarks)
    if description.fhir is not None:
        table, remarks = read_fhir(description.fhir, asked)
        return Tables(table, remarks=remarks)
    return Tables(_from_files(description, asked))


def _from_files(description: DatasetDescription, asked: Asked) -> pd.DataFrame:
    if description.format == "files":
        return files_table(asked.folder, asked.path, description.pattern or "")
    if description.format == "npz":
        return arrays_table(asked.folder, asked.path, description.arrays)
    if description.format == "parquet":
        return read_parquet(asked)
    if description.format == "arff":
        return read_arff(asked)
    return read_text(asked.folder, asked.path, description.csv)


def _from_database(description: DatasetDescription, source: SqlSource, asked: Asked) -> Tables:
    """Rows and measurements, both of one state of the database."""
    long, omop = description.series, description.omop
    with opened(source, asked.folder) as connection:
        rows = (
            read_sql(connection, source, asked)
            if omop is None
            else read_omop(connection, omop, source, asked)
        )
        if long is None or long.format != "sql":
            return Tables(rows)
        due = frozenset({long.record, long.time, long.variable, long.value})
        lines = Asked(folder=asked.folder, path=long.path, columns=due)
        return Tables(rows, read_sql(connection, source, lines))


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


def _joined(table: pd.DataFrame, join: Join, folder: Path, columns: frozenset[str]) -> pd.DataFrame:
    if join.key not in table.columns:
        raise BadInput(f"join {join.path}: no column {join.key!r} in the rows so far")
    other = _other(join, folder, frozenset(table[join.key]), columns)
    if join.key not in other.columns:
        raise BadInput(f"join {join.path}: no column {join.key!r} in {join.path}")
    repeated = int(other[join.key].duplicated().sum())
    if repeated:
        raise BadInput(
            f"join {join.path}: {repeated} of {len(other)} rows repeat a key in {join.key!r}"
        )
    other = other.rename(columns=lambda name: name if name == join.key else join.prefix + name)
    both = sorted((set(other.columns) & set(table.columns)) - {join.key})
    if both:
        raise BadInput(f"join {join.path}: {', '.join(both)} is a column of both files")
    found = other.set_index(join.key).reindex(table[join.key]).fillna("")
    return pd.concat([table, found.set_index(table.index)], axis=1)


def _other(join: Join, folder: Path, keys: frozenset[str], columns: frozenset[str]) -> pd.DataFrame:
    """The file to be joined; of many files only what those rows and columns need is kept."""
    pivot = join.pivot
    if join.format != "csv":
        own = {name.removeprefix(join.prefix) for name in columns}
        own |= {join.key} | ({pivot.variable, pivot.value} if pivot is not None else set())
        reader = read_parquet if join.format == "parquet" else read_arff
        other = reader(Asked(folder=folder, path=join.path, columns=frozenset(own)))
    elif join.pattern is None:
        other = read_text(folder, join.path, join.csv)
    else:
        only = {join.key: keys} | ({pivot.variable: pivot.names} if pivot is not None else {})
        other = read_texts(folder, join.path, join.pattern, join.csv, only)
    return other if pivot is None else _turned(other, join, pivot)


def _turned(lines: pd.DataFrame, join: Join, pivot: Pivot) -> pd.DataFrame:
    """One row a key, one column for each of the pivot's names; "" where there is no line."""
    due = {join.key, pivot.variable, pivot.value}
    if absent := sorted(due - set(lines.columns)):
        raise BadInput(f"join {join.path}: no column {', '.join(map(repr, absent))}")
    first = lines.drop_duplicates([join.key, pivot.variable])
    wide = first.pivot(index=join.key, columns=pivot.variable, values=pivot.value)
    # Without its names, which would stand beside the new columns.
    named = wide.reindex(columns=list(pivot.names)).fillna("").rename_axis(columns=None)
    return named.reset_index()
