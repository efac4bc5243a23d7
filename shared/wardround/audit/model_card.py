"""A model card from the evidence: every line of it stands in report.json or follows from it.

(Mitchell et al. 2019, Model cards for model reporting)
"""

import hashlib
from collections.abc import Iterator, Mapping

from wardround.audit.model_card_words import LIMITS, SYNTHETIC, TREATMENT, VERIFY
from wardround.audit.report_model import Origin, Report, Status
from wardround.canonical import Json
from wardround.errors import BadInput
from wardround.evaluation.shown import Shown, patients_in, rows
from wardround.study.files import checked
from wardround.study.task import FamilyName
from wardround.study.treatment import CAVEATS

SCHEMA = "wardround.model-card/1"


def read_report(content: bytes, value: Json) -> Report:
    """The report of these bytes. Raises BadInput when it is not of this version's form."""
    report = checked(Report, value, what="report.json")
    if report.to_bytes() != content:
        raise BadInput("report.json: not the bytes that this version would write")
    return report


def model_card(report: Report, content: bytes, files: Mapping[str, bytes]) -> Json:
    """The card of the report's model; `content` are the report's bytes, `files` go with the card.

    Raises BadInput for a run that ended without a model.
    """
    if report.run.model_digest is None:
        raise BadInput("model card: the report knows of no model")
    study = report.study
    return {
        "schema": SCHEMA,
        "model": {
            "study": study.name,
            "title": study.title,
            "predicts": study.label,
            "family": study.family,
            "network": study.model,
            "features": study.features,
            "digest": report.run.model_digest,
            "run": report.run.run,
            "trained": [report.run.opened_at, report.run.closed_at],
            "rounds": report.participation.rounds_closed.value,
            "contact": study.contact,
        },
        "evidence": {
            "study_digest": study.digest,
            "report": hashlib.sha256(content).hexdigest(),
            "files": {name: hashlib.sha256(data).hexdigest() for name, data in files.items()},
        },
        "intended_use": study.purpose,
        "limits": [*_limits(report)],
        "inputs": [column.model_dump(mode="json") for column in study.columns],
        "took_part": _took_part(report),
        "evaluation": _evaluation(report),
        "privacy": _privacy(report),
        "not_tested": list(_not_tested(report)),
        "verify": [*VERIFY],
    }


def _limits(report: Report) -> Iterator[str]:
    yield from LIMITS
    if report.study.family == FamilyName.GAN:
        yield from SYNTHETIC
    told = (report.evaluation.metrics or {}).get("treatment")
    if told is None:
        return
    yield f"{CAVEATS[told['assignment']].format(basis=told['basis'])}."
    yield from (text.format(**told) for text in TREATMENT)
    if told["allocation"]["contradicts"]:
        yield "The arms are not those that chance gives: say nothing of treatment by it."


def _took_part(report: Report) -> Json:
    part = report.participation
    trained = [a for a in part.attempts if a.purpose == "train" and a.outcome == "closed"]
    epsilons = {one.hospital: one.epsilon.value for one in report.guarantee.hospitals}
    approved = {one.hospital: one.approved_at for one in report.study.roster}
    return {
        "summary": part.headline,
        "hospitals": [
            {
                "hospital": name,
                "approved_at": approved.get(name),
                "rounds_in_the_model": sum(name in attempt.in_sum for attempt in trained),
                "in_the_evaluation": name in report.evaluation.hospitals,
                "epsilon": epsilons.get(name),
                "completed": name in part.completed,
            }
            for name in part.planned
        ],
        "absent": [
            {"hospital": one.hospital, "since": one.since, "reason": one.reason}
            for one in part.absent
        ],
    }


def _evaluation(report: Report) -> Json:
    facts = report.evaluation
    if facts.metrics is None:
        return {"available": False, "registered": facts.registered, "metrics": []}
    return {
        "available": True,
        "registered": facts.registered,
        "threshold": facts.threshold,
        "counts": facts.counts,
        "hospitals": list(facts.hospitals),
        "held_out_patients": patients_in(facts.metrics),
        "metrics": [_metric(row) for row in rows(facts.metrics)],
        "groups": [each.model_dump(mode="json") for each in facts.subgroups],
        "importance": [each.model_dump(mode="json") for each in facts.importance],
    }


