"""Training in groups, real hospitals in memory: who spoils the model is found, and it holds."""

import json
from dataclasses import replace

import numpy as np
import pytest
from tests.support.grouped_runs import (
    BAD,
    EXACT,
    GARBAGE,
    GROUPS,
    NOISED,
    ROUNDS,
    RULES,
    TWELVE,
    Finished,
    run,
)
from tests.support.hospitals import Ward
from tests.support.memory_runs import Federation, in_round, when

from wardround.audit.bundle import evidence_of
from wardround.audit.derive import report_of
from wardround.audit.html import render_html
from wardround.masking.update import update_digest
from wardround.protocol.messages import Refusal, RefusalCode, Update
from wardround.protocol.specs import group_specs
from wardround_server.rounds import run as run_module
from wardround_server.status import status_line


@pytest.fixture(scope="module")
def spoiled(tmp_path_factory):
    """Four groups, their median, and one hospital that sends the opposite thirty times over."""
    found = run(
        tmp_path_factory.mktemp("spoiled"),
        spoil=GARBAGE["flipped"],
        uploads=True,
        **{**EXACT, **GROUPS, "robust__rule": "median"},
    )
    yield found
    found.federation.ward.close()


@pytest.fixture(scope="module")
def honest(tmp_path_factory):
    """The mean over twelve honest hospitals in one sum."""
    found = run(tmp_path_factory.mktemp("honest"), **EXACT, rounds__quorum=12)
    yield found
    found.federation.ward.close()


def test_every_group_is_summed_apart_and_what_opens_is_its_sum(spoiled):
    federation = spoiled.federation
    agreed = {b["transcript"]: b["survivors"] for b in federation.entries("survivors-agreed")}
    closed = federation.entries("group-closed")
    assert len(closed) == 4 * ROUNDS
    for body in closed:
        assert len(agreed[body["transcript"]]) == 3
        total = spoiled.plain.sum_over(body["transcript"], agreed[body["transcript"]])
        assert update_digest(total) == body["sum_digest"]
    specs = [body["spec"] for body in federation.entries("round-opened")]
    draws = [spec["partition"] for spec in specs if spec["purpose"] == "train"]
    assert len({str(draw) for draw in draws}) == ROUNDS
    assert specs[-1]["partition"] == [list(TWELVE)]  # the evaluation


def test_the_hospital_behind_it_is_named_where_people_look_and_stays_in_the_rounds(spoiled):
    federation = spoiled.federation
    report = report_of(evidence_of(spoiled.evidence))
    (suspicion,) = report.participation.suspected
    assert suspicion.hospital == BAD
    assert f"far off in {ROUNDS} of {ROUNDS} rounds, chance alone gives 1.8" in suspicion.reason
    assert report.participation.verdict == "everybody"
    assert BAD in report.participation.completed
    assert len(report.participation.attempts) == ROUNDS + 1
    assert all(len(each.in_sum) == 12 for each in report.participation.attempts)
    page = render_html(report.to_json())
    assert suspicion.reason in page
    german = render_html(report.to_json(), lang="de")
    assert f"lag in {ROUNDS} von {ROUNDS} Runden weit ab" in german
    assert "in 4 zufälligen Gruppen von mindestens 3 Krankenhäusern" in german
    assert "Die Summe jeder zufälligen Gruppe von 3 oder mehr Krankenhäusern" in german
    assert "random group" not in german
    state = {"study": "fever", "digest": "0" * 64, "state": "train", "round": 6}
    shown = json.loads(federation.status.read_text())
    assert set(shown["suspected"]) == {BAD}
    assert f"suspected: {BAD} (its group lay far off" in status_line(state | shown)


def test_the_bundle_verifies_and_its_sums_lead_to_the_same_flags_and_model(spoiled):
    found = spoiled.verdicts()
    assert found.ok, list(found.lines())
    assert f"the model's steps of {ROUNDS} of {ROUNDS} training rounds" in " ".join(found.remarks)


def test_the_model_is_that_of_honest_hospitals(spoiled, honest):
    far = np.linalg.norm(spoiled.model - honest.model)
    assert far < 0.35 * np.linalg.norm(honest.model)
    assert honest.federation.entries("round-combined") == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("rule", "garbage"),
    [
        ("trimmed-mean", "large"),
        ("krum", "random"),
        ("clustering", "flipped"),
        ("clustering", "random"),
        ("median", "large"),
        ("median", "random"),
        ("mean", "flipped"),
    ],
)
def test_every_rule_but_the_mean_holds_and_every_one_names_who_it_is(
    rule, garbage, honest, tmp_path
):
    study = {**EXACT, **GROUPS, "robust__rule": rule, **RULES[rule]}
    found = run(tmp_path, spoil=GARBAGE[garbage], **study)
    found.federation.ward.close()
    report = report_of(evidence_of(found.evidence))
    assert [each.hospital for each in report.participation.suspected] == [BAD]
    far = np.linalg.norm(found.model - honest.model) / np.linalg.norm(honest.model)
    assert far > 1.0 if rule == "mean" else far < 0.35


