"""The stages of privacy as types: what may leave the hospital is the last one only.

ClippedSum -> NoisedSum is one step; a RawUpdate is what training did to the parameters and may
not leave. `noised` makes a NoisedUpdate of it when every step behind it was noised;
`without_noise` makes a ClearUpdate, which a hospital's policy must have allowed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from wardround.errors import WardroundError
from wardround.randomness import Randomness
from wardround_client.training.noise import gaussian

Vector = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClippedSum:
    """Sum over patients of gradients, each within `clip_norm_l2`; None: nobody was clipped.

    `without_gradient` counts patients whose gradient was not finite and who therefore add zero;
    like the values it stays in the hospital.
    """

    values: Tensor = field(repr=False)
    clip_norm_l2: float | None
    without_gradient: int = field(default=0, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseDone:
    """What one step's noise was: standard deviation over the clip norm it stands against."""

    noise_multiplier: float
    clip_norm_l2: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NoisedSum:
    """A clipped sum with noise: differentially private on its own."""

    values: Tensor = field(repr=False)
    done: NoiseDone


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


def add_noise(clipped: ClippedSum, *, noise_multiplier: float, randomness: Randomness) -> NoisedSum:
    """Add N(0, (noise_multiplier * clip_norm_l2)^2) to every coordinate (Abadi et al. 2016)."""
    if clipped.clip_norm_l2 is None:
        raise WardroundError("noise: the sum is not clipped, so no noise protects it")
    scale = noise_multiplier * clipped.clip_norm_l2
    noise = gaussian(clipped.values.numel(), scale=scale, randomness=randomness)
    done = NoiseDone(noise_multiplier=noise_multiplier, clip_norm_l2=clipped.clip_norm_l2)
    return NoisedSum(values=clipped.values + torch.from_numpy(noise), done=done)


def noised(raw: RawUpdate, steps: Sequence[NoiseDone | None]) -> NoisedUpdate:
    """Declare an update private because each of its steps was noised; None is a step without.

    Momentum, weight decay and step sizes only process what is private already (post-processing).
    """
    if not steps or any(done is None for done in steps):
        raise WardroundError("update: a step without noise is behind it, so it may not leave")
    return NoisedUpdate(_sealed(raw.values))


def without_noise(raw: RawUpdate) -> ClearUpdate:
    """Let an update pass in the clear: mechanism "none" alone calls this."""
    return ClearUpdate(_sealed(raw.values))


def _sealed(values: Vector) -> Vector:
    if not np.isfinite(values).all():
        raise WardroundError(
            "update: it has values that are not finite; a smaller step size is due"
        )
    sealed = values.copy()
    sealed.setflags(write=False)
    return sealed
