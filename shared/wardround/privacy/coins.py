"""Which canaries are in: coins from a seed, committed to before the dry run and opened after."""

import hashlib

import numpy as np
import numpy.typing as npt

SEED_BYTES = 32
_COMMITMENT = b"wardround/1 audit-coins commitment\x00"
_COINS = b"wardround/1 audit-coins\x00"

Flags = npt.NDArray[np.bool_]


def coins_commitment(seed: bytes) -> str:
    """SHA-256 that binds to a seed of 32 random bytes and opens nothing of it."""
    return hashlib.sha256(_COMMITMENT + seed).hexdigest()


def coins(seed: bytes, count: int) -> Flags:
    """`count` fair coins: the bits of SHAKE-256 over the seed, the highest of a byte first.

    >>> coins(bytes(32), 8).astype(int).tolist()
    [0, 1, 1, 0, 0, 0, 1, 1]
    """
    return flags_of(hashlib.shake_256(_COINS + seed).digest(-(-count // 8)), count)


def flags_of(packed: bytes, count: int) -> Flags:
    """The first `count` bits of `packed`; there must be that many."""
    return np.unpackbits(np.frombuffer(packed, dtype=np.uint8), count=count).astype(np.bool_)


def packed_flags(flags: Flags) -> bytes:
    """`flags` as bits, the highest of a byte first, filled up with zeros."""
    return np.packbits(flags).tobytes()