def test_a_group_that_cannot_open_costs_the_others_nothing(tmp_path):
    ward = Ward.make(tmp_path, TWELVE)
    lost = when(in_round(0), lambda _: None, name=BAD)
    federation = Federation(ward, lost, **NOISED, robust__rule="median")
    model, session = federation.run().train_and_evaluate()
    first, second = federation.entries("round-combined")
    assert (len(first["transcripts"]), len(first["void"])) == (3, 1)
    (void,) = federation.entries("attempt-void")
    assert void["transcript"] == first["void"][0]
    assert "2 of 3 updates came, 3 were due" in void["reason"]
    assert len(second["transcripts"]) == 4
    evidence = federation.close(model, session)
    report = report_of(evidence_of(evidence))
    assert len(report.participation.attempts[0].in_sum) == 9
    assert BAD in {each.hospital for each in report.participation.absent}
    found = Finished(federation, model, evidence).verdicts()
    ward.close()
    assert found.ok, list(found.lines())


def test_too_few_groups_make_the_attempt_void_and_the_next_one_draws_anew(tmp_path):
    ward = Ward.make(tmp_path, TWELVE)
    away = TWELVE[:4]

    def reply(name, question, answer):
        for each in away:
            answer = when(in_round(0), lambda _: None, name=each)(name, question, answer)
            if answer is None:
                return None
        return answer

    federation = Federation(ward, reply, **NOISED, robust__rule="median", rounds__count=1)
    model, session = federation.run().train_and_evaluate()
    specs = [b["spec"] for b in federation.entries("round-opened")]
    trained = [spec for spec in specs if spec["purpose"] == "train"]
    assert [spec["attempt"] for spec in trained] == [1] * 4 + [2] * 4
    assert trained[0]["partition"] != trained[4]["partition"]
    (combined,) = federation.entries("round-combined")
    closed = {body["transcript"] for body in federation.entries("group-closed")}
    assert len(combined["transcripts"]) == 4
    assert set(combined["transcripts"]) <= closed
    found = Finished(federation, model, federation.close(model, session)).verdicts()
    ward.close()
    assert found.ok, list(found.lines())


def test_a_coordinator_that_dies_before_the_step_goes_on_with_another_attempt(
    tmp_path, monkeypatch
):
    ward = Ward.make(tmp_path, TWELVE)
    federation = Federation(ward, **NOISED, robust__rule="trimmed-mean", robust__trim=1)

    def dies(path, state):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "write_checkpoint", dies)
        with pytest.raises(KeyboardInterrupt):
            federation.run().train_and_evaluate()
    model, session = federation.run().train_and_evaluate()
    specs = [b["spec"] for b in federation.entries("round-opened")]
    numbers = [(s["round"], s["attempt"]) for s in specs if s["purpose"] == "train"]
    assert numbers == [(0, 1)] * 4 + [(0, 2)] * 4 + [(1, 1)] * 4
    assert len(federation.entries("round-combined")) == 2
    found = Finished(federation, model, federation.close(model, session)).verdicts()
    ward.close()
    assert found.ok, list(found.lines())


def test_with_one_trip_a_lost_hospital_costs_its_group_alone(tmp_path):
    ward = Ward.make(tmp_path, TWELVE)
    lost = when(in_round(0), lambda _: None, name=BAD)
    one_trip = {
        "privacy__mechanism": "distributed",
        "masking__profile": "one-trip",
        "rounds__count": 1,
    }
    federation = Federation(ward, lost, **NOISED, **one_trip, robust__rule="median")
    model, session = federation.run().train_and_evaluate()
    (combined,) = federation.entries("round-combined")
    assert (len(combined["transcripts"]), len(combined["void"])) == (3, 1)
    found = Finished(federation, model, federation.close(model, session)).verdicts()
    ward.close()
    assert found.ok, list(found.lines())


def test_a_hospital_refuses_work_under_another_draw_and_takes_its_own(tmp_path):
    ward = Ward.make(tmp_path, TWELVE[:6])
    talk = ward.talk(
        robust__groups=3, robust__rule="mean", rounds__quorum=6, masking__minimum_hospitals=2
    ).open()
    first, second, third = group_specs(talk.spec(), talk.study, TWELVE[:6])
    own, other = first.cohort[0], second.cohort[0]
    cohort = tuple(sorted((own, other)))
    rest = tuple(sorted((first.cohort[1], second.cohort[1])))
    chosen = replace(first, cohort=cohort, partition=tuple(sorted((cohort, rest, third.cohort))))
    refused, _ = ward[own].ask(talk.work(chosen), talk.model)
    assert refused == Refusal(code=RefusalCode.SPEC)
    assert isinstance(ward[own].ask(talk.work(first), talk.model)[0], Update)
    ward.close()
