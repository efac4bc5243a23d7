"""The second implementation, plain and slow, from PROTOCOL.md and the standards alone.

`tests/support/plain_*.py` import nothing of `wardround`: X25519, HKDF, AES, GCM, ML-KEM-768,
Shamir, packing and the Merkle tree in Python's integers. They give the golden vectors here; whether
they speak with the product's parties is shown in `test_masking_plain_and_real.py`.
"""

import ast
import contextlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from tests.support import plain_ml_kem, plain_vectors
from tests.support.plain_coordinator import PlainCoordinator
from tests.support.plain_primitives import PlainFault, aes_256, gcm_seal, hkdf, x25519
from tests.support.plain_sharing import (
    FIELD,
    check_inclusion,
    inclusion_path,
    join,
    pack,
    split,
    tree_root,
    unpack,
)

TESTS = Path(__file__).parents[1]
GOOD = json.loads((TESTS / "vectors/masking_good.json").read_text())
PLAIN = sorted((TESTS / "support").glob("plain_*.py"))


@pytest.mark.parametrize("path", PLAIN, ids=lambda path: path.stem)
def test_the_second_implementation_imports_nothing_of_the_first(path: Path) -> None:
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            imported.add(node.module or "")
    allowed = {*sys.stdlib_module_names, "cryptography"}
    assert all(
        name.partition(".")[0] in allowed or name.startswith("tests.support.plain_")
        for name in imported - {"tests.support"}
    )


def test_the_plain_primitives_give_the_standards_own_examples() -> None:
    plain = bytes.fromhex("00112233445566778899aabbccddeeff")
    assert aes_256(bytes(range(32)), plain).hex() == "8ea2b7ca516745bfeafc49904b496089"  # C.3
    scalar = "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4"
    u = "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c"
    due = "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"
    assert x25519(bytes.fromhex(scalar), bytes.fromhex(u)).hex() == due  # RFC 7748 5.2
    ikm, salt = bytes([0x0B] * 22), bytes(range(13))
    okm = hkdf(ikm, salt, bytes(range(0xF0, 0xFA)))
    assert okm.hex() == "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"  # A.1


@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 252])
def test_the_plain_gcm_is_openssls(size: int) -> None:
    key, aad = bytes(range(32)), bytes(range(100, 132))
    content = bytes(size)
    assert gcm_seal(key, content, aad) == AESGCM(key).encrypt(bytes(12), content, aad)


@pytest.mark.parametrize("number", range(4))
def test_the_plain_ml_kem_is_openssls_both_ways_and_rejects_alike(number: int) -> None:
    draw = plain_vectors.drawn(f"ml-kem/{number}")
    seed = draw(64)
    public, private = plain_ml_kem.key_pair(seed)
    theirs = MLKEM768PrivateKey.from_seed_bytes(seed)
    assert theirs.public_key().public_bytes_raw() == public
    shared, ciphertext = theirs.public_key().encapsulate()
    assert plain_ml_kem.decapsulate(private, ciphertext) == shared
    shared, ciphertext = plain_ml_kem.encapsulate(public, draw(32))
    assert theirs.decapsulate(ciphertext) == shared
    changed = bytes([ciphertext[0] ^ 1]) + ciphertext[1:]
    assert plain_ml_kem.decapsulate(private, changed) == theirs.decapsulate(changed) != shared


def test_an_ml_kem_key_with_a_coefficient_that_is_not_reduced_fails_its_check() -> None:
    public, _ = plain_ml_kem.key_pair(bytes(64))
    assert plain_ml_kem.check_key(public)
    assert not plain_ml_kem.check_key(b"\xff\xff\xff" + public[3:])
    assert not plain_ml_kem.check_key(public + b"\0")


