"""Between real numbers and the 32-bit lanes that a sum is made of."""

import math
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from wardround.errors import BadInput, ProtocolViolation
from wardround.masking.round_spec import LARGEST_SCALE, SMALLEST_SCALE

Lanes = npt.NDArray[np.int32]

LANE: Final = np.dtype("<i4")
_BLOCK: Final = 1 << 15  # 256 KiB of float64 stay in the L2 cache


def quantise(values: npt.NDArray[np.floating[Any]], *, scale: float, limit: int) -> Lanes:
    """Multiply by `scale`, clip to +-`limit`, round half to even.

    The product is computed in float64, where a power of two is exact. NaN or an infinity raises
    ProtocolViolation with their count: no lane stands for them.

    >>> quantise(np.array([0.25, -0.75, 9.0]), scale=2.0, limit=4).tolist()
    [0, -2, 4]
    """
    if values.ndim != 1 or values.dtype.kind != "f":
        raise ProtocolViolation(
            f"update: {values.dtype} of shape {values.shape} came, a vector of floats was due"
        )
    lanes = np.empty(values.size, dtype=LANE)
    buffer = np.empty(min(_BLOCK, values.size), dtype=np.float64)
    not_finite = 0
    for start in range(0, values.size, _BLOCK):
        block = values[start : start + _BLOCK]
        not_finite += block.size - int(np.count_nonzero(np.isfinite(block)))
        if not_finite:
            continue  # nothing is returned; only the count goes on
        scaled = buffer[: block.size]
        with np.errstate(over="ignore"):  # an overflow is clipped like any large value
            np.multiply(block, scale, out=scaled, dtype=np.float64)
        np.clip(scaled, -limit, limit, out=scaled)
        np.rint(scaled, out=scaled)
        lanes[start : start + _BLOCK] = scaled
    if not_finite:
        raise ProtocolViolation(
            f"update: {not_finite} of {values.size} values are NaN or infinite, none may be"
        )
    return lanes


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
    even chance to lie beyond hospitals x limit, where `Accumulator.sum` sees it.

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
