"""SCAFFOLD at real hospitals: whether a control is kept is what all of them see alike."""

import numpy as np
import pytest
from tests.support.attempts import FOUR, Attempt
from tests.support.hospitals import RUN, Talk, Ward

from wardround.masking.quantise import dequantise
from wardround.masking.round_spec import RoundSpec
from wardround.optimisers import OptimiserState, step
from wardround_client.kept_control import SessionControl, _Answered
from wardround_client.refusal import StudyRefused
from wardround_client.restored import LoggedAttempt
from wardround_client.training.drift import Control

SCAFFOLD = {
    "training__control": "scaffold",
    "training__local_steps": 3,
    "training__learning_rate": 0.3,
    "rounds__count": 6,
    "rounds__spare_attempts": 3,
}
STAY = FOUR[:3]


class Moving(Talk):
    """A coordinator whose model moves."""

    now = None

    @property
    def model(self):
        return super().model if self.now is None else self.now


@pytest.fixture
def talk(tmp_path):
    ward = Ward.make(tmp_path, FOUR)
    study = ward.study(**SCAFFOLD)
    ward.approve_everywhere(study)
    yield Moving(ward, study, ward.new_log()).open()
    ward.close()


def played(talk, number, *, survivors=FOUR, cohort=FOUR, attempt=1, opens=True) -> Attempt:
    """One attempt of a round, of which these hospitals' updates are summed; the model steps."""
    one = Attempt(talk, {"number": number, "attempt": attempt, "cohort": cohort}).upload()
    if not opens:
        return one
    total = one.opened(*one.signed(among=survivors))
    mean = dequantise(np.array(total, np.int32), scale=one.spec.scale) / len(survivors)
    server = talk.study.training.server
    talk.now = step(one.talk.model, mean.astype(np.float32), server, OptimiserState())
    return one


def standing(talk, spec: RoundSpec, names=FOUR):
    """What each hospital's log says of its control in this attempt."""
    transcript, found = spec.transcript().hex(), {}
    for name in names:
        for kind, body in talk.ward[name].log_entries(talk.study):
            if kind == "release-reserved" and body["transcript"] == transcript:
                found[name] = body["control"]
    return found


def all_of(word, names=FOUR):
    return dict.fromkeys(names, word)


def session_of(talk, name):
    return talk.ward[name].hospital.sessions[RUN]


def test_while_everybody_is_in_every_sum_it_is_kept_and_the_corrections_cancel(talk):
    assert standing(talk, played(talk, 0).spec) == all_of("begun")
    for number in (1, 2):
        assert standing(talk, played(talk, number).spec) == all_of("kept")
        corrections = [session_of(talk, name).control.correction for name in FOUR]
        assert min(np.abs(each).max() for each in corrections) > 0.01
        np.testing.assert_allclose(np.sum(corrections, axis=0), 0.0, atol=1e-6)


def test_when_one_is_not_in_a_sum_all_begin_anew_also_those_who_were(talk):
    played(talk, 0)
    assert standing(talk, played(talk, 1, survivors=STAY).spec) == all_of("kept")
    # Who was left out by no fault of its own is asked again: it has signed nothing.
    assert standing(talk, played(talk, 2).spec) == all_of("begun")
    assert standing(talk, played(talk, 3).spec) == all_of("kept")


def test_when_fewer_are_asked_than_before_they_begin_anew(talk):
    played(talk, 0)
    assert standing(talk, played(talk, 1, cohort=STAY, survivors=STAY).spec, STAY) == all_of(
        "begun", STAY
    )
    assert standing(talk, played(talk, 2, cohort=STAY, survivors=STAY).spec, STAY) == all_of(
        "kept", STAY
    )
    assert standing(talk, played(talk, 3).spec) == all_of("begun")


