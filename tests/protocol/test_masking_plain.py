"""A second implementation, plain and slow, from PROTOCOL.md and the standards alone.

It imports nothing of `wardround`: X25519 by the ladder of RFC 7748, HKDF by RFC 5869, AES-256 by
FIPS 197, all in Python's integers. Ed25519 alone comes from `cryptography`.
"""

import functools
import hashlib
import hmac
import json
import re
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

GOOD = json.loads((Path(__file__).parents[1] / "vectors/masking_good.json").read_text())

PRIME = 2**255 - 19


def x25519(private: bytes, u_bytes: bytes) -> bytes:
    """RFC 7748 section 5."""
    scalar = bytearray(private)
    scalar[0] &= 248
    scalar[31] = scalar[31] & 127 | 64
    k, u = int.from_bytes(scalar, "little"), int.from_bytes(u_bytes, "little") % 2**255
    x2, z2, x3, z3, swap = 1, 0, u, 1, 0
    for t in reversed(range(255)):
        bit = k >> t & 1
        if swap ^ bit:
            x2, z2, x3, z3 = x3, z3, x2, z2
        swap = bit
        aa, bb = (x2 + z2) ** 2 % PRIME, (x2 - z2) ** 2 % PRIME
        e, da, cb = aa - bb, (x3 - z3) * (x2 + z2), (x3 + z3) * (x2 - z2)
        x3, z3 = (da + cb) ** 2 % PRIME, u * (da - cb) ** 2 % PRIME
        x2, z2 = aa * bb % PRIME, e * (aa + 121665 * e) % PRIME
    if swap:
        x2, z2 = x3, z3
    return (x2 * pow(z2, PRIME - 2, PRIME) % PRIME).to_bytes(32, "little")


def hkdf_expand(key: bytes, info: bytes) -> bytes:
    """RFC 5869 section 2.3, one block: 32 bytes."""
    return hmac.digest(key, info + b"\x01", "sha256")


def hkdf(shared: bytes, salt: bytes, info: bytes) -> bytes:
    return hkdf_expand(hmac.digest(salt, shared, "sha256"), info)


def times(a: int, b: int) -> int:
    """Multiply in GF(2^8) modulo x^8 + x^4 + x^3 + x + 1 (FIPS 197 section 4.2)."""
    product = 0
    for bit in range(8):
        if b >> bit & 1:
            product ^= a << bit
    for bit in range(14, 7, -1):
        if product >> bit & 1:
            product ^= 0x11B << (bit - 8)
    return product


@functools.cache
def sbox() -> bytes:
    inverse = [0] + [next(b for b in range(256) if times(a, b) == 1) for a in range(1, 256)]
    turned = [[(x << n | x >> (8 - n)) & 255 for n in range(5)] for x in inverse]
    return bytes(t[0] ^ t[1] ^ t[2] ^ t[3] ^ t[4] ^ 0x63 for t in turned)


def round_keys(key: bytes) -> list[bytes]:
    """FIPS 197 section 5.2 for 256-bit keys."""
    words, constant = [key[i : i + 4] for i in range(0, 32, 4)], 1
    for i in range(8, 60):
        word = words[-1]
        if i % 8 == 0:
            word = word[1:] + word[:1]
        if i % 4 == 0:
            word = bytes(sbox()[b] for b in word)
        if i % 8 == 0:
            word = bytes([word[0] ^ constant]) + word[1:]
            constant = times(constant, 2)
        words.append(bytes(a ^ b for a, b in zip(words[i - 8], word, strict=True)))
    return [b"".join(words[i : i + 4]) for i in range(0, 60, 4)]


def mix(column: bytes) -> bytes:
    return bytes(
        times(column[i], 2) ^ times(column[(i + 1) % 4], 3) ^ column[i - 2] ^ column[i - 1]
        for i in range(4)
    )


def aes_256(key: bytes, block: bytes) -> bytes:
    """FIPS 197 section 5.1."""
    keys = round_keys(key)
    state = bytes(a ^ b for a, b in zip(block, keys[0], strict=True))
    for number in range(1, 15):
        state = bytes(sbox()[state[(5 * i) % 16]] for i in range(16))  # SubBytes, ShiftRows
        if number < 14:
            state = b"".join(mix(state[i : i + 4]) for i in range(0, 16, 4))
        state = bytes(a ^ b for a, b in zip(state, keys[number], strict=True))
    return state


