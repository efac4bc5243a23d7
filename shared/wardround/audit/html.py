"""report.html: one self-contained page from report.json. No script, no outside address."""

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, pass_context
from jinja2.runtime import Context
from markupsafe import Markup

from wardround.audit.attack_rows import attack_rows
from wardround.audit.charts import calibration_plot, icon_array, limit_plot, roc_plot
from wardround.audit.decision_charts import decision_plot, risk_plot
from wardround.audit.empirical_report import audit_counts
from wardround.audit.evaluation_tables import evaluation_tables
from wardround.audit.evidence import COORDINATOR
from wardround.audit.metric_rows import (
    annex_rows,
    binary_rows,
    epsilon_text,
    kind_rows,
    percent,
)
from wardround.audit.report_model import (
    AttemptFacts,
    ColumnFacts,
    EngineAudit,
    Figure,
    GuaranteeClass,
    Hazard,
    Origin,
    Place,
    Report,
    Status,
)
from wardround.audit.statistics_table import table_of
from wardround.audit.timestamp_words import stamp_words
from wardround.audit.verdicts import Verdict, Verdicts
from wardround.audit.words import Words, words_of
from wardround.canonical import Json
from wardround.errors import BadInput
from wardround.evaluation.shown import BINARY, kind_of, patients_in
from wardround.evaluation.suppression import shown_row

QUESTIONS = {
    "authentic": "signed by whom it says",
    "intact": "unchanged since it was signed",
    "complete": "every round on both sides",
    "recomputed": "every number comes out again",
}
_DASH = "\N{EN DASH}"
_MARKS = {
    "sent": "",
    "vanished before it signed": _DASH,
    "vanished before it revealed": _DASH,
    "missed": "✕",
    "rejected": "!",
    "not asked": "",
    "unknown": "·",
}
LETTERS = {
    Origin.RECOMPUTED: "R",
    Origin.LOGGED: "L",
    Origin.DECLARED: "D",
    Origin.NOT_AVAILABLE: _DASH,
}
_FEW_COLUMNS = 14
_MOST_CONTRACT_COLUMNS = 60
# The letters over the matrix are the first of its legend's.
_NAMES = {"evaluate": "Evaluation", "statistics": "Statistics"}
_INITIALS = {"evaluate": "E: evaluation", "statistics": "S: statistics"}


def render_html(report: Json, verdicts: Verdicts | None = None, *, lang: str = "en") -> str:
    """The whole report as one HTML file for screen, phone and paper.

    `verdicts` are what this reader's own verification said, the officers' decisions with them;
    without them the page says that it was not verified, since no page can vouch for itself.
    Raises BadInput when `report` is none, and for a language that there are no words of.
    """
    return _environment().get_template("report.html.j2").render(facts(report, verdicts, lang=lang))


def facts(report: Json, verdicts: Verdicts | None, *, lang: str = "en") -> dict[str, Any]:
    """What a page shows: the typed report as `r`, and beside it what has to be worked out.

    HTML and PDF are made of the same facts. Raises BadInput when `report` is none.
    """
    t = words_of(lang)
    try:
        checked = t.report(Report.model_validate(report))
    except ValueError as error:
        raise BadInput(f"report: not a wardround.report/1 ({type(error).__name__})") from error
    return {
        "r": checked,
        "t": t,
        "bare": checked.guarantee.kind is GuaranteeClass.NONE,
        "same_everywhere": len({entry.epsilon.value for entry in checked.guarantee.hospitals}) == 1,
        "columns": [
            _column(index, each, checked, t) for index, each in enumerate(attempts(checked))
        ],
        "vanished": any(
            word.startswith("vanished")
            for each in attempts(checked)
            for word in each.presence.values()
        ),
        "few_columns": len(checked.participation.attempts) <= _FEW_COLUMNS,
        "most_columns": _MOST_CONTRACT_COLUMNS,
        "span": lambda column: _span(column, t),
        "counted": _count_hazards(checked),
        "patients": table_of(checked.statistics.estimates),
        "counted_at": _place(checked.statistics.place),
        **_verification(verdicts, t),
        **_of_attacks(checked, t),
        **_of_metrics(checked, t),
        **evaluation_tables(checked, t),
    }


