"""How much noise each hospital adds to its statistics, from public constants alone."""

import math

from wardround.errors import BadInput
from wardround.masking.quantise import largest_limit
from wardround.noise import MOST_VARIANCE
from wardround.privacy.noise_shares import (
    LEAST_DEVIATION_LANES,
    NoiseShare,
    noise_tail,
    share_variance,
)
from wardround.statistics.cells import ONE
from wardround.statistics.layout import StatisticsLayout

_LEAST_VARIANCE = LEAST_DEVIATION_LANES**2


def statistics_share(
    noise_multiplier: float, layout: StatisticsLayout, *, hospitals: int, honest: int
) -> NoiseShare:
    """Each hospital's discrete Gaussian, in lanes, for a cohort of `hospitals`.

    `honest` of them add it for certain: together at least `noise_multiplier` times the layout's
    sensitivity. With honest = 1 each hospital's vector is private by itself. The honest noise is
    never below 2^10 lanes, 4 patients: from there on the accountant may take it for a Gaussian
    (decision 0006). Raises BadInput when the lanes cannot hold it.
    """
    sensitivity, limit = layout.sensitivity_lanes, largest_limit(hospitals)
    variance = max(
        share_variance(noise_multiplier, sensitivity_lanes=sensitivity, honest=honest),
        math.ceil(_LEAST_VARIANCE / honest),
    )
    while math.sqrt(honest * variance) / sensitivity < noise_multiplier:  # a float rounded down
        variance += 1
    if variance > MOST_VARIANCE or noise_tail(variance) > limit - ONE:
        raise BadInput(
            f"statistics: noise multiplier {noise_multiplier:g} for {layout.lanes} cells does not"
            f" fit into the lanes of {hospitals} hospitals; a larger statistics.epsilon or fewer"
            " columns are due"
        )
    return NoiseShare(
        scale=1.0, limit=limit, sensitivity_lanes=sensitivity, honest=honest, variance=variance
    )


def deviation_of_sum(share: NoiseShare, hospitals: int) -> float:
    """Standard deviation, in lanes, of a sum to which so many hospitals added their share."""
    return math.sqrt(hospitals * share.variance)
