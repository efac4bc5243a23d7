"""Opening a session: who fails on the way is left out by name, and the others agree anew."""

import json
import time

import pytest
from tests.support.hospitals import LANES, NAMES, Ward
from tests.support.hostile_coordinator import codes, sealed
from tests.support.memory_grid import MemoryGrid
from tests.support.memory_runs import Federation, PlainLanes, asks, in_round, when

from wardround.errors import QuorumMissed, Refused
from wardround.protocol.envelope import seal, unseal
from wardround.protocol.messages import (
    Agree,
    Agreed,
    Failed,
    Keyed,
    Keys,
    Open,
    Refusal,
    RefusalCode,
    Reveal,
    Survivors,
)
from wardround_server.rounds.record import RunRecord

HARBOUR, LAKESIDE, NORTHSIDE = NAMES
TWO = [HARBOUR, LAKESIDE]


@pytest.fixture
def ward(tmp_path):
    ward = Ward.make(tmp_path)
    yield ward
    ward.close()


def is_a(kind):
    return lambda body: isinstance(body, kind)


def sent(federation, kind):
    """To whom a message of this kind went."""
    bodies = [(name, unseal(content, lanes=LANES)[0]) for name, _, content in federation.grid.sent]
    return [name for name, body in bodies if isinstance(body, kind)]


def fewer(content):
    body, _ = unseal(content, lanes=LANES)
    return seal(Agreed(encapsulations=body.encapsulations[1:]))


def twice(content):
    body, _ = unseal(content, lanes=LANES)
    return seal(Agreed(encapsulations=body.encapsulations * 2))


def badly_signed(content):
    body, _ = unseal(content, lanes=LANES)
    first, *others = body.encapsulations
    return seal(Agreed(encapsulations=({**first, "signature": "0" * 128}, *others)))


@pytest.mark.parametrize(
    ("question", "spoil", "says"),
    [
        (Agree, lambda _: seal(Failed(error="KeyError")), "KeyError"),
        (Agree, fewer, "was due"),
        (Agree, twice, "more encapsulations than peers"),
        (Agree, badly_signed, "not signed"),
        (Agree, lambda _: seal(Agreed(encapsulations=({},))), "encapsulation"),
        (Agree, lambda _: seal(Keyed(hospital=HARBOUR)), "something else came"),
        (Keys, lambda _: seal(Failed(error="KeyError")), "KeyError"),
        (Keys, lambda _: seal(Agreed(encapsulations=())), "no answer to its keys"),
    ],
    ids=["failed", "fewer", "twice", "unsigned", "junk", "other", "keys failed", "keys other"],
)
def test_who_fails_to_agree_is_left_out_by_name_and_the_rest_open_a_session_of_their_own(
    ward, monkeypatch, question, spoil, says
):
    plain = PlainLanes(monkeypatch)
    federation = Federation(ward, when(is_a(question), spoil, name=HARBOUR), rounds__count=1)
    federation.run().train_and_evaluate()
    (missed,) = federation.entries("hospital-missed")
    assert missed["hospital"] == HARBOUR
    assert says in missed["reason"]
    assert federation.cohorts() == [[LAKESIDE, NORTHSIDE]] * 2
    joined = [(body["hospital"], body["session"]) for body in federation.entries("hospital-joined")]
    assert [name for name, _ in joined] == [LAKESIDE, NORTHSIDE]
    assert len({session for _, session in joined}) == 1
    assert sent(federation, Open) == [*NAMES, LAKESIDE, NORTHSIDE]
    assert plain.check(federation) == 2


def test_a_hospital_that_refuses_the_directory_is_left_out_with_its_code(ward):
    refusal = seal(Refusal(code=RefusalCode.DIRECTORY))
    federation = Federation(
        ward, when(is_a(Agree), lambda _: refusal, name=NORTHSIDE), rounds__count=1
    )
    federation.run().train_and_evaluate()
    (refused,) = federation.entries("hospital-refused")
    assert refused == {"hospital": NORTHSIDE, "code": "directory-not-valid"}
    assert federation.cohorts() == [TWO] * 2


