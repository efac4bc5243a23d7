"""Randomness as an argument: the operating system's in the product, a seeded one in tests only.

No study, file, variable or option chooses it: a deterministic source exists as a Python argument
of a test and nowhere else.
"""

import os
from typing import Protocol

import numpy as np
import numpy.typing as npt

from wardround.masking.keystream import add_keystream

# Up to here a system call is cheaper than a cipher.
_DIRECT_BYTES = 1024
_KEY_BYTES = 32


class Randomness(Protocol):
    """A source of unpredictable bytes."""

    def __call__(self, count: int) -> bytes:
        """Return `count` fresh random bytes."""
        ...


def system_randomness(count: int) -> bytes:
    """`count` bytes that nobody can foretell, from the operating system's generator.

    Few are taken from getrandom(2) as they are. Many are the AES-256-CTR keystream of a key that
    getrandom(2) gave for this one draw and that is dropped with it. No state outlives a call, so
    none is there to be forked with a process, restored with a snapshot, replayed or read later.
    A cipher that fails its known-answer test raises WardroundError. (Bernstein 2017, "Fast-key-
    erasure random-number generators"; NIST SP 800-38A 6.5)
    """
    if count <= _DIRECT_BYTES:
        return os.urandom(count)
    words = np.zeros(-(-count // 4), dtype=np.uint32)
    add_keystream(words, os.urandom(_KEY_BYTES))
    return words.view(np.uint8)[:count].tobytes()


def words(count: int, randomness: Randomness) -> npt.NDArray[np.uint64]:
    """`count` integers uniform on 0 .. 2^64 - 1."""
    return np.frombuffer(randomness(8 * count), dtype=np.uint64)


def uniform(shape: int, randomness: Randomness) -> npt.NDArray[np.float64]:
    """`shape` values uniform on [0, 1), each with 53 random bits."""
    return (words(shape, randomness) >> np.uint64(11)).astype(np.float64) * 2.0**-53
