"""The table of statistics as people read it: a row per number, with interval and unit."""

from collections.abc import Iterator
from typing import NamedTuple

from wardround.canonical import Json

_ORDINALS = {0.05: "5 %", 0.25: "25 %", 0.5: "median", 0.75: "75 %", 0.95: "95 %"}
_PATIENTS = "patients"
_PART = ": "


class Row(NamedTuple):
    """One number of one column: what, value, the interval of the noise, unit."""

    column: str
    what: str
    value: str
    interval: str
    unit: str


def table_of(estimates: Json | None) -> list[dict[str, str]]:
    """All rows but those of histograms, which report.json holds; none without estimates."""
    return [] if estimates is None else [row._asdict() for row in _rows(estimates)]


def _rows(estimates: Json) -> Iterator[Row]:
    yield _row("all", "patients", estimates["patients"], _PATIENTS)
    yield from _of_label(estimates)
    for column in estimates["columns"]:
        yield from _of_numbers(column) if column["kind"] == "continuous" else _of_values(column)
    for cohort in estimates["cohorts"]:
        yield _row("cohort", cohort["name"], cohort, _PATIENTS)


def _of_label(estimates: Json) -> Iterator[Row]:
    """Yes and no; or the classes; or events and ends of follow-up, and its quantiles."""
    for name in ("negative", "positive"):
        if f"{name}s" in estimates:
            yield _row("label", name, estimates[f"{name}s"], _PATIENTS)
    for outcome in estimates.get("outcomes", ()):
        yield _row("label", outcome["outcome"], outcome, _PATIENTS)
    follow_up = estimates.get("follow_up", {"quantiles": ()})
    for quantile in follow_up["quantiles"]:
        what = _ORDINALS.get(quantile["share"], "quantile")
        yield _row("follow-up", what, quantile, follow_up["unit"])


def _of_numbers(column: Json) -> Iterator[Row]:
    name, unit = column["name"], column["unit"]
    if _PART not in name:  # what is computed of a picture or a series, everybody has
        yield _row(name, "with a value", column["present"], _PATIENTS)
    yield _row(name, "mean", column["mean"], unit)
    yield _row(name, "standard deviation", column["standard_deviation"], unit)
    for quantile in column["quantiles"]:
        yield _row(name, _ORDINALS.get(quantile["share"], "quantile"), quantile, unit)
    if column["missing"] is not None:
        yield _row(name, "missing", column["missing"], _PATIENTS)


def _of_values(column: Json) -> Iterator[Row]:
    for category in column["categories"]:
        yield _row(column["name"], category["category"], category, _PATIENTS)
    if column["missing"] is not None:
        yield _row(column["name"], "missing", column["missing"], _PATIENTS)


def _row(column: str, what: str, estimate: Json, unit: str) -> Row:
    digits = 0 if unit == _PATIENTS else 4
    low, high = _number(estimate["low"], digits), _number(estimate["high"], digits)
    value = "NA" if estimate["value"] is None else _number(estimate["value"], digits)
    return Row(column, what, value, f"{low} to {high}", unit)


def _number(value: float, digits: int) -> str:
    """Whole patients; else four significant digits."""
    return f"{value:.0f}" if digits == 0 else f"{value:.{digits}g}"
