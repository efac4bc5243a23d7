"""Numbers drawn from a public seed, the same on every machine: to compare with, never for noise."""

import hashlib

import numpy as np
import numpy.typing as npt
from scipy.special import ndtri

PURPOSE = b"wardround/1 explanation draws\x00"
Draws = npt.NDArray[np.float64]


def uniform(count: int, seed: bytes) -> Draws:
    """[count] numbers in (0, 1), by SHAKE-256 of the seed.

    >>> uniform(3, b"seed").round(3).tolist()
    [0.406, 0.604, 0.065]
    """
    words = np.frombuffer(hashlib.shake_256(PURPOSE + seed).digest(8 * count), dtype="<u8")
    places: Draws = ((words >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
    return places


def normal(count: int, seed: bytes) -> Draws:
    """[count] standard normal numbers."""
    drawn: Draws = ndtri(uniform(count, seed))
    return drawn