def test_a_hospital_that_restarts_while_the_others_agree_comes_back_in_a_later_round(ward):
    restarted = []

    def restart(_answer):
        if not restarted:
            federation.grid.come_back(NORTHSIDE)
            restarted.append(NORTHSIDE)

    def once(body):
        return isinstance(body, Keys) and not restarted

    federation = Federation(ward, when(once, restart), rounds__count=1)
    federation.run().train_and_evaluate()
    assert federation.cohorts() == [list(NAMES)] * 2
    assert federation.entries("hospital-refused") == []


def test_a_hospital_that_goes_away_twice_while_the_others_agree_is_left_out(ward):
    federation = Federation(
        ward, when(is_a(Keys), lambda _: None), rounds__count=1, rounds__deadline_s=30.0
    )
    federation.run().train_and_evaluate()
    assert federation.cohorts()[0] == TWO
    assert sent(federation, Open)[:8] == [*NAMES, *NAMES, *TWO]


def test_too_few_that_agree_end_the_run_by_name(ward):
    federation = Federation(
        ward, when(is_a(Keys), lambda _: seal(Failed(error="KeyError"))), rounds__quorum=3
    )
    with pytest.raises(QuorumMissed, match=f"2 hospitals joined.*no answer from {NORTHSIDE}"):
        federation.run().train_and_evaluate()
    refusal = seal(Refusal(code=RefusalCode.DIRECTORY))
    federation.grid = MemoryGrid(ward, when(is_a(Agree), lambda _: refusal))
    with pytest.raises(Refused, match=f"{NORTHSIDE} refused: directory-not-valid"):
        federation.run().train_and_evaluate()


def test_the_quorum_does_not_wait_its_whole_deadline_for_a_hospital_that_is_not_connected(ward):
    def back(answer):
        federation.grid.gone.discard(NORTHSIDE)
        return answer

    federation = Federation(ward, when(in_round(0), back, name=HARBOUR), rounds__deadline_s=60.0)
    federation.grid.gone.add(NORTHSIDE)
    started_s = time.monotonic()
    federation.run().train_and_evaluate()
    assert time.monotonic() - started_s < 30
    assert federation.cohorts() == [TWO, list(NAMES), list(NAMES)]


def test_below_the_quorum_a_study_waits_its_deadline_for_hospitals_to_connect(ward):
    federation = Federation(ward, rounds__deadline_s=1.0, rounds__quorum=3)
    federation.grid.gone.add(NORTHSIDE)
    started_s = time.monotonic()
    with pytest.raises(QuorumMissed, match=f"no answer from {NORTHSIDE}"):
        federation.run().train_and_evaluate()
    assert time.monotonic() - started_s >= 1.0


def test_while_a_session_opens_the_status_says_for_whom_it_waits(ward):
    federation = Federation(ward, rounds__deadline_s=60.0)
    federation.grid.gone.add(NORTHSIDE)
    told, true_wait = [], federation.grid.wait

    def status():
        return json.loads(federation.status.read_text())

    def wait(seconds):
        told.append(status().get("waiting_for"))
        return true_wait(seconds)

    federation.grid.wait = wait
    run = federation.run()
    run.join_grace_s = 0.8
    run.train_and_evaluate()
    assert {NORTHSIDE: "disconnected"} in told
    assert status()["waiting_for"] == {}
    assert status()["missing"] == {NORTHSIDE: "disconnected"}


class Stopped(Exception):
    """The coordinator's process ends here."""


def stop(_answer):
    raise Stopped


@pytest.mark.parametrize("question", [Agree, Survivors, Reveal])
def test_a_coordinator_that_stops_in_mid_attempt_goes_on_with_fresh_keys_and_a_new_attempt(
    ward, monkeypatch, question
):
    plain = PlainLanes(monkeypatch)
    federation = Federation(ward, when(is_a(question), stop), rounds__count=2)
    with pytest.raises(Stopped):
        federation.run().train_and_evaluate()
    federation.grid = MemoryGrid(ward)
    federation.run().train_and_evaluate()
    asked = [(b["spec"]["round"], b["spec"]["attempt"]) for b in federation.entries("round-opened")]
    first = [] if question is Agree else [(0, 1)]
    again = 2 if first else 1
    assert asked == [*first, (0, again), (1, 1), (2, 1)]
    sessions = [body["spec"]["session"] for body in federation.entries("round-opened")]
    assert len(set(sessions[len(first) :])) == 1
    assert set(sessions[: len(first)]).isdisjoint(sessions[len(first) :])
    assert plain.check(federation) == 3


