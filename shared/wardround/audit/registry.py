"""registry.yaml: a run as a draft for the public registry of deployments of differential privacy.

The names and values are those of the registry's schema (opendp/deployments-registry-data,
schemas/deployments-schema.yaml, as of July 2026; Nanayakkara, Ghazi and Vadhan 2025). What no
evidence shows says that a person has to fill it in; nothing is guessed. The YAML is the part of
it that JSON strings and numbers are: any YAML reader takes it.
"""

import json
import re
from collections.abc import Iterator
from typing import Final

from wardround.audit.metric_rows import epsilon_text
from wardround.audit.report_model import GuaranteeClass, Report
from wardround.canonical import Json
from wardround.errors import BadInput

TO_FILL_IN: Final = "To be filled in by the study's people"
_UNREAD: Final = re.compile(r"[\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
_DP: Final = GuaranteeClass.FORMAL_DP
_TRUST: Final = {
    "local": "No hospital and no coordinator has to be trusted with another hospital's updates.",
    "distributed": "The hospitals are trusted to add their shares of the noise.",
}


def render_registry(report: Json) -> str:
    """The record as YAML. Raises BadInput for what is no report, and for a run without DP.

    A run without a formal guarantee has no place in a registry of differential privacy.
    """
    try:
        checked = Report.model_validate(report)
    except ValueError as error:
        raise BadInput(f"report: not a wardround.report/1 ({type(error).__name__})") from error
    if checked.guarantee.kind is not _DP:
        raise BadInput(
            f"report: {checked.guarantee.kind} came, {_DP} was due: the registry is of deployments "
            "of differential privacy"
        )
    return "\n".join(_lines(_record(checked), 0)) + "\n"


def _record(report: Report) -> Json:
    slug = re.sub(r"[^a-z0-9]+", "-", f"{report.study.name}-{report.run.run[:8]}")
    return {
        "url_slug": slug,
        "status": "Draft",
        "tier": 3,
        "deployment": {
            "basic": _basic(report),
            "dp_variant": {
                "variant_name": "Approximate DP",
                "data_domain": _data_domain(report),
                "unprotected_quantities": " ".join(report.not_protected),
            },
            "privacy_loss": _privacy_loss(report),
            "deployment_model": _deployment_model(report),
            "accounting": _accounting(report),
            "implementation": _implementation(report),
            "administrative": {
                "notes": (
                    f"Study digest {report.study.digest}, run {report.run.run}. The evidence can "
                    "be checked offline by wardround audit verify. "
                    f"{report.participation.headline}."
                ),
                "registry_authors": [TO_FILL_IN],
            },
        },
    }


def _basic(report: Report) -> Json:
    trained = report.study.rounds_planned > 0
    return {
        "name": report.study.title,
        "data_curators": list(report.participation.planned),
        "intended_use": report.study.purpose,
        "data_product_type": "Machine learning model" if trained else "Summary statistics",
        "data_product_region": TO_FILL_IN,
        "description": report.guarantee.mechanism_in_words,
        "publication_date": (report.run.closed_at or report.run.opened_at)[:10],
        "data_product_sector": "Healthcare",
    }


def _data_domain(report: Report) -> str:
    columns = ", ".join(column.name for column in report.study.columns[:40])
    more = len(report.study.columns) - 40
    rest = f" and {more} more" if more > 0 else ""
    return f"Records of patients with the columns {columns}{rest}; label {report.study.label}"


def _privacy_loss(report: Report) -> Json:
    guarantee = report.guarantee
    return {
        "privacy_unit": guarantee.unit,
        "privacy_unit_details": f"{guarantee.unit_in_words}; neighbours: {guarantee.relation}",
        "privacy_parameters": {
            "epsilon": float(epsilon_text(guarantee.epsilon.value)),
            "delta": guarantee.delta.value,
        },
        "privacy_parameters_details": " ".join(
            [guarantee.odds_in_words, guarantee.found_in_words, *guarantee.scope]
        ),
    }


def _deployment_model(report: Report) -> Json:
    there = len(report.participation.completed)
    return {
        "model_name": "Federated",
        "model_name_details": (
            f"{report.guarantee.mechanism_in_words}; {report.guarantee.masking_in_words}"
        ),
        "actors": (
            f"{len(report.participation.planned)} hospitals hold the records, {there} took part "
            "throughout; a coordinator opens masked sums; whoever holds the model sees what was "
            f"released. {_TRUST.get(report.guarantee.mechanism, '')}".strip()
        ),
        "release_type": "One release",
        "release_type_details": (
            f"{report.participation.rounds_closed.value or 0:.0f} rounds of one run; each "
            "hospital's ledger counts what its data set spends over all studies."
        ),
        "data_source_type": "Static",
        "access_type": "Non-interactive",
    }


def _accounting(report: Report) -> Json:
    return {
        "post_processing": "Masked sums are added, and the model steps with their mean.",
        "composition": (
            f"{report.guarantee.accountant}. Training, held-out and statistics releases of the run "
            "are composed, failed and repeated attempts included; a patient trains or is held out, "
            "never both."
        ),
    }


def _implementation(report: Report) -> Json:
    found = {hazard.id: hazard.finding for hazard in report.hazards}
    kept = ("preprocessing", "tuning", "stopping")
    return {
        "preprocessing_and_hyperparameter_tuning": " ".join(found[name] for name in kept),
        "mechanisms": " ".join(
            [
                f"{report.guarantee.mechanism_in_words}.",
                found["contribution"],
                found["randomness"],
                f"Software: {', '.join(report.run.software)}.",
            ]
        ),
        "justification": TO_FILL_IN,
    }


def _lines(value: Json, depth: int) -> Iterator[str]:
    """A mapping as block YAML; strings stand in double quotes, so that nothing else is meant."""
    for key, part in value.items():
        where = "  " * depth + f"{key}:"
        if isinstance(part, dict):
            yield where
            yield from _lines(part, depth + 1)
        elif isinstance(part, list):
            yield where
            yield from ("  " * (depth + 1) + f"- {_scalar(item)}" for item in part)
        else:
            yield f"{where} {_scalar(part)}"


def _scalar(value: str | float) -> str:
    """As JSON writes it, but for what YAML holds for no letter, and exponents without a point."""
    if isinstance(value, str):
        return _UNREAD.sub(_escaped, json.dumps(value, ensure_ascii=False))
    return re.sub(r"^(\d+)e", r"\1.0e", json.dumps(value))


def _escaped(found: re.Match[str]) -> str:
    return f"\\u{ord(found.group()):04x}"
