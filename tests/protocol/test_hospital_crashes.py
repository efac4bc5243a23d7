"""A hospital that crashed, or whose files were rolled back, neither answers nor signs twice."""

import json
import shutil

import pytest
from tests.support.attempts import Attempt
from tests.support.dying_writers import killed_at, steps_of
from tests.support.hospitals import NAMES, RUN, Talk, Ward

from wardround.identity import Identity
from wardround.masking.survivors import SURVIVORS_PURPOSE
from wardround.protocol.messages import Failed, Joined, Refusal, RefusalCode, Signed, Update
from wardround_client import round as hospital_round
from wardround_client.attempt_record import AttemptRecord

HARBOUR, LAKESIDE = TWO = NAMES[:2]
ROLLED_BACK = Failed(error="VerificationFailed")
UNNOISED = {"privacy__mechanism": "none"}


@pytest.fixture
def ward(tmp_path):
    ward = Ward.make(tmp_path, TWO)
    yield ward
    ward.close()


def record_of(ward, study):
    return AttemptRecord(ward[HARBOUR].home, study).last()


def asked(talk, **changes):
    """Harbour's answer to the work of one attempt."""
    return talk.ward[HARBOUR].ask(talk.work(talk.spec(**changes)), talk.model)[0]


def reopened(talk):
    """The process ends, another begins, and the coordinator opens a new session."""
    talk.ward[HARBOUR].restart()
    return talk.open("ef" * 16)


