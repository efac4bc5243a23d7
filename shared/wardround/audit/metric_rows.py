"""Section E's table of metrics: name, value and intervals as people read them."""

import math
from collections.abc import Callable
from typing import NamedTuple

from wardround.audit.words import Words
from wardround.canonical import Json
from wardround.evaluation.shown import Shown
from wardround.evaluation.shown import rows as rows_of

MetricRows = list[dict[str, str]]


class _Show(NamedTuple):
    """How a value is written, and with which unit its interval."""

    value: Callable[[float], str]
    end: Callable[[float], str]
    interval: str


def percent(value: float | None) -> str:
    """A share as a percentage with one decimal.

    >>> percent(0.9042)
    '90.4 %'
    """
    return "NA" if value is None else f"{100 * value:.1f} %"


def epsilon_text(value: float | None) -> str:
    """Epsilon with two decimals, rounded up: print never flatters.

    >>> epsilon_text(2.4101)
    '2.42'
    """
    return "none" if value is None else f"{math.ceil(round(value * 100, 6)) / 100:.2f}"


def with_interval(value: float | None, low: float | None, high: float | None, t: Words) -> str:
    """A value with three decimals, and its interval in brackets where there is one.

    >>> with_interval(0.8, 0.7, 0.9, Words("en"))
    '0.800 (0.700 to 0.900)'
    """
    if value is None:
        return "NA"
    found = _interval(low, high, _NUMBER, t)
    return f"{_three(value)} ({found})" if found else _three(value)


def _three(value: float) -> str:
    return f"{value:.3f}"


def _hundredths(value: float) -> str:
    return f"{100 * value:.1f}"


_NUMBER = _Show(_three, _three, "{low} to {high}")
_SHARE = _Show(percent, _hundredths, "{low} to {high} %")
_BINARY = (
    ("auroc", "AUROC", _NUMBER),
    ("sensitivity", "Sensitivity", _SHARE),
    ("specificity", "Specificity", _SHARE),
    ("ppv", "Positive predictive value", _SHARE),
    ("npv", "Negative predictive value", _SHARE),
    ("brier", "Brier score", _NUMBER),
    ("net_benefit", "Net benefit at the threshold", _NUMBER),
    ("average_precision", "Area under precision over recall", _NUMBER),
    ("prevalence", "Prevalence", _SHARE),
)
_ANNEX = (("accuracy", "Accuracy", _SHARE), ("f1", "F1 score", _NUMBER))


def binary_rows(metrics: Json, t: Words) -> MetricRows:
    """The rows of an evaluation of yes or no."""
    return [_row(key, name, metrics[key], show, t) for key, name, show in _BINARY]


def annex_rows(metrics: Json, t: Words) -> MetricRows:
    """What nobody should choose a model by: it follows how many patients have the outcome."""
    return [_row(key, name, metrics[key], show, t) for key, name, show in _ANNEX]


def kind_rows(metrics: Json | None, t: Words) -> MetricRows:
    """The rows of an evaluation that is not of yes or no; none without one."""
    return [_kind_row(row, t) for row in rows_of(metrics)] if metrics else []


def _row(key: str, name: str, estimate: Json | None, show: _Show, t: Words) -> dict[str, str]:
    row = {"key": key, "name": t.word(name), "value": "NA", "interval": "", "noise": ""}
    if estimate is None:
        return row
    return row | {
        "value": show.value(estimate["value"]),
        "interval": _interval(estimate["low"], estimate["high"], show, t),
        "noise": _interval(estimate["noise_low"], estimate["noise_high"], show, t),
    }


def _kind_row(row: Shown, t: Words) -> dict[str, str]:
    name = f"{t.word(row.name)}, {row.of}" if row.of else t.word(row.name)
    if row.unit not in {"", "1"}:
        name = f"{name} ({row.unit})"
    return {
        "key": row.name,
        "name": name,
        "value": "NA" if row.value is None else _three(row.value),
        "interval": _interval(row.low, row.high, _NUMBER, t),
        "noise": _interval(row.noise_low, row.noise_high, _NUMBER, t),
    }


def _interval(low: float | None, high: float | None, show: _Show, t: Words) -> str:
    if low is None or high is None:
        return ""
    return t.plain(show.interval, low=show.end(low), high=show.end(high))
