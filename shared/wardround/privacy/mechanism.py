"""A mechanism as an accountant reads it, and the guarantee that comes out."""

import math
from dataclasses import dataclass
from typing import Literal

from wardround.errors import BadInput

Unit = Literal["patient", "record"]

MOST_STEPS = 10**9


@dataclass(frozen=True, slots=True, order=True)
class SampledGaussian:
    """`steps` Gaussian releases, each over a fresh Poisson sample of the privacy units.

    `noise_multiplier` is the standard deviation over the L2 sensitivity, `sampling_rate` the
    probability that a unit takes part in a step (1.0: all of them, always). `truncation` bounds,
    for each step, the probability that a Poisson sample was larger than a batch may be and was
    cut; it is charged as total variation. Raises BadInput for what is no such mechanism.
    (Abadi et al. 2016; Mironov et al. 2019)

    >>> SampledGaussian(1.1, 0.05, 200)
    SampledGaussian(noise_multiplier=1.1, sampling_rate=0.05, steps=200, truncation=0.0)
    """

    noise_multiplier: float
    sampling_rate: float
    steps: int
    truncation: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 < self.noise_multiplier < math.inf:
            raise BadInput(f"noise multiplier: {self.noise_multiplier} came, more than 0 was due")
        if not 0.0 < self.sampling_rate <= 1.0:
            raise BadInput(f"sampling rate: {self.sampling_rate} came, above 0 up to 1 was due")
        if not 1 <= self.steps <= MOST_STEPS:
            raise BadInput(f"steps: {self.steps} came, 1 to {MOST_STEPS} were due")
        if not 0.0 <= self.truncation < 1.0:
            raise BadInput(f"truncation: {self.truncation} came, 0 up to below 1 was due")


@dataclass(frozen=True, slots=True)
class Exact:
    """A release without noise. It has no epsilon: it is listed, never added up."""


Mechanism = SampledGaussian | Exact


@dataclass(frozen=True, slots=True, kw_only=True)
class Guarantee:
    """An epsilon with everything without which it means nothing."""

    epsilon: float
    delta: float
    unit: Unit
    accountant: str
    relation: Literal["add/remove"] = "add/remove"

    def __str__(self) -> str:
        return (
            f"({self.epsilon:.3g}, {self.delta:.3g})-DP per {self.unit}, {self.relation}, "
            f"by {self.accountant}"
        )
