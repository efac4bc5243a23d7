"""Between real numbers and the 32-bit lanes that a sum is made of."""

import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from wardround.errors import BadInput, ProtocolViolation
from wardround.masking.keystream import CHUNK_WORDS
from wardround.masking.round_spec import LARGEST_SCALE, SMALLEST_SCALE

Lanes = npt.NDArray[np.int32]

LANE: Final = np.dtype("<i4")
_EXACT_IN_FLOAT32: Final = 1 << 24  # up to here every integer is a float32


def quantise(values: npt.NDArray[np.floating[Any]], *, scale: float, limit: int) -> Lanes:
    """Multiply by `scale`, clip to +-`limit`, round half to even.

    `scale` is a power of two, so the product is exact. NaN or an infinity raises
    ProtocolViolation with their count: no lane stands for them.

    >>> quantise(np.array([0.25, -0.75, 9.0]), scale=2.0, limit=4).tolist()
    [0, -2, 4]
    """
    if values.ndim != 1 or values.dtype.kind != "f":
        raise ProtocolViolation(
            f"update: {values.dtype} of shape {values.shape} came, a vector of floats was due"
        )
    lanes = np.empty(values.size, dtype=LANE)
    quantiser = Quantiser(scale=scale, limit=limit)
    not_finite = 0
    for start in range(0, values.size, CHUNK_WORDS):
        stop = start + CHUNK_WORDS
        not_finite += quantiser.fill(values[start:stop], lanes[start:stop])
    if not_finite:
        raise ProtocolViolation(
            f"update: {not_finite} of {values.size} values are NaN or infinite, none may be"
        )
    return lanes


class Quantiser:
    """`quantise` for block after block, with the same scratch memory."""

    def __init__(self, *, scale: float, limit: int) -> None:
        self._scale, self._limit = scale, limit
        self._wide = np.empty(CHUNK_WORDS, dtype=np.float64)
        self._narrow = self._wide.view(np.float32)

    def fill(self, block: npt.NDArray[np.floating[Any]], lanes: Lanes) -> int:
        """Fill `lanes` from at most CHUNK_WORDS values; return how many are NaN or infinite.

        When some are, `lanes` means nothing. The product with a power of two is exact in float32
        too, unless it is clipped or rounded to zero; only a limit that float32 does not have needs
        float64.
        """
        low, high = float(block.min()), float(block.max())  # a NaN goes through both
        if not (math.isfinite(low) and math.isfinite(high)):
            return block.size - int(np.count_nonzero(np.isfinite(block)))
        clips = max(-low, high) * self._scale > self._limit
        wide = block.dtype.itemsize > 4 or (clips and self._limit > _EXACT_IN_FLOAT32)
        scaled = (self._wide if wide else self._narrow)[: block.size]
        with np.errstate(over="ignore", under="ignore"):  # clipped, or rounded to zero
            np.multiply(block, self._scale, out=scaled, dtype=scaled.dtype, casting="same_kind")
        if clips:
            np.clip(scaled, -self._limit, self._limit, out=scaled)
        np.rint(scaled, out=scaled)
        lanes[:] = scaled
        return 0


def dequantise(total: Lanes, *, scale: float) -> npt.NDArray[np.float64]:
    """Divide a sum of lanes by `scale`: exact, since `scale` is a power of two.

    >>> dequantise(np.array([3, -4], dtype=np.int32), scale=2.0).tolist()
    [1.5, -2.0]
    """
    return np.multiply(total, 1.0 / scale, dtype=np.float64)


def counts_to_lanes(counts: npt.NDArray[np.integer[Any]], *, limit: int) -> Lanes:
    """Take counts as lanes, unchanged.

    A count below zero or above `limit` raises ProtocolViolation: a clipped count would be a
    wrong one.

    >>> counts_to_lanes(np.array([3, 0, 12]), limit=100).tolist()
    [3, 0, 12]
    """
    if counts.ndim != 1 or counts.dtype.kind not in "iu":
        raise ProtocolViolation(
            f"counts: {counts.dtype} of shape {counts.shape} came, a vector of integers was due"
        )
    outside = int(np.count_nonzero((counts < 0) | (counts > limit)))
    if outside:
        raise ProtocolViolation(
            f"counts: {outside} of {counts.size} are not between 0 and the limit {limit}"
        )
    return counts.astype(LANE)


def largest_limit(hospitals: int, bits: int = 32) -> int:
    """Return the `limit` to put into a spec for so many hospitals and lanes of so many bits.

    One bit stays spare: a sum whose masks did not cancel is uniform, so each of its lanes has an
    even chance to lie beyond hospitals x limit, where `Accumulator.signed` sees it.

    >>> largest_limit(4), largest_limit(4, bits=20)
    (268435455, 65535)
    """
    if hospitals < 1:
        raise BadInput(f"limit: {hospitals} hospitals came, at least 1 was due")
    limit = ((1 << (bits - 2)) - 1) // hospitals
    if limit < 1:
        raise BadInput(f"limit: {hospitals} hospitals leave no room for a lane")
    return limit


def choose_scale(bound: float, hospitals: int, bits: int = 32) -> float:
    """Return the largest power of two that keeps values up to `bound` within `largest_limit`.

    `bound` is the largest absolute value that need not be clipped, its noise included.

    >>> choose_scale(1.0, 4)
    134217728.0
    """
    if not (math.isfinite(bound) and bound > 0.0):
        raise BadInput(f"scale: the bound is {bound!r}, a positive number was due")
    limit = largest_limit(hospitals, bits)
    scale = math.ldexp(1.0, math.frexp(limit / bound)[1] - 1)
    if scale * bound > limit:  # the quotient was rounded up to a power of two
        scale /= 2.0
    if scale < SMALLEST_SCALE:
        raise BadInput(f"scale: a bound of {bound!r} leaves no bit for the values")
    return min(scale, LARGEST_SCALE)