def test_of_a_repeated_attempt_the_last_one_counts(talk):
    played(talk, 0)
    played(talk, 1, opens=False)
    assert standing(talk, played(talk, 1, attempt=2).spec) == all_of("begun")
    third = played(talk, 2)
    assert standing(talk, third.spec) == all_of("kept")
    corrections = [session_of(talk, name).control.correction for name in FOUR]
    np.testing.assert_allclose(np.sum(corrections, axis=0), 0.0, atol=1e-6)


def test_a_process_that_died_opens_a_session_in_which_all_begin_anew(talk, caplog):
    played(talk, 0)
    played(talk, 1)
    talk.ward[FOUR[1]].restart()
    caplog.clear()
    with caplog.at_level("INFO", logger="wardround.hospital"):
        assert standing(talk.open("ef" * 16), played(talk, 2).spec) == all_of("begun")
    said = [one.message for one in caplog.records if "control" in one.message]
    due = "round 3, attempt 1: control begins anew: it is the first of this session"
    assert said == [due] * len(FOUR)
    assert standing(talk, played(talk, 3).spec) == all_of("kept")


def test_a_model_too_far_from_the_last_one_is_refused(talk):
    """A hostile coordinator: both models are finite, their difference is not."""
    before, after = (
        Attempt(talk, {"number": number, "attempt": 1, "cohort": FOUR}).spec for number in (0, 1)
    )
    model = np.full_like(talk.model, 3e38)
    control = SessionControl()
    control._last = _Answered(before, "", Control(model, np.zeros_like(model)))
    logged = LoggedAttempt("", before.cohort)
    with pytest.raises(StudyRefused, match="too far from the last one"):
        control.begin(after, -model, logged, talk.study)
    assert control.correction is None


def test_it_is_gone_with_the_session_and_was_never_on_disk(talk):
    played(talk, 0)
    played(talk, 1)
    session = session_of(talk, FOUR[0])
    own = session.control._last.control.own
    assert np.abs(own).max() > 0.01
    assert repr(own[0]) not in repr(session.control)
    files = [path for path in talk.ward[FOUR[0]].home.directory.rglob("*") if path.is_file()]
    assert len(files) > 5
    for form in (own.tobytes(), own.astype(np.float64).tobytes(), repr(float(own[0])).encode()):
        assert not [path for path in files if form in path.read_bytes()]
    session.close()
    assert session.control.correction is None
    assert session.control._last is None


@pytest.mark.slow
def test_a_study_without_control_logs_none(tmp_path):
    ward = Ward.make(tmp_path, FOUR)
    talk = ward.talk().open()
    Attempt(talk).upload()
    entries = ward[FOUR[0]].log_entries(talk.study)
    (reserved,) = [body for kind, body in entries if kind == "release-reserved"]
    assert "control" not in reserved
    assert session_of(talk, FOUR[0]).control._last is None
    ward.close()


@pytest.mark.slow
def test_hospitals_that_count_by_their_patients_have_corrections_that_cancel_by_weight(tmp_path):
    ward = Ward.make(tmp_path, FOUR)
    small = ward[FOUR[0]].data / "patients.csv"
    small.write_text("\n".join(small.read_text().splitlines()[:15]))
    more = {
        "privacy__mechanism": "none",
        "training__weighting": "patients",
        "training__weight_unit": 5,
        "training__weight_most": 8,
    }
    study = ward.study(**SCAFFOLD, **more)
    ward.approve_everywhere(study)
    talk = Moving(ward, study, ward.new_log()).open()
    for number in (0, 1):
        one = Attempt(talk, {"number": number}).upload()
        total = np.array(one.opened(*one.signed()), np.int32)
        mean = dequantise(total[2:], scale=one.spec.scale) / total[0]
        talk.now = talk.model + mean.astype(np.float32)
    sessions = [session_of(talk, name) for name in FOUR]
    corrections = [session.control.correction for session in sessions]
    weights = [round(session.records.train.patients / 5) for session in sessions]
    assert len(set(weights)) > 1
    np.testing.assert_allclose(np.average(corrections, axis=0, weights=weights), 0.0, atol=1e-6)
    assert np.abs(np.mean(corrections, axis=0)).max() > 1e-3
    ward.close()
