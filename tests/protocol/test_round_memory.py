"""A whole run in memory: the coordinator's real loop over hospitals that speak the real bytes."""

import json
import time

import numpy as np
import pytest
from tests.support.hospitals import LANES, NAMES, RUN, Ward
from tests.support.memory_grid import MemoryGrid
from tests.support.memory_runs import Federation, PlainLanes, asks, in_round, unsigned, when

from wardround.errors import QuorumMissed, Refused, RefusedByBudget
from wardround.evaluation.histograms import EvaluationCounts
from wardround.masking.hospital_round import HospitalRound
from wardround.masking.quantise import dequantise
from wardround.masking.round_spec import Purpose, RoundSpec
from wardround.optimisers import OptimiserState, step
from wardround.protocol.envelope import seal, unseal
from wardround.protocol.messages import Closed, Failed, Open, Reveal, Work
from wardround.protocol.specs import evaluation_layout
from wardround_server.rounds.attempt import Progress
from wardround_server.rounds.checkpoints import read_checkpoint

HARBOUR, LAKESIDE, NORTHSIDE = NAMES


def _vector(content, vector):
    return seal(unseal(content, lanes=LANES)[0], vector)


def _open_of(content):
    body, _ = unseal(content, lanes=LANES)
    return Closed(log="", checkpoint=body.checkpoint, countersignature="0" * 6746)


@pytest.fixture
def ward(tmp_path):
    ward = Ward.make(tmp_path)
    yield ward
    ward.close()


def test_the_sum_is_the_plain_sum_of_the_updates_and_the_model_takes_that_step(ward, monkeypatch):
    """The masks cancel: what is opened is what the hospitals quantised, and nothing else is."""
    plain = PlainLanes(monkeypatch)
    federation = Federation(ward, rounds__count=1)
    model, _ = federation.run().train_and_evaluate()
    assert plain.check(federation) == 2
    (closed,) = federation.entries("round-closed")
    lanes = plain.lanes[closed["transcript"]]
    spec = federation.entries("round-opened")[0]["spec"]
    total = plain.sum_over(closed["transcript"], NAMES)
    mean = dequantise(total, scale=float(spec["scale"])) / 3
    start = np.zeros(3, np.float32)
    due = step(start, mean.astype(np.float32), federation.study.training.server, OptimiserState())
    np.testing.assert_array_equal(model, due)
    assert np.abs(model).max() > 0
    sent = [unseal(c, lanes=LANES)[1] for _, c in federation.grid.received]
    words = [vector.view("<u4") for vector in sent if vector is not None and vector.size == 12]
    assert len(words) == len(lanes) == 3
    for vector, values in zip(words, lanes.values(), strict=True):
        assert not (vector.view(np.int32) == values).any()


WEIGHTS = {"weighting": "patients", "weight_unit": 10, "weight_most": 8}


def test_hospitals_count_by_their_patients_where_the_study_says_so(ward, monkeypatch):
    plain = PlainLanes(monkeypatch)
    weights = {f"training__{name}": value for name, value in WEIGHTS.items()}
    federation = Federation(ward, privacy__mechanism="none", rounds__count=1, **weights)
    model, _ = federation.run().train_and_evaluate()
    assert plain.check(federation) == 2
    (closed,) = federation.entries("round-closed")
    spec = federation.entries("round-opened")[0]["spec"]
    weight, loss, *total = plain.sum_over(closed["transcript"], NAMES).astype(np.float64)
    assert 3 <= weight <= 24
    mean = np.array(total) / float(spec["scale"]) / weight
    start = np.zeros(3, np.float32)
    due = step(start, mean.astype(np.float32), federation.study.training.server, OptimiserState())
    np.testing.assert_allclose(model, due, rtol=1e-6)
    status = json.loads(federation.status.read_text())
    assert status["training_loss"] == pytest.approx(loss / 1024 / weight)