def _metric(row: Shown) -> Json:
    return dict(row._asdict())


def _privacy(report: Report) -> Json:
    promise = report.guarantee
    return {
        "kind": promise.kind.value,
        "headline": promise.headline,
        "epsilon": promise.epsilon.value,
        "delta": promise.delta.value,
        "unit": promise.unit_in_words,
        "meaning": [text for text in (promise.odds_in_words, promise.found_in_words) if text],
        "mechanism": promise.mechanism_in_words,
        "scope": list(promise.scope),
        "not_protected": list(report.not_protected),
    }


def _not_tested(report: Report) -> Iterator[str]:
    yield "Patients of hospitals that did not take part: no external validation is in the evidence."
    yield "Patients of later years: the held-out patients are of the same time as the others."
    yield "What a clinician decides with it, and what that does to patients."
    if report.evaluation.metrics is None:
        yield "The model itself: no evaluation was opened in this run."
    elif not report.evaluation.subgroups:
        yield "Subgroups, by age, sex or else: the evaluation is over all held-out patients."
    if report.evaluation.origin is not Origin.RECOMPUTED:
        yield f"The metrics' origin: {report.evaluation.origin.value}."
    silent = [one.hospital for one in report.engine_audits if one.verdict == "NOT RUN"]
    if silent:
        yield f"The engine's noise by canaries, at {', '.join(silent)}."
    attacked = {one.hospital for one in report.model_attacks if one.skipped is None}
    untried = [name for name in report.participation.planned if name not in attacked]
    if untried:
        yield f"Attacks on the released model, at {', '.join(untried)}."
    for hazard in report.hazards:
        if hazard.status is not Status.PASS:
            yield f"{hazard.status.value}: {hazard.title}: {hazard.finding}"


def markdown(card: Json) -> str:
    """The card as MODEL_CARD.md."""
    return "\n".join([*_head(card), *_people(card), *_quality(card), *_promise(card), *_rest(card)])


def _head(card: Json) -> list[str]:
    model, evidence = card["model"], card["evidence"]
    return [
        f"# Model card: {_line(model['title'])}",
        "",
        f"{model['network']} of family {model['family']}; predicts: {_line(model['predicts'])}",
        "",
        "| | |",
        "|---|---|",
        f"| study | {model['study']} `{evidence['study_digest']}` |",
        f"| run | `{model['run']}`, {model['trained'][0]} to {model['trained'][1]} |",
        f"| model | `{model['digest']}` |",
        f"| report | `{evidence['report']}` |",
        *(f"| {name} | `{digest}` |" for name, digest in sorted(evidence["files"].items())),
        f"| contact | {_line(model['contact'])} |",
        "",
        "## Intended use",
        _line(card["intended_use"]),
        "",
        "## Limits",
        *(f"- {text}" for text in card["limits"]),
        "",
        "## What goes in",
        "| column | kind | unit | range | may be missing |",
        "|---|---|---|---|---|",
        *(_input(column) for column in card["inputs"]),
        "",
    ]


def _input(column: Json) -> str:
    ends = column["range"]
    span = "" if ends is None else f"{ends[0]:g} to {ends[1]:g}"
    missing = "yes" if column["may_be_missing"] else "no"
    return f"| {column['name']} | {column['kind']} | {_line(column['unit'])} | {span} | {missing} |"


def _people(card: Json) -> list[str]:
    part = card["took_part"]
    lines = [
        "## Who took part",
        part["summary"],
        "",
        "| hospital | approved | rounds in the model | in the evaluation | epsilon |",
        "|---|---|---|---|---|",
    ]
    for one in part["hospitals"]:
        evaluated = "yes" if one["in_the_evaluation"] else "no"
        lines.append(
            f"| {one['hospital']} | {one['approved_at'] or 'not in its log'} | "
            f"{one['rounds_in_the_model']} | {evaluated} | {_number(one['epsilon'])} |"
        )
    lines += [f"- {one['hospital']}: {one['since']}: {one['reason']}" for one in part["absent"]]
    return [*lines, ""]


