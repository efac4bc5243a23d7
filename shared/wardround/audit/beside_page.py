"""Section E as people read it: what joining gave, from counts by models of the hospitals' own."""

import math
from typing import Any, NamedTuple

from wardround.audit.forest import Mark, forest_plot
from wardround.audit.metric_rows import with_interval
from wardround.audit.report_evaluation import BesideFacts, EstimateFacts, MetricFacts
from wardround.audit.report_model import Report
from wardround.audit.words import Words
from wardround.evaluation.shown import Shown, rows

ALONE, PERSONALISED, OURS = "local-only", "personalised", "the study's model"
MADE = {
    OURS: "trained by all hospitals together",
    ALONE: "trained by each hospital alone, without noise, and scored at home",
    PERSONALISED: "the study's model, its last layer fine-tuned by each hospital at home",
}
JOINING = "Joining gave {difference} of {metric} over training alone (95 %: {ends}). {verdict}"
BOTH = (
    "Joining and fine-tuning at home gave {difference} of {metric} over training alone (95 %: "
    "{ends}). {verdict}"
)
TUNING = (
    "Fine-tuning at home gave {difference} of {metric} over the study's model (95 %: {ends}). "
    "{verdict}"
)
MORE, LESS = "That is more than chance would give.", "So without it these patients do better."
CHANCE = "Chance alone could give that."
UNKNOWN = "What joining gave is not available: a number or its interval is missing."

_OF_PATIENTS = {"Observed risk"}  # the same whatever a model says


class Value(NamedTuple):
    """A number with its interval of sampling; None where there is none."""

    value: float | None
    low: float | None
    high: float | None


def beside_table(report: Report, t: Words) -> dict[str, Any]:
    """`joined`: the study's model and the others on the same patients; None without others."""
    facts = report.evaluation
    if not facts.beside or facts.metrics is None:
        return {"joined": None}
    ours = {(row.name, row.of): Value(row.value, row.low, row.high) for row in rows(facts.metrics)}
    ways = {OURS: ours} | {each.way: _values(each) for each in facts.beside}
    first = rows(facts.metrics)[0]
    key, metric = (first.name, first.of), _name(first, t)
    return {
        "joined": {
            "heads": [t.word(way) for way in ways],
            "rows": [
                _row(each, ways, t)
                for each in facts.beside[0].metrics
                if each.name not in _OF_PATIENTS
            ],
            "made": [f"{t.word(way)}: {t.word(MADE[way])}" for way in ways if way in MADE],
            "figure": forest_plot(
                [_mark(way, found.get(key), t) for way, found in ways.items()],
                axis=t.plain("{metric}, 95 % intervals", metric=metric),
                label=t.word("The study's model beside those of the hospitals' own"),
            ),
            "said": _said({way: found.get(key) for way, found in ways.items()}, metric, t),
        }
    }


def gained(better: Value, worse: Value) -> tuple[float, float, float] | None:
    """The difference of two values and its 95 % interval; None where one of them is missing.

    From the distances to the ends (Zou and Donner 2008), as if the patients were others: they are
    the same, and two models that both rank them err together, so that it is rather too wide.

    >>> [round(x, 3) for x in gained(Value(0.9, 0.86, 0.93), Value(0.8, 0.77, 0.83))]
    [0.1, 0.05, 0.142]
    """
    ends = (*better, *worse)
    if any(end is None for end in ends):
        return None
    value, low, high, other, least, most = (float(end) for end in ends if end is not None)
    below, above = math.hypot(value - low, most - other), math.hypot(high - value, other - least)
    return value - other, value - other - below, value - other + above


def _values(each: BesideFacts) -> dict[tuple[str, str], Value]:
    return {(found.name, found.of): _value(found.estimate) for found in each.metrics}


def _value(found: EstimateFacts | None) -> Value:
    return Value(None, None, None) if found is None else Value(found.value, found.low, found.high)


def _name(found: MetricFacts | Shown, t: Words) -> str:
    name = f"{t.word(found.name)}, {found.of}" if found.of else t.word(found.name)
    return name if found.unit in {"", "1"} else f"{name} ({found.unit})"


def _row(found: MetricFacts, ways: dict[str, dict[tuple[str, str], Value]], t: Words) -> Any:
    values = [own.get((found.name, found.of)) for own in ways.values()]
    return {"name": _name(found, t), "cells": [_shown(value, t) for value in values]}


def _mark(way: str, found: Value | None, t: Words) -> Mark:
    value = found or Value(None, None, None)
    return Mark(t.word(way), *value, _shown(value, t), "measured" if way == OURS else "")


def _shown(found: Value | None, t: Words) -> str:
    return with_interval(*(found or Value(None, None, None)), t)


def _said(found: dict[str, Value | None], metric: str, t: Words) -> list[str]:
    """What joining gave, in words."""
    ours, alone, tuned = (found.get(way) for way in (OURS, ALONE, PERSONALISED))
    pairs = [(JOINING, ours, alone), (BOTH, tuned, alone)] if alone else [(TUNING, tuned, ours)]
    return [_sentence(*pair, metric, t) for pair in pairs if pair[1] is not None]


def _sentence(words: str, better: Value | None, worse: Value | None, metric: str, t: Words) -> str:
    found = gained(better, worse) if better and worse else None
    if found is None:
        return t.word(UNKNOWN)
    difference, low, high = found
    verdict = MORE if low > 0 else LESS if high < 0 else CHANCE
    return t.plain(
        words,
        difference=f"{difference:+.3f}",
        metric=metric,
        ends=t.plain("{low} to {high}", low=f"{low:+.3f}", high=f"{high:+.3f}"),
        verdict=t.word(verdict),
    )
