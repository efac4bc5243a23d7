"""hospitals/NAME.toml: where a hospital's records lie and how its columns become the contract's."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from wardround.study.contract import Contract, Frozen, LabelKind, Text
from wardround.study.files import checked, read_toml
from wardround.study.manifest import HospitalName
from wardround_client.data.dicom_folder_source import DicomFolder
from wardround_client.data.fhir_source import FhirSource
from wardround_client.data.label_rule import LabelRule
from wardround_client.data.listing import FILE, parts_of
from wardround_client.data.omop_source import OmopSource
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
from wardround_client.data.sql_source import SqlSource

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
    "Parts",
    "PatientKey",
    "Pivot",
    "RowFilter",
    "is_inside",
    "known_values",
    "read_description",
]


def _names_parts(pattern: str) -> str:
    parts = parts_of(pattern)
    if not parts or len(set(parts)) != len(parts) or FILE in parts:
        raise ValueError("`pattern` names different parts of a path, as {patient}/{slice}.dcm")
    return pattern


FilePattern = Annotated[str, Field(min_length=3, max_length=1000), AfterValidator(_names_parts)]
Format = Literal["csv", "files", "npz", "parquet", "arff", "sql", "omop", "dicom", "fhir"]
# What messages call a table that no file is.
_NO_PATH = "omop"
# The keys that say more of a main table of some formats: due with these, and with no other.
_OWN_KEYS = {
    "pattern": ("files",),
    "arrays": ("npz",),
    "sql": ("sql", "omop"),
    "omop": ("omop",),
    "dicom": ("dicom",),
    "fhir": ("fhir",),
}


class Pivot(Frozen):
    """Lines that say "variable, value", as columns: one for each of `names`.

    Of several lines of one record and variable the first counts.
    """

    variable: SourceName
    value: SourceName
    names: tuple[SourceName, ...] = Field(min_length=1, max_length=1000)

    @model_validator(mode="after")
    def _names_once(self) -> Self:
        if len(set(self.names)) != len(self.names):
            raise ValueError("pivot: a name is listed twice")
        return self


class Join(Frozen):
    """Another file whose columns are put beside the main table's, row by row.

    `key` is a column of both; the file has each of its values once, after `pivot` if it has one. A
    row without a partner gets empty fields, which count as missing. With `pattern` the file is all
    those of a folder or .zip whose names fit; the parts of a name are columns. `prefix` stands
    before the names of the file's columns, all but the key's, where both files use the same ones.
    """

    path: DataPath
    format: Literal["csv", "parquet", "arff"] = "csv"
    csv: CsvFormat = CsvFormat()
    key: SourceName
    prefix: Annotated[str, Field(max_length=40)] = Field(
        default="", exclude_if=lambda value: value == ""
    )
    pattern: FilePattern | None = None
    pivot: Pivot | None = None

    @model_validator(mode="after")
    def _key_is_no_variable(self) -> Self:
        if self.pattern is not None and self.format != "csv":
            raise ValueError("join: `pattern` belongs to text files")
        if self.pivot is not None and self.key in self.pivot.names:
            raise ValueError(f"join: {self.key} is the key and one of `pivot.names`")
        return self


class Parts(Frozen):
    """Some of `of` parts, by a hash: for public data that nobody has cut into hospitals."""

    of: Annotated[int, Field(ge=2, le=1000)]
    own: tuple[Annotated[int, Field(ge=0)], ...] = Field(min_length=1, max_length=1000)

    @model_validator(mode="after")
    def _within(self) -> Self:
        if max(self.own) >= self.of or len(set(self.own)) != len(self.own):
            raise ValueError(f"rows: `own` names different parts from 0 to {self.of - 1}")
        return self


class RowFilter(Frozen):
    """Which rows are this hospital's, by the column `source`.

    Those with one of `values`; or those without any of `except_values`; or those whose value falls
    into its own `parts`: all rows with one value fall into one part. With `scaffold` the value is a
    SMILES and all molecules with one ring scaffold fall into one part.
    """

    source: SourceName
    values: tuple[Code, ...] = Field(default=(), max_length=10_000)
    except_values: tuple[Code, ...] = Field(default=(), max_length=10_000)
    parts: Parts | None = None
    scaffold: bool = False

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        if sum((bool(self.values), bool(self.except_values), self.parts is not None)) != 1:
            raise ValueError("rows: one of `values`, `except_values` and `parts` is due")
        if self.scaffold and self.parts is None:
            raise ValueError("rows: `scaffold` belongs to `parts`")
        return self


class LongTable(Frozen):
    """A file with one measurement a line: which record, when, what, and the value.

    `record` names the column with the record's key, `key` the main table's column it refers to.
    `clock` says how a time is written: a number, or hours and minutes as 07:30. `unit` is that of
    the number, hours count as `h`. Variables are named by a series column's `source`. With
    `pattern` the lines are in all files of a folder or .zip whose names fit, as "{record}.txt"; the
    parts of a name are columns. With `format` sql the file is a query, and the lines are what it
    gives of the main table's database, in the state that the main table was read from.
    """

    path: DataPath
    format: Literal["csv", "parquet", "arff", "sql"] = "csv"
    csv: CsvFormat = CsvFormat()
    pattern: FilePattern | None = None
    key: SourceName
    record: SourceName
    time: SourceName
    variable: SourceName
    value: SourceName
    clock: Literal["number", "hh:mm"] = "number"
    unit: Annotated[str, Field(max_length=40)] = "h"

    @model_validator(mode="after")
    def _pattern_of_texts(self) -> Self:
        if self.pattern is not None and self.format != "csv":
            raise ValueError("series: `pattern` belongs to text files")
        return self


class ImageFiles(Frozen):
    """Where the files lie that an image column names.

    `folder` is a folder or a .zip inside the data folder; with `array`, it is a .npz, and the
    column holds row numbers of that array.

    How another scanner's pixels become the contract's: `stored_range` is what the file counts from
    and to (0 to 4095 of 12 bits), which is taken to the contract's range end to end; or `slope` and
    `intercept` take a pixel to the contract's unit. `photometric` is inverted where small values
    are white. A pixel beyond `stored_range` is a fault, or with `beyond` its nearest end. A DICOM
    file has slope, intercept and photometric in its header.
    """

    folder: Annotated[str, Field(max_length=1000)] = ""
    array: Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,100}$")] | None = None
    slope: float = 1.0
    intercept: float = 0.0
    stored_range: tuple[float, float] | None = None
    photometric: Literal["normal", "inverted"] = "normal"
    beyond: Literal["refuse", "nearest"] = "refuse"

    @model_validator(mode="after")
    def _inside_the_data_folder(self) -> Self:
        if not is_inside(self.folder):
            raise ValueError("images: a folder inside the data folder is due, without `..`")
        if (self.array is not None) != self.folder.endswith(".npz"):
            raise ValueError("images: `array` belongs to a `folder` that is a .npz")
        return self

    @model_validator(mode="after")
    def _pixels_are_taken_one_way(self) -> Self:
        if self.slope == 0:
            raise ValueError("images: a slope of 0 would make all pixels equal")
        stored = self.stored_range
        if stored is not None and not stored[0] < stored[1]:
            raise ValueError("images: `stored_range` = [low, high] is due, low < high")
        if stored is not None and (self.slope, self.intercept) != (1.0, 0.0):
            raise ValueError("images: `stored_range` or `slope` and `intercept`, not both")
        if stored is None and self.beyond != "refuse":
            raise ValueError("images: `beyond` belongs to a `stored_range`")
        return self

    @property
    def restates_a_header(self) -> bool:
        """Whether it says what the header of a DICOM file says."""
        return (self.slope, self.intercept, self.photometric) != (1.0, 0.0, "normal")


class DatasetDescription(Frozen):
    """One hospital's description of its data set; paths are relative to the data folder.

    `dataset` is the name under which the ledger counts and the held-out split is drawn: keep it
    for ever, in every study that uses these patients. `format` says what the main table is: a csv
    file; the files of a folder or .zip at `path`, whose names fit `pattern`
    ("{patient}/{slice}.dcm" gives the columns patient, slice and file); the 1-D `arrays` of a
    .npz, with the column row; a Parquet or ARFF file, of which the columns are read that are used;
    what the query in the file `path` gives, of the database in `sql`; what the form in `omop` gives
    of it, where there is no `path`; the slices that `dicom` chooses of the DICOM files in the
    folder or .zip `path`; or what the form in `fhir` gives of the bulk export in the folder `path`.
    """

    schema_: Literal["wardround.dataset/1"] = Field(alias="schema")
    hospital: HospitalName
    dataset: HospitalName
    title: Text
    format: Format = "csv"
    path: DataPath = _NO_PATH
    csv: CsvFormat = CsvFormat()
    pattern: FilePattern | None = None
    arrays: tuple[SourceName, ...] = Field(default=(), max_length=100)
    sql: SqlSource | None = None
    omop: OmopSource | None = None
    dicom: DicomFolder | None = None
    fhir: FhirSource | None = None
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

    @model_validator(mode="after")
    def _format_has_its_part(self) -> Self:
        if (self.format == "omop") == ("path" in self.model_fields_set):
            raise ValueError("`path` is due, but not with format omop")
        if self.series is not None and self.series.format == "sql" and self.sql is None:
            raise ValueError("series: format sql is due with a main table of the same database")
        for key, formats in _OWN_KEYS.items():
            if (self.format in formats) != bool(getattr(self, key)):
                raise ValueError(
                    f"`{key}` belongs to format {' or '.join(formats)}, and is due there"
                )
        return self

    @model_validator(mode="after")
    def _slices_of_an_archive_are_read_from_it(self) -> Self:
        packed = self.format == "dicom" and self.path.endswith(".zip")
        if packed and self.images.folder != self.path:
            raise ValueError(f'images: `folder = "{self.path}"` is due, where the slices lie')
        return self

    def sources(self) -> frozenset[str]:
        """Every column of the main table, or of a file joined to it, that this description uses."""
        found = {column.source for column in self.columns}
        found |= {sample for column in self.columns for sample in column.samples}
        found |= {source for _, source in (self.label.sources() if self.label is not None else [])}
        found |= {self.patient.source, self.series.key if self.series is not None else None}
        found |= {join.key for join in self.join} | {kept.source for kept in self.rows}
        return frozenset(source for source in found if source is not None)

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
        grid, sources = contract.grid, [self.source_of(name) for name in self._series_of(contract)]
        long = any(source.source is not None for source in sources)
        if (self.series is not None) != (grid is not None and (long or not self._sampled)):
            return [
                "series: `[series]` is due when the contract has series columns without `samples`, "
                "and only then"
            ]
        if grid is None:
            return []
        found = [
            f"column {source.column}: {len(source.samples)} `samples` came, the contract's grid "
            f"has {grid.steps} steps"
            for source in sources
            if source.samples and len(source.samples) != grid.steps
        ]
        if self.series is not None and self.series.unit != grid.unit:
            came = f"series: time in {self.series.unit} came"
            found.append(f"{came}, the contract's grid is in {grid.unit}")
        return found

    def _series_of(self, contract: Contract) -> list[str]:
        described = {source.column for source in self.columns}
        return [column.name for column in contract.series if column.name in described]

    @property
    def _sampled(self) -> bool:
        return any(source.samples for source in self.columns)


def read_description(path: Path) -> DatasetDescription:
    """Read hospitals/NAME.toml. Raises BadInput with every fault and, per key, the nearest one."""
    return checked(DatasetDescription, read_toml(path), what=path.name)
