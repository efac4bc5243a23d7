"""Tables of groups and shuffled columns: heads, cells of one or more lines, and what is said below.

A label of yes or no has the columns that readers of such models expect. Any other has a column for
each of its metrics; where a metric is there for several classes, labels or targets, a line each.
"""

from collections.abc import Sequence
from typing import Any

from wardround.audit.report_evaluation import (
    EstimateFacts,
    GroupFacts,
    GroupingFacts,
    MeasuredGroupFacts,
    MeasuredGroupingFacts,
    MetricFacts,
)
from wardround.audit.words import Words

_DASH = "\N{EN DASH}"
_SCORE, _SIGNED, _SHARE, _PLAIN = "{:.3f}", "{:+.3f}", "{:.0f} %", "{:.3g}"
_DIFFERENCES = {"Observed less predicted risk", "Mean predicted less measured"}

HEADS = (
    "patients (with the outcome)",
    "AUROC",
    "Sensitivity",
    "Specificity",
    "observed less predicted risk",
    "AUROC of the others minus this one",
)
PATIENTS, WITH_AN_EVENT = "patients", "patients (with an event)"
WORSE = "worse than the others by: {metric}"
_WITH = {"event": WITH_AN_EVENT, "yes": HEADS[0]}
METRICS = (
    "AUROC",
    "Mean AUROC",
    "Balanced accuracy",
    "C-index",
    "Observed risk",
    "Mean predicted risk",
    "Observed less predicted risk",
    "Mean absolute error",
    "Root mean squared error",
    "Mean predicted less measured",
    "R squared",
    "mean AUROC",
    "mean absolute error, share of the range",
)
JOINTLY = (
    "In brackets 95 % of sampling; in the last column it holds for all groups together. Intervals "
    "of single classes, labels and targets stand in report.json."
)
NOISED = (
    "In square brackets 95 % of noise; the number of patients of a group is within {noise} of what "
    "is printed. A group that seems to have fewer than {smallest} patients of any outcome "
    "({outcomes}) is not shown: it would be noise."
)
EXACT = (
    "Who holds the logs has the exact pooled counts of every group. A hospital counts a group "
    "apart only where it has {smallest} patients or more of every outcome ({outcomes}) in it; else "
    "they are among those not counted apart, and at least one larger group with them, so that a "
    "group with few outcomes at many hospitals is in the table with its larger hospitals only."
)


def table_of(grouping: GroupingFacts | MeasuredGroupingFacts, t: Words) -> dict[str, Any]:
    """`heads`; `rows` of a `group` and its `cells`, each of lines; the title; what is said below.

    `note` is None for a label of yes or no, of which the page has words of its own.
    """
    unit = "" if grouping.unit == "1" else f" ({grouping.unit})"
    said = {
        "title": f"{grouping.column}{unit}",
        "smallest": str(grouping.smallest),
        "noise": f"{grouping.count_noise:.0f}",
    }
    if isinstance(grouping, GroupingFacts):
        rows = [{"group": t.word(each.group), "cells": _cells(each, t)} for each in grouping.groups]
        return said | {"heads": [t.word(head) for head in HEADS], "rows": rows, "note": None}
    columns = _columns(grouping.groups)
    worse = t.plain(WORSE, metric=t.word(grouping.compared_by))
    first = _WITH.get(grouping.outcomes[-1], PATIENTS)
    return said | {
        "heads": [t.word(first), *(_head(each, t) for each in columns), worse],
        "rows": [
            {
                "group": t.word(each.group),
                "cells": _measured(each, columns, t, counted=first != PATIENTS),
            }
            for each in grouping.groups
        ],
        "note": _note(grouping, t),
    }


def _cells(group: GroupFacts, t: Words) -> list[list[str]]:
    patients = t.word(group.standing)
    if group.patients is not None and group.standing == "shown":
        patients = f"{group.patients} ({group.positives})"
    return [
        [patients],
        [with_ends(group.auroc, _SCORE, t)],
        [with_ends(group.sensitivity, _SHARE, t)],
        [with_ends(group.specificity, _SHARE, t)],
        [with_ends(group.calibration_in_the_large, _SIGNED, t)],
        [with_ends(group.auroc_gap, _SIGNED, t)],
    ]


Column = tuple[str, tuple[str, ...]]
"""A metric, and of what it is told."""


def _columns(groups: Sequence[MeasuredGroupFacts]) -> list[Column]:
    found: dict[str, list[str]] = {}
    for group in groups:
        for metric in group.metrics:
            of = found.setdefault(metric.name, [])
            if metric.of not in of:
                of.append(metric.of)
    return [(name, tuple(of)) for name, of in found.items()]


def _head(column: Column, t: Words) -> str:
    name, of = column
    return t.word(name) + (f", {of[0]}" if len(of) == 1 and of[0] else "")


def _measured(
    group: MeasuredGroupFacts, columns: Sequence[Column], t: Words, *, counted: bool
) -> list[list[str]]:
    patients = t.word(group.standing)
    if group.standing == "shown":
        events = f" ({group.of_outcome[-1]})" if counted else ""
        patients = f"{group.patients}{events}"
    by_name = {(metric.name, metric.of): metric for metric in group.metrics}
    cells = [
        [_line(by_name[name, each], t, named=len(of) > 1) for each in of if (name, each) in by_name]
        or [_DASH]
        for name, of in columns
    ]
    return [[patients], *cells, [with_ends(group.worse_by, _SIGNED, t)]]


def _line(metric: MetricFacts, t: Words, *, named: bool) -> str:
    pattern = _PLAIN if metric.unit else _SCORE
    if metric.name in _DIFFERENCES:
        pattern = pattern.replace(":", ":+")
    unit = "" if metric.unit in {"", "1"} else f" {metric.unit}"
    if not named or metric.estimate is None:
        return with_ends(metric.estimate, pattern + unit, t)
    return f"{metric.of}: {pattern.format(metric.estimate.value)}{unit}"


def _note(grouping: MeasuredGroupingFacts, t: Words) -> str:
    noised = grouping.count_noise > 0
    parts = {
        "smallest": grouping.smallest,
        "outcomes": ", ".join(t.word(each) for each in grouping.outcomes),
    }
    said = (
        t.plain(NOISED, noise=f"{grouping.count_noise:.0f}", **parts)
        if noised
        else t.plain(EXACT, **parts)
    )
    return f"{t.word(JOINTLY)} {said}"


def with_ends(estimate: EstimateFacts | None, pattern: str, t: Words) -> str:
    """The value, the interval of sampling in brackets, that of the noise in square ones."""
    if estimate is None:
        return _DASH
    scale = 100.0 if "%" in pattern else 1.0
    text = pattern.format(scale * estimate.value)
    bare = pattern.split("}", maxsplit=1)[0] + "}"
    if sampling := ends(estimate.low, estimate.high, bare, t, scale=scale):
        text += f" ({sampling})"
    if noise := ends(estimate.noise_low, estimate.noise_high, bare, t, scale=scale):
        text += f" [{noise}]"
    return text


def ends(
    low: float | None, high: float | None, pattern: str, t: Words, *, scale: float = 1.0
) -> str:
    """Both ends of an interval; "" where it is not known."""
    if low is None or high is None:
        return ""
    shown = (pattern.format(scale * end) for end in (low, high))
    return t.plain("{low} to {high}", **dict(zip(("low", "high"), shown, strict=True)))
