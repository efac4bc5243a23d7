"""Looks at every column of a file: pandas reads text, pandera checks, every fault is counted."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from wardround.errors import BadInput
from wardround.study.contract import Column, ColumnKind, Contract, LabelKind
from wardround_client.data.conversion import (
    Converted,
    Findings,
    absent_column,
    convert,
    outside,
)
from wardround_client.data.description import DatasetDescription
from wardround_client.data.images import Images
from wardround_client.data.images import outside as beyond_limits
from wardround_client.data.labels import Labels, derive_labels, patients_with_two
from wardround_client.data.molecules import without_structure
from wardround_client.data.outcomes import coarse
from wardround_client.data.series import read_series
from wardround_client.data.table import Tables, read_tables
from wardround_client.data.window import looks_through_another_window

_DUE = {ColumnKind.CONTINUOUS: "numbers", ColumnKind.FINGERPRINT: "SMILES"}
_ONE_PATIENT_ONE_LABEL = {LabelKind.CLASSES, LabelKind.TIME_TO_EVENT}


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """All that was seen in a file: its columns, what must be fixed, what is worth knowing.

    `values` has the columns of the table, `series` those that are measured over time; `labels` are
    as `wardround_client.data.labels.Labels` says. `tables` are what was read, as text: a database
    may say something else when it is asked again.
    """

    patients: tuple[str, ...] = field(repr=False)
    tables: Tables = field(repr=False)
    values: pd.DataFrame = field(repr=False)
    series: dict[str, npt.NDArray[np.float32]] = field(repr=False)
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
    tables = read_tables(description, folder)
    table = tables.rows
    faults = _missing_columns(description, contract, table)
    if faults:
        raise BadInput(f"{description.path}: " + "; ".join(faults))
    patients, key_faults = _patients(description, table)
    table = table.reset_index(drop=True)
    tabular = tabular_columns(contract)
    columns = {c.name: _column(description, c, table) for c in tabular}
    labels = derive_labels(description, contract.label, table)
    series = read_series(description, contract, folder, table, tables.lines)
    values = pd.DataFrame({name: c.values for name, c in columns.items()}, index=table.index)
    own = tuple(column.findings for column in columns.values())
    findings = _in_order(contract, columns, series.findings)
    faults = [*key_faults, *labels.faults]
    faults += [*_column_faults(description, tabular, values, own), *series.faults]
    image_faults, image_remarks = _images(description, contract, values, folder)
    faults += [*image_faults, *_label_faults(contract, patients, labels)]
    remarks = _remarks(description, contract, patients, labels, findings)
    remarks += [*tables.remarks, *labels.remarks, *series.remarks, *image_remarks]
    remarks += _molecules(contract, values)
    duplicates = int(table.duplicated().sum())
    if duplicates:
        remarks.append(f"rows that repeat another row, field by field: {duplicates}")
    return Examined(
        patients=patients,
        tables=Tables(table, tables.lines),
        values=values,
        series=series.values,
        labels=labels.values,
        findings=findings,
        duplicates=duplicates,
        faults=tuple(faults),
        remarks=tuple(remarks),
    )


def _in_order(
    contract: Contract, columns: dict[str, Converted], series: dict[str, Findings]
) -> tuple[Findings, ...]:
    """What was found of each column of the contract; of series their own findings count."""
    return tuple(series.get(c.name) or columns[c.name].findings for c in contract.columns)


def tabular_columns(contract: Contract) -> tuple[Column, ...]:
    """The columns that the main table has: all but series."""
    return tuple(c for c in contract.columns if c.kind is not ColumnKind.SERIES)


def _missing_columns(
    description: DatasetDescription, contract: Contract, table: pd.DataFrame
) -> list[str]:
    tabular = {column.name for column in tabular_columns(contract)}
    sources = [
        (f"column {c.column}", c.source)
        for c in description.columns
        if c.source and c.column in tabular
    ]
    sources += description.label.sources() if description.label is not None else []
    if description.patient.source is not None:
        sources.append(("patient key", description.patient.source))
    here = set(table.columns)
    # Only what differs in case or spaces is named: of a file without a header the first row stands
    # here, and it is a patient's.
    alike = {_letters(name): name for name in here}
    missing = [
        f"{what}: the file has no column {source!r}"
        + (f", but {alike[_letters(source)]!r}" if _letters(source) in alike else "")
        for what, source in sources
        if source not in here
    ]
    if len(missing) > 1 and len(here) == 1 and description.format == "csv":
        separator = description.csv.separator
        missing.append(f"with the separator {separator!r} the file has one column: is it another?")
    return missing


def _letters(name: str) -> str:
    return "".join(name.casefold().split())


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
        return tuple(str(row + 1) for row in table.index), []
    keys = table[source]
    empty = int(keys.isin({"", *description.csv.missing}).sum())
    faults = [f"patient key: {empty} of {len(keys)} rows have none"] if empty else []
    return tuple(keys), faults


def _label_faults(contract: Contract, patients: tuple[str, ...], labels: Labels) -> list[str]:
    """One patient's records have one class or one prognosis; images have one label at all."""
    image = contract.image is not None
    if contract.label.kind not in _ONE_PATIENT_ONE_LABEL and not image:
        return []
    unsure = patients_with_two(patients, labels.values)
    what = "images" if image else "records"
    return [f"label: {unsure} patients have {what} with different labels"] if unsure else []


