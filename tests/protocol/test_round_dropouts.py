"""Hospitals that go away at each stage, through the coordinator's real loop and real hospitals.

Whatever happens, an opened sum is the plain sum of whom the log names, and a void attempt opened
nothing.
"""

import json

import pytest
from tests.support.hospitals import LANES, Ward
from tests.support.memory_grid import Late
from tests.support.memory_runs import Federation, PlainLanes, asks, bending, in_round, when

from wardround.errors import QuorumMissed
from wardround.masking.round_spec import RoundSpec
from wardround.protocol.envelope import unseal
from wardround.protocol.messages import Reveal, Survivors, Work
from wardround.statistics.released import ReleasedStatistics

# Thresholds: four of five, seven of ten.
FIVE = ("alpha", "beta", "delta", "epsilon", "gamma")
TEN = (*FIVE, "eta", "iota", "kappa", "theta", "zeta")
ALPHA, BETA, DELTA, EPSILON, GAMMA = FIVE
EXACT = {"privacy__mechanism": "none"}


def silent(_answer):
    return None


@pytest.fixture
def five(tmp_path):
    ward = Ward.make(tmp_path, FIVE)
    yield ward
    ward.close()


@pytest.fixture
def ten(tmp_path):
    ward = Ward.make(tmp_path, TEN)
    yield ward
    ward.close()


@pytest.fixture
def plain(monkeypatch):
    return PlainLanes(monkeypatch)


def leaving(ward, matches, name, **changes):
    """A federation in which one hospital goes away for good instead of answering that."""

    def leave(_answer):
        federation.grid.gone.add(name)

    federation = Federation(ward, when(matches, leave, name=name), **changes)
    return federation


def in_statistics(body):
    return isinstance(body, Work) and body.spec["purpose"] == "statistics"


def in_evaluation(attempt=1):
    return lambda body: (
        isinstance(body, Work)
        and (body.spec["purpose"], body.spec["attempt"]) == ("evaluate", attempt)
    )


def without(*names):
    return sorted(set(FIVE) - set(names))


def test_a_hospital_that_goes_before_its_update_costs_no_attempt(five, plain):
    federation = leaving(five, in_round(0), GAMMA)
    federation.run().train_and_evaluate()
    assert plain.check(federation) == 3
    assert federation.entries("attempt-void") == []
    assert federation.cohorts() == [sorted(FIVE), without(GAMMA), without(GAMMA)]
    assert federation.survivors() == [without(GAMMA)] * 3
    (missed,) = federation.entries("hospital-missed")
    assert (missed["hospital"], missed["reason"]) == (GAMMA, "disconnected")
    assert missed["transcript"] == federation.entries("round-opened")[0]["transcript"]


def test_a_hospital_that_goes_before_its_signature_stays_in_the_sum(five, plain):
    federation = leaving(five, asks(Survivors), GAMMA)
    federation.run().train_and_evaluate()
    assert plain.check(federation) == 3
    assert federation.survivors() == [sorted(FIVE), without(GAMMA), without(GAMMA)]
    (vanished,) = federation.entries("hospital-vanished")
    assert (vanished["hospital"], vanished["stage"]) == (GAMMA, "signed")
    signed = federation.entries("survivors-agreed")[0]["signatures"]
    assert sorted(signed) == without(GAMMA)
    assert federation.entries("share-rejected") == []


def test_a_hospital_that_goes_before_it_reveals_stays_in_the_sum(five, plain):
    federation = leaving(five, asks(Reveal), BETA)
    federation.run().train_and_evaluate()
    assert plain.check(federation) == 3
    assert federation.survivors()[0] == sorted(FIVE)
    (vanished,) = federation.entries("hospital-vanished")
    assert (vanished["hospital"], vanished["stage"]) == (BETA, "revealed")
    asked = [unseal(content, lanes=LANES)[0] for _, _, content in federation.grid.sent]
    reveals = [body for body in asked if isinstance(body, Reveal)]
    first = [body.vanished for body in reveals if body.transcript == reveals[0].transcript]
    assert first == [()] * 5 + [(BETA,)] * 4


