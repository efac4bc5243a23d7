"""Gaussian noise straight from the operating system's randomness: there is no state to replay."""

import math

import numpy as np
import numpy.typing as npt

from wardround.errors import BadInput
from wardround.randomness import Randomness, uniform

# Pairs drawn at once: bounds the memory whatever the model's size.
_PAIRS_AT_ONCE = 1 << 18


def gaussian(count: int, *, scale: float, randomness: Randomness) -> npt.NDArray[np.float32]:
    """Draw `count` independent N(0, scale^2) values, computed in float64.

    The tail reaches 8.57 standard deviations (53-bit uniforms). Nothing is cached: two calls
    share no byte of randomness. (Box and Muller 1958)
    """
    if count < 0 or not 0.0 < scale < math.inf:
        raise BadInput(f"noise: {count} values of scale {scale}; a finite scale above 0 was due")
    values = np.empty(count, dtype=np.float32)
    for start in range(0, count, 2 * _PAIRS_AT_ONCE):
        part = values[start : start + 2 * _PAIRS_AT_ONCE]
        pairs = (len(part) + 1) // 2
        # 1 - u lies in (0, 1]: its logarithm is finite.
        radius = scale * np.sqrt(-2.0 * np.log(1.0 - uniform(pairs, randomness)))
        angle = 2.0 * math.pi * uniform(pairs, randomness)
        part[:pairs] = radius * np.cos(angle)
        part[pairs:] = (radius * np.sin(angle))[: len(part) - pairs]
    return values
