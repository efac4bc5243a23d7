"""Linear layers: the norms come from activations and output gradients alone."""

from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn

from wardround.errors import BadInput
from wardround_client.training.gradients.patients import Patients
from wardround_client.training.gradients.projections import Projection, ProjectionsUse
from wardround_client.training.gradients.tape import Forward, Tape
from wardround_client.training.gradients.uses import Use, exact_enough, squared_rows


def record(tape: Tape, layer: nn.Linear) -> Forward:
    """Watch the output; inputs are [records, ..., features]."""

    def forward(inputs: Tensor) -> Tensor:
        output = nn.functional.linear(inputs, layer.weight, layer.bias)
        if tape.recording:
            if inputs.dim() < 2:
                raise BadInput(f"model: a linear layer got shape {tuple(inputs.shape)}, no records")
            seen = inputs.detach()
            tape.watch(output, lambda grad, patients: _use(layer, seen, grad, patients), seen)
        return output

    return forward


def _use(layer: nn.Linear, inputs: Tensor, grads: Tensor, patients: Patients) -> Use:
    inputs, grads = exact_enough(inputs), exact_enough(grads)
    if inputs.dim() == 2 and patients.one_each:
        return RowUse(layer, inputs, grads)
    records = len(inputs)
    projection = Projection(
        weight=cast("nn.Parameter", layer.weight),
        bias=cast("nn.Parameter | None", layer.bias),
        rows=torch.arange(layer.out_features),
        gradients=grads.reshape(records, -1, grads.shape[-1]),
        activations=inputs.reshape(records, -1, inputs.shape[-1]),
    )
    return ProjectionsUse([projection], patients)


@dataclass(frozen=True, slots=True)
class RowUse:
    """One row a patient: the gradient is an outer product, |g a^T| = |g| |a| (Goodfellow 2015)."""

    layer: nn.Linear
    inputs: Tensor = field(repr=False)
    output_gradients: Tensor = field(repr=False)

    @property
    def parameters(self) -> tuple[nn.Parameter, ...]:
        """Weight and bias, as far as they are trained."""
        return tuple(p for p in self.layer.parameters() if p.requires_grad)

    def squared_norms(self) -> Tensor:
        """|g|^2 (|a|^2 + 1)."""
        weight, bias = self._trained()
        squares = squared_rows(self.output_gradients)
        if not weight:
            return squares
        inputs = squared_rows(self.inputs)
        return squares * (inputs + 1) if bias else squares * inputs

    def weighted_sum(self, factors: Tensor) -> tuple[Tensor, ...]:
        """One matrix product over all rows."""
        weight, bias = self._trained()
        scaled = self.output_gradients * factors[:, None]
        sums = (scaled.mT @ self.inputs,) if weight else ()
        return (*sums, scaled.sum(dim=0)) if bias else sums

    def gradients(self) -> tuple[Tensor, ...]:
        """[patients, outputs, inputs] and [patients, outputs]."""
        weight, bias = self._trained()
        grads = self.output_gradients
        formed = (grads[:, :, None] * self.inputs[:, None, :],) if weight else ()
        return (*formed, grads) if bias else formed

    def _trained(self) -> tuple[bool, bool]:
        bias = self.layer.bias
        return self.layer.weight.requires_grad, bias is not None and bias.requires_grad
