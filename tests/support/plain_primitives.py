"""Plain and slow: X25519, HKDF, AES-256, GCM, frames, canonical JSON, in Python's integers.

Part of the second implementation: from PROTOCOL.md and the standards alone, importing nothing of
`wardround`. Ed25519 alone comes from `cryptography`.
"""

import functools
import hashlib
import hmac
import json
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PRIME = 2**255 - 19


class PlainFault(Exception):
    """What the plain parties refuse."""


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


def x25519_public(private: bytes) -> bytes:
    return x25519(private, (9).to_bytes(32, "little"))


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


@functools.cache
def multiples(factor: int) -> bytes:
    return bytes(times(value, factor) for value in range(256))


@functools.lru_cache(maxsize=64)
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
    two, three = multiples(2), multiples(3)
    return bytes(
        two[column[i]] ^ three[column[(i + 1) % 4]] ^ column[i - 2] ^ column[i - 1]
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


def keystream_bytes(key: bytes, size: int) -> bytes:
    """AES-256-CTR over zeros from counter 2 on; GCM's stream for 12 zero bytes as IV."""
    blocks = [aes_256(key, (2 + i).to_bytes(16, "big")) for i in range(-(-size // 16))]
    return b"".join(blocks)[:size]


def keystream(key: bytes, words: int) -> list[int]:
    return from_words(keystream_bytes(key, 4 * words))


def ghash_times(x: int, y: int) -> int:
    """Multiply two blocks (SP 800-38D, algorithm 1); the highest bit of an integer is x_0."""
    z, v = 0, y
    for bit in range(127, -1, -1):
        if x >> bit & 1:
            z ^= v
        v = (v >> 1) ^ (0xE1 << 120 if v & 1 else 0)
    return z


def gcm_tag(key: bytes, ciphertext: bytes, aad: bytes) -> bytes:
    """The tag for an IV of 12 zero bytes (SP 800-38D, algorithm 4)."""
    subkey = int.from_bytes(aes_256(key, bytes(16)), "big")
    lengths = (8 * len(aad)).to_bytes(8, "big") + (8 * len(ciphertext)).to_bytes(8, "big")
    state = 0
    for part in (aad, ciphertext, lengths):
        padded = part + bytes(-len(part) % 16)
        for start in range(0, len(padded), 16):
            block = int.from_bytes(padded[start : start + 16], "big")
            state = ghash_times(state ^ block, subkey)
    first = int.from_bytes(aes_256(key, (1).to_bytes(16, "big")), "big")
    return (state ^ first).to_bytes(16, "big")


def gcm_seal(key: bytes, plain: bytes, aad: bytes) -> bytes:
    stream = keystream_bytes(key, len(plain))
    ciphertext = bytes(a ^ b for a, b in zip(plain, stream, strict=True))
    return ciphertext + gcm_tag(key, ciphertext, aad)


def gcm_open(key: bytes, sealed: bytes, aad: bytes) -> bytes:
    ciphertext, tag = sealed[:-16], sealed[-16:]
    if gcm_tag(key, ciphertext, aad) != tag:
        raise PlainFault("sealed shares do not open")
    stream = keystream_bytes(key, len(ciphertext))
    return bytes(a ^ b for a, b in zip(ciphertext, stream, strict=True))


def framed(purpose: str, content: bytes) -> bytes:
    return b"wardround/1 " + purpose.encode() + b"\0" + content


def canonical(value: Any) -> bytes:
    """RFC 8785 for what this protocol holds: ASCII text and integers."""
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def words_bytes(words: list[int]) -> bytes:
    return b"".join((word % 2**32).to_bytes(4, "little") for word in words)


def from_words(content: bytes) -> list[int]:
    return [int.from_bytes(content[i : i + 4], "little") for i in range(0, len(content), 4)]


def sign(private: bytes, purpose: str, message: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(private).sign(framed(purpose, message))


def ed25519_public(private: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def check_signature(public: bytes, purpose: str, message: bytes, signature: bytes) -> None:
    try:
        key = Ed25519PublicKey.from_public_bytes(public)
        key.verify(signature, framed(purpose, message))
    except InvalidSignature as error:
        raise PlainFault(f"a signature for {purpose} does not hold") from error
