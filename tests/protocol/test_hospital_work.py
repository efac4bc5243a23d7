"""What a hospital refuses in a round: always before anything is charged or computed."""

import json
import logging
from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest
from tests.support.hospitals import NAMES, Ward
from tests.support.memory_grid import flower_message
from tests.support.refused_rounds import HARBOUR, charged, refused

from wardround.protocol.envelope import seal, unseal
from wardround.protocol.messages import Failed, Refusal, RefusalCode, Update
from wardround_client.approval import withdraw


@pytest.fixture(scope="module")
def open_talk(tmp_path_factory):
    """One session for all refusals: a refused round leaves nothing behind, so they can share it."""
    ward = Ward.make(tmp_path_factory.mktemp("ward"))
    yield ward.talk().open()
    ward.close()


@pytest.fixture
def ward(tmp_path):
    ward = Ward.make(tmp_path, NAMES[:2])
    yield ward
    ward.close()


DIFFERENT = {
    "profile": "one-trip",
    "study_digest": "9" * 64,
    "partition": [list(NAMES), ["southside"]],
    "threshold": 2,
    "model_digest": "9" * 64,
    "lanes": 2,
    "bits": 24,
    "scale": 1.0,
    "limit": 7,
    "minimum": 3,
    "round": 9,
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_a_spec_that_differs_from_the_study_in_one_field_is_refused(open_talk, name):
    spec = open_talk.spec().to_json() | {name: DIFFERENT[name]}
    assert refused(open_talk, open_talk.work(spec), open_talk.model) is RefusalCode.SPEC


def test_a_training_spec_that_says_evaluate_is_refused(open_talk):
    spec = open_talk.spec().to_json() | {"purpose": "evaluate"}
    assert refused(open_talk, open_talk.work(spec), open_talk.model) is RefusalCode.SPEC


def test_an_evaluation_before_the_last_round_is_refused(open_talk):
    spec = open_talk.spec(number=open_talk.study.rounds.count).to_json() | {"round": 1}
    assert refused(open_talk, open_talk.work(spec), open_talk.model) is RefusalCode.SPEC


def test_every_field_of_a_spec_is_covered_here(open_talk):
    elsewhere = {"purpose", "run", "session", "cohort", "directory_digest", "attempt"}
    assert set(open_talk.spec().to_json()) == set(DIFFERENT) | elsewhere


def test_an_unknown_directory_digest_is_refused(open_talk):
    spec = open_talk.spec(directory_digest="9" * 64)
    assert refused(open_talk, open_talk.work(spec), open_talk.model) is RefusalCode.SPEC


@pytest.mark.parametrize("cohort", [("harbour", "stranger"), ("lakeside", "northside")])
def test_a_cohort_with_a_stranger_or_without_this_hospital_is_refused(open_talk, cohort):
    spec = open_talk.spec(cohort=cohort)
    assert refused(open_talk, open_talk.work(spec), open_talk.model) is RefusalCode.SPEC


@pytest.mark.parametrize("field", ["run", "session"])
def test_a_session_that_this_process_did_not_join_is_refused(open_talk, field):
    spec = open_talk.spec().to_json() | {field: "9" * 32}
    answer, _ = open_talk.ward[HARBOUR].ask(open_talk.work(spec), open_talk.model)
    assert answer == Refusal(code=RefusalCode.NO_SESSION)


@pytest.mark.parametrize("spoilt", ["unknown field", "missing field", "attempt 0"])
def test_a_malformed_spec_is_refused_with_a_code(open_talk, spoilt):
    spec = open_talk.spec().to_json()
    if spoilt == "unknown field":
        spec["note"] = "x"
    elif spoilt == "missing field":
        del spec["limit"]
    else:
        spec["attempt"] = 0
    assert refused(open_talk, open_talk.work(spec), open_talk.model) is RefusalCode.SPEC
    entry = open_talk.ward[HARBOUR].log_entries(open_talk.study)[-1]
    assert entry == ("round-refused", {"transcript": None, "code": RefusalCode.SPEC.value})


def test_of_a_message_that_is_no_spec_nothing_is_written_down(open_talk):
    """A hostile coordinator chooses its words: none of them gets into a log that others read."""
    spec = {name: open_talk.spec().to_json()[name] for name in ("run", "session")}
    work = open_talk.work(spec | {"cohort": ["Canary4711"], "Canary4712": 1})
    assert refused(open_talk, work, open_talk.model) is RefusalCode.SPEC
    assert "Canary" not in json.dumps(open_talk.ward[HARBOUR].log_entries(open_talk.study))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda model: model[:2],
        lambda model: np.append(model, np.float32(0)),
        lambda model: model.view(np.uint32),
        lambda model: model + np.float32(1),
        lambda _: None,
    ],
    ids=["short", "long", "uint32", "another model", "none"],
)
def test_a_model_that_is_not_the_one_of_the_spec_is_refused(open_talk, spoil):
    work = open_talk.work(open_talk.spec())
    assert refused(open_talk, work, spoil(open_talk.model)) is RefusalCode.SPEC


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_model_with_a_value_that_is_not_finite_is_refused(open_talk, value):
    model = open_talk.model.copy()
    model[1] = value
    work = open_talk.work(open_talk.spec(model=model))
    assert refused(open_talk, work, model) is RefusalCode.SPEC


