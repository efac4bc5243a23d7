"""Measurements over time, laid on a grid of public steps.

They come from a table with one measurement a line, or lie in the main table's rows, a column a
step.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from wardround.errors import BadInput
from wardround.study.contract import Column, Contract, Grid
from wardround_client.data.arff_table import read_arff
from wardround_client.data.conversion import Findings, convert, outside, parse_numbers
from wardround_client.data.description import (
    ColumnSource,
    CsvFormat,
    DatasetDescription,
    LongTable,
)
from wardround_client.data.parquet_table import read_parquet
from wardround_client.data.table_source import Asked
from wardround_client.data.text import read_text, read_texts

SERIES_LIMIT_BYTES = 2 << 30
_CLOCK = r"\d{1,5}:[0-5]\d"

_NOWHERE: npt.NDArray[np.intp] = np.zeros(0, dtype=np.intp)

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SeriesRead:
    """What was measured: [records, steps] for each series column, NaN where nothing was.

    The findings count records without any measurement as missing.
    """

    values: dict[str, npt.NDArray[np.float32]] = field(repr=False)
    findings: dict[str, Findings]
    faults: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def read_series(
    description: DatasetDescription,
    contract: Contract,
    folder: Path,
    table: pd.DataFrame,
    lines: pd.DataFrame | None = None,
) -> SeriesRead:
    """Lay the measurements of the main table's records on the contract's grid.

    Of several in one step the latest counts, of equally late ones the last line. Measurements
    before time 0 or after the grid are left out and counted in a remark, so are variables that the
    description does not name. What a row's own columns sample stands on the grid as it is. `lines`
    are the measurements where they were read with the table, else their file is read. Raises
    BadInput when file and description do not fit.
    """
    grid = contract.grid
    if grid is None:
        return SeriesRead({}, {})
    size = len(table) * grid.steps * len(contract.series) * 4
    if size > SERIES_LIMIT_BYTES:
        raise BadInput(f"series: a grid of {size} bytes, over {SERIES_LIMIT_BYTES}")
    by_line = [c for c in contract.series if not description.source_of(c.name).samples]
    in_rows = [c for c in contract.series if description.source_of(c.name).samples]
    one = _of_lines(description, by_line, grid, table, _lines(description, folder, table, lines))
    other = _of_rows(description, in_rows, grid, table)
    return SeriesRead(
        one.values | other.values,
        one.findings | other.findings,
        one.faults + other.faults,
        one.remarks,
    )


def _of_rows(
    description: DatasetDescription, columns: list[Column], grid: Grid, table: pd.DataFrame
) -> SeriesRead:
    """Series whose samples are columns of the main table, one a step."""
    values, findings, faults = {}, {}, []
    rows, steps = np.divmod(np.arange(len(table) * grid.steps), grid.steps)
    for column in columns:
        source = description.source_of(column.name)
        if absent := sorted(set(source.samples) - set(table.columns)):
            raise BadInput(f"column {column.name}: the file has no column {absent[0]!r}")
        text = pd.Series(table[list(source.samples)].to_numpy(dtype=object).reshape(-1), dtype=str)
        laid, found = _laid(
            text, (rows, steps), (len(table), grid), column, source, description.csv
        )
        values[column.name], findings[column.name] = laid, found
        faults += _faults(found, len(text), column, source)
    return SeriesRead(values, findings, tuple(faults))


def _of_lines(
    description: DatasetDescription,
    columns: list[Column],
    grid: Grid,
    table: pd.DataFrame,
    read: pd.DataFrame | None,
) -> SeriesRead:
    """Series from a table with one measurement a line; without one a column is not recorded."""
    long = description.series
    if long is None or read is None:
        return _of_nobody(columns, grid, len(table))
    lines, places = _own_lines(read, long, table)
    hours = _times(lines[long.time], long)
    faults = _time_faults(hours, long)
    steps = np.floor(np.nan_to_num(hours, nan=-1.0) / grid.step)
    inside = (steps >= 0) & (steps < grid.steps)
    remarks = []
    if beyond := int((~inside & ~np.isnan(hours)).sum()):
        remarks.append(f"series: {beyond} of {len(lines)} measurements lie outside the grid")
    values, findings = {}, {}
    of_variable = lines[inside].groupby(long.variable, sort=False).indices
    there = np.flatnonzero(inside)
    for column in columns:
        source = description.source_of(column.name)
        own = there[of_variable.get(source.source, _NOWHERE)]
        order = own[np.argsort(hours[own], kind="stable")]
        cells = places[order], steps[order].astype(np.int64)
        text = lines[long.value].iloc[order].reset_index(drop=True)
        values[column.name], found = _laid(
            text, cells, (len(table), grid), column, source, long.csv
        )
        findings[column.name] = found
        faults += _faults(found, len(order), column, source)
    return SeriesRead(values, findings, tuple(faults), tuple(remarks))


def _of_nobody(columns: list[Column], grid: Grid, records: int) -> SeriesRead:
    nothing = np.full((records, grid.steps), np.nan, dtype=np.float32)
    findings = {c.name: Findings(column=c.name, rows=records, missing=records) for c in columns}
    return SeriesRead({column.name: nothing.copy() for column in columns}, findings)


def carried_forward(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """[records, steps]: NaN becomes the last value before it, and stays NaN where there is none.

    >>> carried_forward(np.array([[np.nan, 1, np.nan, 3]], dtype=np.float32)).tolist()
    [[nan, 1.0, 1.0, 3.0]]
    """
    seen = np.where(np.isnan(values), -1, np.arange(values.shape[1])[None, :])
    last = np.maximum.accumulate(seen, axis=1)
    rows = np.arange(len(values))[:, None]
    return np.where(last >= 0, values[rows, np.maximum(last, 0)], np.float32(np.nan))


def _own_lines(
    lines: pd.DataFrame, long: LongTable, table: pd.DataFrame
) -> tuple[pd.DataFrame, npt.NDArray[np.int64]]:
    keys = table[long.key]
    due = {long.record, long.time, long.variable, long.value}
    if absent := sorted(due - set(lines.columns)):
        raise BadInput(f"series: no column {', '.join(map(repr, absent))}")
    if repeated := int(keys.duplicated().sum()):
        raise BadInput(f"series: {repeated} of {len(keys)} records repeat a key in {long.key!r}")
    places = lines[long.record].map(dict(zip(keys, range(len(keys)), strict=True)))
    own = places.notna()
    if not own.any():
        raise BadInput(f"series: {long.path} has no line of a record of this hospital")
    return lines[own].reset_index(drop=True), places[own].to_numpy(dtype=np.int64)


def _lines(
    description: DatasetDescription, folder: Path, table: pd.DataFrame, read: pd.DataFrame | None
) -> pd.DataFrame | None:
    """The measurements; of many files only those of the records, of the variables described."""
    long = description.series
    if long is None:
        return None
    if long.key not in table.columns:
        raise BadInput(f"series: no column {long.key!r}")
    if read is not None:
        return read
    if long.format in {"parquet", "arff"}:
        due = frozenset({long.record, long.time, long.variable, long.value})
        reader = read_parquet if long.format == "parquet" else read_arff
        return reader(Asked(folder=folder, path=long.path, columns=due))
    if long.pattern is None:
        return read_text(folder, long.path, long.csv)
    named = {source.source for source in description.columns if source.source is not None}
    only = {long.record: frozenset(table[long.key]), long.variable: named}
    return read_texts(folder, long.path, long.pattern, long.csv, only)


def _times(text: "pd.Series[str]", long: LongTable) -> Floats:
    # Many lines have few times: each is read once.
    places, different = pd.factorize(text, use_na_sentinel=False)
    return _hours(pd.Series(different, dtype=str), long)[places]


def _hours(text: "pd.Series[str]", long: LongTable) -> Floats:
    if long.clock == "number":
        return parse_numbers(text, long.csv.decimal)
    fits = text.str.fullmatch(_CLOCK)
    parts = text.where(fits, "0:00").str.split(":", n=1, expand=True).astype(np.float64)
    return np.where(fits, parts[0] + parts[1] / 60.0, np.nan)


def _time_faults(hours: Floats, long: LongTable) -> list[str]:
    unreadable = int(np.isnan(hours).sum())
    due = "numbers" if long.clock == "number" else "of the form hh:mm"
    return [f"series: {unreadable} of {len(hours)} times are not {due}"] if unreadable else []


def _laid(
    text: "pd.Series[str]",
    cells: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]],
    shape: tuple[int, Grid],
    column: Column,
    source: ColumnSource,
    csv: CsvFormat,
) -> tuple[npt.NDArray[np.float32], Findings]:
    records, grid = shape
    laid = np.full((records, grid.steps), np.nan, dtype=np.float32)
    converted = convert(text, source, column, csv)
    numbers = np.asarray(converted.values, dtype=np.float64)
    there = ~np.isnan(numbers)
    # A repeated cell keeps the last of its values, and they come in the order of their times.
    laid[cells[0][there], cells[1][there]] = numbers[there]
    found = Findings(
        column=column.name,
        rows=records,
        missing=int(np.isnan(laid).all(axis=1).sum()),
        unreadable=converted.findings.unreadable,
        out_of_range=int(outside(pd.Series(numbers), column).sum())
        if source.out_of_range == "refuse"
        else converted.findings.out_of_range,
        looked_at=len(text),
    )
    return laid, found


def _faults(found: Findings, lines: int, column: Column, source: ColumnSource) -> list[str]:
    what, faults = f"column {column.name}", []
    if found.unreadable:
        faults.append(f"{what}: {found.unreadable} of {lines} measurements are not numbers")
    if found.out_of_range and source.out_of_range == "refuse" and column.range is not None:
        low, high = column.range
        faults.append(
            f"{what}: {found.out_of_range} of {lines} measurements outside "
            f"{low:g}..{high:g} {column.unit}"
        )
    return faults
