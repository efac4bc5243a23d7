"""What an honest hospital logs of its control (SCAFFOLD, decision 0021)."""

from typing import Protocol

from tests.support.evidence_party import Party

from wardround.canonical import Json
from wardround.masking.round_spec import Purpose, RoundSpec
from wardround.study.manifest import Study


class Logged(Protocol):
    """What the rule is read from."""

    study: Study
    coordinator: Party
    hospitals: dict[str, Party]


def control_of(fed: Logged, name: str, spec: RoundSpec) -> Json:
    """The field of `release-reserved`; none where the study keeps no control, or does not train."""
    if fed.study.training.control == "none" or spec.purpose is not Purpose.TRAIN:
        return {}
    specs = {
        entry.body["transcript"]: entry.body["spec"]
        for entry in fed.coordinator.entries
        if entry.type == "round-opened"
    }
    own = fed.hospitals[name].entries
    answered = [e.body["transcript"] for e in own if e.type == "release-reserved"]
    signed = {
        e.body["transcript"]: e.body["survivors"] for e in own if e.type == "survivors-signed"
    }
    if not answered:
        return {"control": "begun"}
    last = specs[answered[-1]]
    everybody = signed.get(answered[-1]) == last["cohort"] == list(spec.cohort)
    follows = (spec.round, spec.attempt, spec.session) == (last["round"] + 1, 1, last["session"])
    return {"control": "kept" if follows and everybody else "begun"}
