"""Patients of a described file, without a label: who fits the study's contract, and who does not.

A fault of one patient's rows is that patient's alone: the others are answered for.
"""

from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from wardround.errors import BadInput
from wardround.study.contract import Column, ColumnKind, Contract, Label, LabelKind
from wardround_client.data.conversion import convert, outside
from wardround_client.data.description import ColumnSource, DatasetDescription
from wardround_client.data.encoding import EncodedRecords, encode
from wardround_client.data.examination import Examined, examine, tabular_columns
from wardround_client.data.fingerprint import symbols
from wardround_client.data.images import Images
from wardround_client.data.reading import Records
from wardround_client.data.series import read_series
from wardround_client.data.table import Tables

Fault = tuple[int, str]
"""The number of a row, and what is wrong with it: a column and what is due, never a value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribedPatients:
    """`encoded` and `records` have the patients within the contract, without labels.

    `outside` says of each other patient what is wrong with its rows.
    """

    encoded: EncodedRecords = field(repr=False)
    records: Records = field(repr=False)
    outside: dict[str, tuple[str, ...]] = field(repr=False)


def read_described(
    description: DatasetDescription, contract: Contract, folder: Path
) -> DescribedPatients:
    """Read the patients that `description` describes; its label, if it has one, is not read.

    Raises BadInput when the file as a whole cannot be read: no table, a column is missing, or rows
    without a patient's key.
    """
    unlabelled = description.model_copy(update={"label": None})
    asked = contract.model_copy(update={"label": _no_label(contract.label)})
    seen = examine(unlabelled, asked, folder)
    keys = pd.Series(seen.patients, dtype=object)
    empty = int(keys.isin({"", *description.csv.missing}).sum())
    if empty and description.patient.source is not None:
        raise BadInput(f"patient key: {empty} of {len(keys)} rows have none")
    faults = _faults(unlabelled, asked, folder, seen) if seen.faults else []
    if seen.faults and not faults:
        raise BadInput(f"{description.path}: " + "; ".join(seen.faults))
    strange: dict[str, list[str]] = {}
    for row, why in faults:
        strange.setdefault(seen.patients[row], []).append(why)
    good = np.flatnonzero(~keys.isin(strange).to_numpy())
    records = _rows_of(seen, good, folder, unlabelled)
    return _encoded(records, asked, {key: _once(why) for key, why in strange.items()})


def _no_label(label: Label) -> Label:
    return Label(name=label.name, description=label.description, kind=LabelKind.NONE)


def _rows_of(
    seen: Examined,
    rows: npt.NDArray[np.intp],
    folder: Path,
    description: DatasetDescription,
) -> Records:
    return Records(
        patients=tuple(seen.patients[row] for row in rows),
        values=seen.values.iloc[rows].reset_index(drop=True),
        labels=np.zeros((len(rows), 0)),
        folder=folder,
        series={name: grid[rows] for name, grid in seen.series.items()},
        images=description.images,
    )


def _encoded(
    records: Records, contract: Contract, strange: dict[str, tuple[str, ...]]
) -> DescribedPatients:
    try:
        return DescribedPatients(
            encoded=encode(records, contract), records=records, outside=strange
        )
    except BadInput:
        if contract.image is None:
            raise
    # An image that looked well from outside cannot be decoded: whose it is, patient by patient.
    unreadable = dict(strange)
    for key in sorted(set(records.patients)):
        try:
            encode(_only(records, {key}), contract)
        except BadInput as error:
            unreadable[key] = (str(error),)
    readable = _only(records, set(records.patients) - unreadable.keys())
    return DescribedPatients(
        encoded=encode(readable, contract), records=readable, outside=unreadable
    )


def _only(records: Records, keys: Container[str]) -> Records:
    rows = [row for row, key in enumerate(records.patients) if key in keys]
    return Records(
        patients=tuple(records.patients[row] for row in rows),
        values=records.values.iloc[rows].reset_index(drop=True),
        labels=records.labels[rows],
        folder=records.folder,
        series={name: grid[rows] for name, grid in records.series.items()},
        images=records.images,
    )


def _faults(
    description: DatasetDescription, contract: Contract, folder: Path, seen: Examined
) -> list[Fault]:
    table = seen.tables.rows
    found: list[Fault] = []
    for column in tabular_columns(contract):
        source = description.source_of(column.name)
        text = None if source.source is None else table[source.source]
        found += _column_faults(description, column, source, seen.values[column.name], text)
    found += _series_faults(description, contract, folder, seen.tables, np.arange(len(table)))
    return found + list(_image_faults(description, contract, folder, seen))


def _column_faults(
    description: DatasetDescription,
    column: Column,
    source: ColumnSource,
    values: "pd.Series[float] | pd.Series[str]",
    text: "pd.Series[str] | None",
) -> Iterator[Fault]:
    missing = values.isna().to_numpy()
    if not column.may_be_missing:
        yield from _rows(missing, f"{column.name}: missing, or cannot be read; it is due")
    elif text is not None and missing.any():
        among = text[missing]
        # Each text once: what cannot be read is counted, and a count of one text names it.
        broken = {
            one
            for one in among.unique()
            if convert(pd.Series([one]), source, column, description.csv).findings.unreadable
        }
        unreadable = missing & text.isin(broken).to_numpy()
        yield from _rows(unreadable, f"{column.name}: cannot be read")
    if column.kind is ColumnKind.CONTINUOUS and column.range is not None:
        low, high = column.range
        strange = outside(values.astype(np.float64), column).to_numpy()
        yield from _rows(strange, f"{column.name}: outside {low:g} to {high:g} {column.unit}")
    if column.kind is ColumnKind.FINGERPRINT:
        none = np.array([symbols(str(one)) is None for one in values])
        yield from _rows(none & ~missing, f"{column.name}: no SMILES")


def _series_faults(
    description: DatasetDescription,
    contract: Contract,
    folder: Path,
    tables: Tables,
    rows: npt.NDArray[np.intp],
) -> list[Fault]:
    """Whose measurements do not fit: the records are halved until the faulty ones stand alone."""
    if contract.grid is None:
        return []
    try:
        own = tables.rows.iloc[rows]
        faults = read_series(description, contract, folder, own, tables.lines).faults
    except BadInput:  # none of these records has a measurement, which the contract allows
        return []
    if not faults:
        return []
    if len(rows) == 1:
        return [(int(rows[0]), why) for why in faults]
    half = len(rows) // 2
    parts = (rows[:half], rows[half:])
    return [
        fault
        for part in parts
        for fault in _series_faults(description, contract, folder, tables, part)
    ]


def _image_faults(
    description: DatasetDescription, contract: Contract, folder: Path, seen: Examined
) -> Iterator[Fault]:
    column = contract.image
    if column is None:
        return
    with Images(folder, description.images, column) as images:
        # What lies beyond the range that was declared, only the pixels say.
        look = images.check if description.images.stored_range is None else images.in_unit
        for row, name in enumerate(seen.values[column.name]):
            if not isinstance(name, str):
                continue
            try:
                look(name)
            except BadInput as error:
                yield row, f"{column.name}: the file {error}"


def _rows(which: npt.NDArray[np.bool_], why: str) -> Iterator[Fault]:
    for row in np.flatnonzero(which):
        yield int(row), why


def _once(sentences: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(sentences))
