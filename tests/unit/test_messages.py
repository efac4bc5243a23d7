"""Messages: what is sealed is unsealed to the same value, and nothing else is taken for one."""

import numpy as np
import pytest

from wardround.errors import BadInput, ProtocolViolation
from wardround.protocol.envelope import seal, unseal, vector_due
from wardround.protocol.messages import (
    BODIES,
    MOST_HOSPITALS,
    Agree,
    Agreed,
    Close,
    Closed,
    Failed,
    Joined,
    Keyed,
    Keys,
    Kind,
    Open,
    ProvenShare,
    Refusal,
    RefusalCode,
    Reveal,
    Revealed,
    SealedShare,
    Signed,
    SignedHeader,
    Survivors,
    Update,
    Work,
)
from wardround.wire import pack

NOTE = "wardround/coordinator\n0\n"
RUN, SESSION, DIGEST, SIGNATURE = "1" * 32, "2" * 32, "6" * 64, "4" * 128
SECRET, WORDS = "7" * 64, "8" * 72
EXAMPLES = {
    Kind.OPEN: Open(
        signed_study={"study": {"name": "x"}},
        run="1" * 32,
        session="2" * 32,
        identity_keys={"harbour": "3" * 3968},
        checkpoint=NOTE,
    ),
    Kind.JOINED: Joined(
        hospital="harbour", run_key={}, epsilon_planned=2.5, witnessed=(1,), checkpoint=NOTE
    ),
    Kind.REFUSED: Refusal(code=RefusalCode.BUDGET, epsilon_that_fits=0.5, hospital="harbour"),
    Kind.AGREE: Agree(run=RUN, session=SESSION, directory=({"hospital": "harbour"},)),
    Kind.AGREED: Agreed(encapsulations=({"sender": "harbour"},)),
    Kind.KEYS: Keys(run=RUN, session=SESSION, encapsulations=({"sender": "harbour"},)),
    Kind.KEYED: Keyed(hospital="harbour"),
    Kind.WORK: Work(spec={"round": 1}, checkpoint=NOTE, consistency=()),
    Kind.UPDATE: Update(
        header={},
        signature=SIGNATURE,
        engine={},
        checkpoint=NOTE,
        shares={"harbour": SealedShare(commitment=DIGEST, sealed="00" * 52)},
    ),
    Kind.SURVIVORS: Survivors(
        run=RUN,
        session=SESSION,
        transcript=DIGEST,
        survivors=("harbour",),
        headers={"harbour": SignedHeader(header={}, signature=SIGNATURE)},
        shares={"lakeside": ProvenShare(commitment=DIGEST, sealed="00" * 52, proof=(DIGEST,))},
    ),
    Kind.SIGNED: Signed(signature=SIGNATURE, checkpoint=NOTE),
    Kind.REVEAL: Reveal(
        run=RUN,
        session=SESSION,
        transcript=DIGEST,
        signatures={"harbour": SIGNATURE},
        vanished=("lakeside",),
    ),
    Kind.REVEALED: Revealed(
        self_key=SECRET,
        pair_keys={"northside": SECRET},
        shares={"lakeside": (WORDS, WORDS)},
        unreadable=("westside",),
    ),
    Kind.CLOSE: Close(run="1" * 32, log="{}\n", checkpoint=NOTE),
    Kind.CLOSED: Closed(log="{}\n", checkpoint=NOTE, countersignature="5" * 6746),
    Kind.FAILED: Failed(error="KeyError"),
}


def test_there_is_an_example_of_every_kind():
    assert set(EXAMPLES) == set(Kind) == set(BODIES)


@pytest.mark.parametrize("kind", list(Kind))
def test_a_message_reads_back_to_the_same_body_and_vector(kind):
    for vector in (None, np.arange(5, dtype=np.float32), np.arange(5, dtype=np.uint32)):
        body, came = unseal(seal(EXAMPLES[kind], vector), lanes=5)
        assert body == EXAMPLES[kind]
        if vector is None:
            assert came is None
        else:
            np.testing.assert_array_equal(came, vector)
            assert came.dtype == vector.dtype


