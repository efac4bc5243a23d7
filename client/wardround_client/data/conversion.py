"""One column at a time: text becomes numbers or categories, and what does not fit is counted."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from wardround.study.contract import Column, ColumnKind
from wardround_client.data.description import (
    BINARY_CODES,
    NUMBER,
    ColumnSource,
    CsvFormat,
    LabelRule,
    known_values,
)
from wardround_client.data.fingerprint import symbols

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """Counts about one column; no value of a patient is in here.

    `looked_at` is how many values there were, where that is another number than the rows.
    """

    column: str
    rows: int
    missing: int = 0
    unreadable: int = 0
    out_of_range: int = 0
    unseen: tuple[str, ...] = ()
    looked_at: int | None = None


@dataclass(frozen=True, slots=True)
class Converted:
    """A column in the contract's terms, missing as NaN or None, and what was counted."""

    values: "pd.Series[float] | pd.Series[str]" = field(repr=False)
    findings: Findings


def convert(
    text: "pd.Series[str]", source: ColumnSource, column: Column, csv: CsvFormat
) -> Converted:
    """Turn the file's text into values of `column`. Unreadable values are counted, then missing."""
    if column.kind in {ColumnKind.CONTINUOUS, ColumnKind.SERIES}:
        return _continuous(text, source, column, csv)
    if column.kind in {ColumnKind.IMAGE, ColumnKind.FINGERPRINT}:
        return _named(text, source, column, csv)
    return _coded(text, source, column, csv)


def absent_column(column: Column, rows: int) -> Converted:
    """The column of a hospital that does not record it: missing in every row."""
    unseen = column.categories
    findings = Findings(column=column.name, rows=rows, missing=rows, unseen=unseen)
    if column.kind is ColumnKind.CATEGORICAL:
        return Converted(pd.Series([None] * rows, dtype=object), findings)
    return Converted(pd.Series(np.full(rows, np.nan)), findings)


def derived_label(text: "pd.Series[str]", rule: LabelRule, csv: CsvFormat) -> Floats:
    """1 where the rule says yes, 0 where it says no, NaN where it cannot say."""
    if rule.positive_when is not None:
        operator, bound = rule.comparison()
        numbers = parse_numbers(text, csv.decimal)
        compare = {
            ">": np.greater,
            ">=": np.greater_equal,
            "<": np.less,
            "<=": np.less_equal,
            "==": np.equal,
        }[operator]
        return np.where(np.isnan(numbers), np.nan, compare(numbers, bound).astype(np.float64))
    positive = text.isin(rule.positive_values).to_numpy()
    known = positive | text.isin(rule.negative_values).to_numpy()
    return np.where(known, positive.astype(np.float64), np.nan)


def parse_numbers(text: "pd.Series[str]", decimal: str = ".") -> Floats:
    """Numbers in plain decimal or exponent form; anything else (nan, inf, 1_000, 0x1) is NaN.

    >>> parse_numbers(pd.Series(["1.5", ".7", "-2e1", "inf", "1_000", "?"])).tolist()
    [1.5, 0.7, -20.0, nan, nan, nan]
    """
    # A long column has few different texts: each is read once.
    places, different = pd.factorize(text, use_na_sentinel=False)
    return _parsed(pd.Series(different, dtype=str), decimal)[places]


def _parsed(text: "pd.Series[str]", decimal: str) -> Floats:
    plain = text.str.replace(".", "#").str.replace(",", ".") if decimal == "," else text
    fits = plain.str.fullmatch(NUMBER)
    numbers = pd.to_numeric(plain.where(fits, "nan"), errors="coerce").to_numpy(dtype=np.float64)
    return np.where(np.isfinite(numbers), numbers, np.nan)


def outside(values: "pd.Series[float]", column: Column) -> "pd.Series[bool]":
    """Which values lie outside the declared range (a rounding error of a conversion is allowed)."""
    low, high = column.range or (-np.inf, np.inf)
    slack = 1e-9 * max(abs(low), abs(high))
    return (values < low - slack) | (values > high + slack)


def _is_missing(text: "pd.Series[str]", source: ColumnSource, csv: CsvFormat) -> "pd.Series[bool]":
    return text.isin({"", *csv.missing, *source.missing})


def _continuous(
    text: "pd.Series[str]", source: ColumnSource, column: Column, csv: CsvFormat
) -> Converted:
    numbers = parse_numbers(text, csv.decimal)
    if source.values:
        stands_for = {code: float(value) for code, value in source.values.items()}
        meant = text.map(stands_for).to_numpy(dtype=np.float64)
        numbers = np.where(np.isnan(meant), numbers, meant)
    codes = parse_numbers(pd.Series([*csv.missing, *source.missing], dtype=str), csv.decimal)
    # the code "0" is meant in a file that writes 0.0, too
    missing = _is_missing(text, source, csv).to_numpy() | np.isin(numbers, codes[~np.isnan(codes)])
    unreadable = int((np.isnan(numbers) & ~missing).sum())
    values = np.where(missing, np.nan, numbers)
    if source.convert is not None:
        values = values * source.convert.scale + source.convert.offset
    converted = pd.Series(values)
    strange = outside(converted, column)
    if source.out_of_range == "missing":
        converted = converted.mask(strange)
    elif source.out_of_range == "nearest" and column.range is not None:
        converted = converted.clip(*column.range)
    findings = Findings(
        column=column.name,
        rows=len(text),
        missing=int(missing.sum()),
        unreadable=unreadable,
        out_of_range=int(strange.sum()),
    )
    return Converted(converted, findings)


def _named(
    text: "pd.Series[str]", source: ColumnSource, column: Column, csv: CsvFormat
) -> Converted:
    absent = _is_missing(text, source, csv)
    strange = 0
    if column.kind is ColumnKind.FINGERPRINT:
        strange = sum(symbols(smiles) is None for smiles in text[~absent])
    missing = int(absent.sum())
    findings = Findings(column=column.name, rows=len(text), missing=missing, unreadable=strange)
    return Converted(text.where(~absent, None).astype(object), findings)


def _coded(
    text: "pd.Series[str]", source: ColumnSource, column: Column, csv: CsvFormat
) -> Converted:
    binary = column.kind is ColumnKind.BINARY
    known = known_values(column)
    table = source.values or (BINARY_CODES if binary else {value: value for value in known})
    missing = _is_missing(text, source, csv)
    values = text.where(~missing, None).map(table).astype(object)
    findings = Findings(
        column=column.name,
        rows=len(text),
        missing=int(missing.sum()),
        unreadable=int((values.isna() & ~missing).sum()),
        unseen=tuple(value for value in known if not (values == value).any()),
    )
    if binary:
        return Converted(values.map({"0": 0.0, "1": 1.0}).astype(np.float64), findings)
    return Converted(values.where(values.notna(), None), findings)
