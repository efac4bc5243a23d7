"""One direction of one layer of a recurrent network: its weights, and what it leaves behind."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from wardround_client.gradients.projections import Projection, ProjectionsUse
from wardround_client.gradients.tape import Tape


@dataclass(frozen=True, slots=True)
class Direction:
    """Weights of one direction, with the tape that waits for its gradients."""

    tape: Tape
    input_weight: nn.Parameter
    hidden_weight: nn.Parameter
    input_bias: nn.Parameter | None
    hidden_bias: nn.Parameter | None

    @classmethod
    def of(cls, tape: Tape, layer: nn.RNNBase, name: str) -> "Direction":
        """`name` is PyTorch's: l0, l0_reverse, l1, ..."""
        biases = (f"bias_ih_{name}", f"bias_hh_{name}") if layer.bias else ()
        weights = [getattr(layer, f"weight_ih_{name}"), getattr(layer, f"weight_hh_{name}")]
        return cls(tape, *weights, *([getattr(layer, b) for b in biases] or [None, None]))

    @property
    def hidden(self) -> int:
        """How many values the hidden state has."""
        return self.hidden_weight.shape[1]

    def bias(self, which: nn.Parameter | None) -> Tensor:
        """A bias in the precision of the steps; zeros where the layer has none."""
        weight = in_step_precision(self.input_weight)
        return weight.new_zeros(len(weight)) if which is None else in_step_precision(which)

    def leave(self, steps: "Steps") -> None:
        """Put the use on the tape."""
        rows = torch.arange(len(self.input_weight), device=self.input_weight.device)
        gates, outputs = steps.gates.transpose(0, 1), len(rows)
        into = Projection(
            self.input_weight,
            self.input_bias,
            rows.roll(steps.input_turned),
            gates,
            slice(0, outputs),
            steps.inputs.detach().transpose(0, 1),
        )
        over = Projection(
            self.hidden_weight,
            self.hidden_bias,
            rows,
            gates,
            slice(gates.shape[-1] - outputs, gates.shape[-1]),
            steps.states.transpose(0, 1),
        )
        self.tape.add(ProjectionsUse((into, over), self.tape.patients))


@dataclass(frozen=True, slots=True)
class Steps:
    """What one direction's backward loop found; all of it [steps, records, ...].

    `gates` are the gradients of the gates before their nonlinearity. The first columns belong to
    the input weight's rows, rolled by `input_turned`, and the last ones to the hidden weight's.
    """

    inputs: Tensor = field(repr=False)
    states: Tensor = field(repr=False)
    gates: Tensor = field(repr=False)
    input_turned: int = 0


def in_step_precision(values: Tensor) -> Tensor:
    """Detached, and in float32 at least: a rounding each step would add up along a sequence."""
    values = values.detach()
    return values if values.dtype is torch.float64 else values.float()