def test_a_round_that_was_answered_is_never_answered_again(ward):
    talk = ward.talk().open()
    work = talk.work(talk.spec())
    assert isinstance(ward[HARBOUR].ask(work, talk.model)[0], Update)
    assert refused(talk, work, talk.model) is RefusalCode.REPLAY


def test_a_second_attempt_with_noise_is_charged_anew_and_beyond_the_plan_refused(ward):
    talk = ward.talk().open()
    for attempt in (1, 2, 3):
        work = talk.work(talk.spec(attempt=attempt))
        assert isinstance(ward[HARBOUR].ask(work, talk.model)[0], Update)
        assert charged(talk) == attempt
    work = talk.work(talk.spec(attempt=4))
    assert refused(talk, work, talk.model) is RefusalCode.BUDGET


def test_noised_counts_of_the_evaluation_have_one_epsilon(ward):
    noised = ward.talk(evaluation__counts="noised", evaluation__epsilon=1.0).open()
    answer, _ = ward[HARBOUR].ask(noised.work(noised.spec(number=2)), noised.model)
    assert answer.engine["mechanism"] == "gaussian"
    work = noised.work(noised.spec(number=2, attempt=2))
    assert refused(noised, work, noised.model) is RefusalCode.BUDGET


def test_an_officer_who_takes_the_approval_back_stops_a_run_at_once(ward):
    talk = ward.talk().open()
    withdraw(ward[HARBOUR].home, talk.study)
    assert refused(talk, talk.work(talk.spec()), talk.model) is RefusalCode.NOT_APPROVED


def test_a_policy_that_became_stricter_in_mid_run_stops_it_at_once(ward):
    talk = ward.talk().open()
    ward[HARBOUR].set_policy(delta_max="1e-6")
    assert refused(talk, talk.work(talk.spec()), talk.model) is RefusalCode.POLICY


def test_a_failure_leaves_as_a_type_name_and_no_value_of_a_record_with_it(ward, caplog):
    """A library's error text may quote a record; a canary shows that it stays in the building."""
    canary = "Canary4711"
    talk = ward.talk().open()
    session = ward[HARBOUR].hospital.sessions["ab" * 16]

    class Table:
        @property
        def patients(self):
            return pd.Series([canary]).astype(float)

    object.__setattr__(session.records, "train", Table())
    with caplog.at_level(logging.DEBUG):
        content = ward[HARBOUR].answer(_sealed(talk))
    answer, _ = _unsealed(content)
    assert answer == Failed(error="ValueError")
    assert canary not in repr(content)
    assert canary not in caplog.text
    with pytest.raises(ValueError, match=canary):
        _ = Table().patients


def test_a_failure_to_note_a_refusal_does_not_kill_the_hospital(ward):
    talk = ward.talk().open()
    ward[HARBOUR].hospital.sessions["ab" * 16].evidence.log.close()
    spec = talk.spec().to_json() | {"lanes": 2}
    answer, _ = ward[HARBOUR].ask(talk.work(spec), talk.model)
    assert answer.error in {"LogFault", "ProgrammingError"}


def test_a_message_of_no_known_kind_is_answered_not_a_crash(ward):
    from flwr.app import Context, RecordDict

    from wardround.wire import pack
    from wardround_client.client_app import DIRECTORY_KEY, answer, hospital_at

    message = flower_message(pack("surprise", {}), "query", number="1", source=1, target=2)
    context = Context(
        run_id=1,
        node_id=1,
        node_config={DIRECTORY_KEY: str(ward[HARBOUR].home.directory)},
        state=RecordDict(),
        run_config={},
    )
    replied, _ = _unsealed(answer(message, context).content)
    assert replied == Failed(error="ProtocolViolation")
    hospital_at.cache_clear()


def test_the_status_shows_a_refusal_until_the_next_answered_round(ward):
    talk = ward.talk().open()
    hospital = ward[HARBOUR].hospital
    status = ward[HARBOUR].home.directory / "status.json"
    work = talk.work(talk.spec().to_json() | {"lanes": 2})
    ward[HARBOUR].ask(work, talk.model)
    hospital.after_answer(work, talk.model)
    assert json.loads(status.read_text())["state"] == "refused: spec-differs-from-study"
    work = talk.work(talk.spec())
    ward[HARBOUR].ask(work, talk.model)
    hospital.after_answer(work, talk.model)
    shown = json.loads(status.read_text())
    assert (shown["state"], shown["attempts"]) == ("training", 1)
    assert 0 < shown["epsilon"] < 3


def test_secrets_and_records_have_a_silent_repr(ward):
    talk = ward.talk().open()
    ward[HARBOUR].ask(talk.work(talk.spec()), talk.model)
    session = ward[HARBOUR].hospital.sessions["ab" * 16]
    text = repr(session) + repr(ward[HARBOUR].hospital)
    keys = list(session.secrets.pairs._roots.values())
    assert all(len(key) == 32 for key in keys)
    secrets = [shown for key in keys for shown in (key.hex(), repr(key))]
    assert not any(secret in text for secret in (*secrets, "tensor", "PrivateKey"))


def _now():
    return datetime.now(UTC)


def _sealed(talk):
    return seal(talk.work(talk.spec()), talk.model)


def _unsealed(content):
    return unseal(content, lanes=100)
