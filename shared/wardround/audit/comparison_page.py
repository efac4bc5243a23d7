"""Section E as people read it: models beside each other, stated by a rehearsal's coordinator."""

from typing import Any

from wardround.audit.body_comparison import LEFT_OUT
from wardround.audit.forest import Kind, Mark, forest_plot
from wardround.audit.metric_rows import epsilon_text, with_interval
from wardround.audit.report_comparison import ComparisonFacts, NumberFacts, WayFacts
from wardround.audit.report_model import Report
from wardround.audit.words import Words
from wardround.errors import BadInput
from wardround.evaluation.single import NAMES, single

_DASH = "\N{EN DASH}"
EXPLAINED = {
    "this run": "masked and signed by all parties, as in earnest: recomputed from its counts",
    "local-only": "each hospital's own model without noise, for its own held-out patients",
    "federated": "one model of all hospitals, without noise",
    "federated with DP": "one model of all hospitals, with the study's noise",
    "pooled": "all patients in one place, without noise: nobody could do this",
    LEFT_OUT: "a model of the others, as the study trains it, for all its patients",
}

NEXT = (
    "From {n} hospitals, each left out in turn: {metric} {mean} on average (95 %: {ends}). A "
    "hospital that took no part may expect {prediction} (95 % prediction interval, random "
    "effects)."
)
NO_NEXT = (
    "What the next hospital may expect is not available: it takes three hospitals with a value "
    "between 0 and 1."
)


def comparison_table(report: Report, t: Words) -> dict[str, Any]:
    """`compared`: the stated comparison as rows, a figure and a sentence; None without one."""
    facts = report.comparison
    if facts is None:
        return {"compared": None}
    metric = t.word(NAMES.get(facts.metric, facts.metric))
    ours = _this_run(report)
    rows = [] if ours is None else [_row("this run", report.guarantee.epsilon.value, ours, t)]
    rows[:1] = [row | {"origin": report.evaluation.origin} for row in rows]
    for each in facts.ways:
        row = _row(each.way, each.epsilon, each.whole, t)
        rows.append(row | {"origin": facts.origin, "hospitals": _hospitals(each, t)})
    return {
        "compared": {
            "metric": metric,
            "rows": rows,
            "figure": forest_plot(
                _marks(facts, ours, t),
                axis=t.plain("{metric}, 95 % intervals", metric=metric),
                label=t.word("Ways to train, and each hospital left out"),
            ),
            "coming": _coming(facts, metric, t),
            "entry": f"{facts.place.log} #{facts.place.seq}",
        }
    }


def _this_run(report: Report) -> NumberFacts | None:
    if report.evaluation.metrics is None:
        return None
    try:
        found = single(report.evaluation.metrics)
    except BadInput:
        return None
    return NumberFacts(**found._asdict())


def _row(way: str, epsilon: float | None, found: NumberFacts, t: Words) -> dict[str, Any]:
    return {
        "way": t.word(way),
        "explained": t.word(EXPLAINED[way]) if way in EXPLAINED else "",
        "epsilon": _DASH if epsilon is None else epsilon_text(epsilon),
        "value": _said(found, t),
        "patients": str(found.patients),
        "hospitals": _DASH,
    }


def _said(found: NumberFacts, t: Words) -> str:
    return with_interval(found.value, found.low, found.high, t)


def _hospitals(each: WayFacts, t: Words) -> str:
    return "; ".join(f"{name}: {_said(own, t)}" for name, own in sorted(each.hospitals.items()))


def _marks(facts: ComparisonFacts, ours: NumberFacts | None, t: Words) -> list[Mark]:
    marks = [] if ours is None else [_mark(t.word("this run"), ours, t, "measured")]
    for each in facts.ways:
        kind: Kind = "private" if each.epsilon is not None else ""
        if each.way != LEFT_OUT:
            marks.append(_mark(t.word(each.way), each.whole, t, kind))
            continue
        marks += [
            _mark(t.plain("{hospital}, left out", hospital=name), own, t, kind)
            for name, own in sorted(each.hospitals.items())
        ]
    coming = facts.next_hospital
    if coming is not None:
        found = NumberFacts(
            patients=0, value=coming.mean, low=coming.prediction_low, high=coming.prediction_high
        )
        marks.append(_mark(t.word("the next hospital"), found, t, "next"))
    return marks


def _mark(name: str, found: NumberFacts, t: Words, kind: Kind) -> Mark:
    return Mark(name, found.value, found.low, found.high, _said(found, t), kind)


def _coming(facts: ComparisonFacts, metric: str, t: Words) -> str:
    coming = facts.next_hospital
    if coming is None:
        return t.word(NO_NEXT)
    return t.plain(
        NEXT,
        n=coming.hospitals,
        metric=metric,
        mean=f"{coming.mean:.3f}",
        ends=_ends(coming.low, coming.high, t),
        prediction=_ends(coming.prediction_low, coming.prediction_high, t),
    )


def _ends(low: float, high: float, t: Words) -> str:
    return t.plain("{low} to {high}", low=f"{low:.3f}", high=f"{high:.3f}")
