"""Gaussian noise for every release: on the real numbers, and on the integers of a masked sum.

There is no state to replay: every value comes from bytes that are drawn for it alone.
"""

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from wardround.errors import BadInput
from wardround.randomness import Randomness, uniform, words

MOST_VARIANCE: Final = 1 << 50

# Pairs, or proposals, drawn at once: 64 KiB a float64 vector, so that all of them stay in cache.
_AT_ONCE = 1 << 13
# Half of the proposals are accepted: at least so many at a time, so that a few values take one go.
_FEWEST_PROPOSALS = 64
_LOW_32 = np.uint64(0xFFFF_FFFF)
_BITS_32 = np.uint64(32)


def gaussian(count: int, *, scale: float, randomness: Randomness) -> npt.NDArray[np.float64]:
    """Draw `count` independent N(0, scale^2) values in float64.

    The tail reaches 8.57 standard deviations (53-bit uniforms); a mass of 1e-17 lies beyond.
    Nothing is cached: two calls share no byte of randomness. The low bits of a float64 are not
    those of a real number: what leaves is rounded to a coarser grid first. (Box and Muller 1958)
    """
    if count < 0 or not 0.0 < scale < math.inf:
        raise BadInput(f"noise: {count} values of scale {scale}; a finite scale above 0 was due")
    values = np.empty(count, dtype=np.float64)
    for start in range(0, count, 2 * _AT_ONCE):
        part = values[start : start + 2 * _AT_ONCE]
        pairs = (len(part) + 1) // 2
        radius = uniform(pairs, randomness)
        np.subtract(1.0, radius, out=radius)  # in (0, 1]: its logarithm is finite
        np.log(radius, out=radius)
        np.multiply(radius, -2.0 * scale * scale, out=radius)
        np.sqrt(radius, out=radius)
        # cos a = (1 - t^2) / (1 + t^2) and sin a = 2t / (1 + t^2) with t = tan(a / 2): one
        # vectorised function instead of two that are not.
        tangent = uniform(pairs, randomness)
        np.subtract(tangent, 0.5, out=tangent)
        np.multiply(tangent, math.pi, out=tangent)
        np.tan(tangent, out=tangent)
        square = tangent * tangent
        radius /= 1.0 + square
        np.multiply(1.0 - square, radius, out=part[:pairs])
        rest = len(part) - pairs
        np.multiply(2.0 * tangent[:rest], radius[:rest], out=part[pairs:])
    return values


def discrete_gaussian(
    count: int, *, variance: int, randomness: Randomness
) -> npt.NDArray[np.int64]:
    """Draw `count` independent integers, P(x) proportional to exp(-x^2 / (2 variance)).

    Rejection from a discrete Laplace distribution, whole proposals at a time. How often one is
    rejected therefore says nothing of the values that are kept, and no loop runs longer for a
    larger value. `variance` is the parameter sigma^2, 1 to 2^50; it is the variance of what is
    drawn as well, to 3e-7 of itself at 1 and to 1e-14 from 2 on.

    Precision: uniforms have 64 bits, exponentials and logarithms are float64. A value x comes with
    probability p(x) (1 + r) + a where |r| < 2^-44 and the a of all values together are below
    2^-62; beyond 10.6 standard deviations nothing comes, and a holds that. So n draws add at most
    n 2^-43 to epsilon and n 2^-62 to delta. (Canonne, Kamath and Steinke 2020, algorithms 2, 3)
    """
    if count < 0 or not 1 <= variance <= MOST_VARIANCE:
        raise BadInput(
            f"noise: {count} values of variance {variance}; 1 to {MOST_VARIANCE} was due"
        )
    values = np.empty(count, dtype=np.int64)
    filled = 0
    while filled < count:
        wanted = max(_FEWEST_PROPOSALS, 2 * (count - filled))
        accepted = _proposals(min(wanted, _AT_ONCE), variance, randomness)
        accepted = accepted[: count - filled]
        values[filled : filled + len(accepted)] = accepted
        filled += len(accepted)
    return values


def _proposals(count: int, variance: int, randomness: Randomness) -> npt.NDArray[np.int64]:
    """Those of `count` proposals that are accepted: each is an exact draw, in independent trials.

    The proposal is s (u + t v): u uniform on 0 .. t-1, v geometric with ratio 1/e, s a sign. The
    trial exp(-u/t) that makes u + t v Laplace and the one that makes Laplace Gaussian are one.
    """
    t = math.isqrt(variance) + 1
    drawn = words(3 * count, randomness).reshape(3, count)
    # Lemire 2019: the low half of a product tells the draws that would make u uneven.
    product = (drawn[0] >> _BITS_32) * np.uint64(t)
    even = (product & _LOW_32) >= np.uint64((1 << 32) % t)
    u = (product >> _BITS_32).astype(np.float64)
    v = np.floor(-np.log(_unit(drawn[1])))
    magnitude = u + t * v
    distance = magnitude - variance / t
    exponent = u / t + distance * distance / (2.0 * variance)
    negative = (drawn[0] & np.uint64(1)).astype(np.bool_)
    accepted = even & (_unit(drawn[2]) < np.exp(-exponent))
    accepted &= ~(negative & (magnitude == 0.0))  # zero has one sign only
    drawn_values: npt.NDArray[np.int64] = np.where(negative, -magnitude, magnitude)[
        accepted
    ].astype(np.int64)
    return drawn_values


def _unit(drawn: npt.NDArray[np.uint64]) -> npt.NDArray[np.float64]:
    """64-bit integers as (w + 1/2) / 2^64, above 0: float64 keeps small ones whole."""
    return (drawn.astype(np.float64) + 0.5) * 2.0**-64
