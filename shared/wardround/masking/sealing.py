"""Shares on their way from one hospital to another, through a coordinator that must not read them.

AES-256-GCM with a nonce of zeros: the key `e_i>j` is derived for one sender, one recipient and one
transcript, and seals one bundle (NIST SP 800-38D 8: no key meets the same nonce twice).
"""

from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from wardround.errors import ProtocolViolation

TAG_BYTES: Final = 16
_NONCE: Final = bytes(12)


def seal(bundle: bytes, *, key: bytes, transcript: bytes) -> bytes:
    """Encrypt `bundle` under a key that seals nothing else; 16 bytes longer than `bundle`.

    >>> seal(b"share", key=bytes(32), transcript=bytes(32)).hex()[:10]
    'bdcf214f28'
    """
    return AESGCM(key).encrypt(_NONCE, bundle, transcript)


def open_sealed(sealed: bytes, *, key: bytes, transcript: bytes) -> bytes:
    """Decrypt what `seal` made.

    Raises ProtocolViolation when it is too short, was changed, or belongs to another key or
    transcript; which of them, the cipher cannot tell.

    >>> open_sealed(seal(b"share", key=bytes(32), transcript=b"T"), key=bytes(32), transcript=b"T")
    b'share'
    """
    try:
        return AESGCM(key).decrypt(_NONCE, sealed, transcript)
    except InvalidTag as error:
        raise ProtocolViolation(
            f"sealed shares: {len(sealed)} bytes do not open with the key and transcript due"
        ) from error