@pytest.mark.parametrize("logged", [False, True])
def test_a_coordinator_that_stops_between_checkpoint_and_log_closes_each_round_once(
    ward, monkeypatch, logged
):
    plain = PlainLanes(monkeypatch)
    federation = Federation(ward, privacy__mechanism="none")
    real = RunRecord.round_closed

    def stopping(record, closing):
        if logged:
            real(record, closing)
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(RunRecord, "round_closed", stopping)
        with pytest.raises(Stopped):
            federation.run().train_and_evaluate()
    assert len(federation.entries("round-closed")) == logged
    federation.run().train_and_evaluate()
    opened = {b["transcript"]: b["spec"]["round"] for b in federation.entries("round-opened")}
    closed = federation.entries("round-closed")
    assert [opened[body["transcript"]] for body in closed] == [0, 1]
    assert closed[0]["model_after"] == closed[1]["model_before"]
    assert len(federation.entries("survivors-agreed")) == plain.check(federation) == 3
    assert len(federation.entries("update-received")) == 9


def test_a_hospital_that_is_gone_when_a_stopped_coordinator_closes_the_run_is_named(ward):
    federation = Federation(ward, rounds__quorum=2, masking__minimum_hospitals=2)
    federation.run().train_and_evaluate()  # and it stops before it has asked anybody to sign
    federation.grid.gone.add(NAMES[2])
    parts = federation.close(*federation.run().train_and_evaluate())
    assert list(parts.hospitals) == list(NAMES[:2])
    (told,) = federation.entries("hospital-missed")
    assert told == {
        "transcript": None,
        "hospital": NAMES[2],
        "reason": "did not countersign: disconnected",
    }
    assert codes(sealed(ward, parts)) == {}


def test_without_noise_a_coordinator_that_stops_after_it_asked_to_sign_never_asks_again(ward):
    federation = Federation(ward, when(asks(Reveal), stop), privacy__mechanism="none")
    with pytest.raises(Stopped):
        federation.run().train_and_evaluate()
    federation.grid = MemoryGrid(ward)
    with pytest.raises(QuorumMissed, match=r"round 1: the coordinator was stopped .*without noise"):
        federation.run().train_and_evaluate()
    assert len(federation.entries("round-opened")) == 1
    assert federation.entries("round-closed") == []


def test_exact_counts_that_hospitals_were_asked_to_sign_for_are_not_asked_for_again(ward):
    federation = Federation(ward, when(asks(Reveal, attempt=2), stop), rounds__count=1)
    with pytest.raises(Stopped):
        federation.run().train_and_evaluate()
    federation.grid = MemoryGrid(ward)
    model, session = federation.run().train_and_evaluate()
    assert federation.cohorts() == [list(NAMES)] * 2
    assert federation.entries("evaluation-closed") == []
    assert len(federation.close(model, session).countersignatures) == 3


def test_without_that_note_hospitals_that_signed_refuse_another_attempt(ward):
    federation = Federation(ward, when(asks(Reveal), stop), privacy__mechanism="none")
    with pytest.raises(Stopped):
        federation.run().train_and_evaluate()
    (ward.folder / "asked-to-sign.json").unlink()
    federation.grid = MemoryGrid(ward)
    with pytest.raises(QuorumMissed, match=f"{NORTHSIDE} .*refused"):
        federation.run().train_and_evaluate()
    codes = {body["code"] for body in federation.entries("hospital-refused")}
    assert codes == {"second-attempt-without-noise"}
    assert federation.entries("round-closed") == []


def test_without_noise_an_attempt_that_stopped_before_the_survivors_is_asked_again(
    ward, monkeypatch
):
    plain = PlainLanes(monkeypatch)
    federation = Federation(
        ward, when(in_round(0), stop), privacy__mechanism="none", rounds__count=1
    )
    with pytest.raises(Stopped):
        federation.run().train_and_evaluate()
    federation.grid = MemoryGrid(ward)
    federation.run().train_and_evaluate()
    assert plain.check(federation) == 2
