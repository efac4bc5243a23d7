"""What keeps many local steps from drifting apart: FedProx's pull, and SCAFFOLD's control.

Both are added to the mean gradient of a step, behind clip and noise. A pull is made of the round's
model and this attempt's own steps, a control of successive models and this hospital's own updates:
under mechanism local all of it follows from noised sums and what is public, so it is
post-processing and costs nothing. (Li et al. 2020, "Federated optimization in heterogeneous
networks"; Karimireddy et al. 2020, "SCAFFOLD", Algorithm 1 with option II; decision 0021)
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from wardround.errors import BadInput
from wardround.study.training import Training
from wardround_client.training.plan import StepSizes

Vector = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Drift:
    """Corrects the gradients of one attempt's local steps; made before the first of them."""

    trainable: Sequence[nn.Parameter] = field(repr=False)
    start: Tensor | None = field(repr=False)
    proximal: float
    correction: Tensor | None = field(repr=False)

    @classmethod
    def of(cls, model: nn.Module, sizes: StepSizes, correction: Vector | None) -> "Drift":
        """`correction` is c - c_i, float32 [parameters] in `named_parameters` order, or None.

        What is frozen has none. Raises BadInput for a correction of another length.
        """
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        start = _flat(trainable) if sizes.proximal else None
        return cls(trainable, start, sizes.proximal, _of_trainable(model, correction))

    def corrected(self, gradient: Tensor) -> Tensor:
        """The gradient that a step takes in the place of its own, float32 [trainable]."""
        if self.start is not None:
            gradient = gradient + self.proximal * (_flat(self.trainable) - self.start)
        if self.correction is not None:
            gradient = gradient + self.correction
        return gradient


@dataclass(frozen=True, slots=True)
class Control:
    """What a hospital remembers of a round: its model, and c_i, its mean gradient in it.

    Both float32 [parameters]. c_i is made of this hospital's patients: without noise it is as
    secret as an update.
    """

    model: Vector = field(repr=False)
    own: Vector = field(repr=False)

    @classmethod
    def after(
        cls, model: Vector, left: Vector, correction: Vector | None, training: Training
    ) -> "Control":
        """Of a round that began with `model`: `left` is the update that left, as it was rounded.

        c_i - c + (x - y) / (K eta); with a correction in every step that is the mean of the step's
        own gradients. Taken from what left, so that roundings and cut changes are in it as they
        are in the mean.
        """
        mean = left / np.float32(-training.local_steps * training.learning_rate)
        return cls(model, mean if correction is None else mean - correction)

    def correction(self, model: Vector, training: Training) -> Vector:
        """What is added in the next round, which begins with `model`: c - c_i.

        c is the mean of all c_i. It is -(mean update) / (K eta), and FedAvg's step makes the mean
        update of two successive models: no number has to travel for it.
        """
        reach = training.local_steps * training.learning_rate * training.server.learning_rate
        with np.errstate(over="ignore"):  # whoever takes it looks whether it is finite
            common: Vector = (self.model - model) / np.float32(reach)
        return common - self.own


def _flat(trainable: Sequence[nn.Parameter]) -> Tensor:
    return torch.cat([parameter.detach().reshape(-1) for parameter in trainable])


def _of_trainable(model: nn.Module, correction: Vector | None) -> Tensor | None:
    if correction is None:
        return None
    trained = np.concatenate(
        [np.full(p.numel(), p.requires_grad, dtype=np.bool_) for p in model.parameters()]
    )
    if correction.shape != trained.shape:
        raise BadInput(f"control: shape {correction.shape} came, {trained.shape} was due")
    return torch.from_numpy(correction[trained])