def _column_faults(
    description: DatasetDescription,
    columns: tuple[Column, ...],
    values: pd.DataFrame,
    findings: tuple[Findings, ...],
) -> list[str]:
    failed = _failures(columns, values)
    faults = []
    for column, found in zip(columns, findings, strict=True):
        what = f"column {column.name}"
        if found.unreadable:
            due = _DUE.get(column.kind, "known values")
            if column.kind is ColumnKind.CONTINUOUS and description.format == "csv":
                due += f" with the decimal sign {description.csv.decimal!r}"
            faults.append(f"{what}: {found.unreadable} of {found.rows} values are not {due}")
        strange = failed[(column.name, "range")]
        if strange and column.range is not None:
            low, high = column.range
            faults.append(
                f"{what}: {strange} of {found.rows} values outside {low:g}..{high:g} {column.unit}"
            )
        missing = failed[(column.name, "not_nullable")]
        # A fingerprint's text stays as it came; what else cannot be read became missing.
        if column.kind is not ColumnKind.FINGERPRINT:
            missing -= found.unreadable
        if missing > 0:
            faults.append(
                f"{what}: {missing} of {found.rows} values are missing, the contract wants all"
            )
    return faults


def _failures(columns: tuple[Column, ...], values: pd.DataFrame) -> Counter[tuple[str, str]]:
    import pandera.pandas as pandera  # noqa: PLC0415  # over a second: not for `wardround --help`

    schema = pandera.DataFrameSchema(
        {column.name: _schema(column, pandera) for column in columns}, strict=True
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


def _images(
    description: DatasetDescription, contract: Contract, values: pd.DataFrame, folder: Path
) -> tuple[list[str], list[str]]:
    """Faults and remarks; none of either without an image column."""
    column = contract.image
    if column is None:
        return [], []
    names, reasons = values[column.name].dropna(), Counter[str]()
    stored, beyond, lossy = description.images.stored_range, 0, 0
    with Images(folder, description.images, column) as images:
        for name in names:
            try:
                images.check(name)
                lossy += images.is_lossy(name)
                # Whether a pixel is beyond what was declared, only the pixels themselves say.
                beyond += stored is not None and beyond_limits(images.stored(name), stored) > 0
            except BadInput as error:
                reasons[str(error)] += 1
        remarks = looks_through_another_window(images, names, column)
    if lossy:
        remarks.append(
            f"column {column.name}: {coarse(lossy, len(names))} of {len(names)} images were "
            "compressed with loss: their pixels are near to what the scanner saw, and not the same"
        )
    if beyond and description.images.beyond == "refuse":
        reasons["has pixels beyond `stored_range`"] += beyond
    elif beyond:
        remarks.append(
            f"column {column.name}: {beyond} of {len(values)} images have pixels beyond "
            "`stored_range`, taken as its nearest end, as declared"
        )
    what = f"column {column.name}: "
    said = [f"{what}{n} of {len(values)} files: the file {why}" for why, n in reasons.items()]
    return said, remarks


def _molecules(contract: Contract, values: pd.DataFrame) -> list[str]:
    """What is no SMILES at all is a fault; here is what is one by its letters and not by its form.

    It trains all the same: a fingerprint is made of the text.
    """
    remarks = []
    for column in contract.columns:
        if column.kind is not ColumnKind.FINGERPRINT:
            continue
        unread = without_structure(values[column.name].dropna())
        if unread:
            remarks.append(
                f"column {column.name}: {unread} of {len(values)} SMILES have no structure (a ring "
                "or a branch is open, or a letter is no atom); their text is used as it is"
            )
    return remarks


def _remarks(
    description: DatasetDescription,
    contract: Contract,
    patients: tuple[str, ...],
    labels: Labels,
    findings: tuple[Findings, ...],
) -> list[str]:
    remarks = []
    if description.patient.row_number_as_patient:
        remarks.append("no patient key: every row counts as another patient, as declared")
    if description.patient.first_row_only:
        remarks.append("only the first row of each patient is used, as declared")
    remarks += _label_remarks(contract, patients, labels)
    for column, found in zip(contract.columns, findings, strict=True):
        if found.missing == found.rows:
            remarks.append(f"column {column.name}: missing in every row")
        how = description.source_of(column.name).out_of_range
        if found.out_of_range and how != "refuse":
            taken = "missing" if how == "missing" else "the range's nearest end"
            values = found.rows if found.looked_at is None else found.looked_at
            remarks.append(
                f"column {column.name}: {found.out_of_range} of {values} values out of range, "
                f"taken as {taken}, as declared"
            )
    return remarks


def _label_remarks(contract: Contract, patients: tuple[str, ...], labels: Labels) -> list[str]:
    label, values = contract.label, labels.values
    if label.time is not None:
        values = values[:, 1]
    if values.ndim > 1:
        return []
    remarks, what = [], f"label {label.name}"
    if np.unique(values[~np.isnan(values)]).size == 1:
        own = "C-index" if label.time is not None else "AUROC"
        remarks.append(
            f"{what}: one class only; training goes on, this hospital's own {own} will be NA"
        )
    if label.kind in {LabelKind.BINARY, LabelKind.NONE}:
        mixed = patients_with_two(patients, values)
        if mixed:
            remarks.append(f"{what}: {mixed} patients have both classes")
    return remarks