def test_weights_that_cannot_be_end_the_run_as_a_sum_that_did_not_open(ward, monkeypatch):
    real = HospitalRound.upload

    def lying(masking, values, **more):
        if masking.spec.purpose is Purpose.TRAIN and masking.hospital == NORTHSIDE:
            values = values.copy()
            values[0] = 1000
        return real(masking, values, **more)

    monkeypatch.setattr(HospitalRound, "upload", lying)
    weights = {f"training__{name}": value for name, value in WEIGHTS.items()}
    federation = Federation(ward, privacy__mechanism="none", **weights)
    with pytest.raises(QuorumMissed, match="without noise"):
        federation.run().train_and_evaluate()
    (void,) = federation.entries("attempt-void")
    assert "the weights sum to" in void["reason"]


def test_a_whole_run_ends_with_counts_of_all_held_out_patients_and_three_signatures(ward):
    federation = Federation(ward)
    model, session = federation.run().train_and_evaluate()
    evidence = federation.close(model, session)
    assert sorted(evidence.hospitals) == sorted(evidence.countersignatures) == list(NAMES)
    held_out = sum(
        hospital.hospital.sessions[RUN].records.held_out.patients
        for hospital in ward.hospitals.values()
    )
    (closed,) = federation.entries("evaluation-closed")
    lanes = np.array(closed["counts"])
    counts = EvaluationCounts.from_lanes(lanes, evaluation_layout(federation.study).cut)
    assert counts.histogram.sum() == held_out > 0
    assert len(federation.entries("round-closed")) == 2
    assert federation.entries("run-closed")[0]["hospitals_completed"] == list(NAMES)
    assert not list(ward.folder.glob("*.new"))


def test_a_hospital_that_goes_away_voids_the_attempt_and_the_others_go_on_without_it(ward):
    def leave(answer):
        federation.grid.gone.add(NORTHSIDE)

    federation = Federation(ward, when(in_round(1), leave))
    federation.run().train_and_evaluate()
    (void,) = federation.entries("attempt-void")
    assert f"{NORTHSIDE}: disconnected" in void["reason"]
    cohorts = [body["spec"]["cohort"] for body in federation.entries("round-opened")]
    assert [len(cohort) for cohort in cohorts] == [3, 3, 2, 2]
    spent = ward[HARBOUR].hospital.sessions[RUN].ledger
    assert len(spent.releases()) == 4


def test_a_hospital_that_comes_back_is_taken_in_under_a_new_session(ward):
    def restart(answer):
        federation.grid.come_back(NORTHSIDE)

    federation = Federation(ward, when(in_round(0), restart))
    federation.run().train_and_evaluate()
    cohorts = [body["spec"]["cohort"] for body in federation.entries("round-opened")]
    assert cohorts == [list(NAMES)] * 4
    sessions = {body["session"] for body in federation.entries("hospital-joined")}
    assert len(sessions) == 2


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda _: seal(Failed(error="ValueError")), "ValueError"),
        (lambda content: _vector(content, np.zeros(11, np.uint8)), "of shape"),
        (lambda content: _vector(content, np.full(3, np.nan, np.float32)), "float32"),
        (lambda content: _vector(content, np.zeros(12, np.uint8)), "update_digest"),
        (unsigned, "not signed"),
        (lambda content: seal(_open_of(content)), "an update was due"),
    ],
    ids=["failed", "shape", "nan", "other words", "signature", "no update"],
)
def test_an_update_that_is_none_is_rejected_by_name_and_never_added(ward, spoil, says):
    federation = Federation(ward, when(in_round(0), spoil), rounds__count=1)
    federation.run().train_and_evaluate()
    (rejected,) = federation.entries("update-rejected")
    assert rejected["hospital"] == NORTHSIDE
    assert says in rejected["reason"]
    received = [body["hospital"] for body in federation.entries("update-received")]
    assert received.count(NORTHSIDE) == 0
    cohorts = [body["spec"]["cohort"] for body in federation.entries("round-opened")]
    assert cohorts == [list(NAMES), [HARBOUR, LAKESIDE], [HARBOUR, LAKESIDE]]


def test_a_hospital_that_refuses_in_mid_run_is_not_asked_again_and_the_run_goes_on(ward):
    from wardround_client.approval import withdraw

    def take_back(answer):
        withdraw(ward[NORTHSIDE].home, federation.study)
        return answer

    federation = Federation(ward, when(in_round(0), take_back), rounds__count=3)
    federation.run().train_and_evaluate()
    (refused,) = federation.entries("hospital-refused")
    assert refused == {"hospital": NORTHSIDE, "code": "study-not-approved"}
    # It had answered and does not sign: of three, all are due.
    assert [len(cohort) for cohort in federation.cohorts()] == [3, 2, 2, 2, 2]