def keystream(key: bytes, words: int) -> list[int]:
    blocks = [aes_256(key, (2 + i).to_bytes(16, "big")) for i in range(-(-words // 4))]
    stream = b"".join(blocks)
    return [int.from_bytes(stream[4 * i : 4 * i + 4], "little") for i in range(words)]


def framed(purpose: str, content: bytes) -> bytes:
    return b"wardround/1 " + purpose.encode() + b"\0" + content


def canonical(value: Any) -> bytes:
    """RFC 8785 for what the vectors hold: ASCII text and integers."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def sha256_hex(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def words_bytes(words: list[int]) -> bytes:
    return b"".join((word % 2**32).to_bytes(4, "little") for word in words)


def plain_root(own_private: bytes, peer_public: bytes, low: str, high: str) -> bytes:
    info = framed("pair", low.encode() + b"\0" + high.encode())
    return hkdf(x25519(own_private, peer_public), bytes.fromhex(GOOD["directory_digest"]), info)


def private_key(name: str, kind: str) -> bytes:
    (found,) = [each[kind] for each in GOOD["hospitals"] if each["name"] == name]
    return bytes.fromhex(found)


def public_key(name: str) -> bytes:
    (found,) = [entry["public_key"] for entry in GOOD["directory"] if entry["hospital"] == name]
    return bytes.fromhex(found)


def check_signature(name: str, purpose: str, signed: Any, signature: str) -> None:
    (key,) = [each["identity_public"] for each in GOOD["hospitals"] if each["name"] == name]
    message = framed(purpose, canonical(signed))
    Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)).verify(bytes.fromhex(signature), message)


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


@pytest.mark.parametrize("entry", GOOD["directory"], ids=lambda entry: entry["hospital"])
def test_run_keys_and_their_signatures_are_as_written(entry: dict[str, str]) -> None:
    name = entry["hospital"]
    nine = (9).to_bytes(32, "little")
    assert x25519(private_key(name, "run_private"), nine).hex() == entry["public_key"]
    signed = {key: value for key, value in entry.items() if key != "signature"}
    check_signature(name, "run-key", signed, entry["signature"])
    identity = Ed25519PrivateKey.from_private_bytes(private_key(name, "identity_private"))
    assert identity.sign(framed("run-key", canonical(signed))).hex() == entry["signature"]


def test_the_directory_digest_and_the_transcript_are_as_written() -> None:
    directory = sorted(GOOD["directory"], key=lambda entry: entry["hospital"])
    assert sha256_hex(framed("directory", canonical(directory))) == GOOD["directory_digest"]
    assert GOOD["spec"]["directory_digest"] == GOOD["directory_digest"]
    assert sha256_hex(framed("round-spec", canonical(GOOD["spec"]))) == GOOD["transcript"]


@pytest.mark.parametrize("pair", GOOD["pairs"], ids=lambda pair: f"{pair['low']}+{pair['high']}")
def test_both_ends_of_a_pair_derive_the_written_keystream(pair: dict[str, str]) -> None:
    low, high = pair["low"], pair["high"]
    assert low < high
    roots = {
        plain_root(private_key(own, "run_private"), public_key(peer), low, high).hex()
        for own, peer in ((low, high), (high, low))
    }
    assert roots == {pair["root"]}
    key = hkdf_expand(
        bytes.fromhex(pair["root"]), framed("mask", bytes.fromhex(GOOD["transcript"]))
    )
    assert key.hex() == pair["mask_key"]
    words = GOOD["spec"]["lanes"]
    assert words_bytes(keystream(key, words)).hex() == pair["keystream"]


@pytest.mark.parametrize("update", GOOD["updates"], ids=lambda update: update["hospital"])
def test_the_masked_vectors_and_headers_are_as_written(update: dict[str, Any]) -> None:
    name, masked = update["hospital"], list(update["lanes"])
    for pair in GOOD["pairs"]:
        sign = {pair["low"]: 1, pair["high"]: -1}.get(name, 0)
        stream = keystream(bytes.fromhex(pair["mask_key"]), len(masked))
        masked = [word + sign * key for word, key in zip(masked, stream, strict=True)]
    sent = words_bytes(masked)
    assert sent.hex() == update["masked"]
    assert update["header"] == {
        "hospital": name,
        "transcript": GOOD["transcript"],
        "update_digest": sha256_hex(sent),
    }
    check_signature(name, "masked-update", update["header"], update["signature"])


def test_the_sum_is_that_of_the_open_lanes_and_of_the_masked_words() -> None:
    open_sum = [sum(lane) for lane in zip(*(u["lanes"] for u in GOOD["updates"]), strict=True)]
    assert open_sum == GOOD["sum"]
    sent = [re.findall(r"\w{8}", update["masked"]) for update in GOOD["updates"]]
    words = [
        sum(int.from_bytes(bytes.fromhex(word), "little") for word in lane)
        for lane in zip(*sent, strict=True)
    ]
    assert words_bytes(words) == words_bytes(open_sum)
    assert sha256_hex(words_bytes(words)) == GOOD["sum_digest"]


def test_the_self_tests_chunk_has_the_blocks_of_a_plain_aes() -> None:
    from wardround.masking.keystream import CHUNK_WORDS, open_keystream

    stream = bytearray(4 * CHUNK_WORDS)
    open_keystream(bytes(32)).update_into(bytes(4 * CHUNK_WORDS), stream)
    for block in (0, 1, 7, 8, 63, 253, 254, 255, 1023, 16_381, 16_382, CHUNK_WORDS // 4 - 1):
        due = aes_256(bytes(32), (2 + block).to_bytes(16, "big"))
        assert stream[16 * block : 16 * block + 16] == due
