"""What a hospital refuses to sign: only one true set of survivors of its present attempt."""

import pytest
from tests.support.attempts import FOUR, Attempt
from tests.support.hospitals import RUN, Ward

from wardround.identity import verify
from wardround.masking.survivors import SURVIVORS_PURPOSE, SurvivorSet
from wardround.protocol.messages import Refusal, RefusalCode, Signed, Update
from wardround_client.approval import withdraw

HARBOUR, LAKESIDE, NORTHSIDE, SOUTHSIDE = FOUR
REFUSED = Refusal(code=RefusalCode.SURVIVORS)


@pytest.fixture(scope="module")
def uploaded(tmp_path_factory):
    """One attempt for all refusals: a refused message leaves nothing behind but a line in the log.

    Two attempts came before it, so that there are headers and shares of another one.
    """
    ward = Ward.make(tmp_path_factory.mktemp("ward"), FOUR)
    talk = ward.talk().open()
    earlier = Attempt(talk).upload()
    yield Attempt(talk, {"attempt": 2}).upload(), earlier
    ward.close()


def changed(message, kind, name, **changes):
    """The message with one header or share changed."""
    entries = dict(getattr(message, kind))
    entries[name] = entries[name].model_copy(update=changes)
    return message.model_copy(update={kind: entries})


def without(message, kind, name):
    entries = {key: value for key, value in getattr(message, kind).items() if key != name}
    return message.model_copy(update={kind: entries})


def flipped(text):
    return text[:-1] + ("0" if text[-1] != "0" else "1")


def header_of_another_attempt(message, earlier):
    update, _ = earlier.updates[LAKESIDE]
    return changed(message, "headers", LAKESIDE, header=update.header, signature=update.signature)


def own_header_of_another_attempt(message, earlier):
    update, _ = earlier.updates[HARBOUR]
    return changed(message, "headers", HARBOUR, header=update.header, signature=update.signature)


def header_of_another_hospital(message, _):
    taken = message.headers[NORTHSIDE]
    return message.model_copy(update={"headers": {**message.headers, LAKESIDE: taken}})


def share_of_another_attempt(message, earlier):
    return message.model_copy(
        update={
            "shares": {
                **message.shares,
                LAKESIDE: earlier.survivors(HARBOUR).shares[LAKESIDE],
            }
        }
    )


