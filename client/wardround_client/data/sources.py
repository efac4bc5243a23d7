"""Parts of hospitals/NAME.toml that other parts are made of: files, columns, patient key."""

import re
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, field_validator, model_validator

from wardround.errors import BadInput
from wardround.study.contract import MOST_STEPS, Column, ColumnKind, Frozen, Name

SourceName = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Code = Annotated[str, StringConstraints(max_length=200)]
NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_NUMBERS = {ColumnKind.CONTINUOUS, ColumnKind.SERIES}
BINARY_CODES = {"0": "0", "1": "1", "0.0": "0", "1.0": "1"}

NOT_UNPACKED = (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""What reading a member of an archive raises: RuntimeError for one that is encrypted, and as
NotImplementedError for a compression that zipfile does not know."""


def is_inside(path: str) -> bool:
    """Whether a relative path stays inside the folder it is relative to.

    >>> is_inside("2024/export.csv"), is_inside("../export.csv"), is_inside("/etc/passwd")
    (True, False, False)
    """
    parts = PurePosixPath(path)
    return not parts.is_absolute() and ".." not in parts.parts and not re.search(r"[\0\\]", path)


def file_inside(folder: Path, path: str) -> Path:
    """The file at `path` in `folder`, links followed. Raises BadInput when there is none inside."""
    root = folder.resolve()
    found = (folder / path).resolve()
    if not found.is_relative_to(root):
        raise BadInput(f"{path}: leads out of the data folder")
    if not found.is_file():
        raise BadInput(f"{path}: no such file in the data folder")
    return found


def _inside(path: str) -> str:
    if not is_inside(path):
        raise ValueError("a path inside the data folder is due: relative, without `..`")
    return path


DataPath = Annotated[str, StringConstraints(min_length=1, max_length=1000), AfterValidator(_inside)]


class CsvFormat(Frozen):
    """How the text file is written; `columns` names the fields of a file without a header line.

    `unnamed` is the name of the one field that the header leaves empty, as R and pandas do with the
    names of rows.
    A `separator` that is a blank stands for any number of blanks and tabs; then nothing is quoted.
    """

    header: bool = True
    separator: Literal[",", ";", "\t", "|", " "] = ","
    decimal: Literal[".", ","] = "."
    columns: tuple[SourceName, ...] = ()
    missing: tuple[Code, ...] = ()
    unnamed: SourceName | None = Field(default=None, exclude_if=lambda value: value is None)

    @model_validator(mode="after")
    def _names_from_one_place(self) -> Self:
        if self.header == bool(self.columns):
            raise ValueError("csv: `columns` are due when header = false, and only then")
        if len(set(self.columns)) != len(self.columns):
            raise ValueError("csv: a name in `columns` is listed twice")
        if self.unnamed is not None and not self.header:
            raise ValueError("csv: `unnamed` names a field of the header, here is none")
        if self.decimal == self.separator:
            raise ValueError("csv: `decimal` and `separator` are the same character")
        return self


class Conversion(Frozen):
    """`value * scale + offset` takes the file's unit `to` the contract's."""

    to: str = Field(max_length=40)
    scale: float
    offset: float = 0.0

    @field_validator("scale")
    @classmethod
    def _keeps_the_value(cls, scale: float) -> float:
        if scale == 0:
            raise ValueError("a scale of 0 would make all values equal")
        return scale


class ColumnSource(Frozen):
    """Where one column of the contract comes from.

    `unit` is the file's unit. `missing` are codes beside the file-wide ones (cholesterol 0).
    `values` maps the file's codes to the contract's categories, or to "0" and "1" of a binary
    column, or a code among numbers to the number it stands for ("> 89" to "90"). `absent = true`
    says that this hospital does not record the column at all. A value outside the contract's range
    is a fault, or with `out_of_range` taken as missing, or as the range's nearest end. `samples` of
    a series are columns of the main table instead of one: one for each step of the grid, in order.
    """

    column: Name
    source: SourceName | None = None
    absent: bool = False
    unit: str = Field(default="1", max_length=40)
    convert: Conversion | None = None
    missing: tuple[Code, ...] = ()
    values: dict[Code, str] = Field(default_factory=dict)
    out_of_range: Literal["refuse", "missing", "nearest"] = "refuse"
    samples: tuple[SourceName, ...] = Field(
        default=(), max_length=MOST_STEPS, exclude_if=lambda value: value == ()
    )

    @model_validator(mode="after")
    def _source_or_absent(self) -> Self:
        if sum((self.source is not None, self.absent, bool(self.samples))) != 1:
            raise ValueError(
                f"column {self.column}: `source` or `absent = true` is due, not both (of a series "
                "`samples` may be there instead)"
            )
        if len(set(self.samples)) != len(self.samples):
            raise ValueError(f"column {self.column}: `samples` names a column twice")
        return self

    def faults(self, column: Column) -> list[str]:
        """What does not fit the contract's `column`, in sentences; empty when all fits."""
        what = f"column {column.name}"
        optional = column.may_be_missing or column.kind is ColumnKind.SERIES
        if self.absent:
            return (
                [] if optional else [f"{what}: absent here, but the contract does not allow that"]
            )
        found = self._form_faults(column)
        if self.values and column.kind in _NUMBERS:
            if not all(re.fullmatch(NUMBER, value) for value in self.values.values()):
                found.append(f"{what}: `values` of a column of numbers lead to numbers")
        elif self.values and column.kind not in {ColumnKind.BINARY, ColumnKind.CATEGORICAL}:
            found.append(f"{what}: `values` belong to columns of numbers and of categories")
        elif self.values:
            known = known_values(column)
            strange = sorted({value for value in self.values.values() if value not in known})
            found += [
                f"{what}: `values` leads to {s!r}, the contract knows {known}" for s in strange
            ]
        if self.out_of_range == "missing" and not optional:
            found.append(f"{what}: out_of_range = missing, but the contract wants every value")
        if self.out_of_range == "nearest" and column.kind not in _NUMBERS:
            found.append(f"{what}: out_of_range = nearest belongs to continuous and series columns")
        return found

    def _form_faults(self, column: Column) -> list[str]:
        unit = self.unit if self.convert is None else self.convert.to
        found = []
        if self.samples and column.kind is not ColumnKind.SERIES:
            found.append(f"column {column.name}: `samples` belong to series columns")
        if unit != column.unit:
            found.append(
                f"column {column.name}: unit {unit} came, the contract has {column.unit} "
                "(declare `convert = {to, scale, offset}` when the file's unit is another one)"
            )
        if self.convert is not None and column.kind not in _NUMBERS:
            where = ": slope and intercept of pixels are in `[images]`"
            found.append(
                f"column {column.name}: `convert` belongs to continuous and series columns"
                + (where if column.kind is ColumnKind.IMAGE else "")
            )
        return found


class PatientKey(Frozen):
    """Which column names the patient.

    `row_number_as_patient = true` says out loud that every row is another patient and that the
    file has no key. The number of the row is then the patient's key, so such a file may only grow
    at its end: a row that is inserted or deleted gives other rows another key.
    `first_row_only = true` leaves out all but a patient's first row, in the order of the file: for
    an outcome that belongs to a stay, of which some patients have several with different ends.
    """

    source: SourceName | None = None
    row_number_as_patient: bool = False
    first_row_only: bool = False

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.row_number_as_patient == (self.source is not None):
            raise ValueError(
                "patient: no patient key: `source` is due, or `row_number_as_patient = true` when "
                "one row is one patient; not both"
            )
        if self.first_row_only and self.source is None:
            raise ValueError("patient: `first_row_only` goes with a `source`: whose rows are they?")
        return self


def known_values(column: Column) -> list[str]:
    """The values that a binary or categorical column of the contract can take."""
    return list(column.categories) if column.kind is ColumnKind.CATEGORICAL else ["0", "1"]