def _quality(card: Json) -> list[str]:
    facts = card["evaluation"]
    if not facts["available"]:
        return ["## How good it is", "No evaluation was opened: nothing is known.", ""]
    lines = [
        "## How good it is",
        f"On {facts['held_out_patients']} held-out patients of {len(facts['hospitals'])} hospitals "
        f"({facts['counts']} counts), planned on {facts['registered']}; threshold "
        f"{facts['threshold']:g}.",
        "",
        "| metric | value | 95 % interval | of the noise |",
        "|---|---|---|---|",
    ]
    for one in facts["metrics"]:
        name = f"{one['name']}, {one['of']}" if one["of"] else one["name"]
        value = _number(one["value"]) + (f" {one['unit']}" if one["unit"] else "")
        noise = _ends(one["noise_low"], one["noise_high"])
        lines.append(f"| {name} | {value} | {_ends(one['low'], one['high'])} | {noise} |")
    return [*lines, "", *_groups(facts["groups"]), *_importance(facts["importance"])]


def _groups(groupings: list[Json]) -> Iterator[str]:
    """For whom: the metrics of each group, or why they are not shown."""
    if not groupings:
        return
    measured = "compared_by" in groupings[0]
    yield from (
        f"| group | patients | {'metric | value' if measured else 'AUROC'} | 95 % interval | "
        "of the noise |",
        "|---|---|---|---|---|" + "---|" * measured,
    )
    for grouping in groupings:
        for one in grouping["groups"]:
            name = _line(f"{grouping['column']} {one['group']}")
            count = one["patients"] if one["standing"] == "shown" else one["standing"]
            if not measured:
                yield f"| {name} | {count} | {_estimate(one['auroc'])} |"
            for metric in one.get("metrics", ()):
                of = f", {metric['of']}" if metric["of"] else ""
                unit = "" if metric["unit"] in {"", "1"} else f" ({metric['unit']})"
                told = _line(f"{metric['name']}{of}{unit}")
                yield f"| {name} | {count} | {told} | {_estimate(metric['estimate'])} |"
            if measured and not one["metrics"]:
                yield f"| {name} | {count} | | {_estimate(None)} |"
    yield ""


def _importance(columns: list[Json]) -> Iterator[str]:
    """By what: the metric that is lost when a column is shuffled at each hospital."""
    if not columns:
        return
    metric = columns[0].get("metric", "AUROC")
    lost = "AUROC lost" if metric == "AUROC" else f"worse by ({metric})"
    yield from (
        f"| column, shuffled | {lost} | 95 % interval | of the noise |",
        "|---|---|---|---|",
    )
    for one in columns:
        yield f"| {_line(one['column'])} | {_estimate(one['lost'])} |"
    yield ""


def _estimate(said: Json | None) -> str:
    """Three cells: the value, the interval of sampling and that of the noise."""
    one = said or dict.fromkeys(("value", "low", "high", "noise_low", "noise_high"))
    noise = _ends(one["noise_low"], one["noise_high"])
    return f"{_number(one['value'])} | {_ends(one['low'], one['high'])} | {noise}"


def _promise(card: Json) -> list[str]:
    told = card["privacy"]
    claim = f"{told['kind']}: {told['headline']}"
    if told["epsilon"] is not None:
        claim += f" (epsilon {_number(told['epsilon'])}, delta {_number(told['delta'])})"
    return [
        "## Privacy",
        claim,
        "",
        *(f"- {text}" for text in (told["unit"], *told["meaning"], *told["scope"])),
        "",
        "Not protected:",
        *(f"- {text}" for text in told["not_protected"]),
        "",
    ]


def _rest(card: Json) -> list[str]:
    return [
        "## What was not tested",
        *(f"- {text}" for text in card["not_tested"]),
        "",
        "## How to verify",
        *(f"{number}. {text}" for number, text in enumerate(card["verify"], start=1)),
        "",
    ]


def _line(text: str) -> str:
    """A person's words on one line, without the signs that make tables and markup."""
    plain = " ".join(text.split())
    for sign in "\\`*{}[]<>#|":
        plain = plain.replace(sign, f"\\{sign}")
    return plain


def _number(value: float | None) -> str:
    return "NA" if value is None else f"{value:.4g}"


def _ends(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{_number(low)} to {_number(high)}"
