"""Hashes and keys, each bound to one purpose: the same bytes never serve two ends.

The frame is that of `wardround.identity`: version, purpose, a zero byte, content (PROTOCOL 2).
"""

import hashlib

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from wardround.canonical import canonical_bytes

KEY_BYTES = 32


def framed(purpose: bytes, content: bytes) -> bytes:
    r"""Put version and purpose before `content`.

    >>> framed(b"mask", b"T")
    b'wardround/1 mask\x00T'
    """
    return b"wardround/1 " + purpose + b"\x00" + content


def hash_json(purpose: bytes, value: object) -> bytes:
    """SHA-256 (32 bytes) over the frame and the canonical JSON of `value`."""
    return hashlib.sha256(framed(purpose, canonical_bytes(value))).digest()


def extract_key(shared: bytes, *, salt: bytes, purpose: bytes, context: bytes) -> bytes:
    """Turn a Diffie-Hellman value, which is not uniform, into a 32-byte key (RFC 5869, HKDF)."""
    return HKDF(SHA256(), KEY_BYTES, salt=salt, info=framed(purpose, context)).derive(shared)


def expand_key(key: bytes, *, purpose: bytes, context: bytes) -> bytes:
    """Derive a 32-byte key from a uniform one (RFC 5869 section 2.3: HKDF-Expand)."""
    return HKDFExpand(SHA256(), KEY_BYTES, info=framed(purpose, context)).derive(key)