def test_spare_attempts_run_out_and_the_message_names_who_is_missing(ward):
    federation = Federation(ward, when(in_round(0), lambda _: None), rounds__spare_attempts=0)
    with pytest.raises(QuorumMissed, match=rf"missing {NORTHSIDE} \(disconnected\).*no spare"):
        federation.run().train_and_evaluate()


def test_fewer_hospitals_than_the_quorum_end_the_run_by_name(ward):
    def leave(answer):
        federation.grid.gone.add(NORTHSIDE)

    federation = Federation(ward, when(in_round(0), leave), rounds__quorum=3)
    with pytest.raises(QuorumMissed, match=f"quorum is 3.*{NORTHSIDE}"):
        federation.run().train_and_evaluate()


def test_budgets_that_are_too_small_end_the_run_with_the_smallest_epsilon_that_fits(ward):
    federation = Federation(ward)
    for name, budget in zip(NAMES, ("1.0", "2.0", "10.0"), strict=True):
        ward[name].set_policy(epsilon_budget=budget)
    with pytest.raises(RefusedByBudget, match=f"{HARBOUR} refused: budget") as caught:
        federation.run().train_and_evaluate()
    assert 0.9 < caught.value.epsilon_that_fits <= 1.0


def test_policies_that_say_no_end_the_run_and_each_hospital_is_named(ward):
    federation = Federation(ward)
    for name in (HARBOUR, LAKESIDE):
        ward[name].set_policy(minimum_hospitals="5")
    with pytest.raises(Refused, match=f"{HARBOUR} refused: policy; {LAKESIDE} refused: policy"):
        federation.run().train_and_evaluate()


@pytest.mark.parametrize("answer", [Failed(error="KeyError"), None], ids=["failed", "no key"])
def test_one_hospital_that_opens_wrongly_does_not_stop_the_others(ward, answer):
    def spoil(content):
        if answer is not None:
            return seal(answer)
        body, _ = unseal(content, lanes=LANES)
        return seal(body.model_copy(update={"run_key": {"hospital": NORTHSIDE}}))

    federation = Federation(ward, when(lambda body: isinstance(body, Open), spoil), rounds__count=1)
    federation.run().train_and_evaluate()
    assert federation.cohorts()[0] == [HARBOUR, LAKESIDE]
    asked = [unseal(content, lanes=LANES)[0] for _, _, content in federation.grid.sent]
    assert sum(isinstance(body, Open) for body in asked) == 3


@pytest.mark.parametrize("part", ["log", "checkpoint", "countersignature"])
def test_a_hospital_that_closes_wrongly_is_missing_in_the_bundle_and_the_others_are_not(ward, part):
    junk = {"log": "{}\n", "checkpoint": "none", "countersignature": "0" * 128}

    def spoil(content):
        body, _ = unseal(content, lanes=LANES)
        return seal(body.model_copy(update={part: junk[part]}))

    def reply(name, question, answer):
        is_closed = isinstance(unseal(answer, lanes=LANES)[0], Closed)
        return spoil(answer) if name == NORTHSIDE and is_closed else answer

    federation = Federation(ward, reply, rounds__count=1)
    model, session = federation.run().train_and_evaluate()
    evidence = federation.close(model, session)
    assert sorted(evidence.hospitals) == [HARBOUR, LAKESIDE]
    assert sorted(evidence.countersignatures) == [HARBOUR, LAKESIDE]


