"""A clip norm that follows a quantile of the gradients' norms, by a count with noise."""

import math
from dataclasses import dataclass

import numpy as np

from wardround.randomness import Randomness
from wardround_client.training.noise import gaussian

# The geometric step of Andrew et al. 2021, section 3.1: a factor of at most 1.22 where nobody, or
# everybody, is within the clip norm.
_LEARNING_RATE = 0.2
# The clip norm never falls below this part of its ceiling: it stays above 0 whatever the counts.
_LEAST_PART = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptiveClip:
    """How the clip norm moves from step to step within one release; every number is public."""

    quantile: float
    count_noise: float
    most_l2: float
    expected_batch: float

    def after(
        self, clip_norm_l2: float, *, within: int, sampled: int, randomness: Randomness
    ) -> float:
        """The clip norm of the next step, from how many of those sampled were within this one.

        Each patient counts +1/2 or -1/2, so that one more or less moves the count by 1/2 and no
        more. The noised count over the public expected batch estimates the share within; the clip
        norm falls while it is above the quantile, rises while it is below, and never passes
        `most_l2`. (Andrew et al. 2021, Alg. 1)
        """
        noise = gaussian(1, scale=self.count_noise, randomness=randomness)
        # On a grid, like every noised value: a double's low bits would tell the count.
        count = float(np.rint((within - sampled / 2.0 + noise[0]) * 1024.0)) / 1024.0
        share = count / self.expected_batch + 0.5
        # Far-off counts of small batches move the norm no further than the ends of the scale.
        excess = min(max(share, 0.0), 1.0) - self.quantile
        moved = clip_norm_l2 * math.exp(-_LEARNING_RATE * excess)
        return min(max(moved, _LEAST_PART * self.most_l2), self.most_l2)
