"""Real runs in which hospitals fail or lie while a sum is opened: what the bundle says of them."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.hospitals import NAMES, Ward
from tests.support.hostile_coordinator import sealed
from tests.support.memory_runs import Federation

from wardround.audit.bundle import RunEvidence, evidence_of
from wardround.audit.derive import report_of
from wardround.audit.report_model import Report
from wardround.audit.verify import verify_bytes
from wardround.protocol.envelope import seal, unseal
from wardround.protocol.messages import (
    Body,
    Refusal,
    RefusalCode,
    Reveal,
    Revealed,
    Signed,
    Survivors,
    Work,
)

FOUR = (*NAMES, "riverside")
LIAR = "lakeside"
LANES = 3
Bend = Callable[[Body], Body | None]
ONE_TRIP = {
    "privacy__mechanism": "distributed",
    "training__local_steps": 1,
    "masking__profile": "one-trip",
}
WITHOUT_NOISE = {"privacy__mechanism": "none", "privacy__epsilon": None, "privacy__delta": None}


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Ward]:
    ward = Ward.make(tmp_path, FOUR)
    yield ward
    ward.close()


def bent(kind: type[Body], change: Bend, *, nth: int = 1) -> Callable[..., Any]:
    """What LIAR answers to its so-manieth question of this kind; None: its connection is lost."""
    asked = 0

    def reply(name: str, question: Any, answer: Any) -> Any:
        nonlocal asked
        body, _ = unseal(question, lanes=LANES)
        if name != LIAR or not isinstance(body, kind):
            return answer
        asked += 1
        if asked != nth:
            return answer
        said, vector = unseal(answer, lanes=LANES)
        other = change(said)
        return None if other is None else seal(other, vector)

    return reply


def run(ward: Ward, reply: Any, **changes: Any) -> tuple[RunEvidence, Report]:
    federation = Federation(ward, reply, **{"rounds__count": 2, **changes})
    parts = federation.close(*federation.run().train_and_evaluate())
    verdicts = verify_bytes(sealed(ward, parts))
    assert verdicts.ok, list(verdicts.lines())
    return parts, report_of(evidence_of(parts))


def other_key(said: Body) -> Body:
    assert isinstance(said, Revealed)
    return said.model_copy(update={"self_key": "0" * 64})


def other_signature(said: Body) -> Body:
    assert isinstance(said, Signed)
    return said.model_copy(update={"signature": "0" * 128})


def accusation(_: Body) -> Body:
    return Refusal(code=RefusalCode.SURVIVORS, hospital="harbour")


def silence(_: Body) -> None:
    return None


def test_a_hospital_that_reveals_another_key_is_suspected_by_name_and_its_update_counts(
    ward: Ward,
):
    _, report = run(ward, bent(Reveal, other_key))
    (suspicion,) = report.participation.suspected
    assert (suspicion.hospital, suspicion.since) == (LIAR, "round 1")
    assert "not the one it committed to" in suspicion.reason
    assert LIAR in report.participation.attempts[0].in_sum


def test_a_hospital_that_signs_wrongly_vanishes_before_it_signed(ward: Ward):
    parts, report = run(ward, bent(Survivors, other_signature))
    first = report.participation.attempts[0]
    assert (first.presence[LIAR], LIAR in first.in_sum) == ("vanished before it signed", True)
    lines = parts.coordinator.entries.splitlines()
    agreed = next(e["body"] for e in map(json.loads, lines) if e["type"] == "survivors-agreed")
    assert LIAR not in agreed["signatures"]


def test_a_hospital_that_accuses_another_is_a_refusal_and_the_other_a_suspicion(ward: Ward):
    _, report = run(ward, bent(Survivors, accusation))
    (suspicion,) = report.participation.suspected
    assert suspicion.hospital == "harbour"
    assert suspicion.reason.startswith(f"{LIAR} says that harbour")
    assert (LIAR, "survivors-not-valid") in {(i.party, i.reason) for i in report.incidents}


@pytest.mark.parametrize("kind", [Work, Survivors, Reveal])
def test_a_drop_out_without_noise_still_opens_one_sum_of_each_round(ward: Ward, kind: type[Body]):
    _, report = run(ward, bent(kind, silence, nth=2), **WITHOUT_NOISE)
    closed = [entry for entry in report.participation.attempts if entry.outcome == "closed"]
    assert [entry.round for entry in closed] == [0, 1, 2]
    assert len(closed[1].in_sum) == (3 if kind is Work else 4)
    assert next(h for h in report.hazards if h.id == "second-look").status.value == "PASS"


def test_a_drop_out_with_one_trip_voids_the_attempt_and_the_next_one_opens(ward: Ward):
    _, report = run(ward, bent(Work, silence), **ONE_TRIP)
    first, second, *_ = report.participation.attempts
    assert (first.outcome, first.profile, first.threshold) == ("void", "one-trip", 4)
    assert first.presence[LIAR] == "missed"
    assert (second.outcome, second.in_sum) == ("closed", FOUR)  # it had come back


@pytest.mark.parametrize("bits", [20, 24])
def test_narrow_lanes_verify_and_their_bytes_are_counted(ward: Ward, bits: int):
    parts, report = run(ward, None, masking__bits=bits, training__update_bound=1.0)
    assert report.participation.verdict == "everybody"
    lines = parts.coordinator.entries.splitlines()
    received = [e["body"] for e in map(json.loads, lines) if e["type"] == "update-received"]
    assert received[0]["bytes"] == -(-LANES * bits // 8)