def test_a_stopped_run_goes_on_from_its_checkpoint_and_never_asks_an_attempt_twice(ward):
    class Stopped(Exception):
        pass

    def stop(answer):
        raise Stopped

    federation = Federation(ward, when(in_round(1), stop), training__server={"name": "fedadam"})
    with pytest.raises(Stopped):
        federation.run().train_and_evaluate()
    kept = read_checkpoint(ward.folder / "checkpoint", parameters=3)
    assert (kept.progress.round, kept.progress.attempt, kept.progress.spare_attempts) == (1, 1, 1)
    federation.grid = MemoryGrid(ward)
    resumed = federation.run()
    assert resumed._resume_or_start().progress == Progress(round=1, attempt=2, spare_attempts=0)
    resumed.train_and_evaluate()
    specs = [RoundSpec.from_json(body["spec"]) for body in federation.entries("round-opened")]
    asked = [(spec.round, spec.attempt) for spec in specs]
    assert asked == [(0, 1), (1, 1), (1, 2), (2, 1)]
    assert len({spec.session for spec in specs}) == 2


def test_a_hospital_restarted_between_reserve_and_send_is_charged_and_not_asked_twice(ward):
    """It dies while it trains; the coordinator sees it come back as another process."""

    class Dying(MemoryGrid):
        def _push(self, message):
            try:
                return super()._push(message)
            except KeyboardInterrupt:
                self.come_back(NORTHSIDE)
                self._silent.add(message.metadata.message_id)
                return message.metadata.message_id

    federation = Federation(ward)
    federation.grid = Dying(ward)
    run = federation.run()
    ward[NORTHSIDE]._hospital = _Dying(ward[NORTHSIDE].hospital)
    run.train_and_evaluate()
    ledger = ward[NORTHSIDE].hospital.sessions[RUN].ledger
    releases = ledger.releases()
    assert [r.sent_at is None for r in releases] == [True, False, False, False]
    assert len({r.transcript for r in releases}) == 4


class _Dying:
    """A process that shares keys with the others and then dies while it trains."""

    def __init__(self, hospital):
        self._hospital = hospital
        self._drawn = 0

    def answer(self, body, vector):
        if isinstance(body, Work):
            self._hospital.randomness = self._dies
        return self._hospital.answer(body, vector)

    def _dies(self, count):
        self._drawn += 1
        if self._drawn == 1:  # the key of its mask; then it is charged, and draws its sample
            return bytes(count)
        raise KeyboardInterrupt

    def close(self):
        self._hospital.close()


def test_the_status_file_names_hospitals_and_rounds_and_holds_no_vector(ward):
    federation = Federation(ward, rounds__count=1)
    federation.run().train_and_evaluate()
    status = json.loads(federation.status.read_text())
    assert set(status["hospitals"]) == set(NAMES)
    assert status["state"] == "evaluate"
    assert "counts" not in federation.status.read_text()


def test_a_coordinator_that_stops_again_and_again_asks_no_attempt_twice(ward):
    class Stopped(Exception):
        pass

    def stop(answer):
        raise Stopped

    federation = Federation(
        ward, when(lambda body: isinstance(body, Work), stop), rounds__spare_attempts=2
    )
    for _ in range(3):
        with pytest.raises(Stopped):
            federation.run().train_and_evaluate()
    federation.grid = MemoryGrid(ward)
    progress = federation.run()._resume_or_start().progress
    assert progress == Progress(round=0, attempt=4, spare_attempts=0)


def test_the_status_file_is_not_written_for_each_hospital_but_is_never_long_behind(ward):
    federation = Federation(ward, rounds__count=1)
    run = federation.run()
    run.record.show(state="train")
    for name in NAMES:
        run.record.joined(name, "ab" * 16, {})
    assert "hospitals" not in json.loads(federation.status.read_text())
    time.sleep(0.3)
    run.record.refresh()
    assert set(json.loads(federation.status.read_text())["hospitals"]) == set(NAMES)
    written = federation.status.stat().st_mtime_ns
    time.sleep(0.3)
    run.record.refresh()  # nothing is new
    assert federation.status.stat().st_mtime_ns == written


def test_a_model_is_kept_when_too_few_hospitals_are_left_to_evaluate_it(ward):
    def leave_after(answer):
        federation.grid.gone.add(NORTHSIDE)
        return answer

    last = when(asks(Reveal, attempt=2), leave_after)
    federation = Federation(ward, last, rounds__count=2, rounds__quorum=3)
    model, session = federation.run().train_and_evaluate()
    assert len(federation.entries("round-closed")) == 2
    assert federation.entries("evaluation-closed") == []
    assert federation.close(model, session).countersignatures.keys() == {HARBOUR, LAKESIDE}