def _verification(verdicts: Verdicts | None, t: Words) -> dict[str, Any]:
    return {
        "verdicts": _chips(verdicts, t),
        "failures": [str(f) for v in verdicts.four for f in v.failures] if verdicts else [],
        "verified": None if verdicts is None else verdicts.ok,
        "pinned": verdicts is not None and COORDINATOR in verdicts.pinned,
        "signed": verdicts.sign_offs if verdicts else (),
        "stamped": stamp_words(verdicts, t),
    }


def _of_attacks(report: Report, t: Words) -> dict[str, Any]:
    guarantee, counts = report.guarantee, audit_counts(report.engine_audits)
    words = [t.plain("{count} {verdict}", count=n, verdict=t.word(name)) for n, name in counts]
    limits = (guarantee.epsilon.value, guarantee.delta.value)
    return {
        "icons": icon_array(guarantee.odds_percent.value, t),
        "curve": limit_plot(guarantee.attack_curve, limits, t) if guarantee.attack_curve else None,
        "attacked": ", ".join(words) or None,
        "proven": _proven(report.engine_audits),
        "noise_seen": any(found.place for found in report.noise_audits),
        "attack_rows": attack_rows(report),
    }


def _of_metrics(report: Report, t: Words) -> dict[str, Any]:
    metrics = report.evaluation.metrics
    binary = metrics is not None and kind_of(metrics) == BINARY
    rows = binary_rows(metrics, t) if metrics and binary else kind_rows(metrics, t)
    heads = rows[:3] + rows[5:6] if binary else rows[:4]
    curve = metrics.get("roc") if metrics else None
    return {
        "kind": kind_of(metrics) if metrics else None,
        "roc": roc_plot(curve, t) if curve else None,
        **(_of_risks(metrics, t) if metrics and binary else {}),
        "metrics": rows,
        "heads": heads,
        "counted_patients": patients_in(metrics) if metrics else 0,
        "positives": _positives(report) if binary else "",
        "evaluated": _place(report.evaluation.place),
    }


def _of_risks(metrics: Json, t: Words) -> dict[str, Any]:
    """What only a risk of yes or no has: whether it means what it says, and what it is good for."""
    return {
        "calibration": calibration_plot(metrics["calibration"], t),
        "decision": decision_plot(metrics["decision_curve"], t)
        if metrics["patients"] > 0
        else None,
        "risks": risk_plot(metrics["calibration"], t),
        "annex": annex_rows(metrics, t),
    }


def _positives(report: Report) -> str:
    """Patients with the outcome. A small cell of exact counts is not printed for people."""
    metrics = report.evaluation.metrics
    if metrics is None:
        return ""
    positives, others = metrics["positives"], metrics["patients"] - metrics["positives"]
    if report.evaluation.counts == "noised":
        return number(positives, 0)
    return shown_row([positives, others])[0]


def _proven(audits: Iterable[EngineAudit]) -> dict[str, str] | None:
    """The most that an attack on any engine proved, beside what that engine claimed."""
    found = [
        (max(audit.epsilon_f_dp.value, audit.epsilon_steinke.value), audit.epsilon_claimed.value)
        for audit in audits
        if audit.epsilon_f_dp.value is not None
        and audit.epsilon_steinke.value is not None
        and audit.epsilon_claimed.value is not None
    ]
    if not found:
        return None
    proven, claimed = max(found)
    return {"proven": number(proven, 2), "claimed": number(claimed, 2)}


def _place(place: Place | None) -> str:
    return _DASH if place is None else f"{place.log} #{place.seq}"


def _span(column: ColumnFacts, t: Words) -> str:
    """What a column may hold: a range with its unit, or so many categories."""
    if column.range is not None:
        low, high = (number(end) for end in column.range)
        unit = "" if column.unit == "1" else f" {column.unit}"
        return t.plain("{low} to {high}", low=low, high=high) + unit
    if column.categories:
        return t.plain("{n} categories", n=column.categories)
    return _DASH


def attempts(report: Report) -> tuple[AttemptFacts, ...]:
    """The attempts of the run in order: the columns of the matrix."""
    return report.participation.attempts


