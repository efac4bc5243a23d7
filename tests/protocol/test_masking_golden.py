"""The written bytes, good and tampered, against the product's code.

`tests/vectors/masking_good.json` and `masking_tampered.json` are for any implementation. The second
one gives them (`test_masking_plain.py`); here the product reads them, and gives them as well.
"""

import copy
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support import plain_vectors
from tests.support.identities import identity_of
from tests.support.mixed_parties import RealCoordinator, RealHospital, travelled

from wardround import errors
from wardround.masking.agreement import Encapsulation
from wardround.masking.commitments import pair_commitment, self_commitment, self_mask_key
from wardround.masking.directory import Directory
from wardround.masking.keystream import add_keystream
from wardround.masking.packing import pack, packed_size, unpack
from wardround.masking.round_spec import RoundSpec
from wardround.masking.sealing import open_sealed
from wardround.masking.shamir import ELEMENTS, join
from wardround.protocol.messages import Reveal, Revealed, SealedShare, Survivors
from wardround.study.files import checked

VECTORS = Path(__file__).parents[1] / "vectors"
GOOD: dict[str, Any] = json.loads((VECTORS / "masking_good.json").read_text())
TAMPERED: list[dict[str, Any]] = json.loads((VECTORS / "masking_tampered.json").read_text())[
    "cases"
]
PARTS = {part["name"]: part for part in GOOD["hospitals"]}
NAMES = sorted(PARTS)
IDENTITY_KEYS = {
    name: identity_of(bytes.fromhex(part["identity_private"])).public_key
    for name, part in PARTS.items()
}
READER = "zurich"
TO_READER = [i for i, e in enumerate(GOOD["encapsulations"]) if e["recipient"] == READER]
ROUNDS = range(len(GOOD["rounds"]))
BOTH_LOST = 1  # the round in which one dropped out and one vanished


def real_hospital(name: str) -> RealHospital:
    """The product's hospital, which encapsulates and draws as the written one did."""
    draw = plain_vectors.drawn(f"parties/{name}")
    draw(32 * sum(peer > name for peer in NAMES))  # the plain ones encapsulate from this stream
    hospital = RealHospital.of(PARTS[name], IDENTITY_KEYS, draw)
    keys = {entry["kem_key"]: entry["hospital"] for entry in GOOD["directory"]}
    sent = {e["recipient"]: e["ciphertext"] for e in GOOD["encapsulations"] if e["sender"] == name}
    secrets = {pair["high"]: pair["kem"] for pair in GOOD["pairs"] if pair["low"] == name}

    def encapsulate(kem_key: bytes) -> tuple[bytes, bytes]:
        peer = keys[kem_key.hex()]
        return bytes.fromhex(secrets[peer]), bytes.fromhex(sent[peer])

    hospital.encapsulate = encapsulate
    return hospital


def words(text: str) -> np.ndarray[Any, np.dtype[np.uint32]]:
    return np.frombuffer(bytes.fromhex(text), dtype="<u4")


def session() -> dict[str, RealHospital]:
    hospitals = {name: real_hospital(name) for name in NAMES}
    for name, hospital in hospitals.items():
        assert hospital.run_key(GOOD["run"], GOOD["session"]) == entry_of(name)
        sent = [each for each in GOOD["encapsulations"] if each["sender"] == name]
        assert hospital.agree(GOOD["directory"]) == sent
        hospital.keys([each for each in GOOD["encapsulations"] if each["recipient"] == name])
    return hospitals


def entry_of(name: str) -> dict[str, Any]:
    (entry,) = [entry for entry in GOOD["directory"] if entry["hospital"] == name]
    return entry


def test_real_hospitals_agree_mask_sign_and_reveal_in_the_written_bytes() -> None:
    hospitals = session()
    for written in GOOD["rounds"]:
        coordinator = RealCoordinator(written["spec"], IDENTITY_KEYS)
        rounds = {
            name: hospitals[name].begin(written["spec"]) for name in written["spec"]["cohort"]
        }
        survivors = written.get("survivors", written["spec"]["cohort"])
        for update in written["updates"]:
            header, signature, packed, shares = rounds[update["hospital"]].upload(update["lanes"])
            assert header == update["header"]
            assert (signature.hex(), packed.hex()) == (update["signature"], update["packed"])
            assert shares == update["shares"]
            if update["hospital"] in survivors:
                coordinator.take_upload(header, signature, packed, shares)
        if "survivors" in written:
            _open(written, coordinator, rounds)
        assert coordinator.open() == written["sum"]
        assert coordinator.sum_digest() == written["sum_digest"]


