"""What a hospital refuses before a session has keys: dishonest directories and secrets."""

from dataclasses import replace
from typing import NamedTuple

import pytest
from tests.support.hospitals import NAMES, RUN, Talk, Ward

from wardround.canonical import Json
from wardround.masking.agreement import ENCAPSULATION_PURPOSE, Encapsulation, encapsulate_768
from wardround.masking.run_key import RunKey, sign_run_key
from wardround.protocol.messages import Agreed, Keyed, Refusal, RefusalCode, Update
from wardround.randomness import system_randomness

HARBOUR, LAKESIDE, NORTHSIDE = NAMES
REFUSED = Refusal(code=RefusalCode.DIRECTORY)


@pytest.fixture
def joined(tmp_path):
    ward = Ward.make(tmp_path)
    yield ward.talk().join()
    ward.close()


class Came(NamedTuple):
    """What came honestly, in order."""

    talk: Talk
    first: Json
    second: Json
    third: Json | None = None


def run_key_of(talk, name, signer=None, **changes):
    """A fresh run key of `name`, signed by it unless another party does."""
    fields = {"run": RUN, "session": talk.session, "hospital": name} | changes
    identity = signer or talk.ward[name].home.identity()
    return sign_run_key(identity, RunKey.generate(system_randomness), **fields).to_json()


def of_the_coordinator(came):
    """The coordinator puts a key of its own under another hospital's name."""
    coordinator = came.talk.ward.coordinator.identity()
    return [came.first, run_key_of(came.talk, LAKESIDE, coordinator), came.third]


def one_flipped_byte(value):
    return value[:-1] + ("0" if value[-1] != "0" else "1")


SPOILT = {
    "a key of the coordinator's": of_the_coordinator,
    "another X25519 key": lambda came: [
        came.first,
        came.second | {"public_key": run_key_of(came.talk, LAKESIDE)["public_key"]},
        came.third,
    ],
    "another ML-KEM key": lambda came: [
        came.first,
        came.second | {"kem_key": run_key_of(came.talk, LAKESIDE)["kem_key"]},
        came.third,
    ],
    "a changed signature": lambda came: [
        came.first,
        came.second | {"signature": one_flipped_byte(came.second["signature"])},
        came.third,
    ],
    "without our key": lambda came: [came.second, came.third],
    "another key of ours": lambda came: [
        run_key_of(came.talk, HARBOUR),
        came.second,
        came.third,
    ],
    "a hospital twice": lambda came: [came.first, came.second, came.second],
    "a key of an earlier session": lambda came: [
        came.first,
        run_key_of(came.talk, LAKESIDE, session="9" * 32),
        came.third,
    ],
    "a hospital that is not on the roster": lambda came: [
        came.first,
        run_key_of(came.talk, "stranger", came.talk.ward.coordinator.identity()),
        came.third,
    ],
    "only us": lambda came: [came.first],
    "nobody": lambda _: [],
    "no key": lambda came: [came.first, {"hospital": LAKESIDE}, came.third],
    "more than the roster": lambda came: [came.first, came.second, came.third, came.third],
}


