"""What a hospital reveals: what opens the sum over the survivors it signed, and nothing else."""

import numpy as np
import pytest
from tests.support.attempts import FOUR, Attempt
from tests.support.hospitals import RUN, Ward

from wardround.masking.quantise import quantise
from wardround.masking.survivors import SurvivorSet
from wardround.protocol.messages import Refusal, RefusalCode, Revealed
from wardround_client import round as hospital_round
from wardround_client.approval import withdraw

HARBOUR, LAKESIDE, NORTHSIDE, SOUTHSIDE = FOUR
REFUSED = Refusal(code=RefusalCode.SURVIVORS)


@pytest.fixture(scope="module")
def signed(tmp_path_factory):
    """All have uploaded, all but one have signed; refusals leave nothing behind."""
    ward = Ward.make(tmp_path_factory.mktemp("ward"), FOUR)
    attempt = Attempt(ward.talk().open()).upload()
    _, asks = attempt.signed(signers=FOUR[:3])
    yield attempt, asks[HARBOUR]
    ward.close()


def resigned(attempt, name, transcript=None, survivors=FOUR, signer=None):
    """A signature of `name` under what the coordinator would like it to have signed."""
    identity = attempt.talk.ward[signer or name].home.identity()
    asked = SurvivorSet(transcript or attempt.transcript, tuple(survivors))
    return asked.sign(identity, name).hex()


def signatures(message, **changes):
    return message.model_copy(update={"signatures": {**message.signatures, **changes}})


def vanished(message, *names):
    return message.model_copy(update={"vanished": names})


