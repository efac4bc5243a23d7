"""A coordinator's log only grows: whatever else it shows, a hospital refuses its next round."""

from datetime import UTC, datetime

import pytest
from tests.support.hospitals import NAMES, Ward, proofs_of
from tests.support.refused_rounds import HARBOUR, refused

from wardround.protocol.messages import Refusal, RefusalCode, Update


@pytest.fixture
def ward(tmp_path):
    ward = Ward.make(tmp_path, NAMES[:2])
    yield ward
    ward.close()


def _now():
    return datetime.now(UTC)


def test_a_coordinators_log_that_shrank_is_refused(ward):
    talk = ward.talk().open()
    talk.log.append("study-opened", {}, time=_now())
    assert isinstance(ward[HARBOUR].ask(talk.work(talk.spec()), talk.model)[0], Update)
    shorter = ward.new_log().checkpoint()
    work = talk.work(talk.spec(attempt=2), checkpoint=shorter)
    assert refused(talk, work, talk.model) is RefusalCode.HISTORY


def test_a_coordinators_log_that_was_rewritten_is_refused_also_after_a_restart(ward):
    talk = ward.talk().open()
    assert isinstance(ward[HARBOUR].ask(talk.work(talk.spec()), talk.model)[0], Update)
    rewritten = ward.new_log()
    for number in range(talk.log.size):
        rewritten.append("study-opened", {"number": number}, time=_now())
    work = talk.work(talk.spec(attempt=2), checkpoint=rewritten.checkpoint())
    assert refused(talk, work, talk.model) is RefusalCode.HISTORY
    ward[HARBOUR].restart()
    message = talk.open_message(session="ef" * 16, checkpoint=rewritten.checkpoint())
    assert ward[HARBOUR].ask(message)[0] == Refusal(code=RefusalCode.HISTORY)


def test_a_head_counts_as_seen_only_when_it_is_in_the_log(ward):
    """A refused round logs no head: what memory knows, the log knows, also after a restart."""
    talk = ward.talk().open()
    evidence = ward[HARBOUR].hospital.sessions["ab" * 16].evidence
    talk.log.append("study-opened", {}, time=_now())
    evidence.witness(talk.log.checkpoint())
    logged = {
        body["size"]: body["head"]
        for kind, body in ward[HARBOUR].log_entries(talk.study)
        if kind == "checkpoint-witnessed"
    }
    assert evidence.coordinator.seen == logged


def test_work_is_refused_without_a_proof_that_the_coordinators_log_grew(ward):
    talk = ward.talk().open()
    talk.log.append("study-opened", {}, time=_now())
    missing = talk.work(talk.spec(), consistency=())
    assert refused(talk, missing, talk.model) is RefusalCode.HISTORY
    right = talk.work(talk.spec(attempt=2))
    short = [proof.model_copy(update={"hashes": proof.hashes[:-1]}) for proof in right.consistency]
    wrong = right.model_copy(update={"consistency": tuple(short)})
    assert refused(talk, wrong, talk.model) is RefusalCode.HISTORY
    assert isinstance(ward[HARBOUR].ask(talk.work(talk.spec(1)), talk.model)[0], Update)


def test_a_coordinator_that_rewrites_its_log_and_lets_it_grow_is_refused_in_the_next_round(ward):
    """Its log is longer than before, and no size comes twice: the proof alone shows it."""
    talk = ward.talk().open()
    assert isinstance(ward[HARBOUR].ask(talk.work(talk.spec()), talk.model)[0], Update)
    rewritten = ward.new_log()
    for number in range(talk.log.size + 3):
        rewritten.append("study-opened", {"number": number}, time=_now())
    work = talk.work(
        talk.spec(attempt=2), checkpoint=rewritten.checkpoint(), consistency=proofs_of(rewritten)
    )
    assert refused(talk, work, talk.model) is RefusalCode.HISTORY
