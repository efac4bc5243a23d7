"""GRU and LSTM layers: as many layers, directions and packed sequences as PyTorch's own."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from wardround.errors import BadInput
from wardround_client.gradients.direction import Direction
from wardround_client.gradients.gru import GruSteps
from wardround_client.gradients.lstm import LstmSteps
from wardround_client.gradients.tape import Forward, Tape

States = tuple[Tensor, ...]
"""(hidden,) for a GRU, (hidden, cell) for an LSTM; each [layers x directions, records, hidden]."""
Run = Callable[[Direction, Tensor, States], States]
"""A direction, [steps, records, inputs] and its first states -> its states after each step."""


def record_gru(tape: Tape, layer: nn.GRU) -> Forward | None:
    """A forward with PyTorch's arguments and results that leaves uses on the tape."""
    apply: Callable[..., Any] = GruSteps.apply

    def run(direction: Direction, inputs: Tensor, states: States) -> States:
        after: Tensor = apply(tape.anchor, inputs, *states, direction)
        return (after,)

    def forward(inputs: Any, hx: Tensor | None = None) -> Any:
        if not _recorded(tape, layer):
            return plain(inputs, hx)
        output, states = _through(tape, layer, run, inputs, _starts(layer, inputs, hx, 1))
        return output, states[0]

    plain = layer.forward
    return forward if _known(layer) else None


def record_lstm(tape: Tape, layer: nn.LSTM) -> Forward | None:
    """As for GRU. Raises BadInput for projections (proj_size): nobody has their gradients."""
    if layer.proj_size:
        raise BadInput(
            f"model: {layer} has proj_size, for which there is no gradient per record; "
            "leave proj_size out and put a Linear layer after"
        )
    apply: Callable[..., Any] = LstmSteps.apply

    def run(direction: Direction, inputs: Tensor, states: States) -> States:
        after: States = apply(tape.anchor, inputs, *states, direction)
        return after

    def forward(inputs: Any, hx: tuple[Tensor, Tensor] | None = None) -> Any:
        if not _recorded(tape, layer):
            return plain(inputs, hx)
        return _through(tape, layer, run, inputs, _starts(layer, inputs, hx, 2))

    plain = layer.forward
    return forward if _known(layer) else None


def _known(layer: nn.RNNBase) -> bool:
    """A weight that is computed from others (weight norm) is not a parameter itself."""
    return all(isinstance(weight, nn.Parameter) for own in layer.all_weights for weight in own)


def _recorded(tape: Tape, layer: nn.RNNBase) -> bool:
    return tape.recording and any(parameter.requires_grad for parameter in layer.parameters())


@dataclass(frozen=True, slots=True)
class _Lengths:
    """How long each record's sequence is, on its way through a layer; records in batch order."""

    packed: PackedSequence
    steps: Tensor = field(repr=False)

    def turned(self, sequences: Tensor) -> Tensor:
        """Each sequence backwards within its own length; twice gives the same again."""
        places = torch.arange(len(sequences), device=sequences.device)[:, None]
        ends = self.steps - 1
        order = torch.where(places <= ends, ends - places, places)
        return sequences.gather(0, order[..., None].expand_as(sequences))

    def last(self, states: Tensor) -> Tensor:
        """The state at each sequence's end."""
        return states[self.steps - 1, torch.arange(len(self.steps), device=states.device)]

    def packed_again(self, sequences: Tensor) -> PackedSequence:
        """In the order that PyTorch packed them in."""
        order = self.packed.sorted_indices
        steps = self.steps if order is None else self.steps[order]
        ordered = sequences if order is None else sequences.index_select(1, order)
        there = torch.arange(len(sequences), device=sequences.device)[:, None] < steps
        return PackedSequence(
            ordered[there], self.packed.batch_sizes, order, self.packed.unsorted_indices
        )


def _through(
    tape: Tape, layer: nn.RNNBase, run: Run, inputs: Tensor | PackedSequence, starts: States
) -> tuple[Tensor | PackedSequence, States]:
    """Check, bring to [steps, records, inputs], run, bring back."""
    lengths = None
    if isinstance(inputs, PackedSequence):
        sequences, ends = pad_packed_sequence(inputs)
        lengths = _Lengths(inputs, ends.to(sequences.device))
    else:
        sequences = inputs.transpose(0, 1) if layer.batch_first else inputs
    steps, records = sequences.shape[:2]
    if records != tape.patients.records or not steps:
        raise BadInput(
            f"model: {type(layer).__name__} got {records} sequences of {steps} steps, "
            f"{tape.patients.records} records of 1 step or more were due in its batch dimension"
        )
    output, states = _layers(tape, layer, run, sequences, starts, lengths)
    if lengths is not None:
        return lengths.packed_again(output), states
    return (output.transpose(0, 1) if layer.batch_first else output), states


def _layers(
    tape: Tape,
    layer: nn.RNNBase,
    run: Run,
    sequences: Tensor,
    starts: States,
    lengths: _Lengths | None,
) -> tuple[Tensor, States]:
    ends: list[States] = []
    for number in range(layer.num_layers):
        outputs = []
        if number and layer.dropout:
            sequences = nn.functional.dropout(sequences, layer.dropout, layer.training)
        for suffix in ("", "_reverse")[: 1 + layer.bidirectional]:
            direction = Direction.of(tape, layer, f"l{number}{suffix}")
            first = tuple(start[len(ends)] for start in starts)
            output, end = _one_way(run, direction, sequences, first, lengths, bool(suffix))
            outputs.append(output)
            ends.append(end)
        sequences = torch.cat(outputs, dim=-1) if layer.bidirectional else outputs[0]
    return sequences, tuple(torch.stack(state) for state in zip(*ends, strict=True))


def _one_way(
    run: Run,
    direction: Direction,
    sequences: Tensor,
    first: States,
    lengths: _Lengths | None,
    reverse: bool,
) -> tuple[Tensor, States]:
    """Steps after a sequence's end are run too, on zeros; nothing comes from them."""

    def turned(values: Tensor) -> Tensor:
        if not reverse:
            return values
        return values.flip(0) if lengths is None else lengths.turned(values)

    after = run(direction, turned(sequences), first)
    ends = tuple(s[-1] if lengths is None else lengths.last(s) for s in after)
    return turned(after[0]), ends


def _starts(
    layer: nn.RNNBase, inputs: Tensor | PackedSequence, hx: Tensor | States | None, kinds: int
) -> States:
    """PyTorch's own checks of the shapes, and zeros where no first state is given."""
    packed = isinstance(inputs, PackedSequence)
    values = inputs.data if isinstance(inputs, PackedSequence) else inputs
    sizes = inputs.batch_sizes if isinstance(inputs, PackedSequence) else None
    if values.dim() != (2 if packed else 3):
        raise BadInput(
            f"model: {type(layer).__name__} got {values.dim()} dimensions, "
            "3 (with one for the records) were due"
        )
    records = int(sizes[0]) if sizes is not None else values.shape[0 if layer.batch_first else 1]
    if hx is None:
        directions = layer.num_layers * (1 + layer.bidirectional)
        hx = values.new_zeros(directions, records, layer.hidden_size)
        states: States = (hx,) * kinds
    else:
        states = (hx,) if isinstance(hx, Tensor) else tuple(hx)
    check: Callable[..., None] = layer.check_forward_args
    check(values, states[0] if kinds == 1 else states, sizes)
    return states
