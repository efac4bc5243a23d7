"""Noise inside a masked sum: how much of it each hospital adds, from public constants alone.

Coordinator, hospital and verifier compute the same numbers here, in units of lanes, the integers
that are summed (PROTOCOL.md "Noise in the sum"; decision 0006).
"""

import math
from dataclasses import dataclass
from typing import Final

from wardround.errors import BadInput
from wardround.masking.quantise import choose_scale, largest_limit
from wardround.masking.round_spec import SMALLEST_SCALE
from wardround.noise import MOST_VARIANCE

TAIL_DEVIATIONS: Final = 14  # a Gaussian is beyond it with probability 1.6e-44
LEAST_DEVIATION_LANES: Final = 2**10
BATCHES_IN_RANGE: Final = 2  # a sum of twice the expected batch is never cut
# What float32 adds to one patient's part of a sum: the clip norm holds up to 1e-6 of it, and the
# others' rounding moves by 1.6e-7 of it for each patient of a batch (measured, decision 0006).
TOLERANCE: Final = 1e-4
TOLERANCE_A_PATIENT: Final = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class StepScale:
    """What bounds one hospital's step: learning rate, clip norm (L2) and public normaliser."""

    learning_rate: float
    clip_norm_l2: float
    expected_batch: float

    @property
    def one_patient(self) -> float:
        """The L2 norm of one patient's part of a step, in real space."""
        return self.learning_rate * self.clip_norm_l2 / self.expected_batch

    def sensitivity_lanes(self, *, scale: float, lanes: int) -> float:
        """How far (L2, in lanes) the rounded vector moves when one unit comes or goes.

        Rounding the sum moves each coordinate by at most 1/2 in either neighbour, so the
        difference by at most 1 a lane and sqrt(lanes) in all. The sum before it is one of
        float32 values.

        >>> StepScale(learning_rate=1.0, clip_norm_l2=1.0, expected_batch=64.0).sensitivity_lanes(
        ...     scale=2.0**20, lanes=100
        ... )
        16396.686976
        """
        moved = self.one_patient * arithmetic_factor(self.expected_batch)
        return moved * scale + math.sqrt(lanes)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseShare:
    """One hospital's part of the noise in a sum, in lanes."""

    scale: float
    limit: int
    sensitivity_lanes: float
    honest: int
    variance: int

    @property
    def tail(self) -> int:
        """What is kept free below the limit for the noise."""
        return noise_tail(self.variance)


def arithmetic_factor(expected_batch: float) -> float:
    """What a clip norm is multiplied by to bound the change of a sum that float32 holds.

    >>> arithmetic_factor(100.0)
    1.0002
    """
    return 1.0 + TOLERANCE + TOLERANCE_A_PATIENT * expected_batch


def share_variance(noise_multiplier: float, *, sensitivity_lanes: float, honest: int) -> int:
    """The variance parameter of each share, so that `honest` shares are the noise that is due.

    >>> share_variance(2.0, sensitivity_lanes=3.0, honest=5)
    8
    """
    if honest < 1:
        raise BadInput(f"noise share: {honest} honest hospitals, at least 1 was due")
    return math.ceil((noise_multiplier * sensitivity_lanes) ** 2 / honest)


def noise_tail(variance: int) -> int:
    """How far one share may reach, in lanes: lanes are clamped to the limit minus this."""
    return math.ceil(TAIL_DEVIATIONS * math.sqrt(variance))


def noise_share(
    noise_multiplier: float,
    step: StepScale,
    *,
    most_change: float,
    hospitals: int,
    honest: int,
    lanes: int,
    bits: int = 32,
) -> NoiseShare:
    """The scale of a round and each hospital's share of its noise.

    `honest` of the `hospitals` asked are certain to be in a sum that opens, with their share.

    The scale is the largest power of two at which a coordinate of a sum over twice the expected
    batch (or `most_change`, if that is less) fits below the lane limit with the noise on top.
    Raises BadInput when that leaves the share's deviation below 2^10 lanes, where a sum of
    discrete Gaussians is not yet one for the accountant (decision 0006).
    """
    limit = largest_limit(hospitals, bits)
    change = min(most_change, BATCHES_IN_RANGE * step.learning_rate * step.clip_norm_l2)
    scale, deviation = choose_scale(change, hospitals, bits), math.inf
    while deviation >= LEAST_DEVIATION_LANES and scale >= SMALLEST_SCALE:
        moved = step.sensitivity_lanes(scale=scale, lanes=lanes)
        variance = share_variance(noise_multiplier, sensitivity_lanes=moved, honest=honest)
        deviation = math.sqrt(variance)
        fits = math.ceil(change * scale) + noise_tail(variance) <= limit
        fits = fits and variance <= MOST_VARIANCE
        if fits and deviation >= LEAST_DEVIATION_LANES:
            return NoiseShare(
                scale=scale, limit=limit, sensitivity_lanes=moved, honest=honest, variance=variance
            )
        scale /= 2.0
    raise BadInput(
        f"noise share: its deviation is {deviation:.0f} lanes for {hospitals} hospitals where the "
        f"change fits, at least {LEAST_DEVIATION_LANES} are due; a smaller training.update_bound "
        f"or training.expected_batch leaves more of the {bits} bits to it"
    )
