"""Randomness as an argument: the operating system's in the product, a seeded one in tests only."""

import os
from typing import Protocol

import numpy as np
import numpy.typing as npt


class Randomness(Protocol):
    """A source of unpredictable bytes."""

    def __call__(self, count: int) -> bytes:
        """Return `count` fresh random bytes."""
        ...


def system_randomness(count: int) -> bytes:
    """`count` bytes from the operating system's generator (getrandom(2))."""
    return os.urandom(count)


def uniform(shape: int, randomness: Randomness) -> npt.NDArray[np.float64]:
    """`shape` values uniform on [0, 1), each with 53 random bits."""
    words = np.frombuffer(randomness(8 * shape), dtype=np.uint64)
    return (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
