"""Linear layers: the norms come from activations and output gradients alone."""

from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn

from wardround.errors import BadInput
from wardround_client.gradients.patients import Patients
from wardround_client.gradients.projections import Projection, ProjectionsUse
from wardround_client.gradients.tape import Forward, Tape, is_view
from wardround_client.gradients.uses import Use, exact_enough, product_of_runs, row_squares


def record(tape: Tape, layer: nn.Linear) -> Forward:
    """Watch the output; inputs are [records, ..., features]."""
    trained = Trained.of(layer)

    def forward(inputs: Tensor) -> Tensor:
        output = nn.functional.linear(inputs, layer.weight, layer.bias)
        if tape.recording:
            output = output.clone() if is_view(output) else output
            if inputs.dim() < 2:
                raise BadInput(f"model: a linear layer got shape {tuple(inputs.shape)}, no records")
            seen = inputs.detach()
            tape.watch(output, lambda grad, patients: _use(trained, seen, grad, patients), seen)
        return output

    return forward


@dataclass(frozen=True, slots=True)
class Trained:
    """A linear layer's parameters, as far as they are trained, looked up once."""

    parameters: tuple[nn.Parameter, ...]
    weight: bool
    bias: bool
    layer: nn.Linear

    @classmethod
    def of(cls, layer: nn.Linear) -> "Trained":
        """What requires a gradient now."""
        bias = layer.bias is not None and layer.bias.requires_grad
        own = tuple(p for p in layer.parameters() if p.requires_grad)
        return cls(own, layer.weight.requires_grad, bias, layer)


def _use(trained: Trained, inputs: Tensor, grads: Tensor, patients: Patients) -> Use:
    inputs, grads = exact_enough(inputs), exact_enough(grads)
    if inputs.dim() == 2 and patients.one_each:
        return RowsUse((_Rows(trained, inputs, grads),))
    records, layer = len(inputs), trained.layer
    projection = Projection(
        weight=cast("nn.Parameter", layer.weight),
        bias=cast("nn.Parameter | None", layer.bias),
        rows=torch.arange(layer.out_features),
        gradients=grads.reshape(records, -1, grads.shape[-1]),
        columns=slice(0, layer.out_features),
        activations=inputs.reshape(records, -1, inputs.shape[-1]),
    )
    return ProjectionsUse([projection], patients)


@dataclass(frozen=True, slots=True)
class _Rows:
    """One call: one row a patient, [patients, inputs] and [patients, outputs]."""

    trained: Trained
    inputs: Tensor = field(repr=False)
    grads: Tensor = field(repr=False)

    def squares(self) -> tuple[Tensor, Tensor]:
        """Of output gradients and of inputs, in float32; wide rows in float64."""
        grads = row_squares(self.grads)
        return grads, row_squares(self.inputs) if self.trained.weight else torch.zeros_like(grads)

    def weighted_sum(self, factors: Tensor) -> tuple[Tensor, ...]:
        scaled = self.grads * factors
        if not self.trained.weight:
            return (scaled.sum(dim=0),)
        weight = product_of_runs(scaled, self.inputs)
        return (weight, scaled.sum(dim=0)) if self.trained.bias else (weight,)

    def gradients(self) -> tuple[Tensor, ...]:
        formed = (self.grads[:, :, None] * self.inputs[:, None, :],) if self.trained.weight else ()
        return (*formed, self.grads) if self.trained.bias else formed


@dataclass(frozen=True, slots=True)
class RowsUse:
    """Calls with one row a patient: a gradient is an outer product, |g a^T| = |g| |a|.

    The norms of several calls are taken in one go: with small layers that is what takes the time.
    (Goodfellow 2015)
    """

    calls: tuple[_Rows, ...]

    @property
    def parameters(self) -> tuple[nn.Parameter, ...]:
        """Weights and biases, as far as they are trained, call by call."""
        if len(self.calls) == 1:
            return self.calls[0].trained.parameters
        return tuple(p for call in self.calls for p in call.trained.parameters)

    def squared_norms(self) -> Tensor:
        """The sum over the calls of |g|^2 (|a|^2 + 1)."""
        count = len(self.calls)
        squares = [call.squares() for call in self.calls]
        both = torch.stack([g for g, _ in squares] + [a for _, a in squares]).double()
        inputs = both[count:]
        if all(call.trained.bias for call in self.calls):
            inputs += 1
        else:
            inputs += torch.tensor([float(call.trained.bias) for call in self.calls])[:, None]
        return (both[:count] * inputs).sum(dim=0)

    def weighted_sum(self, factors: Tensor) -> tuple[Tensor, ...]:
        """One matrix product a call, over all rows."""
        column = factors[:, None]
        return tuple(value for call in self.calls for value in call.weighted_sum(column))

    def gradients(self) -> tuple[Tensor, ...]:
        """[patients, outputs, inputs] and [patients, outputs] of each call."""
        return tuple(value for call in self.calls for value in call.gradients())


def merged(uses: list[Use]) -> list[Use]:
    """Put all calls with one row a patient into one use; none of their parameters is shared."""
    rows = tuple(call for use in uses if isinstance(use, RowsUse) for call in use.calls)
    if not rows:
        return uses
    return [*(use for use in uses if not isinstance(use, RowsUse)), RowsUse(rows)]