def _open(written: dict[str, Any], coordinator: RealCoordinator, rounds: dict[str, Any]) -> None:
    signatures = written["reveal_message"]["signatures"]
    to = written["survivors_to"]
    assert coordinator.survivors_for(to) == written["survivors_message"]
    for name in written["survivors"]:
        signature = rounds[name].survivors(coordinator.survivors_for(name))
        if name in signatures:
            assert signature.hex() == signatures[name]
            coordinator.take_signature(name, signature)
    assert coordinator.reveal() == written["reveal_message"]
    for name in signatures:
        assert rounds[name].reveal(written["reveal_message"]) == written["revealed"][name]
        coordinator.take_revealed(name, written["revealed"][name])


@pytest.mark.parametrize("number", ROUNDS)
def test_transcripts_masks_and_keys_of_pairs_are_as_written(number: int) -> None:
    written = GOOD["rounds"][number]
    spec = RoundSpec.from_json(written["spec"])
    assert spec.transcript().hex() == written["transcript"]
    hospitals = session()
    for name in spec.cohort:
        pairs = hospitals[name].pairs
        assert pairs is not None
        secrets = pairs.round_secrets(spec)
        for pair in written["pairs"]:
            if name not in (pair["low"], pair["high"]):
                continue
            peer = pair["high"] if name == pair["low"] else pair["low"]
            out, back = ("up", "down") if name == pair["low"] else ("down", "up")
            assert secrets.pair_keys[peer].hex() == pair["mask_key"]
            assert secrets.share_out[peer].hex() == pair[f"share_key_{out}"]
            assert secrets.share_in[peer].hex() == pair[f"share_key_{back}"]
    for pair in written["pairs"]:
        key = bytes.fromhex(pair["mask_key"])
        stream = np.zeros(spec.lanes, np.uint32)
        add_keystream(stream, key)
        assert stream.tolist() == words(pair["keystream"]).tolist()
        assert pair_commitment(spec.transcript(), key) == pair["commitment"]


@pytest.mark.parametrize("number", ROUNDS)
def test_packed_vectors_read_back_to_lanes_and_masks(number: int) -> None:
    written = GOOD["rounds"][number]
    bits, lanes = written["spec"]["bits"], written["spec"]["lanes"]
    for update in written["updates"]:
        name, masked = update["hospital"], np.array(update["lanes"], np.int32).view(np.uint32)
        for pair in written["pairs"]:
            if name in (pair["low"], pair["high"]):
                stream = words(pair["keystream"])
                masked = masked + stream if name == pair["low"] else masked - stream
        if "self_secret" in update:
            masked = masked + words(update["self_keystream"])
        packed = np.frombuffer(bytes.fromhex(update["packed"]), np.uint8)
        assert packed.size == packed_size(lanes, bits)
        assert pack(masked, bits).tobytes() == packed.tobytes()
        low = np.uint32(2**bits - 1)
        assert unpack(packed, bits, lanes).tolist() == (masked & low).tolist()


@pytest.mark.parametrize("number", [n for n in ROUNDS if "survivors" in GOOD["rounds"][n]])
def test_sealed_shares_open_and_any_threshold_of_them_joins_to_the_secrets(number: int) -> None:
    written = GOOD["rounds"][number]
    transcript, spec = bytes.fromhex(written["transcript"]), written["spec"]
    for update in written["updates"]:
        sender, secret = update["hospital"], bytes.fromhex(update["self_secret"])
        assert self_commitment(transcript, secret) == update["header"]["self_commitment"]
        assert self_mask_key(transcript, secret).hex() == update["self_key"]
        bundles = {}
        for peer, share in update["shares"].items():
            key = bytes.fromhex(_share_key(written, sender, peer))
            sealed = bytes.fromhex(share["sealed"])
            bundle = open_sealed(sealed, key=key, transcript=transcript)
            point = 1 + spec["cohort"].index(peer)
            bundles[point] = np.frombuffer(bundle, "<u4").reshape(-1, ELEMENTS)
        due = [update["self_secret"], *(_mask_key(written, sender, p) for p in update["shares"])]
        for points in (sorted(bundles), sorted(bundles, reverse=True)):
            held = np.stack([bundles[point] for point in points])
            joined = join(points, held.astype(np.uint32), threshold=spec["threshold"])
            assert [secret.tobytes().hex() for secret in joined] == due


