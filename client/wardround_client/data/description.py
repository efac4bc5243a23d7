"""hospitals/NAME.toml: where a hospital's records lie and how its columns become the contract's."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from wardround.study.contract import Contract, Frozen, LabelKind, Text
from wardround.study.files import checked, read_toml
from wardround.study.manifest import HospitalName
from wardround_client.data.label_rule import LabelRule
from wardround_client.data.sources import (
    BINARY_CODES,
    NUMBER,
    Code,
    ColumnSource,
    Conversion,
    CsvFormat,
    DataPath,
    PatientKey,
    SourceName,
    is_inside,
    known_values,
)

__all__ = [
    "BINARY_CODES",
    "NUMBER",
    "ColumnSource",
    "Conversion",
    "CsvFormat",
    "DatasetDescription",
    "ImageFiles",
    "Join",
    "LabelRule",
    "LongTable",
    "PatientKey",
    "RowFilter",
    "is_inside",
    "known_values",
    "read_description",
]


class Join(Frozen):
    """Another file whose columns are put beside the main table's, row by row.

    `key` is a column of both; the file has each of its values once. A row without a partner gets
    empty fields, which count as missing.
    """

    path: DataPath
    csv: CsvFormat = CsvFormat()
    key: SourceName


class RowFilter(Frozen):
    """Only rows with one of these `values` in the column `source` are this hospital's."""

    source: SourceName
    values: tuple[Code, ...] = Field(min_length=1, max_length=10_000)


class LongTable(Frozen):
    """A file with one measurement a line: which record, when, what, and the value.

    `record` names the column with the record's key, `key` the main table's column it refers to.
    `clock` says how a time is written: a number, or hours and minutes as 07:30. `unit` is that of
    the number, hours count as `h`. Variables are named by a series column's `source`.
    """

    path: DataPath
    csv: CsvFormat = CsvFormat()
    key: SourceName
    record: SourceName
    time: SourceName
    variable: SourceName
    value: SourceName
    clock: Literal["number", "hh:mm"] = "number"
    unit: Annotated[str, Field(max_length=40)] = "h"


class ImageFiles(Frozen):
    """Where the files lie that an image column names.

    `folder` is a folder or a .zip inside the data folder; with `array`, it is a .npz, and the
    column holds row numbers of that array.
    """

    folder: Annotated[str, Field(max_length=1000)] = ""
    array: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,100}$")] | None = None

    @model_validator(mode="after")
    def _inside_the_data_folder(self) -> Self:
        if not is_inside(self.folder):
            raise ValueError("images: a folder inside the data folder is due, without `..`")
        if (self.array is not None) != self.folder.endswith(".npz"):
            raise ValueError("images: `array` belongs to a `folder` that is a .npz")
        return self


class DatasetDescription(Frozen):
    """One hospital's description of its data set; paths are relative to the data folder.

    `dataset` is the name under which the ledger counts and the held-out split is drawn: keep it
    for ever, in every study that uses these patients.
    """

    schema_: Literal["wardround.dataset/1"] = Field(alias="schema")
    hospital: HospitalName
    dataset: HospitalName
    title: Text
    format: Literal["csv"] = "csv"
    path: DataPath
    csv: CsvFormat = CsvFormat()
    join: tuple[Join, ...] = Field(default=(), max_length=20)
    rows: tuple[RowFilter, ...] = Field(default=(), max_length=20)
    patient: PatientKey = Field(default_factory=PatientKey)
    label: LabelRule | None = None
    series: LongTable | None = None
    images: ImageFiles = ImageFiles()
    columns: tuple[ColumnSource, ...] = Field(min_length=1, max_length=5000)

    @model_validator(mode="after")
    def _no_column_twice(self) -> Self:
        names = [column.column for column in self.columns]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"described twice: {', '.join(twice)}")
        return self

    def faults(self, contract: Contract) -> list[str]:
        """What does not fit `contract`, in sentences; empty when all fits."""
        described = {source.column: source for source in self.columns}
        wanted = {column.name for column in contract.columns}
        found = [
            f"column {name}: described here, but the contract has no such column"
            for name in described
            if name not in wanted
        ]
        for column in contract.columns:
            if column.name in described:
                found += described[column.name].faults(column)
            else:
                found.append(f"column {column.name}: the contract wants it, it is not described")
        return found + self._label_faults(contract) + self._series_faults(contract)

    def source_of(self, column: str) -> ColumnSource:
        """The description of one column of the contract; KeyError when there is none."""
        return {source.column: source for source in self.columns}[column]

    def _label_faults(self, contract: Contract) -> list[str]:
        label = contract.label
        needed = label.kind is not LabelKind.NONE or label.positive is not None
        if self.label is None:
            due = f"label {label.name}: the contract wants it, it is not described"
            return [due] if needed else []
        return self.label.faults(label) if needed else ["label: the study uses none"]

    def _series_faults(self, contract: Contract) -> list[str]:
        grid = contract.grid
        if (self.series is not None) != (grid is not None):
            return ["series: `[series]` is due when the contract has series columns, and only then"]
        if self.series is None or grid is None or self.series.unit == grid.unit:
            return []
        return [f"series: time in {self.series.unit} came, the contract's grid is in {grid.unit}"]


def read_description(path: Path) -> DatasetDescription:
    """Read hospitals/NAME.toml. Raises BadInput with every fault and, per key, the nearest one."""
    return checked(DatasetDescription, read_toml(path), what=path.name)