def test_one_of_ten_can_go_at_every_stage_of_one_round(ten, plain):
    rules = {ALPHA: in_round(0), "kappa": asks(Survivors), "zeta": asks(Reveal)}

    def leaves(name):
        def leave(_answer):
            federation.grid.gone.add(name)

        return leave

    bends = [when(matches, leaves(name), name=name) for name, matches in rules.items()]
    federation = Federation(ten, bending(*bends), rounds__count=1)
    federation.run().train_and_evaluate()
    assert plain.check(federation) == 2
    assert federation.entries("attempt-void") == []
    assert federation.survivors()[0] == sorted(set(TEN) - {ALPHA})
    stages = {b["hospital"]: b["stage"] for b in federation.entries("hospital-vanished")}
    assert stages == {"kappa": "signed", "zeta": "revealed"}
    assert federation.cohorts()[1] == sorted(set(TEN) - rules.keys())


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        (in_round(0), "3 of 5 updates came, 4 were due"),
        (asks(Survivors), "3 of 5 survivors signed, 4 were due"),
        (asks(Reveal), "3 of 5 hospitals revealed, 4 were due"),
    ],
    ids=["update", "signature", "reveal"],
)
def test_with_fewer_than_the_threshold_at_any_stage_nothing_opens_and_the_next_attempt_does(
    five, plain, question, reason
):
    seen = []

    def matches(body):
        if question(body):
            seen.append(body)
        return body in seen

    bends = [when(matches, silent, name=name) for name in (DELTA, GAMMA)]
    federation = Federation(five, bending(*bends), rounds__count=1)
    federation.run().train_and_evaluate()
    (void,) = federation.entries("attempt-void")
    assert reason in void["reason"]
    assert f"{DELTA}: disconnected" in void["reason"]
    assert f"{GAMMA}: disconnected" in void["reason"]
    first, again, _ = [RoundSpec.from_json(b["spec"]) for b in federation.entries("round-opened")]
    assert (first.round, first.attempt, again.round, again.attempt) == (0, 1, 0, 2)
    closed = [b["transcript"] for b in federation.entries("round-closed")]
    assert closed == [again.transcript().hex()]
    assert plain.check(federation) == 2


def test_a_hospital_that_comes_back_as_another_process_is_in_the_next_round(five, plain):
    def restart(_answer):
        federation.grid.come_back(EPSILON)

    federation = Federation(five, when(asks(Survivors), restart, name=EPSILON))
    federation.run().train_and_evaluate()
    assert plain.check(federation) == 3
    assert federation.cohorts() == [sorted(FIVE)] * 3
    assert len({body["session"] for body in federation.entries("hospital-joined")}) == 2


def test_an_update_after_the_deadline_is_in_no_sum_and_its_hospital_is_asked_for_nothing_more(
    five, plain
):
    def late(answer):
        return Late(answer, after_s=5.0)

    federation = Federation(
        five, when(in_round(0), late, name=DELTA), rounds__deadline_s=0.6, rounds__count=2
    )
    federation.run().train_and_evaluate()
    assert plain.check(federation) == 3
    assert len(federation.grid.came_too_late) == 1
    (missed,) = federation.entries("hospital-missed")
    assert (missed["hospital"], missed["reason"]) == (DELTA, "deadline")
    assert federation.survivors() == [without(DELTA)] * 3
    # The same process would be late again: it is left out until it is another one.
    assert federation.cohorts()[1:] == [without(DELTA)] * 2
    status = json.loads(federation.status.read_text())
    assert status["missing"] == {DELTA: "deadline"}


