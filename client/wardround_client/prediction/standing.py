"""On what a prediction stands: the model that the run ended with, by this hospital's own log."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wardround.audit.bodies import ReportSignedOff, RunEnded
from wardround.canonical import Json, parse_json
from wardround.errors import BadInput, RefusedByPolicy, VerificationFailed, why
from wardround.evidence.entry import Entry
from wardround.models.networks import parameters_of
from wardround.protocol.halves import digest_of_model
from wardround.study.manifest import Study
from wardround_client.attacks.released import ReleasedModel, own_copy, read_released
from wardround_client.home import HospitalHome

REPORT_LIMIT_BYTES = 64 << 20
NOT_AUDITED = "personalised at this hospital, not the audited model"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The released model with its digest as the logs have it, and the report's, if one is known.

    `metrics` are the pooled ones of the report: None without the report, or where it has none.
    `personalised_from` is the released model's digest where the model is one that this hospital
    fine-tuned from it; then no report stands behind it.
    """

    hospital: str
    study: Study
    released: ReleasedModel = field(repr=False)
    model: str
    report: str | None
    metrics: Json | None = field(default=None, repr=False)
    evaluated: bool = True
    personalised_from: str | None = None

    def to_json(self) -> Json:
        """Which study, run, model and report a number belongs to."""
        personalised: Json = {}
        if self.personalised_from is not None:
            personalised = {"note": NOT_AUDITED, "personalised_from": self.personalised_from}
        return {
            "hospital": self.hospital,
            "study": self.study.name,
            "study_digest": self.study.digest,
            "run": self.released.run,
            "model": self.model,
            "model_sha256": self.released.sha256,
            "report": self.report,
            **personalised,
        }

    def line(self) -> str:
        """The same in one line."""
        report = "no report was given" if self.report is None else f"report {self.report[:16]}"
        if self.personalised_from is not None:
            report = f"{NOT_AUDITED} ({self.personalised_from[:16]})"
        return (
            f"{self.study.name} {self.study.digest[:16]}  run {self.released.run[:16]}  "
            f"model {self.model[:16]}  {report}"
        )


def standing(home: HospitalHome, study: Study, *, report: Path | None = None) -> Standing:
    """The model that this hospital kept, checked against its evidence log.

    Raises VerificationFailed when the log does not say that a run ended with this model, or when
    `report` is of another one; RefusedByPolicy when an officer has refused the report; BadInput
    when there is no model.
    """
    released = read_released(own_copy(home, study), study)
    parameters = parameters_of(released.network).numpy()
    model = digest_of_model(study, parameters, released.statistics)
    with home.log(study.digest) as log:
        entries = log.entries()
    _check_ended(entries, released.run, model)
    content = None if report is None else _read(report)
    digest = _last_signed_off(entries) if content is None else hashlib.sha256(content).hexdigest()
    _check_not_refused(entries, digest)
    evaluation: Json = {"metrics": None}
    if content is not None and report is not None:
        evaluation = _evaluation(content, report.name, study=study, released=released, model=model)
    return Standing(
        hospital=home.membership().hospital,
        study=study,
        released=released,
        model=model,
        report=digest,
        metrics=evaluation["metrics"],
        evaluated=content is None or evaluation["metrics"] is not None,
    )


def _check_ended(entries: Sequence[Entry], run: str, model: str) -> None:
    ended = [e.body for e in entries if e.type == RunEnded.TYPE and e.body["run"] == run]
    if not ended or ended[-1].get("model") != model:
        due = "no run" if not ended else f"model {str(ended[-1].get('model'))[:16]}"
        raise VerificationFailed(
            f"model of run {run[:16]}: its digest is {model[:16]}, the evidence log ends with {due}"
        )


def _signed_off(entries: Sequence[Entry]) -> list[Json]:
    return [entry.body for entry in entries if entry.type == ReportSignedOff.TYPE]


def _last_signed_off(entries: Sequence[Entry]) -> str | None:
    decided = _signed_off(entries)
    return str(decided[-1]["report"]) if decided else None


def _check_not_refused(entries: Sequence[Entry], digest: str | None) -> None:
    for body in _signed_off(entries):
        if body["report"] == digest and body["decision"] == "refuse":
            raise RefusedByPolicy(
                "report: an officer of this hospital has refused it (`review sign-off`), so its "
                "model is not used here"
            )


def _read(path: Path) -> bytes:
    try:
        if path.stat().st_size > REPORT_LIMIT_BYTES:
            raise BadInput(f"{path.name}: over {REPORT_LIMIT_BYTES} bytes")
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path.name}: cannot be read ({why(error)})") from error


def _evaluation(
    content: bytes, name: str, *, study: Study, released: ReleasedModel, model: str
) -> Json:
    value = parse_json(content, what=name, limit_bytes=REPORT_LIMIT_BYTES)
    about, run = value.get("study"), value.get("run")
    if not isinstance(about, dict) or not isinstance(run, dict):
        raise BadInput(f"{name}: it is no report.json")
    came = (about.get("digest"), run.get("run"), run.get("model_digest"))
    if came != (study.digest, released.run, model):
        raise VerificationFailed(f"{name}: it is the report of another study, run or model")
    evaluation = value.get("evaluation")
    metrics = evaluation.get("metrics") if isinstance(evaluation, dict) else None
    return {"metrics": metrics if isinstance(metrics, dict) else None}