SPOILT = {
    "without us": lambda message, _: message.model_copy(update={"survivors": FOUR[1:]}),
    "too few": lambda message, _: message.model_copy(update={"survivors": FOUR[:2]}),
    "a stranger": lambda message, _: message.model_copy(update={"survivors": (*FOUR, "stranger")}),
    "one twice": lambda message, _: message.model_copy(
        update={"survivors": (HARBOUR, HARBOUR, LAKESIDE, NORTHSIDE)}
    ),
    "not sorted": lambda message, _: message.model_copy(update={"survivors": FOUR[::-1]}),
    "nobody": lambda message, _: message.model_copy(update={"survivors": ()}),
    "fewer than the headers": lambda message, _: message.model_copy(update={"survivors": FOUR[:3]}),
    "a header missing": lambda message, _: without(message, "headers", LAKESIDE),
    "our header missing": lambda message, _: without(message, "headers", HARBOUR),
    "a share missing": lambda message, _: without(message, "shares", LAKESIDE),
    "a share of ours": lambda message, _: message.model_copy(
        update={"shares": {**message.shares, HARBOUR: message.shares[LAKESIDE]}}
    ),
    "a header's signature": lambda message, _: changed(
        message, "headers", LAKESIDE, signature=flipped(message.headers[LAKESIDE].signature)
    ),
    "a header's digest": lambda message, _: changed(
        message,
        "headers",
        LAKESIDE,
        header=message.headers[LAKESIDE].header | {"update_digest": "9" * 64},
    ),
    "a header with a field more": lambda message, _: changed(
        message, "headers", LAKESIDE, header=message.headers[LAKESIDE].header | {"note": "x"}
    ),
    "a header of another attempt": header_of_another_attempt,
    "our header of another attempt": own_header_of_another_attempt,
    "a header of another hospital": header_of_another_hospital,
    "another sealed share": lambda message, _: changed(
        message, "shares", LAKESIDE, sealed=flipped(message.shares[LAKESIDE].sealed)
    ),
    "another commitment": lambda message, _: changed(
        message, "shares", LAKESIDE, commitment="9" * 64
    ),
    "another proof": lambda message, _: changed(message, "shares", LAKESIDE, proof=()),
    "a share of another attempt": share_of_another_attempt,
    "an earlier attempt": lambda _, earlier: earlier.survivors(HARBOUR),
    "no attempt of ours": lambda message, _: message.model_copy(update={"transcript": "9" * 64}),
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_survivors_that_are_not_true_are_refused_and_nothing_is_signed(uploaded, spoil):
    attempt, earlier = uploaded
    message = spoil(attempt.survivors(HARBOUR), earlier)
    assert attempt.ask(HARBOUR, message)[0] == REFUSED
    entries = attempt.talk.ward[HARBOUR].log_entries(attempt.talk.study)
    assert entries[-1] == (
        "round-refused",
        {"transcript": message.transcript, "code": RefusalCode.SURVIVORS.value},
    )
    assert "survivors-signed" not in [kind for kind, _ in entries]


@pytest.mark.parametrize("field", ["run", "session"])
def test_survivors_of_a_session_that_this_process_did_not_join_are_refused(uploaded, field):
    attempt, _ = uploaded
    message = attempt.survivors(HARBOUR).model_copy(update={field: "9" * 32})
    assert attempt.ask(HARBOUR, message)[0] == Refusal(code=RefusalCode.NO_SESSION)


@pytest.fixture
def attempt(tmp_path):
    ward = Ward.make(tmp_path, FOUR)
    yield Attempt(ward.talk().open())
    ward.close()


def test_survivors_before_any_upload_are_refused(attempt):
    attempt.upload(LAKESIDE, NORTHSIDE, SOUTHSIDE)
    message = attempt.survivors(LAKESIDE)
    assert attempt.ask(HARBOUR, message)[0] == REFUSED


def test_a_sender_that_signed_for_another_key_of_the_pair_is_named(attempt):
    """Two that do not share a key cannot both be honest, and their masks would not cancel."""
    attempt.upload()
    message = attempt.survivors(HARBOUR)
    header, share = attempt.forged(LAKESIDE, HARBOUR, commitment="9" * 64)
    forged = message.model_copy(
        update={
            "headers": {**message.headers, LAKESIDE: header},
            "shares": {**message.shares, LAKESIDE: share},
        }
    )
    answer, _ = attempt.ask(HARBOUR, forged)
    assert answer == Refusal(code=RefusalCode.SURVIVORS, hospital=LAKESIDE)
    assert isinstance(attempt.ask(HARBOUR, message)[0], Signed)


def test_a_true_set_is_logged_and_signed_and_asked_again_gets_the_same_answer(attempt):
    attempt.upload()
    message = attempt.survivors(HARBOUR)
    answer, _ = attempt.ask(HARBOUR, message)
    assert isinstance(answer, Signed), answer
    hospital = attempt.talk.ward[HARBOUR]
    verify(
        hospital.home.identity().public_key,
        SURVIVORS_PURPOSE,
        SurvivorSet(attempt.transcript, FOUR).signed_bytes(HARBOUR),
        bytes.fromhex(answer.signature),
    )
    assert attempt.ask(HARBOUR, message)[0] == answer
    entries = hospital.log_entries(attempt.talk.study)
    assert entries[-1] == (
        "survivors-signed",
        {"transcript": attempt.transcript, "survivors": list(FOUR)},
    )
    assert [kind for kind, _ in entries].count("survivors-signed") == 1


def test_a_second_set_of_survivors_is_refused_for_ever(attempt):
    attempt.upload()
    first, second = (attempt.survivors(HARBOUR, among) for among in (FOUR, FOUR[:3]))
    signed, _ = attempt.ask(HARBOUR, first)
    refused = Refusal(code=RefusalCode.SECOND_SURVIVORS)
    assert attempt.ask(HARBOUR, second)[0] == refused
    assert attempt.ask(HARBOUR, second)[0] == refused
    assert attempt.ask(HARBOUR, first)[0].signature == signed.signature
    # A process that has forgotten everything but what is on disk refuses it as well.
    attempt.talk.ward[HARBOUR].restart()
    attempt.talk.open("ef" * 16)
    session = {"session": attempt.talk.session}
    assert attempt.ask(HARBOUR, second.model_copy(update=session))[0] == refused
    assert attempt.ask(HARBOUR, first.model_copy(update=session))[0] == REFUSED


def test_a_set_of_an_attempt_that_another_one_followed_is_not_signed(attempt):
    attempt.upload()
    message = attempt.survivors(HARBOUR)
    Attempt(attempt.talk, {"attempt": 2}).upload()
    assert attempt.ask(HARBOUR, message)[0] == REFUSED


def test_an_officer_who_takes_the_approval_back_stops_the_signature(attempt):
    attempt.upload()
    withdraw(attempt.talk.ward[HARBOUR].home, attempt.talk.study)
    answer, _ = attempt.ask(HARBOUR, attempt.survivors(HARBOUR))
    assert answer == Refusal(code=RefusalCode.NOT_APPROVED)


def test_an_upload_with_one_trip_has_no_survivors_to_sign(tmp_path):
    ward = Ward.make(tmp_path, FOUR)
    talk = ward.talk(privacy__mechanism="distributed", masking__profile="one-trip").open()
    attempt = Attempt(talk)
    answer, _ = attempt.ask(HARBOUR, talk.work(attempt.spec), talk.model)
    assert isinstance(answer, Update)
    assert answer.shares is None
    double = ward.talk(title="Double").open()
    other = Attempt(double).upload(*FOUR[1:])
    message = other.survivors(LAKESIDE).model_copy(
        update={"session": talk.session, "transcript": attempt.transcript, "run": RUN}
    )
    assert attempt.ask(HARBOUR, message)[0] == REFUSED
    ward.close()