def number(value: float | None, digits: int = 4) -> str:
    """A number for people: no trailing zeros, a word when there is none.

    >>> number(2.5), number(None), number(1e-7)
    ('2.5', 'not available', '1e-07')
    >>> number(30.0, 0)
    '30'
    """
    if value is None:
        return "not available"
    if value != 0 and abs(value) < 10.0**-digits:
        return f"{value:.0e}"
    text = f"{value:.{digits}f}"
    return text.rstrip("0").rstrip(".") if digits else text


@pass_context
def number_in_words(context: Context, value: float | None, digits: int = 4) -> str:
    """`number` in the page's language."""
    words: Words = context["t"]
    return words.word(number(value, digits))


@pass_context
def tag(context: Context, origin: Origin) -> Markup:
    """The small letter beside a number that says where it comes from."""
    return Markup('<abbr class="o o-{}" title="{}">{}</abbr>').format(
        origin.name.lower(), context["t"].word(origin.value), LETTERS[origin]
    )


@pass_context
def figure(context: Context, value: Figure, digits: int = 4) -> Markup:
    """A number with its origin; the note as its title."""
    text = number_in_words(context, value.value, digits)
    return Markup('<span class="f" title="{}">{}{}</span>').format(
        value.note, text, tag(context, value.origin)
    )


@pass_context
def origin_tag(context: Context, name: str) -> Markup:
    """`tag` of an origin by its name."""
    return tag(context, Origin[name])


def short(digest: str | None) -> Markup:
    """A digest in short form, in full as its title."""
    if not digest:
        return Markup("{}").format(_DASH)
    return Markup('<code title="{}">{}…{}</code>').format(digest, digest[:8], digest[-4:])


def mark(presence: str) -> str:
    """The sign in a cell of the matrix, beside its colour."""
    return _MARKS[presence]


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("wardround.audit", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": number_in_words,
        "epsilon": epsilon_text,
        "figure": figure,
        "short": short,
        "percent": percent,
        "tag": tag,
        "mark": mark,
        "origin_tag": origin_tag,
        "by_status": worst_first,
    }
    return environment


def _chips(verdicts: Verdicts | None, t: Words) -> list[dict[str, str]]:
    by_name: dict[str, Verdict] = {v.name: v for v in verdicts.four} if verdicts else {}
    chips = []
    for name, question in QUESTIONS.items():
        verdict = by_name.get(name)
        state = "unknown" if verdict is None else "ok" if verdict.ok else "fail"
        said = {"unknown": "not checked", "ok": "yes", "fail": "NO"}[state]
        what, answer = t.word(name), t.word(said)
        chips.append(
            {
                "title": t.plain("{what}: {said}", what=what[0].upper() + what[1:], said=answer),
                "question": t.word(question),
                "state": state,
                "sign": {"unknown": "?", "ok": "✓", "fail": "✕"}[state],
            }
        )
    return chips


def _column(index: int, facts: AttemptFacts, report: Report, t: Words) -> dict[str, str]:
    """The head of one column: round numbers from 1, thinned out; letters for what is no round."""
    every = max(1, math.ceil(len(attempts(report)) / _FEW_COLUMNS))
    trains = facts.purpose == "train"
    label = str(facts.round + 1) if trains else t.word(_INITIALS[facts.purpose])[0]
    label += f".{facts.attempt}" if facts.attempt > 1 else ""
    shown = not trains or index == 0 or (facts.round + 1) % every == 0
    name = t.plain("Round {n}", n=facts.round + 1) if trains else t.word(_NAMES[facts.purpose])
    title = t.plain(
        "{name}, attempt {n}: {outcome}", name=name, n=facts.attempt, outcome=t.word(facts.outcome)
    )
    return {"label": label if shown else "", "title": title, "outcome": facts.outcome}


def worst_first(hazards: Iterable[Hazard]) -> list[Hazard]:
    """What failed, then what should be known, then what passed."""
    order = (Status.FAIL, Status.REMARK, Status.PASS)
    return sorted(hazards, key=lambda hazard: order.index(hazard.status))


def _count_hazards(report: Report) -> dict[str, int]:
    return {
        status.value: sum(hazard.status is status for hazard in report.hazards) for status in Status
    }