@pytest.mark.parametrize("kind", list(Kind))
def test_a_field_more_or_less_is_refused_by_name(kind):
    value = EXAMPLES[kind].model_dump(mode="json")
    with pytest.raises(BadInput, match=f"message {kind}: unknown key `extra`"):
        unseal(pack(kind.value, value | {"extra": 1}), lanes=5)
    required = [n for n, f in BODIES[kind].model_fields.items() if f.is_required()]
    for name in required:
        less = {key: entry for key, entry in value.items() if key != name}
        with pytest.raises(BadInput, match=f"message {kind}: key `{name}` is missing"):
            unseal(pack(kind.value, less), lanes=5)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        (Kind.OPEN, {"run": "1" * 31}),
        (Kind.OPEN, {"session": "G" * 32}),
        (Kind.OPEN, {"identity_keys": {"Bad Name": "3" * 3968}}),
        (Kind.OPEN, {"identity_keys": {"harbour": "3" * 3967}}),
        (Kind.OPEN, {"checkpoint": "x" * 8193}),
        (Kind.JOINED, {"epsilon_planned": -1}),
        (Kind.JOINED, {"epsilon_planned": "much"}),
        (Kind.REFUSED, {"code": "no"}),
        (Kind.REFUSED, {"epsilon_that_fits": -0.5}),
        (Kind.REFUSED, {"hospital": "Bad Name"}),
        (Kind.AGREE, {"directory": [{}] * (MOST_HOSPITALS + 1)}),
        (Kind.AGREE, {"session": "2" * 31}),
        (Kind.AGREED, {"encapsulations": [{}] * (MOST_HOSPITALS + 1)}),
        (Kind.KEYS, {"encapsulations": ["x"]}),
        (Kind.KEYED, {"hospital": ""}),
        (Kind.WORK, {"spec": []}),
        (Kind.WORK, {"consistency": [{"size": 1, "hashes": ["0" * 63]}]}),
        (Kind.WORK, {"consistency": [{"size": -1, "hashes": []}]}),
        (Kind.WORK, {"consistency": [{"size": 1, "hashes": ["0" * 64] * 65}]}),
        (Kind.UPDATE, {"signature": "4" * 127}),
        (Kind.UPDATE, {"shares": {"harbour": {"commitment": DIGEST, "sealed": "0"}}}),
        (Kind.UPDATE, {"shares": {"Bad Name": {"commitment": DIGEST, "sealed": "00"}}}),
        (Kind.UPDATE, {"shares": {"harbour": {"commitment": DIGEST, "sealed": "00" * 36_017}}}),
        (Kind.SURVIVORS, {"transcript": "6" * 63}),
        (Kind.SURVIVORS, {"survivors": ["Bad Name"]}),
        (Kind.SURVIVORS, {"headers": {"harbour": {"header": {}}}}),
        (Kind.SURVIVORS, {"shares": {"harbour": {"commitment": DIGEST, "sealed": "00"}}}),
        (Kind.SIGNED, {"signature": "4" * 126}),
        (Kind.REVEAL, {"signatures": {"harbour": "4"}}),
        (Kind.REVEAL, {"vanished": "harbour"}),
        (Kind.REVEALED, {"self_key": "7" * 62}),
        (Kind.REVEALED, {"pair_keys": {"northside": "7" * 66}}),
        (Kind.REVEALED, {"shares": {"lakeside": [WORDS + "00"]}}),
        (Kind.REVEALED, {"unreadable": ["Bad Name"]}),
        (Kind.CLOSED, {"countersignature": ""}),
        (Kind.FAILED, {"error": "KeyError: 'Canary4711'"}),
        (Kind.FAILED, {"error": "E" * 101}),
        (Kind.FAILED, {"error": ""}),
    ],
)
def test_a_field_that_is_not_what_it_has_to_be_is_refused(kind, changes):
    value = EXAMPLES[kind].model_dump(mode="json")
    with pytest.raises(BadInput, match=f"message {kind}"):
        unseal(pack(kind.value, value | changes), lanes=5)


def test_an_unknown_kind_is_refused_by_name():
    with pytest.raises(ProtocolViolation, match="unknown kind 'surprise'"):
        unseal(pack("surprise", {}), lanes=5)


def test_a_vector_beyond_the_limit_is_refused():
    content = seal(EXAMPLES[Kind.WORK], np.zeros(6, np.float32))
    with pytest.raises(BadInput, match="at most"):
        unseal(content, lanes=5)


def test_a_vector_of_another_type_or_size_is_refused_with_what_came():
    vector = np.zeros(3, np.uint32)
    assert vector_due(vector, dtype=np.uint32, lanes=3, what="update") is vector
    for came, says in (
        (None, "none came"),
        (vector.astype(np.float32), "float32 of shape"),
        (vector[:2], r"uint32 of shape \(2,\) came"),
        (vector.reshape(3, 1), r"\(3, 1\) came"),
    ):
        with pytest.raises(ProtocolViolation, match=says):
            vector_due(came, dtype=np.uint32, lanes=3, what="update")


def test_a_body_is_frozen():
    with pytest.raises(ValueError, match="frozen"):
        EXAMPLES[Kind.FAILED].error = "Other"
