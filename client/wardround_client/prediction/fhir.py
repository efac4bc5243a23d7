"""Answers as FHIR RiskAssessment resources, in the elements that R4 and R5 have in common.

A probability is in percent, as FHIR has it (RiskAssessment, constraint ras-2: at most 100); its
interval is an extension beside it, since an element holds either a decimal or a range. The package
is the extra `fhir`, imported when it is used: every resource is validated before it is written.
"""

import importlib
import json
from datetime import datetime
from typing import Any, Final

from wardround.canonical import Json
from wardround.errors import BadInput
from wardround_client.prediction.answers import (
    Answer,
    Channel,
    Number,
    OperatingPoint,
    Risk,
    Strangeness,
    Time,
    Withheld,
)
from wardround_client.prediction.predict import Predictions
from wardround_client.prediction.standing import NOT_AUDITED, Standing

INTERVAL: Final = "urn:wardround:interval"
VALUE: Final = "urn:wardround:value"
_VERSIONS = ("fhir.resources.R4B.riskassessment", "fhir.resources.riskassessment")
_METHOD = (
    "Wardround decision support: a model trained by several hospitals, calibrated by this "
    "hospital's own held-out patients (Venn-Abers predictor; split conformal intervals)"
)


def risk_assessments(predictions: Predictions, *, dataset: str, now: datetime) -> list[Json]:
    """One RiskAssessment a patient, each valid in R4B and R5.

    `dataset` names whose keys the patients' are; `now` has a time zone. One that was abstained from
    has status `cancelled` and a note, and no prediction. Raises BadInput without the extra `fhir`.
    """
    points = {point.channel: point for point in predictions.support.operating_points}
    made = [
        _resource(predictions.support.standing, answer, points, dataset, now)
        for answer in predictions.answers
    ]
    validators = [_validator(name) for name in _VERSIONS]
    for resource in made:
        for validator in validators:
            validator.model_validate_json(json.dumps(resource))
    return made


def _validator(module: str) -> Any:
    try:
        return importlib.import_module(module).RiskAssessment
    except ModuleNotFoundError as error:
        raise BadInput(f"FHIR: package {error.name} is missing; install wardround[fhir]") from error


def _resource(
    standing: Standing,
    answer: Answer,
    points: dict[str, OperatingPoint],
    dataset: str,
    now: datetime,
) -> Json:
    label = standing.study.contract.label
    resource: Json = {
        "resourceType": "RiskAssessment",
        "identifier": _identifiers(standing),
        "status": "final" if answer.abstained is None else "cancelled",
        "method": {"text": _METHOD},
        "code": {"text": f"{standing.study.title}: {label.description}"},
        "subject": {
            "identifier": {"system": f"urn:wardround:dataset:{dataset}", "value": answer.patient}
        },
        "occurrenceDateTime": now.isoformat(timespec="seconds"),
        "performer": {"display": standing.hospital},
        "basis": _basis(standing),
    }
    said = [] if standing.personalised_from is None else [f"The model is {NOT_AUDITED}."]
    if answer.abstained is not None:
        because = f": {'; '.join(answer.why)}" if answer.why else ""
        said.append(f"No answer, {answer.abstained.value}{because}.")
        return resource | {"note": [{"text": text} for text in said]}
    resource["prediction"] = [
        _prediction(standing, one, points.get(one.channel)) for one in answer.channels
    ]
    notes = [*said, *answer.notes, *_set_note(answer)]
    return resource | ({"note": [{"text": text} for text in notes]} if notes else {})


def _identifiers(standing: Standing) -> list[Json]:
    named = {
        "study": standing.study.digest,
        "run": standing.released.run,
        "model": standing.model,
        "released-model": standing.personalised_from,
        "report": standing.report,
    }
    return [
        {"system": f"urn:wardround:{what}", "value": value}
        for what, value in named.items()
        if value is not None
    ]


def _basis(standing: Standing) -> list[Json]:
    shown = {"model": standing.model, "report": standing.report}
    own = "" if standing.personalised_from is None else f", {NOT_AUDITED}"
    return [
        {
            "identifier": {"system": f"urn:wardround:{what}", "value": value},
            "display": f"{what} of study {standing.study.name}, run {standing.released.run}{own}",
        }
        for what, value in shown.items()
        if value is not None
    ]


def _prediction(standing: Standing, one: Channel, point: OperatingPoint | None) -> Json:
    said: Json = {"outcome": {"text": _outcome(standing, one)}}
    match one:
        case Risk():
            said["extension"] = [_range(INTERVAL, 100 * one.low, 100 * one.high, "%")]
            said["probabilityDecimal"] = round(100 * one.risk, 4)
            said["rationale"] = (
                f"Between {100 * one.low:.1f} % and {100 * one.high:.1f} % by "
                f"{one.calibrated_on} held-out patients; score {one.score:.4f}{_side(one, point)}."
            )
        case Number():
            said["extension"] = [
                {"url": VALUE, "valueQuantity": {"value": one.value, "unit": one.unit}},
                _range(INTERVAL, one.low, one.high, one.unit),
            ]
            said["rationale"] = (
                f"{one.value:.6g} {one.unit}; for {round(100 * (1 - one.error))} % of patients "
                f"like these between {one.low:.6g} and {one.high:.6g}."
            )
        case Time():
            said["extension"] = [_least(INTERVAL, one.low, one.unit)]
            said["rationale"] = (
                f"Not before {one.low:.6g} {one.unit} for {round(100 * (1 - one.error))} % of "
                f"patients like this one, by {one.calibrated_on} held-out patients with "
                f"{one.events} events; no longer than {one.until:.6g} {one.unit} can be said."
            )
        case Strangeness():
            said["rationale"] = (
                f"Anomaly score {one.score:.4f}; {100 * one.p:.1f} % of patients like the "
                f"{one.calibrated_on} held-out ones are at least as strange."
            )
        case Withheld():
            said["rationale"] = f"No answer, {one.reason.value}."
    return said | _until(standing, one)


def _outcome(standing: Standing, one: Channel) -> str:
    label = standing.study.contract.label
    if one.channel == label.name:
        return label.description
    named = {target.name: target.description for target in label.targets}
    return f"{label.description}: {named.get(one.channel, one.channel)}"


def _until(standing: Standing, one: Channel) -> Json:
    time = standing.study.contract.label.time
    channels = standing.study.contract.label.channels
    if time is None or one.channel not in channels:
        return {}
    edge = time.edges[channels.index(one.channel)]
    return {
        "whenRange": {
            "low": {"value": 0, "unit": time.unit},
            "high": {"value": edge, "unit": time.unit},
        }
    }


def _side(one: Risk, point: OperatingPoint | None) -> str:
    if point is None:
        return ""
    where = "above" if one.score >= point.threshold else "below"
    return f", {where} the study's threshold of {point.threshold:g}"


def _set_note(answer: Answer) -> list[str]:
    if answer.classes is None:
        return []
    rate = round(100 * (1 - answer.classes.error))
    kept = ", ".join(answer.classes.classes) or "none"
    return [f"Classes that cannot be ruled out ({rate} %): {kept}."]


def _least(url: str, low: float, unit: str) -> Json:
    """A range with a lower end alone."""
    return {"url": url, "valueRange": {"low": {"value": round(low, 6), "unit": unit}}}


def _range(url: str, low: float, high: float, unit: str) -> Json:
    ends = {"low": low, "high": high}
    return {
        "url": url,
        "valueRange": {name: {"value": round(end, 6), "unit": unit} for name, end in ends.items()},
    }