def _share_key(written: dict[str, Any], sender: str, recipient: str) -> str:
    low, high = sorted((sender, recipient))
    (pair,) = [p for p in written["pairs"] if (p["low"], p["high"]) == (low, high)]
    return str(pair["share_key_up" if sender == low else "share_key_down"])


def _mask_key(written: dict[str, Any], one: str, other: str) -> str:
    pairs = [p for p in written["pairs"] if {p["low"], p["high"]} == {one, other}]
    return str(pairs[0]["mask_key"])


def read(vectors: dict[str, Any]) -> list[int]:
    """Do with these vectors what one hospital and the coordinator do, in their order."""
    hospital = real_hospital(READER)
    run, of = GOOD["run"], GOOD["session"]
    Directory.from_json(vectors["directory"], run=run, session=of, identity_keys=IDENTITY_KEYS)
    hospital.agree(vectors["directory"])
    hospital.keys([vectors["encapsulations"][i] for i in TO_READER])
    written = vectors["rounds"][BOTH_LOST]
    begun = hospital.begin(written["spec"])
    begun.upload(next(u["lanes"] for u in written["updates"] if u["hospital"] == READER))
    coordinator = RealCoordinator(written["spec"], IDENTITY_KEYS)
    for update in written["updates"]:
        if update["hospital"] in GOOD["rounds"][BOTH_LOST]["survivors"]:
            _take(coordinator, update)
    coordinator.round.close_uploads()
    survivors = checked(Survivors, travelled(written["survivors_message"]), what="survivors")
    begun.round.sign(begun.round.check_survivors(survivors, IDENTITY_KEYS))
    reveal = checked(Reveal, travelled(written["reveal_message"]), what="reveal")
    for name, signature in reveal.signatures.items():
        coordinator.take_signature(name, bytes.fromhex(signature))
    coordinator.round.close_signatures()
    begun.round.reveal(reveal, IDENTITY_KEYS)
    for name, body in written["revealed"].items():
        revealed = checked(Revealed, travelled(body), what="revealed")
        coordinator.round.take_reveal(name, revealed)
    return coordinator.open()


def _take(coordinator: RealCoordinator, update: dict[str, Any]) -> None:
    sent = {
        name: checked(SealedShare, share, what="share") for name, share in update["shares"].items()
    }
    packed = bytes.fromhex(update["packed"])
    digest = plain_vectors.sha256(packed).hex()
    header, signature = update["header"], bytes.fromhex(update["signature"])
    coordinator.round.take_upload(
        update["hospital"],
        header,
        signature,
        sent,
        lambda: iter([packed]),
        digest=digest,
        size_bytes=len(packed),
    )


def test_the_good_vectors_are_read_to_the_written_sum() -> None:
    assert read(GOOD) == GOOD["rounds"][BOTH_LOST]["sum"]


@pytest.mark.parametrize("case", TAMPERED, ids=lambda case: case["claim"])
def test_a_tampered_vector_is_refused_with_its_reason(case: dict[str, Any]) -> None:
    tampered = copy.deepcopy(GOOD)
    *parents, last = case["at"]
    place: Any = tampered
    for step in parents:
        place = place[step]
    if case["to"] == "remove":
        del place[last]
    else:
        place[last] = case["to"]
    with pytest.raises(errors.WardroundError, match=re.escape(case["says"])) as raised:
        read(tampered)
    assert type(raised.value).__name__ == case["error"]


def test_an_encapsulation_that_was_changed_is_refused_and_an_unchanged_one_still_comes() -> None:
    hospital = real_hospital(READER)
    hospital.agree(GOOD["directory"])
    right = [GOOD["encapsulations"][i] for i in TO_READER]
    wrong = copy.deepcopy(right)
    wrong[0]["ciphertext"] = right[1]["ciphertext"]
    with pytest.raises(errors.BadSignature, match="encapsulation of budapest"):
        hospital.keys(wrong)
    hospital.keys(right)
    assert Encapsulation.from_json(right[0]).sender == "budapest"
