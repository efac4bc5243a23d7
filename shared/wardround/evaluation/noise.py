"""Integer Gaussian noise for evaluation counts."""

import math
from collections.abc import Iterable

import numpy as np

from wardround.errors import BadInput
from wardround.evaluation.histograms import Counts
from wardround.noise import gaussian
from wardround.randomness import Randomness

_ROUNDING_VARIANCE = 1 / 12


def gaussian_cells(cells: int, noise_multiplier: float, randomness: Randomness) -> Counts:
    """One draw per cell of N(0, noise_multiplier^2), rounded to an integer.

    A count is an integer, so count + rounded noise = rounded (count + noise): rounding only
    post-processes the Gaussian mechanism that the accountant charges, and leaves no low bits of a
    float to read. The tail is cut at 8.5 standard deviations, a mass of 1e-17, far below any
    delta. Raises BadInput for a noise multiplier that is not positive.
    """
    if not 0 < noise_multiplier < math.inf:
        raise BadInput(f"evaluation noise: a positive multiplier was due, {noise_multiplier} came")
    noise = gaussian(cells, scale=noise_multiplier, randomness=randomness)
    return np.rint(noise).astype(np.int64)


def pooled_cell_sd(noise_multipliers: Iterable[float]) -> float:
    """Standard deviation of a pooled cell to which each hospital added its own noise.

    >>> round(pooled_cell_sd([1.2, 1.2, 1.2, 1.2]), 3)
    2.468
    """
    return math.sqrt(math.fsum(noise**2 + _ROUNDING_VARIANCE for noise in noise_multipliers))
