"""The end of a run at a hospital: it signs only under a history that holds what it saw and sent."""

from datetime import UTC, datetime

import numpy as np
import pytest
from tests.support.attempts import Attempt
from tests.support.hospitals import NAMES, RUN, Ward

from wardround.audit.countersign import Countersignature, verify_countersignature
from wardround.evidence.checkpoint import verify_checkpoint
from wardround.protocol.halves import model_digest
from wardround.protocol.messages import Close, Closed, Refusal, RefusalCode

HARBOUR = NAMES[0]
REFUSED = Refusal(code=RefusalCode.HISTORY)


class Closing:
    """A run of one round at one hospital, and the log that an honest coordinator ends it with."""

    def __init__(self, ward, **changes):
        self.talk = ward.talk(**changes).open()
        self.hospital = ward[HARBOUR]
        self.attempt = Attempt(self.talk).upload()
        self.spec, transcript = self.attempt.spec, self.attempt.transcript
        update, _ = self.attempt.updates[HARBOUR]
        digest = model_digest(self.talk.model)
        received = {
            "transcript": transcript,
            "hospital": HARBOUR,
            "header": update.header,
            "signature": update.signature,
            "bytes": 12,
        }
        closed = {
            "transcript": transcript,
            "sum_digest": "0" * 64,
            "model_before": digest,
            "model_after": digest,
        }
        survivors = {"transcript": transcript, "survivors": list(NAMES[:2]), "signatures": {}}
        self.entries = [
            ("round-opened", {"transcript": transcript, "spec": self.spec.to_json()}),
            ("update-received", received),
            ("survivors-agreed", survivors),
            ("round-closed", closed),
            ("run-closed", {"rounds": 1, "hospitals_completed": [HARBOUR], "model": digest}),
        ]

    def end(self, log=None):
        log = log or self.talk.log
        log.append_many(self.entries, time=datetime.now(UTC))
        self.message = self.talk.close_message(log)
        return self.ask(self.message)

    def ask(self, close):
        return self.hospital.ask(close, self.talk.model)[0]


@pytest.fixture
def closing(tmp_path):
    ward = Ward.make(tmp_path, NAMES[:2])
    yield Closing(ward)
    ward.close()


def test_an_honest_log_is_countersigned_and_the_hospitals_own_log_comes_back(closing):
    closed = closing.end()
    assert isinstance(closed, Closed)
    key = closing.hospital.home.identity().public_key
    signature = Countersignature(
        checkpoint=closing.message.checkpoint, signature=closed.countersignature
    )
    verify_countersignature(key, signature, study_digest=closing.talk.study.digest, run=RUN)
    own = closing.hospital.log_entries(closing.talk.study)
    handed_over = verify_checkpoint(closed.checkpoint, key, lasting=True)
    assert closed.log.count("\n") == len(own) == handed_over.size
    kind, ended = own[-1]
    assert kind == "run-ended"
    assert ended["coordinator_head"] == closing.talk.log.head
    assert 0 < ended["epsilon"] == ended["epsilon_dataset"] <= 3 < ended["epsilon_budget"]


def test_the_final_model_and_its_local_evaluation_stay_at_the_hospital(closing):
    closing.end()
    kept = sorted(p.name for p in (closing.hospital.home.directory / "models").iterdir())
    assert kept == [f"{RUN}.evaluation.json", f"{RUN}.safetensors"]


def test_the_end_of_a_run_is_the_end_of_its_secrets(closing):
    secrets = closing.hospital.hospital.sessions[RUN].secrets
    pairs, attempt = secrets.pairs, secrets.attempt
    assert pairs._roots
    assert attempt._self_key
    closing.end()
    assert not pairs._roots
    assert not attempt._self_key
    work = closing.talk.work(closing.talk.spec(number=1))
    answer, _ = closing.hospital.ask(work, closing.talk.model)
    assert answer == Refusal(code=RefusalCode.SPEC)


def test_a_log_without_our_update_is_refused(closing):
    closing.entries = [entry for entry in closing.entries if entry[0] != "update-received"]
    assert closing.end() == REFUSED


def another_sum(closing, *survivors):
    """A round of which we know nothing, and its sum."""
    other = closing.talk.spec(number=1)
    transcript = other.transcript().hex()
    agreed = {"transcript": transcript, "survivors": list(survivors), "signatures": {}}
    closing.entries[4:4] = [
        ("round-opened", {"transcript": transcript, "spec": other.to_json()}),
        *([("survivors-agreed", agreed)] if survivors else []),
        ("round-closed", {"transcript": transcript}),
    ]


def test_a_sum_that_names_us_as_a_survivor_while_we_sent_nothing_is_refused(closing):
    another_sum(closing, *NAMES[:2])
    assert closing.end() == REFUSED


