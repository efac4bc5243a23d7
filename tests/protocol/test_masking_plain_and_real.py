"""Plain and real parties in ONE session: they agree, mask, sign and reveal, and the sum is right.

The plain ones are the second implementation (`tests/support/plain_*.py`), which shares no code
with the product.
"""

from typing import Any

import pytest
from tests.support import plain_vectors
from tests.support.identities import identity_of
from tests.support.mixed_parties import RealCoordinator, RealHospital
from tests.support.plain_coordinator import PlainCoordinator
from tests.support.plain_hospital import PlainRound, directory_digest, leaves, share_key
from tests.support.plain_primitives import PlainFault, aes_256, canonical, gcm_seal, sign
from tests.support.plain_sharing import SHARE_BYTES, tree_root
from tests.support.plain_vectors import NAMES, ROUNDS, agreed_session, lanes_of, spec_of

from wardround.errors import QuorumMissed
from wardround.masking.keystream import CHUNK_WORDS, open_gcm, open_keystream

PARTS = plain_vectors.secret_parts()
IDENTITY_KEYS = {
    part["name"]: identity_of(bytes.fromhex(part["identity_private"])).public_key for part in PARTS
}
WHO_IS_REAL = {
    "every second": NAMES[::2],
    "the others": NAMES[1::2],
    "one real": ["hungarian"],
    "one plain": [name for name in NAMES if name != "va-long-beach"],
}


def session(real: list[str]) -> tuple[dict[str, Any], str]:
    hospitals: dict[str, Any] = dict(plain_vectors.plain_hospitals(PARTS, seed="mixed"))
    for part in PARTS:
        if part["name"] in real:
            draw = plain_vectors.drawn(f"mixed/{part['name']}")
            hospitals[part["name"]] = RealHospital.of(part, IDENTITY_KEYS, draw)
    directory, _ = agreed_session(hospitals)
    return hospitals, directory_digest(directory).hex()


def coordinator_of(kind: str, spec: dict[str, Any]) -> Any:
    if kind == "real":
        return RealCoordinator(spec, IDENTITY_KEYS)
    return PlainCoordinator(spec, {name: key[:32] for name, key in IDENTITY_KEYS.items()})


def attempt(
    hospitals: dict[str, Any], coordinator: Any, row: tuple[Any, ...]
) -> tuple[list[int], list[int]]:
    """(the opened sum, the plain one) of one row of ROUNDS."""
    spec, (absent, silent) = coordinator.spec, row[6:]
    rounds = {name: hospitals[name].begin(spec) for name in spec["cohort"]}
    for name, each in rounds.items():
        sent = each.upload(lanes_of(spec, name))
        if name != absent:
            coordinator.take_upload(*sent)
    survivors = coordinator.survivors
    if spec["profile"] == "double-mask":
        for name in survivors:
            signature = rounds[name].survivors(coordinator.survivors_for(name))
            if name != silent:
                coordinator.take_signature(name, signature)
        reveal = coordinator.reveal()
        for name in reveal["signatures"]:
            coordinator.take_revealed(name, rounds[name].reveal(reveal))
    due = [sum(lane) for lane in zip(*(lanes_of(spec, name) for name in survivors), strict=True)]
    return coordinator.open(), due


@pytest.mark.parametrize("coordinated", ["real", "plain"])
@pytest.mark.parametrize("real", WHO_IS_REAL.values(), ids=WHO_IS_REAL)
def test_plain_and_real_parties_open_the_right_sum_together(
    real: list[str], coordinated: str
) -> None:
    hospitals, digest = session(real)
    for row in ROUNDS:  # one session: the ratchets move together, one drops out, one vanishes
        opened, due = attempt(hospitals, coordinator_of(coordinated, spec_of(digest, row)), row)
        assert opened == due, row


