"""Each stage of privacy is a type: what may leave the hospital is the last one only.

Mechanisms local and none: ClippedSum -> NoisedSum is one step; a RawUpdate is what training did to
the parameters and may not leave. `noised` makes a NoisedUpdate of it when every step behind it was
noised; `without_noise` makes a ClearUpdate, which a hospital's policy must have allowed.
Mechanism distributed: ClippedSum -> ClippedLanes -> NoisedLanes, which may leave in a masked sum.
`to_mask` takes what may leave, and nothing else type-checks there.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from wardround.errors import WardroundError
from wardround.masking.quantise import Lanes, quantise
from wardround.privacy.noise_shares import arithmetic_factor, noise_tail
from wardround.randomness import Randomness
from wardround_client.training.noise import PROBE_VALUES, NoiseProbe, discrete_gaussian, gaussian

Vector = npt.NDArray[np.float32]

# A noised sum lies on a grid of at most this part of the noise's deviation.
_GRID = 2.0**-20


@dataclass(frozen=True, slots=True, kw_only=True)
class ClippedSum:
    """Sum over patients of gradients, each within `clip_norm_l2`; None: nobody was clipped.

    `without_gradient` counts patients whose gradient was not finite and who therefore add zero,
    `within_clip` those whose gradient was not shortened. Like the values they stay here.
    """

    values: Tensor = field(repr=False)
    clip_norm_l2: float | None
    without_gradient: int = field(default=0, repr=False)
    within_clip: int = field(default=0, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseDone:
    """What one step's noise was: standard deviation over the clip norm it stands against.

    `count_noise` is the deviation on the count that moved the clip norm, None where none did.
    """

    noise_multiplier: float
    clip_norm_l2: float
    count_noise: float | None = None

    @property
    def of_step(self) -> float:
        """Noise multiplier of gradients and count as one release (Andrew et al. 2021, thm. 1)."""
        if self.count_noise is None:
            return self.noise_multiplier
        return 1.0 / math.sqrt(self.noise_multiplier**-2 + (2.0 * self.count_noise) ** -2)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoisedSum:
    """A clipped sum with noise: differentially private on its own. `probe` is noise alone."""

    values: Tensor = field(repr=False)
    done: NoiseDone
    probe: NoiseProbe = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClippedLanes:
    """A step of clipped gradients as integers that move by `sensitivity_lanes` (L2) a patient."""

    values: Lanes = field(repr=False)
    sensitivity_lanes: float
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NoisedLanes:
    """Lanes with this hospital's share of the noise: private in a sum of honest shares.

    Made by `add_share`. Alone they hold less noise than is claimed, so they leave masked only.
    """

    values: Lanes = field(repr=False)
    share_variance: int
    probe: NoiseProbe = field(repr=False)


@dataclass(frozen=True, slots=True)
class RawUpdate:
    """Final minus starting parameters, with no word about protection. It never leaves."""

    values: Vector = field(repr=False)


@dataclass(frozen=True, slots=True)
class NoisedUpdate:
    """An update that only depends on patients through noised sums. Made by `noised`."""

    values: Vector = field(repr=False)


@dataclass(frozen=True, slots=True)
class ClearUpdate:
    """An update WITHOUT a formal guarantee, under mechanism "none". Made by `without_noise`."""

    values: Vector = field(repr=False)


def add_noise(
    clipped: ClippedSum, *, noise_multiplier: float, expected_batch: float, randomness: Randomness
) -> NoisedSum:
    """Add N(0, (noise_multiplier * clip_norm_l2)^2) to every coordinate (Abadi et al. 2016).

    The deviation is larger by what float32 adds to a patient's part of the sum (decision 0006).
    Sum and noise are added in float64 and rounded to a grid of 2^-20 deviations or less: the low
    bits of a float would tell which sums are possible and which not (Mironov 2012).
    """
    if clipped.clip_norm_l2 is None:
        raise WardroundError("noise: the sum is not clipped, so no noise protects it")
    scale = noise_multiplier * clipped.clip_norm_l2 * arithmetic_factor(expected_batch)
    coordinates = clipped.values.numel()
    total = gaussian(coordinates + PROBE_VALUES, scale=scale, randomness=randomness)
    total[:coordinates] += clipped.values.numpy()
    grid = math.ldexp(1.0, math.frexp(scale * _GRID)[1] - 1)
    total /= grid  # a power of two: exact
    np.rint(total, out=total)
    total *= grid
    values = total.astype(np.float32)
    done = NoiseDone(noise_multiplier=noise_multiplier, clip_norm_l2=clipped.clip_norm_l2)
    return NoisedSum(
        values=torch.from_numpy(values[:coordinates]),
        done=done,
        probe=NoiseProbe.of(values[coordinates:], variance=scale**2),
    )


def add_share(clipped: ClippedLanes, *, share_variance: int, randomness: Randomness) -> NoisedLanes:
    """Add a discrete Gaussian share to every lane, which was clamped to leave room for it.

    Clamping moves no two neighbours further apart: it needs no noise of its own.
    (Kairouz et al. 2021, "The distributed discrete Gaussian mechanism")
    """
    room = clipped.limit - noise_tail(share_variance)
    if room < 1:
        raise WardroundError(
            f"noise: a share of variance {share_variance} leaves no room below {clipped.limit}"
        )
    lanes = len(clipped.values)
    noise = discrete_gaussian(lanes + PROBE_VALUES, variance=share_variance, randomness=randomness)
    values = np.clip(clipped.values, -room, room) + noise[:lanes]
    if lanes and int(np.abs(values).max()) > clipped.limit:
        raise WardroundError("noise: a share reached beyond the room that is kept free for it")
    sealed = values.astype(np.int32)
    sealed.setflags(write=False)
    return NoisedLanes(
        values=sealed,
        share_variance=share_variance,
        probe=NoiseProbe.of(noise[lanes:], variance=share_variance),
    )


def noised(raw: RawUpdate, steps: Sequence[NoiseDone | None]) -> NoisedUpdate:
    """Declare an update private because each of its steps was noised; None is a step without.

    Momentum, weight decay, Adam and step sizes only process what is private already
    (post-processing).
    """
    if not steps or any(done is None for done in steps):
        raise WardroundError("update: a step without noise is behind it, so it may not leave")
    return NoisedUpdate(_sealed(raw.values))


def without_noise(raw: RawUpdate) -> ClearUpdate:
    """Let an update pass in the clear: mechanism "none" alone calls this."""
    return ClearUpdate(_sealed(raw.values))


def weighted(update: ClearUpdate, *, weight: int, head: Sequence[float]) -> ClearUpdate:
    """The update times a hospital's weight, behind the lanes of `head`, which are not weighted.

    A weight depends on patients, and no noise covers it: only a ClearUpdate can have one.
    """
    values = np.concatenate([np.array(head, np.float32), weight * update.values])
    return ClearUpdate(_sealed(values))


def to_mask(update: NoisedUpdate | ClearUpdate | NoisedLanes) -> Vector | Lanes:
    """What is masked: the values of an update that may leave. No earlier stage has a way here.

    Floats are rounded to lanes in the pass that masks them, lanes are masked as they are.
    """
    return update.values


def lanes_of(
    update: NoisedUpdate | ClearUpdate | NoisedLanes, *, scale: float, limit: int
) -> Lanes:
    """The lanes that the masks hide, of an update that may leave."""
    if isinstance(update, NoisedLanes):
        return update.values
    return quantise(update.values, scale=scale, limit=limit)


def _sealed(values: Vector) -> Vector:
    if not np.isfinite(values).all():
        raise WardroundError(
            "update: it has values that are not finite; a smaller step size is due"
        )
    sealed = values.copy()
    sealed.setflags(write=False)
    return sealed
