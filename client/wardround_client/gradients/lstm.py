"""The steps of an LSTM, forward and backward, with what per-patient gradients are made of kept.

c' = f c + i g and h' = o tanh(c'), with i, f, o = s(...) and g = tanh(...) of what is affine in the
input and in the state before. (Hochreiter and Schmidhuber 1997; Gers et al. 2000)
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from wardround_client.gradients.direction import Direction, Steps, in_step_precision


class LstmSteps(torch.autograd.Function):
    """[steps, records, inputs], first state and first cell -> states and cells after each step."""

    @staticmethod
    def forward(
        ctx: Any, _anchor: Tensor, inputs: Tensor, start: Tensor, cell: Tensor, direction: Direction
    ) -> tuple[Tensor, Tensor]:
        """Keep gates, cells, their tanh and the states."""
        with torch.autocast(inputs.device.type, enabled=False):
            first = (in_step_precision(start), in_step_precision(cell))
            kept = _forward(in_step_precision(inputs), *first, direction)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(inputs, kept.states, kept.cells, kept.gates, kept.shown)
        ctx.direction = direction
        dtype = direction.input_weight.dtype
        return kept.states[1:].to(dtype), kept.cells[1:].to(dtype)

    @staticmethod
    def backward(
        ctx: Any, state_gradients: Tensor | None, cell_gradients: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        """Leave the use on the tape; return the gradients of inputs, first state and cell."""
        inputs, *saved = ctx.saved_tensors
        direction: Direction = ctx.direction
        kept = _Kept(*saved)
        with torch.autocast(inputs.device.type, enabled=False):
            given = torch.zeros_like(kept.shown)
            if state_gradients is not None:
                given = in_step_precision(state_gradients)
            found, *first = _backward(given, cell_gradients, kept, direction)
            direction.leave(Steps(inputs, kept.states[:-1], found))
            back = None
            if ctx.needs_input_grad[1]:
                back = (found @ in_step_precision(direction.input_weight)).to(inputs.dtype)
        needed = ctx.needs_input_grad[2:4]
        starts = (
            g.to(inputs.dtype) if need else None for g, need in zip(first, needed, strict=True)
        )
        return None, back, *starts, None


@dataclass(frozen=True, slots=True)
class _Kept:
    """States and cells [steps + 1, records, hidden], gates i f g o, and tanh of the cells."""

    states: Tensor = field(repr=False)
    cells: Tensor = field(repr=False)
    gates: Tensor = field(repr=False)
    shown: Tensor = field(repr=False)


def _forward(inputs: Tensor, start: Tensor, cell: Tensor, direction: Direction) -> _Kept:
    """Each step in place in what is kept; tanh(v) is 2 s(2 v) - 1, see gru.py."""
    steps, records, hidden = len(inputs), inputs.shape[1], direction.hidden
    gates = _from_inputs(inputs, direction)
    states, cells = (start.new_empty(steps + 1, records, hidden) for _ in range(2))
    states[0], cells[0] = start, cell
    shown = torch.empty_like(states[1:])
    weight = _new_doubled(in_step_precision(direction.hidden_weight)).t()
    minus_one = torch.full_like(start, -1.0)
    state, cell = states[0], cells[0]
    for gate, into, keep, new, out, after, cell_after, tanh in zip(
        gates.unbind(),
        *(gate.unbind() for gate in gates.chunk(4, dim=-1)),
        states[1:].unbind(),
        cells[1:].unbind(),
        shown.unbind(),
        strict=True,
    ):
        gate.addmm_(state, weight).sigmoid_()
        torch.add(minus_one, new, alpha=2, out=new)
        cell = torch.mul(keep, cell, out=cell_after).addcmul_(into, new)
        torch.add(cell, cell, out=tanh).sigmoid_()
        torch.add(minus_one, tanh, alpha=2, out=tanh)
        state = torch.mul(out, tanh, out=after)
    return _Kept(states, cells, gates, shown)


def _from_inputs(inputs: Tensor, direction: Direction) -> Tensor:
    """The inputs' part of all gates at once, with the biases; the rows of g doubled."""
    weight = _new_doubled(in_step_precision(direction.input_weight))
    biases = direction.bias(direction.input_bias) + direction.bias(direction.hidden_bias)
    flat = torch.addmm(_new_doubled(biases), inputs.reshape(-1, inputs.shape[-1]), weight.t())
    return flat.view(*inputs.shape[:2], -1)


def _new_doubled(rows: Tensor) -> Tensor:
    into, keep, new, out = rows.chunk(4)
    return torch.cat((into, keep, new * 2, out))


def _backward(
    given: Tensor, cell_gradients: Tensor | None, kept: _Kept, direction: Direction
) -> tuple[Tensor, Tensor, Tensor]:
    """[steps, records, 4 hidden], gradients of i f g o; and those of the first state and cell.

    Factors first, all steps at once; the loop only multiplies them by the gradients of the cell
    (i f g) and of the state (o).
    """
    found, to_cell = _factors(kept)
    weight = in_step_precision(direction.hidden_weight)
    keeps = kept.gates.chunk(4, dim=-1)[1].unbind()
    cell_gates, out_gate = found[:, :, :3].unbind(), found[:, :, 3].unbind()
    gates, shown = found.flatten(2).unbind(), to_cell.unbind()
    state, cell = given[-1].clone(), torch.zeros_like(given[-1])
    for step in range(len(gates) - 1, -1, -1):
        cell.addcmul_(state, shown[step])
        if cell_gradients is not None:
            cell += cell_gradients[step]
        out_gate[step].mul_(state)
        cell_gates[step].mul_(cell.unsqueeze(1))
        cell.mul_(keeps[step])
        if step:
            torch.addmm(given[step - 1], gates[step], weight, out=state)
    return found.flatten(2), gates[0] @ weight, cell


def _factors(kept: _Kept) -> tuple[Tensor, Tensor]:
    """d(c')/d(i, f, g) and d(h')/d(o) before their nonlinearity; d(h')/d(c')."""
    into, keep, new, out = kept.gates.chunk(4, dim=-1)
    found = kept.gates.new_empty(*into.shape[:2], 4, into.shape[-1])
    to_into, to_keep, to_new, to_out = found.unbind(2)
    torch.mul(new, into, out=to_into).mul_(1 - into)
    torch.mul(kept.cells[:-1], keep, out=to_keep).mul_(1 - keep)
    torch.sub(into, into * new * new, out=to_new)
    torch.mul(kept.shown, out, out=to_out).mul_(1 - out)
    return found, out - out * kept.shown * kept.shown
