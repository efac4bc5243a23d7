"""Section E as people read it: a row for each group of patients, and for each shuffled column."""

from collections.abc import Callable
from typing import Any

from wardround.audit.report_evaluation import (
    EstimateFacts,
    GroupFacts,
    GroupingFacts,
    ShuffledFacts,
)
from wardround.audit.report_model import Report
from wardround.audit.words import Words

_DASH = "\N{EN DASH}"


def evaluation_tables(report: Report, t: Words) -> dict[str, Any]:
    """`by_group`: a table for each grouping; `shuffled`: a row a column, what is lost most first.

    Numbers are written out. What may not be shown has a word instead of its count.
    """
    facts = report.evaluation
    return {
        "by_group": [_grouping(grouping, t) for grouping in facts.subgroups],
        "shuffled": [_column(column, t) for column in sorted(facts.importance, key=_loss)],
    }


def _loss(column: ShuffledFacts) -> float:
    return 0.0 if column.lost is None else -column.lost.value


def _grouping(grouping: GroupingFacts, t: Words) -> dict[str, Any]:
    unit = "" if grouping.unit == "1" else f" ({grouping.unit})"
    return {
        "title": f"{grouping.column}{unit}",
        "smallest": str(grouping.smallest),
        "noise": f"{grouping.count_noise:.0f}",
        "rows": [_group(group, t) for group in grouping.groups],
    }


def _group(group: GroupFacts, t: Words) -> dict[str, str]:
    patients = t.word(group.standing)
    if group.patients is not None and group.standing == "shown":
        patients = f"{group.patients} ({group.positives})"
    return {
        "group": t.word(group.group),
        "patients": patients,
        "auroc": _with_ends(group.auroc, _score, t),
        "sensitivity": _with_ends(group.sensitivity, _hundredths, t, unit=" %"),
        "specificity": _with_ends(group.specificity, _hundredths, t, unit=" %"),
        "large": _with_ends(group.calibration_in_the_large, _signed, t),
        "gap": _with_ends(group.auroc_gap, _signed, t),
    }


def _column(column: ShuffledFacts, t: Words) -> dict[str, str]:
    lost, auroc = column.lost, column.auroc
    if lost is None or auroc is None:
        return {"column": column.column, "lost": "NA", "interval": "", "noise": "", "auroc": "NA"}
    return {
        "column": column.column,
        "lost": _signed(lost.value),
        "interval": _ends(lost.low, lost.high, _signed, t),
        "noise": _ends(lost.noise_low, lost.noise_high, _signed, t),
        "auroc": _score(auroc),
    }


def _with_ends(
    estimate: EstimateFacts | None, show: Callable[[float], str], t: Words, *, unit: str = ""
) -> str:
    """The value, the interval of sampling in brackets, that of the noise in square ones."""
    if estimate is None:
        return _DASH
    text = show(estimate.value) + unit
    if sampling := _ends(estimate.low, estimate.high, show, t):
        text += f" ({sampling})"
    if noise := _ends(estimate.noise_low, estimate.noise_high, show, t):
        text += f" [{noise}]"
    return text


def _ends(low: float | None, high: float | None, show: Callable[[float], str], t: Words) -> str:
    if low is None or high is None:
        return ""
    return t.plain("{low} to {high}", low=show(low), high=show(high))


def _score(value: float) -> str:
    return f"{value:.3f}"


def _hundredths(value: float) -> str:
    return f"{100 * value:.0f}"


def _signed(value: float) -> str:
    return f"{value:+.3f}"
