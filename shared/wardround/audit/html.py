"""report.html: one self-contained page from report.json. No script, no outside address."""

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from wardround.audit.charts import calibration_plot, icon_array, roc_plot
from wardround.audit.empirical_report import audit_headline
from wardround.audit.evidence import COORDINATOR
from wardround.audit.participation import name_of
from wardround.audit.report_model import (
    AttemptFacts,
    Figure,
    GuaranteeClass,
    Hazard,
    Origin,
    Report,
    Status,
)
from wardround.audit.statistics_table import table_of
from wardround.audit.verdicts import Verdict, Verdicts
from wardround.canonical import Json
from wardround.errors import BadInput
from wardround.masking.round_spec import Purpose

QUESTIONS = {
    "authentic": "signed by whom it says",
    "intact": "unchanged since it was signed",
    "complete": "every round on both sides",
    "recomputed": "every number comes out again",
}
_MARKS = {"sent": "", "missed": "✕", "rejected": "!", "not asked": "", "unknown": "·"}
_DASH = "\N{EN DASH}"
LETTERS = {
    Origin.RECOMPUTED: "R",
    Origin.LOGGED: "L",
    Origin.DECLARED: "D",
    Origin.NOT_AVAILABLE: _DASH,
}
_FEW_COLUMNS = 14
_INITIALS = {"evaluate": "E", "statistics": "S"}


def render_html(report: Json, verdicts: Verdicts | None = None) -> str:
    """The whole report as one HTML file for screen, phone and paper.

    `verdicts` are what this reader's own verification said; without them the page says that it
    was not verified, since no page can vouch for itself. Raises BadInput when `report` is none.
    """
    return _environment().get_template("report.html.j2").render(facts(report, verdicts))


def facts(report: Json, verdicts: Verdicts | None) -> dict[str, Any]:
    """What a page shows: the typed report as `r`, and beside it what has to be worked out.

    HTML and PDF are made of the same facts. Raises BadInput when `report` is none.
    """
    try:
        checked = Report.model_validate(report)
    except ValueError as error:
        raise BadInput(f"report: not a wardround.report/1 ({type(error).__name__})") from error
    metrics = checked.evaluation.metrics
    return {
        "r": checked,
        "bare": checked.guarantee.kind is GuaranteeClass.NONE,
        "verdicts": _chips(verdicts),
        "failures": [str(f) for v in verdicts.four for f in v.failures] if verdicts else [],
        "verified": None if verdicts is None else verdicts.ok,
        "pinned": verdicts is not None and COORDINATOR in verdicts.pinned,
        "same_everywhere": len({entry.epsilon.value for entry in checked.guarantee.hospitals}) == 1,
        "icons": icon_array(checked.guarantee.odds_percent.value),
        "columns": [_column(index, each, checked) for index, each in enumerate(attempts(checked))],
        "roc": roc_plot(metrics["roc"]) if metrics and metrics["roc"] else None,
        "calibration": calibration_plot(metrics["calibration"]) if metrics else None,
        "metrics": _metric_rows(metrics) if metrics else [],
        "few_columns": len(checked.participation.attempts) <= _FEW_COLUMNS,
        "counted": _count_hazards(checked),
        "attacked": audit_headline(checked.engine_audits),
        "noise_seen": any(found.place for found in checked.noise_audits),
        "patients": table_of(checked.statistics.estimates),
    }


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


def epsilon_text(value: float | None) -> str:
    """Epsilon with two decimals, rounded up: print never flatters.

    >>> epsilon_text(2.4101)
    '2.42'
    """
    return "none" if value is None else f"{math.ceil(round(value * 100, 6)) / 100:.2f}"


def tag(origin: Origin) -> Markup:
    """The small letter beside a number that says where it comes from."""
    return Markup('<abbr class="o o-{}" title="{}">{}</abbr>').format(
        origin.name.lower(), origin.value, LETTERS[origin]
    )


def figure(value: Figure, digits: int = 4) -> Markup:
    """A number with its origin; the note as its title."""
    text = number(value.value, digits)
    return Markup('<span class="f" title="{}">{}{}</span>').format(
        value.note, text, tag(value.origin)
    )


