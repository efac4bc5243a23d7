"""The label of every record, from a file's text, for every kind of label."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from wardround.study.contract import Column, Label, LabelKind
from wardround_client.data.conversion import (
    Converted,
    absent_column,
    convert,
    derived_label,
    outside,
)
from wardround_client.data.description import ColumnSource, CsvFormat, DatasetDescription
from wardround_client.data.label_rule import LabelRule, target_columns, time_column

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Labels:
    """Labels in the contract's terms, and what was wrong with them, in counts.

    `values` is [rows] of 0 and 1 (binary) or of class numbers, [rows, 2] of time and event,
    [rows, targets] with NaN where one is missing, or [rows, 0] without a label.
    """

    values: Floats = field(repr=False)
    faults: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def derive_labels(description: DatasetDescription, label: Label, table: pd.DataFrame) -> Labels:
    """The labels of all rows, as the description's rule says."""
    rule = description.label
    if rule is None:
        return Labels(np.zeros((len(table), 0)))
    if label.kind is LabelKind.TARGETS:
        return _targets(rule, label, table, description.csv)
    text = table[rule.source or ""]
    if label.kind is LabelKind.CLASSES:
        numbers = {name: float(place) for place, name in enumerate(label.classes)}
        known = {code: numbers[name] for code, name in rule.classes.items()}
        classes: Floats = np.asarray(text.map(known), dtype=np.float64)
        return Labels(classes, _unknown(classes))
    values = derived_label(text, rule, description.csv)
    if rule.time is None:
        return Labels(values, _unknown(values))
    return _event(values, rule.time, label, table, description.csv)


def patients_with_two(patients: tuple[str, ...], labels: Floats) -> int:
    """How many patients have records with different labels; a missing target differs from none."""
    frame = pd.DataFrame(labels.reshape(len(labels), -1))
    if frame.shape[1] == 0:
        return 0
    several = frame.groupby(pd.Series(patients, dtype=object)).nunique() > 1
    return int(several.any(axis=1).sum())


def _event(
    events: Floats, source: ColumnSource, label: Label, table: pd.DataFrame, csv: CsvFormat
) -> Labels:
    column = time_column(label)
    times = convert(_text(table, source), source, column, csv)
    return Labels(
        np.stack([np.asarray(times.values, dtype=np.float64), events], axis=1),
        (*_unknown(events), *_faults("label time", times, column, all_due=True)),
    )


def _targets(rule: LabelRule, label: Label, table: pd.DataFrame, csv: CsvFormat) -> Labels:
    sources = {source.column: source for source in rule.targets}
    values, faults = [], []
    for column in target_columns(label):
        source = sources[column.name]
        found = (
            absent_column(column, len(table))
            if source.source is None
            else convert(_text(table, source), source, column, csv)
        )
        values.append(np.asarray(found.values, dtype=np.float64))
        refused = source.out_of_range == "refuse"
        faults += _faults(f"label {column.name}", found, column, all_due=False, refused=refused)
    together = np.stack(values, axis=1)
    without = int(np.isnan(together).all(axis=1).sum())
    remarks = (f"label: {without} of {len(table)} rows have no target at all",) if without else ()
    return Labels(together, tuple(faults), remarks)


def _text(table: pd.DataFrame, source: ColumnSource) -> "pd.Series[str]":
    return table[source.source or ""].reset_index(drop=True)


def _faults(
    what: str, found: Converted, column: Column, *, all_due: bool, refused: bool = True
) -> list[str]:
    rows, faults = found.findings.rows, []
    if found.findings.unreadable:
        faults.append(f"{what}: {found.findings.unreadable} of {rows} values cannot be read")
    if column.range is not None and refused:
        strange = int(outside(found.values.astype(np.float64), column).sum())
        low, high = column.range
        if strange:
            faults.append(
                f"{what}: {strange} of {rows} values outside {low:g}..{high:g} {column.unit}"
            )
    if found.findings.missing and all_due:
        faults.append(f"{what}: {found.findings.missing} of {rows} values are missing")
    return faults


def _unknown(values: Floats) -> tuple[str, ...]:
    unknown = int(np.isnan(values).sum())
    if not unknown:
        return ()
    return (f"label: {unknown} of {len(values)} values are missing or unknown to its rule",)
