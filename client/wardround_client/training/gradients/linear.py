"""Linear layers: the norms come from activations and output gradients alone."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from wardround_client.training.gradients.patients import Patients
from wardround_client.training.gradients.tape import Forward, Tape
from wardround_client.training.gradients.uses import exact_enough


def record(tape: Tape, layer: nn.Linear) -> Forward:
    """Watch the output; inputs are [records, ..., features]."""
    plain = layer.forward

    def forward(inputs: Tensor) -> Tensor:
        output = plain(inputs)
        if tape.recording:
            tape.watch(output, lambda grad, patients: LinearUse.of(layer, inputs, grad, patients))
        return output

    return forward


@dataclass(frozen=True, slots=True)
class LinearUse:
    """Rows of a patient: [records, positions, inputs] and [records, positions, outputs]."""

    layer: nn.Linear
    inputs: Tensor = field(repr=False)
    output_gradients: Tensor = field(repr=False)
    patients: Patients

    @classmethod
    def of(
        cls, layer: nn.Linear, inputs: Tensor, output_gradients: Tensor, patients: Patients
    ) -> "LinearUse":
        """Flatten the dimensions between records and features."""
        records = len(inputs)
        return cls(
            layer,
            exact_enough(inputs.detach()).reshape(records, -1, inputs.shape[-1]),
            exact_enough(output_gradients).reshape(records, -1, output_gradients.shape[-1]),
            patients,
        )

    @property
    def parameters(self) -> tuple[nn.Parameter, ...]:
        """Weight and bias, as far as they are trained."""
        return tuple(p for p in self.layer.parameters() if p.requires_grad)

    def squared_norms(self) -> Tensor:
        """Gram matrices of the rows: |sum_s g_s a_s^T|^2 = sum_st <g_s, g_t> <a_s, a_t>."""
        inputs, grads = self._rows(torch.float64)
        weight, bias = self._trained()
        alike = torch.zeros((), dtype=torch.float64)
        if weight:
            alike = inputs @ inputs.mT
        if bias:
            alike = alike + 1
        return (alike * (grads @ grads.mT)).sum(dim=(1, 2))

    def weighted_sum(self, factors: Tensor) -> tuple[Tensor, ...]:
        """One matrix product over all rows."""
        scaled = self.output_gradients * self.patients.of_records(factors)[:, None, None]
        rows = scaled.flatten(0, 1)
        weight, bias = self._trained()
        sums = [rows.mT @ self.inputs.flatten(0, 1)] if weight else []
        return (*sums, rows.sum(dim=0)) if bias else tuple(sums)

    def gradients(self) -> tuple[Tensor, ...]:
        """[patients, outputs, inputs] and [patients, outputs]."""
        inputs, grads = self._rows(self.inputs.dtype)
        weight, bias = self._trained()
        formed = [grads.mT @ inputs] if weight else []
        return (*formed, grads.sum(dim=1)) if bias else tuple(formed)

    def _rows(self, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        both = (self.inputs, self.output_gradients)
        inputs, grads = (self.patients.together(t).flatten(1, 2).to(dtype) for t in both)
        return inputs, grads

    def _trained(self) -> tuple[bool, bool]:
        bias = self.layer.bias
        return self.layer.weight.requires_grad, bias is not None and bias.requires_grad