def short(digest: str | None) -> Markup:
    """A digest in short form, in full as its title."""
    if not digest:
        return Markup("{}").format(_DASH)
    return Markup('<code title="{}">{}…{}</code>').format(digest, digest[:8], digest[-4:])


def percent(value: float | None) -> str:
    """A share as a percentage with one decimal.

    >>> percent(0.9042)
    '90.4 %'
    """
    return "NA" if value is None else f"{100 * value:.1f} %"


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
        "number": number,
        "epsilon": epsilon_text,
        "figure": figure,
        "short": short,
        "percent": percent,
        "tag": tag,
        "mark": mark,
        "origin_tag": lambda name: tag(Origin[name]),
        "by_status": worst_first,
    }
    return environment


def _chips(verdicts: Verdicts | None) -> list[dict[str, str]]:
    by_name: dict[str, Verdict] = {v.name: v for v in verdicts.four} if verdicts else {}
    chips = []
    for name, question in QUESTIONS.items():
        verdict = by_name.get(name)
        state = "unknown" if verdict is None else "ok" if verdict.ok else "fail"
        said = {"unknown": "not checked", "ok": "yes", "fail": "NO"}[state]
        sign = {"unknown": "?", "ok": "✓", "fail": "✕"}[state]
        chips.append(
            {"name": name, "question": question, "state": state, "said": said, "sign": sign}
        )
    return chips


def _column(index: int, facts: AttemptFacts, report: Report) -> dict[str, str]:
    """The head of one column: round numbers from 1, thinned out; S and E for what is no round."""
    every = max(1, math.ceil(len(attempts(report)) / _FEW_COLUMNS))
    label = _INITIALS.get(facts.purpose, str(facts.round + 1))
    label += f".{facts.attempt}" if facts.attempt > 1 else ""
    trains = facts.purpose == "train"
    shown = not trains or index == 0 or (facts.round + 1) % every == 0
    words = name_of(Purpose(facts.purpose), facts.round).capitalize()
    title = f"{words}, attempt {facts.attempt}: {facts.outcome}"
    return {"label": label if shown else "", "title": title, "outcome": facts.outcome}


def _metric_rows(metrics: Json) -> list[dict[str, str]]:
    names = (
        ("auroc", "AUROC", number),
        ("sensitivity", "Sensitivity", percent),
        ("specificity", "Specificity", percent),
        ("ppv", "Positive predictive value", percent),
        ("npv", "Negative predictive value", percent),
        ("brier", "Brier score", number),
        ("prevalence", "Prevalence", percent),
        ("accuracy", "Accuracy", percent),
    )
    rows = []
    for key, name, show in names:
        estimate = metrics[key]
        if estimate is None:
            rows.append({"key": key, "name": name, "value": "NA", "interval": "", "noise": ""})
            continue
        value = _three(estimate["value"]) if show is number else percent(estimate["value"])
        rows.append(
            {
                "key": key,
                "name": name,
                "value": value,
                "interval": _interval(estimate["low"], estimate["high"], as_share=show is percent),
                "noise": _interval(
                    estimate["noise_low"], estimate["noise_high"], as_share=show is percent
                ),
            }
        )
    return rows


def _three(value: float) -> str:
    return f"{value:.3f}"


def _interval(low: float | None, high: float | None, *, as_share: bool) -> str:
    if low is None or high is None:
        return ""
    if as_share:
        return f"{100 * low:.1f} to {100 * high:.1f} %"
    return f"{low:.3f} to {high:.3f}"


def worst_first(hazards: Iterable[Hazard]) -> list[Hazard]:
    """What failed, then what should be known, then what passed."""
    order = (Status.FAIL, Status.REMARK, Status.PASS)
    return sorted(hazards, key=lambda hazard: order.index(hazard.status))


def _count_hazards(report: Report) -> dict[str, int]:
    return {
        status.value: sum(hazard.status is status for hazard in report.hazards) for status in Status
    }