def test_a_hospital_that_crashed_before_its_upload_sits_that_attempt_out(ward, monkeypatch):
    """The process dies while it trains: the release is spent, the attempt is written down."""
    talk = ward.talk().open()

    def dies(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(hospital_round, "to_mask", dies)
        with pytest.raises(KeyboardInterrupt):
            asked(talk)
    reopened(talk)
    ledger = ward[HARBOUR].hospital.sessions[RUN].ledger
    (release,) = ledger.releases()
    assert release.sent_at is None
    assert ledger.spent(1e-4) > 1.0
    assert asked(talk) == Refusal(code=RefusalCode.REPLAY)
    kinds = [kind for kind, _ in ward[HARBOUR].log_entries(talk.study)]
    assert "release-reserved" in kinds
    assert "release-sent" not in kinds
    assert isinstance(asked(talk, attempt=2), Update)


def test_a_hospital_that_crashed_between_upload_and_signature_signs_nothing(ward):
    attempt = Attempt(ward.talk(**UNNOISED).open()).upload()
    message = attempt.survivors(HARBOUR)
    ward[HARBOUR].restart()
    assert attempt.ask(HARBOUR, message)[0] == Refusal(code=RefusalCode.NO_SESSION)
    talk = attempt.talk.open("ef" * 16)
    in_new_session = message.model_copy(update={"session": talk.session})
    assert attempt.ask(HARBOUR, in_new_session)[0] == Refusal(code=RefusalCode.SURVIVORS)
    # Nobody can have opened a sum with us in it that we would double: the round may be tried again.
    assert isinstance(asked(talk, attempt=2), Update)


def test_a_hospital_that_crashed_between_signature_and_reveal_reveals_nothing(ward):
    attempt = Attempt(ward.talk(**UNNOISED).open()).upload()
    _, asks = attempt.signed()
    ward[HARBOUR].restart()
    assert attempt.ask(HARBOUR, asks[HARBOUR])[0] == Refusal(code=RefusalCode.NO_SESSION)
    talk = attempt.talk.open("ef" * 16)
    in_new_session = asks[HARBOUR].model_copy(update={"session": talk.session})
    assert attempt.ask(HARBOUR, in_new_session)[0] == Refusal(code=RefusalCode.SURVIVORS)
    # The others may have opened it by our shares; without noise there is no second sum.
    assert asked(talk, attempt=2) == Refusal(code=RefusalCode.SECOND_ATTEMPT)
    assert isinstance(asked(talk, number=1), Update)


@pytest.mark.parametrize(
    ("changes", "number"),
    [(UNNOISED, 0), ({}, 2)],
    ids=["an update without noise", "exact counts"],
)
def test_without_noise_a_second_attempt_is_answered_until_survivors_were_signed(
    ward, changes, number
):
    talk = ward.talk(**changes).open()
    Attempt(talk, {"number": number}).upload()
    second = Attempt(talk, {"number": number, "attempt": 2}).upload()
    second.signed()
    assert asked(talk, number=number, attempt=3) == Refusal(code=RefusalCode.SECOND_ATTEMPT)


def test_with_noise_a_second_attempt_is_answered_after_survivors_were_signed(ward):
    talk = ward.talk().open()
    Attempt(talk).upload().signed()
    assert isinstance(asked(talk, attempt=2), Update)


def test_survivors_that_were_written_but_not_signed_count_as_signed(ward, monkeypatch):
    """Whoever dies between disk and answer cannot know whether the answer left."""
    attempt = Attempt(ward.talk(**UNNOISED).open()).upload()

    def dies(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Identity, "sign", dies)
        with pytest.raises(KeyboardInterrupt):
            attempt.ask(HARBOUR, attempt.survivors(HARBOUR))
    assert record_of(ward, attempt.talk.study).survivors == TWO
    talk = reopened(attempt.talk)
    assert asked(talk, attempt=2) == Refusal(code=RefusalCode.SECOND_ATTEMPT)


def joins(folder, _):
    """Two hospitals in a process of their own, before their first round."""
    ward = Ward.of(folder, TWO)
    return ward, Attempt(ward.talk(**UNNOISED).open())


def uploads(folder, say):
    """And up to their uploads."""
    ward, attempt = joins(folder, say)
    return ward, attempt.upload()


def one_uploads(folder, say):
    ward, attempt = joins(folder, say)
    attempt.upload(HARBOUR)
    ward.close()


def signs(folder, say):
    """And up to its signature; it says when the signature exists."""
    ward, attempt = uploads(folder, say)
    real = Identity.sign

    def heard(identity, purpose, message):
        if purpose == SURVIVORS_PURPOSE:
            say("signs")
        return real(identity, purpose, message)

    Identity.sign = heard
    try:
        answer, _ = attempt.ask(HARBOUR, attempt.survivors(HARBOUR))
    finally:
        Identity.sign = real
    assert isinstance(answer, Signed)
    ward.close()


def fresh(folder, name):
    (folder / name).mkdir(parents=True)
    Ward.make(folder / name, TWO).close()
    return folder / name


def steps_to(work, folder):
    """How many steps it takes in a process that has read its modules: a fork's."""
    return [steps_of(work, fresh(folder, name)) for name in ("cold", "warm")][-1]


def test_an_attempt_that_was_begun_is_never_answered_again_wherever_the_process_is_killed(tmp_path):
    """kill -9 at writes of the upload: either nothing was begun, or it is on disk for ever."""
    before = steps_to(lambda *given: joins(*given)[0].close(), tmp_path / "before")
    whole = steps_to(one_uploads, tmp_path / "whole")
    begun = set()
    for step in range(before, whole, 8):
        folder = fresh(tmp_path, f"step-{step}")
        killed_at(step, one_uploads, folder)
        ward = Ward.of(folder, TWO)
        talk = Talk(ward, ward.study(**UNNOISED), ward.new_log())
        last = record_of(ward, talk.study)
        kinds = [kind for kind, _ in ward[HARBOUR].log_entries(talk.study)]
        assert last is not None or "release-reserved" not in kinds
        begun.add(last is not None)
        talk.open("ef" * 16)
        answer = asked(talk)
        if last is None:
            assert isinstance(answer, Update)
        else:
            assert answer == Refusal(code=RefusalCode.REPLAY)
        assert isinstance(asked(talk, attempt=2), Update)
        ward.close()
    assert begun == {True, False}


def test_survivors_are_on_disk_before_a_signature_exists_wherever_the_process_is_killed(tmp_path):
    """kill -9 before every write of the answer: the set is on disk or nothing is signed.

    Whatever is left opens again, and whether a second attempt is answered follows from it.
    """

    before = steps_to(lambda *given: uploads(*given)[0].close(), tmp_path / "before")
    whole = steps_to(signs, tmp_path / "whole")
    assert whole > before
    written = set()
    for step in range(before, whole + 1, 2):
        folder = fresh(tmp_path, f"step-{step}")
        said = killed_at(step, signs, folder)
        ward = Ward.of(folder, TWO)
        talk = Talk(ward, ward.study(**UNNOISED), ward.new_log())
        last = record_of(ward, talk.study)
        assert last.survivors is not None or not said
        written.add(last.survivors)
        talk.open("ef" * 16)
        assert asked(talk) == Refusal(code=RefusalCode.REPLAY)
        answer = asked(talk, attempt=2)
        if last.survivors is None:
            assert isinstance(answer, Update)
        else:
            assert answer == Refusal(code=RefusalCode.SECOND_ATTEMPT)
        ward.close()
    assert written == {None, TWO}


def kept(ward, study):
    """The attempt file as it is now."""
    return ward[HARBOUR].home.attempt_file(study.digest).read_bytes()


def put_back(ward, study, content):
    path = ward[HARBOUR].home.attempt_file(study.digest)
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)