def test_plain_shares_join_from_any_threshold_and_from_no_fewer() -> None:
    secret = plain_vectors.drawn("secret")(32)
    randomness = plain_vectors.drawn("dealer")
    dealt = [share for (share,) in split([secret], threshold=3, holders=5, randomness=randomness)]
    for chosen in ((1, 2, 3), (2, 4, 5), (1, 3, 5)):
        assert join({x: dealt[x - 1] for x in chosen}, 3) == secret
    with pytest.raises(PlainFault, match="2 shares came, 3 are due"):
        join({1: dealt[0], 2: dealt[1]}, 3)
    wrong = [(dealt[0][0] + 1) % FIELD, *dealt[0][1:]]
    with contextlib.suppress(PlainFault):  # joined to what no secret is, or to another secret
        assert join({1: wrong, 2: dealt[1], 3: dealt[2]}, 3) != secret


@pytest.mark.parametrize("bits", [20, 24, 32])
@pytest.mark.parametrize("lanes", [1, 2, 7])
def test_plain_packing_reads_back_and_has_one_spelling(bits: int, lanes: int) -> None:
    words = [(1 << bits) - 1 - 3 * lane for lane in range(lanes)]
    packed = pack(words, bits)
    assert unpack(packed, bits, lanes) == words
    assert len(packed) == -(-bits * lanes // 8)
    if bits * lanes % 8:
        with pytest.raises(PlainFault, match="padding"):
            unpack(packed[:-1] + bytes([packed[-1] | 0x80]), bits, lanes)


@pytest.mark.parametrize("size", [1, 2, 3, 6, 7, 8])
def test_every_leaf_has_an_inclusion_path_and_another_leaf_has_none(size: int) -> None:
    leaves = [bytes([number]) for number in range(size)]
    for index, leaf in enumerate(leaves):
        path = inclusion_path(leaves, index)
        check_inclusion(leaf, index, size, path, tree_root(leaves))
        with pytest.raises(PlainFault):
            check_inclusion(b"other", index, size, path, tree_root(leaves))


def test_the_second_implementation_gives_the_golden_vectors_byte_for_byte() -> None:
    found = plain_vectors.good_vectors()
    assert sorted(found) == sorted(GOOD)
    for part in found:
        assert found[part] == GOOD[part], part


@pytest.mark.parametrize("number", range(len(GOOD["rounds"])))
def test_a_golden_sum_is_that_of_its_survivors_open_lanes(number: int) -> None:
    written = GOOD["rounds"][number]
    survivors = written.get("survivors", written["spec"]["cohort"])
    lanes = [u["lanes"] for u in written["updates"] if u["hospital"] in survivors]
    assert [sum(lane) for lane in zip(*lanes, strict=True)] == written["sum"]


def test_the_vectors_have_one_who_dropped_out_one_who_vanished_and_every_width() -> None:
    rounds = GOOD["rounds"]
    assert {written["spec"]["bits"] for written in rounds} == {20, 24, 32}
    (both,) = [written for written in rounds if written.get("recovered")]
    assert list(both["recovered"]) == both["reveal_message"]["vanished"] == ["va-long-beach"]
    assert set(both["spec"]["cohort"]) - set(both["survivors"]) == {"st-mary"}
    assert list(both["recovered"]["va-long-beach"]) == ["self", "st-mary"]


def test_plain_hospitals_refuse_a_second_set_of_survivors_and_a_reveal_without_signatures() -> None:
    attempt, coordinator = _uploaded()
    body = coordinator.survivors_for("cleveland")
    attempt.survivors(body)
    fewer = [name for name in body["survivors"] if name != "zurich"]
    with pytest.raises(PlainFault, match="second survivor set"):
        attempt.survivors(body | {"survivors": fewer})
    with pytest.raises(PlainFault, match="fewer signatures"):
        attempt.reveal(coordinator.reveal())


def _uploaded() -> tuple[Any, PlainCoordinator]:
    hospitals = plain_vectors.plain_hospitals(plain_vectors.secret_parts())
    directory, _ = plain_vectors.agreed_session(hospitals)
    digest = plain_vectors.directory_digest(directory).hex()
    spec = plain_vectors.spec_of(digest, plain_vectors.ROUNDS[1])
    coordinator = PlainCoordinator(spec, hospitals["zurich"].identities)
    rounds = {name: hospitals[name].begin(spec) for name in spec["cohort"]}
    for name, attempt in rounds.items():
        coordinator.take_upload(*attempt.upload(plain_vectors.lanes_of(spec, name)))
    return rounds["cleveland"], coordinator
