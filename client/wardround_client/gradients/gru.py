"""The steps of a GRU, forward and backward, with what per-patient gradients are made of kept.

r = s(x_r + h_r), z = s(x_z + h_z), n = tanh(x_n + r h_n), h' = n + z (h - n), where x_* and h_* are
affine in the input and in the state. (Cho et al. 2014, in PyTorch's variant)
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from wardround_client.gradients.direction import Direction, Steps, in_step_precision


class GruSteps(torch.autograd.Function):
    """[steps, records, inputs] and the first state -> the states after each step."""

    @staticmethod
    def forward(
        ctx: Any, _anchor: Tensor, inputs: Tensor, start: Tensor, direction: Direction
    ) -> Tensor:
        """Keep gates and states."""
        with torch.autocast(inputs.device.type, enabled=False):
            kept = _forward(in_step_precision(inputs), in_step_precision(start), direction)
        ctx.save_for_backward(inputs, kept.states, kept.gates)
        ctx.direction = direction
        return kept.states[1:].to(direction.input_weight.dtype)

    @staticmethod
    def backward(ctx: Any, output_gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Leave the use on the tape; return the gradients of the inputs and the first state."""
        inputs, *saved = ctx.saved_tensors
        direction: Direction = ctx.direction
        kept, hidden = _Kept(*saved), direction.hidden
        with torch.autocast(inputs.device.type, enabled=False):
            first = _backward(in_step_precision(output_gradients), kept, direction)
            gates = kept.gates.flatten(2)
            direction.leave(Steps(inputs, kept.states[:-1], gates, input_turned=hidden))
            back = None
            if ctx.needs_input_grad[1]:
                weight = in_step_precision(direction.input_weight).roll(hidden, dims=0)
                back = (gates[..., : 3 * hidden] @ weight).to(inputs.dtype)
        return None, back, first.to(inputs.dtype) if ctx.needs_input_grad[2] else None, None


@dataclass(frozen=True, slots=True)
class _Kept:
    """States [steps + 1, records, hidden]; gates n, r, z, h_n, [steps, records, 4, hidden].

    The backward pass puts the gradients of x_n, r, z and h_n, before any nonlinearity, where the
    gates were: it runs once, and the memory is the cache's.
    """

    states: Tensor = field(repr=False)
    gates: Tensor = field(repr=False)


def _forward(inputs: Tensor, start: Tensor, direction: Direction) -> _Kept:
    """Each step in place in what is kept.

    tanh(v) is 2 s(2 v) - 1, exact to the last bit of 1 and four times faster than tanh; the 2 v
    comes from doubled weights.
    """
    hidden, (new, reset, update, candidate) = direction.hidden, range(4)
    gates = _from_inputs(inputs, direction)
    states = start.new_empty(len(inputs) + 1, *start.shape)
    states[0] = start
    weight = in_step_precision(direction.hidden_weight).clone()
    weight[2 * hidden :] *= 2
    weight, minus_one = weight.t(), torch.full_like(start, -1.0)
    by_gate = [gate.unbind() for gate in gates.unbind(2)]
    from_state, both = gates[:, :, 1:].flatten(2).unbind(), gates[:, :, 1:3].flatten(2).unbind()
    state = states[0]
    for step, after in enumerate(states[1:].unbind()):
        from_state[step].addmm_(state, weight)
        both[step].sigmoid_()
        here = by_gate[new][step]
        here.addcmul_(by_gate[reset][step], by_gate[candidate][step]).sigmoid_()
        torch.add(minus_one, here, alpha=2, out=here)
        state = torch.lerp(here, state, by_gate[update][step], out=after)
    return _Kept(states, gates)


def _from_inputs(inputs: Tensor, direction: Direction) -> Tensor:
    """The inputs' part of all steps at once, with the biases; n and h_n doubled."""
    hidden = direction.hidden
    weight = in_step_precision(direction.input_weight).roll(hidden, dims=0)
    bias = direction.bias(direction.input_bias).roll(hidden)
    of_state = direction.bias(direction.hidden_bias)
    bias[hidden:] += of_state[: 2 * hidden]
    weight[:hidden] *= 2
    bias[:hidden] *= 2
    gates = inputs.new_empty(*inputs.shape[:2], 4, hidden)
    rows = gates.view(-1, 4 * hidden)
    rows[:, 3 * hidden :] = of_state[2 * hidden :] * 2
    flat = inputs.reshape(-1, inputs.shape[-1])
    torch.addmm(bias, flat, weight.t(), out=rows[:, : 3 * hidden])
    return gates


def _backward(output_gradients: Tensor, kept: _Kept, direction: Direction) -> Tensor:
    """The gradient of the first state; those of the gates take the place of the gates.

    Factors first, all steps at once; the loop only multiplies them by the state's gradient. The
    place of x_n holds, in the loop, what reaches the state before past the gates.
    """
    to_new, found = _factors(kept), kept.gates
    weight = in_step_precision(direction.hidden_weight)
    arriving = torch.empty_like(to_new)
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
    return first


def _factors(kept: _Kept) -> Tensor:
    """d(h')/d of: the state past the gates, r, z, h_n before their nonlinearity; returned, x_n.

    In place of n, r, z, 2 h_n: each is overwritten once nothing reads it any more.
    """
    new, reset, update, candidate = kept.gates.unbind(2)
    rest = 1 - update
    to_new = rest * new
    torch.addcmul(rest, to_new, new, value=-1, out=to_new)
    to_update = (kept.states[:-1] - new).mul_(update).mul_(rest)
    new.copy_(update)
    update.copy_(to_update)
    to_candidate = torch.mul(to_new, reset, out=to_update)
    candidate.mul_(to_candidate)
    torch.sub(0.5, reset, alpha=0.5, out=reset).mul_(candidate)
    candidate.copy_(to_candidate)
    return to_new
