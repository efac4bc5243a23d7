"""A hospital's own view of a run does not hold up the rounds."""

import json
import math
import time

import pytest
from tests.support.hospitals import NAMES, Ward

HARBOUR = NAMES[0]


@pytest.fixture(scope="module")
def talk(tmp_path_factory):
    ward = Ward.make(tmp_path_factory.mktemp("ward"), NAMES[:2])
    yield ward.talk().open()
    ward.close()


def answer_round(talk, number):
    """The hospital's status after it has answered this round."""
    work = talk.work(talk.spec(number))
    talk.ward[HARBOUR].ask(work, talk.model)
    talk.ward[HARBOUR].hospital.after_answer(work, talk.model)
    return json.loads((talk.ward[HARBOUR].home.directory / "status.json").read_text())


def test_a_hospital_looks_at_its_patients_for_a_tenth_of_its_time_and_at_the_last_model(talk):
    hospital = talk.ward[HARBOUR].hospital
    started_s = time.monotonic()
    assert answer_round(talk, 0)["attempts"] == 1
    ended_s = time.monotonic()
    assert 0 < hospital._next_look_s - ended_s < 10 * (ended_s - started_s)

    hospital._next_look_s = math.inf
    before = hospital._seen["epsilon"]
    shown = answer_round(talk, 1)
    assert (shown["attempts"], shown["epsilon"]) == (2, before)

    shown = answer_round(talk, talk.study.rounds.count)
    assert shown["attempts"] == 2
    assert 0 < shown["loss"] < math.inf
    assert shown["seconds"]["answer_s"] > shown["seconds"]["compute_s"] > 0


def test_after_a_refusal_the_next_answered_round_is_looked_at_at_once(tmp_path):
    ward = Ward.make(tmp_path, NAMES[:2])
    talk = ward.talk().open()
    ward[HARBOUR].hospital._next_look_s = math.inf
    ward[HARBOUR].ask(talk.work(talk.spec().to_json() | {"lanes": 2}), talk.model)
    assert answer_round(talk, 0)["state"] == "training"
    ward.close()