# Whose entry is not its own; where there is no such entry, nobody is named.
ACCUSED = dict.fromkeys(list(SPOILT)[:4], LAKESIDE) | {
    "a key of an earlier session": LAKESIDE,
    "no key": LAKESIDE,
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_directory_that_is_not_honest_is_refused_and_the_right_one_still_works(joined, name):
    directory = SPOILT[name](Came(joined, *joined.directory.to_json()))
    harbour = joined.ward[HARBOUR]
    refused, _ = harbour.ask(joined.agree_message(directory=directory))
    assert refused == Refusal(code=RefusalCode.DIRECTORY, hospital=ACCUSED.get(name))
    answer, _ = harbour.ask(joined.agree_message())
    assert isinstance(answer, Agreed), answer


def test_the_same_directory_again_gets_the_same_secrets_again(joined):
    """Two secrets for one peer would let the coordinator set two honest hospitals at odds."""
    harbour = joined.ward[HARBOUR]
    first, _ = harbour.ask(joined.agree_message())
    assert [one["recipient"] for one in first.encapsulations] == [LAKESIDE, NORTHSIDE]
    assert harbour.ask(joined.agree_message())[0] == first
    joined.agree()
    assert harbour.ask(joined.agree_message())[0] == first


@pytest.mark.parametrize("when", ["after the directory", "after the keys"])
def test_a_second_directory_in_the_same_session_is_refused(joined, when):
    """Two directories under one run key would be two sets of masks."""
    harbour = joined.ward[HARBOUR]
    if when == "after the keys":
        joined.agree()
    else:
        assert isinstance(harbour.ask(joined.agree_message())[0], Agreed)
    first, _, third = joined.directory.to_json()
    other = [first, run_key_of(joined, LAKESIDE), third]
    assert harbour.ask(joined.agree_message(directory=other))[0] == REFUSED
    assert harbour.ask(joined.agree_message(directory=[first, third]))[0] == REFUSED


@pytest.mark.parametrize("field", ["run", "session"])
@pytest.mark.parametrize("kind", ["agree", "keys"])
def test_a_session_that_this_process_did_not_join_gets_no_keys(joined, kind, field):
    question = joined.agree_message() if kind == "agree" else joined.keys_message(HARBOUR)
    answer, _ = joined.ward[HARBOUR].ask(question.model_copy(update={field: "9" * 32}))
    assert answer == Refusal(code=RefusalCode.NO_SESSION)


@pytest.fixture
def agreed(joined):
    """Everybody has checked the directory; nobody has the others' secrets yet."""
    for name, hospital in joined.ward.hospitals.items():
        answer, _ = hospital.ask(joined.agree_message())
        joined.encapsulations[name] = answer.encapsulations
    return joined


def signed_by(talk, name, value, **changes):
    """The encapsulation with other fields, signed anew by `name`."""
    one = replace(Encapsulation.from_json(value), **changes)
    identity = talk.ward[name].home.identity()
    signature = identity.sign(ENCAPSULATION_PURPOSE, one.signed_bytes())
    return replace(one, signature=signature).to_json()


def of_another(talk, value):
    """A secret of the coordinator's under our key, in the name of a peer."""
    northside = next(e for e in talk.directory.entries if e.hospital == NORTHSIDE)
    _, ciphertext = encapsulate_768(northside.kem_key)
    return value | {"ciphertext": ciphertext.hex()}


WRONG_KEYS = {
    "none": lambda _: [],
    "one missing": lambda came: [came.first],
    "one twice": lambda came: [came.first, came.first],
    "one too many": lambda came: [came.first, came.second, came.second],
    "one of a greater name": lambda came: [
        came.first,
        signed_by(came.talk, LAKESIDE, came.second, sender=NORTHSIDE),
    ],
    "another ciphertext": lambda came: [of_another(came.talk, came.first), came.second],
    "of another signer": lambda came: [
        signed_by(came.talk, LAKESIDE, came.first),
        came.second,
    ],
    "for another hospital": lambda came: [
        signed_by(came.talk, HARBOUR, came.first, recipient=LAKESIDE),
        came.second,
    ],
    "for another session": lambda came: [
        signed_by(came.talk, HARBOUR, came.first, session="9" * 32),
        came.second,
    ],
    "for another run": lambda came: [
        signed_by(came.talk, HARBOUR, came.first, run="9" * 32),
        came.second,
    ],
    "for another directory": lambda came: [
        signed_by(came.talk, HARBOUR, came.first, directory_digest="9" * 64),
        came.second,
    ],
    "a field more": lambda came: [came.first | {"note": "x"}, came.second],
    "a short ciphertext": lambda came: [
        came.first | {"ciphertext": came.first["ciphertext"][2:]},
        came.second,
    ],
}


SENDERS = {
    "one of a greater name": NORTHSIDE,
    "another ciphertext": HARBOUR,
    "of another signer": HARBOUR,
    "for another hospital": HARBOUR,
    "for another session": HARBOUR,
    "for another run": HARBOUR,
    "for another directory": HARBOUR,
}


@pytest.mark.parametrize("name", WRONG_KEYS)
def test_secrets_that_are_not_the_peers_are_refused_and_the_right_ones_still_work(agreed, name):
    northside, right = agreed.ward[NORTHSIDE], agreed.keys_message(NORTHSIDE)
    wrong = agreed.keys_message(
        NORTHSIDE, encapsulations=WRONG_KEYS[name](Came(agreed, *right.encapsulations))
    )
    refused, _ = northside.ask(wrong)
    assert refused == Refusal(code=RefusalCode.DIRECTORY, hospital=SENDERS.get(name))
    assert northside.ask(right)[0] == Keyed(hospital=NORTHSIDE)


def test_secrets_before_a_directory_are_refused(joined):
    assert joined.ward[HARBOUR].ask(joined.keys_message(HARBOUR))[0] == REFUSED


def test_the_same_secrets_again_are_answered_and_other_ones_are_refused(agreed):
    northside, right = agreed.ward[NORTHSIDE], agreed.keys_message(NORTHSIDE)
    for _ in range(2):
        assert northside.ask(right)[0] == Keyed(hospital=NORTHSIDE)
    first, second = right.encapsulations
    other = agreed.keys_message(NORTHSIDE, encapsulations=[of_another(agreed, first), second])
    assert northside.ask(other)[0] == REFUSED
    assert northside.ask(right)[0] == Keyed(hospital=NORTHSIDE)


def test_a_round_before_the_keys_is_refused_and_nothing_is_charged(agreed):
    harbour = agreed.ward[HARBOUR]
    work = agreed.work(agreed.spec())
    assert harbour.ask(work, agreed.model)[0] == REFUSED
    assert not harbour.hospital.sessions[RUN].ledger.releases()
    assert harbour.ask(agreed.keys_message(HARBOUR))[0] == Keyed(hospital=HARBOUR)
    assert isinstance(harbour.ask(work, agreed.model)[0], Update)


def test_the_run_key_is_gone_as_soon_as_keys_are_agreed(agreed):
    """From it, and what the coordinator relayed, every mask of the session could be made again."""
    harbour = agreed.ward[HARBOUR]
    secrets = harbour.hospital.sessions[RUN].secrets
    assert secrets.run_key is not None
    harbour.ask(agreed.keys_message(HARBOUR))
    assert secrets.run_key is None