@pytest.mark.parametrize("copy", ["removed", "of an earlier round", "from before it was signed"])
@pytest.mark.parametrize("restarted", [True, False], ids=["after a restart", "in mid-run"])
def test_an_attempt_file_that_was_rolled_back_is_refused(ward, copy, restarted):
    talk = ward.talk().open()
    first = Attempt(talk).upload()
    copies = {"removed": None, "of an earlier round": kept(ward, talk.study)}
    first.signed()
    second = Attempt(talk, {"number": 1}).upload()
    copies["from before it was signed"] = kept(ward, talk.study)
    second.signed()
    newest = kept(ward, talk.study)
    put_back(ward, talk.study, copies[copy])
    if restarted:
        ward[HARBOUR].restart()
        assert ward[HARBOUR].ask(talk.open_message())[0] == ROLLED_BACK
    else:
        assert asked(talk, number=1, attempt=2) == ROLLED_BACK
        message = second.survivors(HARBOUR)
        assert attempt_asks(second, message) == ROLLED_BACK
    put_back(ward, talk.study, newest)
    if restarted:
        assert isinstance(ward[HARBOUR].ask(talk.open_message())[0], Joined)
    else:
        assert isinstance(asked(talk, number=1, attempt=2), Update)


def attempt_asks(attempt, message):
    return attempt.ask(HARBOUR, message)[0]


def test_an_evidence_log_that_was_rolled_back_alone_is_refused(ward):
    talk = ward.talk().open()
    ward[HARBOUR].stop()
    logs = ward[HARBOUR].home.directory / "evidence"
    shutil.copytree(logs, ward.folder / "kept")
    ward[HARBOUR].restart()
    talk.open("ef" * 16)
    Attempt(talk).upload()
    Attempt(talk, {"number": 1}).upload()
    ward[HARBOUR].stop()
    shutil.rmtree(logs)
    shutil.copytree(ward.folder / "kept", logs)
    assert ward[HARBOUR].ask(talk.open_message())[0] == ROLLED_BACK


def test_an_attempt_that_was_written_but_not_logged_is_no_roll_back(ward, monkeypatch):
    """The file comes first: after a crash between the two it is one step ahead of the log."""
    talk = ward.talk().open()
    assert isinstance(asked(talk), Update)

    def dies(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(hospital_round.RoundWorker, "_reserve", dies)
        with pytest.raises(KeyboardInterrupt):
            asked(talk, number=1)
    ahead = kept(ward, talk.study)
    reopened(talk)
    assert asked(talk, number=1) == Refusal(code=RefusalCode.REPLAY)
    assert isinstance(asked(talk, number=1, attempt=2), Update)
    # Once something was logged after it, the same file is an old copy.
    put_back(ward, talk.study, ahead)
    assert asked(talk, number=1, attempt=3) == ROLLED_BACK


def test_an_attempt_file_that_is_not_what_we_write_is_an_error_and_no_answer(ward):
    talk = ward.talk().open()
    assert isinstance(asked(talk), Update)
    path = ward[HARBOUR].home.attempt_file(talk.study.digest)
    fields = json.loads(path.read_bytes())
    put_back(ward, talk.study, json.dumps(fields | {"note": 1}, sort_keys=True).encode())
    assert isinstance(asked(talk, number=1), Failed)
