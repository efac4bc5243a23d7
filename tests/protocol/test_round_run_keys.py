"""A run key that spoils a directory costs its own hospital the session, and nobody else."""

import dataclasses

import pytest
from tests.support.hospitals import LANES, NAMES, Ward
from tests.support.memory_runs import Federation, when

from wardround.canonical import canonical_bytes
from wardround.masking.run_key import RUN_KEY_PURPOSE, RunKey, SignedRunKey, sign_run_key
from wardround.protocol.envelope import seal, unseal
from wardround.protocol.messages import Joined, Open
from wardround.randomness import system_randomness
from wardround_server.rounds.post import Post

HARBOUR, LAKESIDE, NORTHSIDE = NAMES
OF_ORDER_EIGHT = "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"


@pytest.fixture
def ward(tmp_path):
    ward = Ward.make(tmp_path)
    yield ward
    ward.close()


def joining_with(federation, key_of):
    """`northside` joins with another run key than its own: `key_of(own, identity)`, as JSON."""

    def spoil(content):
        body, _ = unseal(content, lanes=LANES)
        identity = federation.ward[NORTHSIDE].home.identity()
        return seal(body.model_copy(update={"run_key": key_of(body.run_key, identity)}))

    return when(lambda body: isinstance(body, Open), spoil, name=NORTHSIDE)


def of_low_order(_federation, own, identity):
    """X25519 gives zero with it, whatever the other's key is; it is well signed."""
    changed = {**own, "public_key": OF_ORDER_EIGHT}
    unsigned = {name: changed[name] for name in own if name != "signature"}
    return {**changed, "signature": identity.sign(RUN_KEY_PURPOSE, canonical_bytes(unsigned)).hex()}


def of_another_run(_federation, own, identity):
    key = RunKey.generate(system_randomness)
    session = own["session"]
    return sign_run_key(identity, key, run="9" * 32, session=session, hospital=NORTHSIDE).to_json()


def copied(part):
    """One of its two keys is that of a hospital that joined before it."""

    def key_of(federation, own, identity):
        bodies = [unseal(content, lanes=LANES)[0] for _, content in federation.grid.received]
        others = [body.run_key for body in bodies if isinstance(body, Joined)]
        (theirs,) = [each for each in others if each["hospital"] == HARBOUR]
        taken = SignedRunKey.from_json({**own, part: theirs[part]})
        signature = identity.sign(RUN_KEY_PURPOSE, taken.signed_bytes())
        return dataclasses.replace(taken, signature=signature).to_json()

    return key_of


@pytest.mark.parametrize(
    ("key_of", "says"),
    [
        (of_low_order, "a low-order point came"),
        (of_another_run, "its run key is for somebody else"),
        (copied("public_key"), f"its run key is that of {HARBOUR}"),
        (copied("kem_key"), f"its run key is that of {HARBOUR}"),
    ],
    ids=["low order", "another run", "copied X25519 key", "copied ML-KEM key"],
)
def test_who_joins_with_a_key_that_no_directory_may_hold_is_named_and_stops_nobody(
    ward, key_of, says
):
    federation = Federation(ward)
    federation.grid._reply = joining_with(
        federation, lambda own, identity: key_of(federation, own, identity)
    )
    run = federation.run()
    post = Post(federation.grid, lanes=LANES)
    session = run._opener(post).open(frozenset(NAMES), deadline_s=30.0)
    (missed,) = federation.entries("hospital-missed")
    assert missed["hospital"] == NORTHSIDE
    assert says in missed["reason"]
    assert federation.entries("hospital-refused") == []
    assert session.directory.names == (HARBOUR, LAKESIDE)


def test_a_negative_size_of_our_log_stops_no_session(ward):
    """No proof begins there: the coordinator would ask for one with the first work."""
    federation = Federation(ward)

    def below_zero(content):
        body, _ = unseal(content, lanes=LANES)
        return seal(body.model_copy(update={"witnessed": (-1,)}))

    federation.grid._reply = when(lambda body: isinstance(body, Open), below_zero, name=NORTHSIDE)
    run = federation.run()
    post = Post(federation.grid, lanes=LANES)
    session = run._opener(post).open(frozenset(NAMES), deadline_s=30.0)
    assert session.directory.names == (HARBOUR, LAKESIDE)
    run.record.heads.proofs(session.directory.names)
    (missed,) = federation.entries("hospital-missed")
    assert missed["hospital"] == NORTHSIDE
    assert "witnessed" in missed["reason"]