def test_a_sum_of_a_round_that_we_missed_is_fine_without_us(closing):
    another_sum(closing, NAMES[1])
    assert isinstance(closing.end(), Closed)


def test_a_sum_of_a_round_that_names_us_in_its_cohort_needs_survivors(closing):
    another_sum(closing)
    assert closing.end() == REFUSED


def survivors(closing, *names):
    closing.entries[2][1]["survivors"] = list(names)


def test_a_sum_that_left_our_update_out_is_fine_while_we_signed_nothing(closing):
    """It came too late, or the others signed without us: our update is in no sum then."""
    survivors(closing, NAMES[1])
    assert isinstance(closing.end(), Closed)


@pytest.mark.parametrize("others", [(NAMES[1],), (HARBOUR,), (HARBOUR, *NAMES[1:3])])
def test_a_sum_over_other_survivors_than_we_signed_is_refused(closing, others):
    closing.attempt.signed()
    survivors(closing, *others)
    assert closing.end() == REFUSED


def test_a_sum_over_the_survivors_that_we_signed_is_countersigned(closing):
    closing.attempt.signed()
    assert isinstance(closing.end(), Closed)


@pytest.mark.parametrize("listed", [True, False])
def test_with_one_trip_the_whole_cohort_is_in_the_sum(tmp_path, listed):
    ward = Ward.make(tmp_path, NAMES[:2])
    closing = Closing(ward, privacy__mechanism="distributed", masking__profile="one-trip")
    closing.entries.pop(2)
    if not listed:
        closing.entries.pop(1)
    assert isinstance(closing.end(), Closed if listed else Refusal)
    ward.close()


@pytest.mark.parametrize("change", ["digest", "header", "transcript"])
def test_a_log_that_changes_our_update_is_refused(closing, change):
    received = closing.entries[1][1]
    if change == "digest":
        received["header"] = received["header"] | {"update_digest": "9" * 64}
    elif change == "header":
        received["header"] = "none"
    else:
        received["transcript"] = "9" * 64
    assert closing.end() == REFUSED


def test_a_log_that_was_rewritten_is_refused(closing):
    log = closing.talk.ward.new_log()
    for number in range(closing.talk.log.size):
        log.append("study-opened", {"number": number}, time=datetime.now(UTC))
    assert closing.end(log) == REFUSED


def test_a_log_that_shrank_is_refused(closing):
    assert closing.ask(closing.talk.close_message(closing.talk.ward.new_log())) == REFUSED


def test_a_head_over_fewer_entries_than_the_log_has_is_refused(closing):
    early = closing.talk.log.checkpoint()
    closing.talk.log.append_many(closing.entries, time=datetime.now(UTC))
    close = closing.talk.close_message().model_copy(update={"checkpoint": early})
    assert closing.ask(close) == REFUSED


@pytest.mark.parametrize("spoil", ["line", "order", "not lines"])
def test_a_damaged_log_is_refused(closing, spoil):
    closing.talk.log.append_many(closing.entries, time=datetime.now(UTC))
    close = closing.talk.close_message()
    lines = close.log.splitlines(keepends=True)
    texts = {
        "line": close.log.replace('"bytes":12', '"bytes":13'),
        "order": "".join([lines[1], lines[0], *lines[2:]]),
        "not lines": "{}",
    }
    assert closing.ask(close.model_copy(update={"log": texts[spoil]})) == REFUSED


@pytest.mark.parametrize("spoil", [lambda m: m + np.float32(1), lambda m: m[:2]])
def test_a_final_model_that_is_not_the_one_of_the_log_is_refused_and_not_kept(closing, spoil):
    closing.talk.log.append_many(closing.entries, time=datetime.now(UTC))
    close = closing.talk.close_message()
    assert closing.hospital.ask(close, spoil(closing.talk.model))[0] == REFUSED
    assert not (closing.hospital.home.directory / "models").exists()


def test_a_refused_close_leaves_no_end_of_the_run_in_the_log(closing):
    closing.entries.pop(1)
    closing.end()
    kinds = [kind for kind, _ in closing.hospital.log_entries(closing.talk.study)]
    assert "run-ended" not in kinds


def test_a_process_that_did_not_join_countersigns_nothing(closing):
    closing.hospital.restart()
    assert closing.end() == Refusal(code=RefusalCode.NO_SESSION)


def test_an_end_that_is_signed_with_ed25519_alone_is_refused(closing):
    """What is countersigned has to convince for years: both of the coordinator's keys sign it."""
    log = closing.talk.log
    log.append_many(closing.entries, time=datetime.now(UTC))
    short = Close(run=RUN, log=log.export().decode(), checkpoint=log.checkpoint())
    assert closing.ask(short) == REFUSED