SPOILT = {
    "too few signatures": lambda _, message: message.model_copy(
        update={"signatures": dict(list(message.signatures.items())[:2])}
    ),
    "no signature": lambda _, message: message.model_copy(update={"signatures": {}}),
    "a signature under fewer survivors": lambda attempt, message: signatures(
        message, lakeside=resigned(attempt, LAKESIDE, survivors=FOUR[:3])
    ),
    "a signature under another attempt": lambda attempt, message: signatures(
        message, lakeside=resigned(attempt, LAKESIDE, transcript="9" * 64)
    ),
    "a signature of another hospital": lambda attempt, message: signatures(
        message, lakeside=resigned(attempt, LAKESIDE, signer=NORTHSIDE)
    ),
    "a signature of a stranger": lambda _, message: signatures(
        message, stranger=message.signatures[LAKESIDE]
    ),
    "we have vanished": lambda _, message: vanished(message, HARBOUR),
    "a stranger has vanished": lambda _, message: vanished(message, "stranger"),
    "too many have vanished": lambda _, message: vanished(message, LAKESIDE, SOUTHSIDE),
    "one has vanished twice": lambda _, message: vanished(message, SOUTHSIDE, SOUTHSIDE),
    "another attempt": lambda _, message: message.model_copy(update={"transcript": "9" * 64}),
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_a_reveal_that_is_not_due_is_refused_and_logged(signed, spoil):
    attempt, right = signed
    message = spoil(attempt, right)
    assert attempt.ask(HARBOUR, message)[0] == REFUSED
    entries = attempt.talk.ward[HARBOUR].log_entries(attempt.talk.study)
    assert entries[-1] == (
        "round-refused",
        {"transcript": message.transcript, "code": RefusalCode.SURVIVORS.value},
    )


@pytest.mark.parametrize("field", ["run", "session"])
def test_a_reveal_of_a_session_that_this_process_did_not_join_is_refused(signed, field):
    attempt, right = signed
    message = right.model_copy(update={field: "9" * 32})
    assert attempt.ask(HARBOUR, message)[0] == Refusal(code=RefusalCode.NO_SESSION)


def test_nobody_is_asked_for_a_key_of_a_survivor_and_the_answer_is_the_same_again(signed):
    attempt, right = signed
    answer, _ = attempt.ask(HARBOUR, right)
    assert isinstance(answer, Revealed), answer
    assert right.vanished == (SOUTHSIDE,)
    assert answer.pair_keys == {}
    # One share: that of the vanished hospital's own mask key. None of its keys with survivors.
    assert {name: len(shares) for name, shares in answer.shares.items()} == {SOUTHSIDE: 1}
    assert attempt.ask(HARBOUR, right)[0] == answer


def test_a_hospital_that_did_not_sign_reveals_nothing(signed):
    attempt, right = signed
    assert attempt.ask(SOUTHSIDE, vanished(right))[0] == REFUSED


@pytest.fixture
def plain_lanes(monkeypatch):
    """What each hospital masks, in order, as lanes."""
    seen, real = [], hospital_round.to_mask

    def watched(update):
        values = real(update)
        seen.append(values)
        return values

    monkeypatch.setattr(hospital_round, "to_mask", watched)
    return seen


@pytest.fixture
def attempt(tmp_path):
    ward = Ward.make(tmp_path, FOUR)
    yield Attempt(ward.talk().open())
    ward.close()


def sum_of(attempt, plain):
    spec = attempt.spec
    lanes = [quantise(values, scale=spec.scale, limit=spec.limit) for values in plain]
    return np.sum(lanes, axis=0, dtype=np.int64).tolist()


@pytest.mark.parametrize(
    ("uploads", "signers"),
    [(FOUR, FOUR), (FOUR[:3], FOUR[:3]), (FOUR, FOUR[1:])],
    ids=["all", "one dropped before its upload", "one vanished after its upload"],
)
@pytest.mark.parametrize("bits", [32, 24])
def test_the_sum_over_the_survivors_opens_bit_for_bit(
    tmp_path, plain_lanes, uploads, signers, bits
):
    ward = Ward.make(tmp_path, FOUR)
    attempt = Attempt(ward.talk(masking__bits=bits).open()).upload(*uploads)
    assert attempt.opened(*attempt.signed(signers=signers)) == sum_of(attempt, plain_lanes)
    ward.close()


def test_keys_with_a_dropped_hospital_are_revealed_and_those_with_survivors_are_not(attempt):
    attempt.upload(*FOUR[:3])
    _, asks = attempt.signed()
    answer, _ = attempt.ask(HARBOUR, asks[HARBOUR])
    assert (set(answer.pair_keys), answer.shares) == ({SOUTHSIDE}, {})


def test_shares_that_do_not_open_are_said_to_be_unreadable_and_stop_nothing(attempt):
    """Their sender signed for them, so the set is true; whoever needs them hears it."""
    attempt.upload()
    sealed = "00" * (len(attempt.updates[SOUTHSIDE][0].shares[HARBOUR].sealed) // 2)
    header, share = attempt.forged(SOUTHSIDE, HARBOUR, sealed=sealed)
    message = attempt.survivors(HARBOUR)
    forged = message.model_copy(
        update={
            "headers": {**message.headers, SOUTHSIDE: header},
            "shares": {**message.shares, SOUTHSIDE: share},
        }
    )
    attempt.ask(HARBOUR, forged)
    others = [attempt.ask(name, attempt.survivors(name))[0] for name in FOUR[1:3]]
    reveal = {
        "run": RUN,
        "session": attempt.talk.session,
        "transcript": attempt.transcript,
        "signatures": {
            HARBOUR: resigned(attempt, HARBOUR),
            LAKESIDE: others[0].signature,
            NORTHSIDE: others[1].signature,
        },
        "vanished": (SOUTHSIDE,),
    }
    _, asks = attempt.signed(signers=FOUR[1:])
    answer, _ = attempt.ask(HARBOUR, next(iter(asks.values())).model_copy(update=reveal))
    assert isinstance(answer, Revealed), answer
    assert (answer.shares, answer.unreadable) == ({}, (SOUTHSIDE,))


def test_an_attempt_that_another_one_followed_reveals_nothing_any_more(attempt):
    """Its keys are forgotten with the next round's work."""
    attempt.upload()
    _, asks = attempt.signed()
    Attempt(attempt.talk, {"attempt": 2}).upload(HARBOUR)
    assert attempt.ask(HARBOUR, asks[HARBOUR])[0] == REFUSED
    assert isinstance(attempt.ask(LAKESIDE, asks[LAKESIDE])[0], Revealed)


def test_an_officer_who_takes_the_approval_back_stops_the_reveal(attempt):
    attempt.upload()
    _, asks = attempt.signed()
    withdraw(attempt.talk.ward[HARBOUR].home, attempt.talk.study)
    answer, _ = attempt.ask(HARBOUR, asks[HARBOUR])
    assert answer == Refusal(code=RefusalCode.NOT_APPROVED)
