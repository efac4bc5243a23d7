"""Looks at every column of a file: pandas reads text, pandera checks, every fault is counted."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from wardround.errors import BadInput
from wardround.study.contract import Column, ColumnKind, Contract
from wardround_client.data.conversion import (
    Converted,
    Findings,
    absent_column,
    convert,
    derived_label,
    outside,
)
from wardround_client.data.description import DatasetDescription
from wardround_client.data.images import check_image
from wardround_client.data.table import read_table


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """All that was seen in a file: its columns, what must be fixed, what is worth knowing."""

    patients: tuple[str, ...] = field(repr=False)
    values: pd.DataFrame = field(repr=False)
    labels: npt.NDArray[np.float64] = field(repr=False)
    findings: tuple[Findings, ...]
    duplicates: int
    faults: tuple[str, ...]
    remarks: tuple[str, ...]


def examine(description: DatasetDescription, contract: Contract, folder: Path) -> Examined:
    """Look at every column and collect faults and remarks.

    Raises BadInput when description and contract do not agree or the file is no table: then no
    column can be looked at.
    """
    disagreements = description.faults(contract)
    if disagreements:
        raise BadInput(f"{description.hospital}: " + "; ".join(disagreements))
    table = read_table(description, folder)
    faults = _missing_columns(description, table)
    if faults:
        raise BadInput(f"{description.path}: " + "; ".join(faults))
    columns = {c.name: _column(description, c, table) for c in contract.columns}
    patients, key_faults = _patients(description, table)
    rule = description.label
    labels = derived_label(table[rule.source], rule, description.csv)
    values = pd.DataFrame({name: column.values for name, column in columns.items()})
    findings = tuple(column.findings for column in columns.values())
    faults = key_faults + _label_faults(labels) + _column_faults(contract, values, findings)
    faults += _image_faults(contract, values, patients, labels, folder)
    duplicates = int(table.duplicated().sum())
    remarks = _remarks(description, contract, patients, labels, findings)
    if duplicates:
        remarks.append(f"rows that repeat another row, field by field: {duplicates}")
    return Examined(
        patients=patients,
        values=values,
        labels=labels,
        findings=findings,
        duplicates=duplicates,
        faults=tuple(faults),
        remarks=tuple(remarks),
    )


def _missing_columns(description: DatasetDescription, table: pd.DataFrame) -> list[str]:
    sources = [(f"column {c.column}", c.source) for c in description.columns if c.source]
    sources.append(("label", description.label.source))
    if description.patient.source is not None:
        sources.append(("patient key", description.patient.source))
    here = set(table.columns)
    return [
        f"{what}: the file has no column {source!r}"
        for what, source in sources
        if source not in here
    ]


def _column(description: DatasetDescription, column: Column, table: pd.DataFrame) -> Converted:
    source = description.source_of(column.name)
    if source.source is None:
        return absent_column(column, len(table))
    return convert(table[source.source], source, column, description.csv)


def _patients(
    description: DatasetDescription, table: pd.DataFrame
) -> tuple[tuple[str, ...], list[str]]:
    source = description.patient.source
    if source is None:
        return tuple(str(row + 1) for row in range(len(table))), []
    keys = table[source]
    empty = int(keys.isin({"", *description.csv.missing}).sum())
    faults = [f"patient key: {empty} of {len(keys)} rows have none"] if empty else []
    return tuple(keys), faults


def _label_faults(labels: npt.NDArray[np.float64]) -> list[str]:
    unknown = int(np.isnan(labels).sum())
    if not unknown:
        return []
    return [f"label: {unknown} of {len(labels)} values are missing or unknown to its rule"]


def _column_faults(
    contract: Contract, values: pd.DataFrame, findings: tuple[Findings, ...]
) -> list[str]:
    failed = _failures(contract, values)
    faults = []
    for column, found in zip(contract.columns, findings, strict=True):
        what = f"column {column.name}"
        if found.unreadable:
            due = "numbers" if column.kind is ColumnKind.CONTINUOUS else "known values"
            faults.append(f"{what}: {found.unreadable} of {found.rows} values are not {due}")
        strange = failed[(column.name, "range")]
        if strange and column.range is not None:
            low, high = column.range
            faults.append(
                f"{what}: {strange} of {found.rows} values outside {low:g}..{high:g} {column.unit}"
            )
        missing = failed[(column.name, "not_nullable")] - found.unreadable
        if missing > 0:
            faults.append(
                f"{what}: {missing} of {found.rows} values are missing, the contract wants all"
            )
    return faults


def _failures(contract: Contract, values: pd.DataFrame) -> Counter[tuple[str, str]]:
    import pandera.pandas as pandera  # noqa: PLC0415  # over a second: not for `wardround --help`

    schema = pandera.DataFrameSchema(
        {column.name: _schema(column, pandera) for column in contract.columns}, strict=True
    )
    try:
        schema.validate(values, lazy=True)
    except pandera.errors.SchemaErrors as error:
        cases = error.failure_cases
        return Counter(zip(cases["column"], cases["check"], strict=True))
    return Counter()


def _schema(column: Column, pandera: Any) -> Any:
    checks = []
    if column.kind is ColumnKind.CONTINUOUS:
        inside = pandera.Check(lambda values: ~outside(values, column), name="range")
        checks.append(inside)
    return pandera.Column(checks=checks, nullable=column.may_be_missing)


def _image_faults(
    contract: Contract,
    values: pd.DataFrame,
    patients: tuple[str, ...],
    labels: npt.NDArray[np.float64],
    folder: Path,
) -> list[str]:
    column = contract.image
    if column is None:
        return []
    reasons: Counter[str] = Counter()
    for path in values[column.name].dropna():
        try:
            check_image(folder, path, column)
        except BadInput as error:
            reasons[str(error)] += 1
    what = f"column {column.name}"
    faults = [f"{what}: {n} of {len(values)} files: the file {why}" for why, n in reasons.items()]
    unsure = patients_with_two_labels(patients, labels)
    if unsure:
        faults.append(f"label: {unsure} patients have images with different labels")
    return faults


def patients_with_two_labels(patients: tuple[str, ...], labels: npt.NDArray[np.float64]) -> int:
    """How many patients have both classes among their records."""
    different = pd.DataFrame({"patient": patients, "label": labels}).groupby("patient")["label"]
    return int((different.nunique() > 1).sum())


def _remarks(
    description: DatasetDescription,
    contract: Contract,
    patients: tuple[str, ...],
    labels: npt.NDArray[np.float64],
    findings: tuple[Findings, ...],
) -> list[str]:
    remarks = []
    if description.patient.row_number_as_patient:
        remarks.append("no patient key: every row counts as another patient, as declared")
    if np.unique(labels[~np.isnan(labels)]).size == 1:
        remarks.append(
            f"label {contract.label.name}: one class only; training goes on, this hospital's own "
            "AUROC will be NA"
        )
    mixed = patients_with_two_labels(patients, labels)
    if mixed:
        remarks.append(f"label {contract.label.name}: {mixed} patients have both classes")
    for column, found in zip(contract.columns, findings, strict=True):
        if found.missing == found.rows:
            remarks.append(f"column {column.name}: missing in every row")
        if found.out_of_range and description.source_of(column.name).out_of_range == "missing":
            remarks.append(
                f"column {column.name}: {found.out_of_range} of {found.rows} values out of range, "
                "taken as missing, as declared"
            )
    return remarks