def test_an_answer_that_is_slow_but_in_time_is_in_the_sum(five, plain):
    def slow(answer):
        return Late(answer, after_s=0.3)

    bends = [when(asks(kind), slow, name=BETA) for kind in (Survivors, Reveal)]
    federation = Federation(five, bending(*bends), rounds__count=1)
    federation.run().train_and_evaluate()
    assert plain.check(federation) == 2
    assert federation.entries("hospital-vanished") == []


def test_without_noise_a_round_goes_on_while_nobody_was_asked_to_sign(five, plain):
    bends = [when(in_round(0), silent, name=name) for name in (DELTA, GAMMA)]
    federation = Federation(five, bending(*bends), **EXACT)
    federation.run().train_and_evaluate()
    (void,) = federation.entries("attempt-void")
    assert "updates came" in void["reason"]
    assert plain.check(federation) == 3


def test_without_noise_a_void_after_the_first_signature_ends_the_run_by_name(five, plain):
    bends = [when(asks(Survivors), silent, name=name) for name in (DELTA, GAMMA)]
    federation = Federation(five, bending(*bends), **EXACT)
    with pytest.raises(QuorumMissed, match=rf"missing {DELTA} .*{GAMMA} .*without noise"):
        federation.run().train_and_evaluate()
    assert plain.check(federation) == 0
    assert len(federation.entries("round-opened")) == 1


def test_an_evaluation_is_asked_for_again_while_nobody_was_asked_to_sign(five, plain):
    bends = [when(in_evaluation(), silent, name=name) for name in (DELTA, GAMMA)]
    federation = Federation(five, bending(*bends), rounds__count=1)
    federation.run().train_and_evaluate()
    attempts = [b["spec"]["attempt"] for b in federation.entries("round-opened")]
    assert attempts == [1, 1, 2]
    assert len(federation.entries("evaluation-closed")) == 1
    assert plain.check(federation) == 2


def test_an_evaluation_is_given_up_after_three_attempts_and_the_model_is_kept(five):
    def never(body):
        return isinstance(body, Work) and body.spec["purpose"] == "evaluate"

    bends = [when(never, silent, name=name) for name in (DELTA, GAMMA)]
    federation = Federation(five, bending(*bends), rounds__count=1)
    model, session = federation.run().train_and_evaluate()
    attempts = [b["spec"]["attempt"] for b in federation.entries("round-opened")]
    assert attempts == [1, 1, 2, 3]
    assert federation.entries("evaluation-closed") == []
    assert len(federation.close(model, session).countersignatures) == 5


def test_an_evaluation_that_was_void_after_a_signature_is_not_asked_for_again(five):
    def last(body):
        return isinstance(body, Survivors) and body.transcript == opened()[-1]["transcript"]

    def opened():
        return [b for b in federation.entries("round-opened") if b["spec"]["round"] == 1]

    def matches(body):
        return isinstance(body, Survivors) and bool(opened()) and last(body)

    bends = [when(matches, silent, name=name) for name in (DELTA, GAMMA)]
    federation = Federation(five, bending(*bends), rounds__count=1)
    federation.run().train_and_evaluate()
    assert len(opened()) == 1
    assert federation.entries("evaluation-closed") == []


def test_the_average_of_released_statistics_is_over_the_survivors(five, plain):
    federation = leaving(five, in_statistics, GAMMA, rounds__count=0, statistics={"epsilon": 1.0})
    run = federation.run()
    run.train_and_evaluate()
    assert plain.check(federation) == 1
    released = run.record.released()
    assert isinstance(released, ReleasedStatistics)
    assert released.hospitals == 4


def test_hospitals_completed_are_those_in_every_sum(five):
    federation = leaving(five, asks(Survivors, attempt=3), GAMMA)
    model, session = federation.run().train_and_evaluate()
    federation.close(model, session)
    (closed,) = federation.entries("run-closed")
    assert closed["hospitals_completed"] == sorted(FIVE)
    assert [body["stage"] for body in federation.entries("hospital-vanished")] == ["signed"]
