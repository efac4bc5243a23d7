"""The steps of a GRU, forward and backward, with what per-patient gradients are made of kept.

r = s(x_r + h_r), z = s(x_z + h_z), n = tanh(x_n + r h_n), h' = n + z (h - n), where x_* and h_* are
affine in the input and in the state. (Cho et al. 2014, in PyTorch's variant)
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from wardround_client.training.gradients.direction import Direction, Steps, in_step_precision


class GruSteps(torch.autograd.Function):
    """[steps, records, inputs] and the first state -> the states after each step."""

    @staticmethod
    def forward(
        ctx: Any, _anchor: Tensor, inputs: Tensor, start: Tensor, direction: Direction
    ) -> Tensor:
        """Keep gates, candidates and states."""
        with torch.autocast(inputs.device.type, enabled=False):
            kept = _forward(in_step_precision(inputs), in_step_precision(start), direction)
        ctx.save_for_backward(inputs, kept.states, kept.gates, kept.candidates)
        ctx.direction = direction
        return kept.states[1:].to(direction.input_weight.dtype)

    @staticmethod
    def backward(ctx: Any, output_gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Leave the use on the tape; return the gradients of the inputs and the first state."""
        inputs, *saved = ctx.saved_tensors
        direction: Direction = ctx.direction
        kept = _Kept(*saved)
        hidden = direction.hidden
        with torch.autocast(inputs.device.type, enabled=False):
            found, first = _backward(in_step_precision(output_gradients), kept, direction)
            gates = found.flatten(2)
            direction.leave(Steps(inputs, kept.states[:-1], gates, input_turned=hidden))
            back = None
            if ctx.needs_input_grad[1]:
                weight = in_step_precision(direction.input_weight).roll(hidden, dims=0)
                back = (gates[..., : 3 * hidden] @ weight).to(inputs.dtype)
        return None, back, first.to(inputs.dtype) if ctx.needs_input_grad[2] else None, None


@dataclass(frozen=True, slots=True)
class _Kept:
    """States [steps + 1, records, hidden], gates r z n [steps, records, 3 hidden], and h_n."""

    states: Tensor = field(repr=False)
    gates: Tensor = field(repr=False)
    candidates: Tensor = field(repr=False)


def _forward(inputs: Tensor, start: Tensor, direction: Direction) -> _Kept:
    """Each step in place in what is kept.

    tanh(v) is 2 s(2 v) - 1, exact to the last bit of 1 and four times faster than tanh; the 2 v
    comes from doubled weights.
    """
    steps, records, hidden = len(inputs), inputs.shape[1], direction.hidden
    gates = _from_inputs(inputs, direction)
    states = start.new_empty(steps + 1, records, hidden)
    states[0] = start
    candidates = torch.empty_like(states[1:])
    weight = in_step_precision(direction.hidden_weight)
    to_gates, to_candidate = weight[: 2 * hidden].t(), weight[2 * hidden :].t() * 2
    bias = direction.bias(direction.hidden_bias)[2 * hidden :] * 2
    minus_one = torch.full_like(start, -1.0)
    state = states[0]
    for both, reset, update, new, candidate, after in zip(
        gates[..., : 2 * hidden].unbind(),
        *(gate.unbind() for gate in gates.chunk(3, dim=-1)),
        candidates.unbind(),
        states[1:].unbind(),
        strict=True,
    ):
        both.addmm_(state, to_gates).sigmoid_()
        torch.addmm(bias, state, to_candidate, out=candidate)
        new.addcmul_(reset, candidate).sigmoid_()
        torch.add(minus_one, new, alpha=2, out=new)
        state = torch.lerp(new, state, update, out=after)
    return _Kept(states, gates, candidates.mul_(0.5))


def _from_inputs(inputs: Tensor, direction: Direction) -> Tensor:
    """The inputs' part of all gates at once, with the biases; the rows of n doubled."""
    hidden = direction.hidden
    weight = in_step_precision(direction.input_weight).clone()
    bias = direction.bias(direction.input_bias).clone()
    bias[: 2 * hidden] += direction.bias(direction.hidden_bias)[: 2 * hidden]
    weight[2 * hidden :] *= 2
    bias[2 * hidden :] *= 2
    flat = torch.addmm(bias, inputs.reshape(-1, inputs.shape[-1]), weight.t())
    return flat.view(*inputs.shape[:2], -1)


def _backward(output_gradients: Tensor, kept: _Kept, direction: Direction) -> tuple[Tensor, Tensor]:
    """[steps, records, 4, hidden], gradients of x_n, r, z, h_n; and that of the first state.

    Factors first, all steps at once; the loop only multiplies them by the state's gradient. The
    place of x_n holds, in the loop, what reaches the state before past the gates.
    """
    found, to_new = _factors(kept)
    weight = in_step_precision(direction.hidden_weight)
    arriving = torch.empty_like(kept.candidates)
    gates, past = found[:, :, 1:].flatten(2).unbind(), found[:, :, 0].unbind()
    steps, into, given = found.unbind(), arriving.unbind(), output_gradients.unbind()
    state = into[-1].copy_(given[-1])
    for step in range(len(steps) - 1, 0, -1):
        steps[step].mul_(state.unsqueeze(1))
        state = torch.add(given[step - 1], past[step], out=into[step - 1])
        state.addmm_(gates[step], weight)
    steps[0].mul_(state.unsqueeze(1))
    first = torch.addmm(past[0], gates[0], weight)
    torch.mul(arriving, to_new, out=found[:, :, 0])
    return found, first


def _factors(kept: _Kept) -> tuple[Tensor, Tensor]:
    """d(h')/d of: the state past the gates, r, z, h_n before their nonlinearity; and of x_n."""
    reset, update, new = kept.gates.chunk(3, dim=-1)
    found = kept.gates.new_empty(*reset.shape[:2], 4, reset.shape[-1])
    past, to_reset, to_update, to_candidate = found.unbind(2)
    rest = 1 - update
    to_new = rest - rest * new * new
    torch.mul(to_new, reset, out=to_candidate)
    torch.mul(to_candidate, kept.candidates, out=to_reset).mul_(1 - reset)
    torch.sub(kept.states[:-1], new, out=to_update).mul_(update).mul_(rest)
    past.copy_(update)
    return found, to_new