def test_a_real_coordinator_hands_out_the_plain_ones_messages_byte_for_byte() -> None:
    hospitals, digest = session(NAMES[::2])
    row = ROUNDS[1]
    spec = spec_of(digest, row)
    real, plain = coordinator_of("real", spec), coordinator_of("plain", spec)
    rounds = {name: hospitals[name].begin(spec) for name in spec["cohort"]}
    for name in NAMES[1:]:
        sent = rounds[name].upload(lanes_of(spec, name))
        real.take_upload(*sent)
        plain.take_upload(*sent)
    for name in NAMES[1:]:
        assert real.survivors_for(name) == plain.survivors_for(name)
        signature = rounds[name].survivors(real.survivors_for(name))
        real.take_signature(name, signature)
        plain.take_signature(name, signature)
    assert real.reveal() == plain.reveal()


def test_a_plain_hospital_is_shown_what_a_real_one_lied_about() -> None:
    hospitals, digest = session(["cleveland"])
    spec = spec_of(digest, ROUNDS[2])
    coordinator = coordinator_of("plain", spec)
    rounds = {name: hospitals[name].begin(spec) for name in spec["cohort"]}
    for name, each in rounds.items():
        coordinator.take_upload(*each.upload(lanes_of(spec, name)))
    body = coordinator.survivors_for("hungarian")
    share = body["shares"]["cleveland"]
    share["sealed"] = f"{int(share['sealed'][:2], 16) ^ 1:02x}{share['sealed'][2:]}"
    with pytest.raises(PlainFault, match="did not sign for"):
        rounds["hungarian"].survivors(body)


def upload_of_no_shares(dealer: PlainRound) -> tuple[Any, bytes, bytes, Any]:
    """An upload whose bundles open, and hold words that are no shares."""
    header, _, packed, shares = dealer.upload(lanes_of(dealer.spec, dealer.hospital.name))
    for peer in dealer.peers:
        root, own = dealer.roots[peer], dealer.hospital.name
        key = share_key(root, own, peer, dealer.transcript)
        rubbish = b"\xff" * SHARE_BYTES * len(dealer.spec["cohort"])
        shares[peer]["sealed"] = gcm_seal(key, rubbish, dealer.transcript).hex()
    header["pairs_root"] = tree_root(leaves(shares)).hex()
    signature = sign(dealer.hospital.identity_private, "masked-update", canonical(header))
    return header, signature, packed, shares


@pytest.mark.parametrize("real", WHO_IS_REAL.values(), ids=WHO_IS_REAL)
def test_a_dealer_of_words_that_are_no_shares_puts_the_blame_on_no_holder(real: list[str]) -> None:
    dealer = "va-long-beach"
    hospitals, digest = session([name for name in real if name != dealer])
    spec = spec_of(digest, ROUNDS[1])
    coordinator = RealCoordinator(spec, IDENTITY_KEYS)
    rounds = {name: hospitals[name].begin(spec) for name in spec["cohort"]}
    coordinator.take_upload(*upload_of_no_shares(rounds[dealer]))
    others = [name for name in spec["cohort"] if name != dealer]
    for name in others:
        coordinator.take_upload(*rounds[name].upload(lanes_of(spec, name)))
    for name in others:
        signature = rounds[name].survivors(coordinator.survivors_for(name))
        coordinator.take_signature(name, signature)
    reveal = coordinator.reveal()
    for name in others:
        body = rounds[name].reveal(reveal)
        assert (body["shares"], body["unreadable"]) == ({}, [dealer])
        coordinator.take_revealed(name, body)
    with pytest.raises(QuorumMissed, match="readable shares for va-long-beach"):
        coordinator.round.still_needed()
    assert coordinator.round.faults == {}


@pytest.mark.parametrize("engine", [open_keystream, open_gcm])
def test_a_whole_chunk_of_either_engine_has_the_blocks_of_a_plain_aes(engine: Any) -> None:
    stream = bytearray(4 * CHUNK_WORDS)
    engine(bytes(32)).update_into(bytes(4 * CHUNK_WORDS), stream)
    for block in (0, 1, 7, 8, 63, 253, 254, 255, 1023, 16_381, 16_382, CHUNK_WORDS // 4 - 1):
        due = aes_256(bytes(32), (2 + block).to_bytes(16, "big"))
        assert stream[16 * block : 16 * block + 16] == due
