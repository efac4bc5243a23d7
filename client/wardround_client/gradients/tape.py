"""A tape of layer calls: forwards are swapped while it runs, the backward pass fills it.

A recorder has two ways to be filled:

- `tape.watch(output, make)`: the layer's own forward made `output`; the backward pass hands its
  gradient to `make`, which returns the Use. No own backward code, no Python in the backward pass.
  This does for every layer whose gradients follow from inputs and output gradient.
- an own autograd.Function that takes `tape.anchor` as an input (so that it runs even where no
  input needs a gradient) and calls `tape.add(use)` in its backward, returning None for the anchor.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, Node, get_gradient_edge

from wardround.errors import BadInput, WardroundError
from wardround_client.gradients.patients import Patients
from wardround_client.gradients.uses import Use

Forward = Callable[..., Any]
MakeUse = Callable[[Tensor, Patients], Use]
"""Gradient of the watched output [records, ...] and the batch's patients -> the use."""
MakeUseOfAll = Callable[[list[Tensor | None], Patients], Use]
"""The same for several outputs; None: the loss does not depend on this one."""


class Tape:
    """Collects the uses of one forward and backward pass."""

    def __init__(self) -> None:
        self.anchor = torch.zeros((), requires_grad=True)
        self._anchor_edge = get_gradient_edge(self.anchor)
        self._edges: list[GradientEdge] = []
        self._makes: list[tuple[int, MakeUseOfAll]] = []
        self._seen: list[tuple[Tensor, int]] = []
        self._added: list[Use] = []
        self._patients: Patients | None = None
        self._pauses = 0

    @property
    def patients(self) -> Patients:
        """The batch's patients, for a backward of its own."""
        if self._patients is None:
            raise WardroundError("tape: a layer was called outside of a recorded batch")
        return self._patients

    @property
    def recording(self) -> bool:
        """Whether a batch is recorded now: outside of one a swapped forward is the plain one."""
        return self._patients is not None and not self._pauses and torch.is_grad_enabled()

    def watch(self, output: Tensor, make: MakeUse, *seen: Tensor) -> None:
        """Have the gradient of this output handed to `make` once the backward pass is over.

        `seen` is what `make` will read again: a change of it in place is refused. Raises BadInput
        where the first dimension does not count the records: per-patient gradients along another
        dimension would bound nothing.
        """
        self.watch_all([output], lambda grads, own: make(_the_one(grads), own), *seen)

    def watch_all(self, outputs: Sequence[Tensor], make: MakeUseOfAll, *seen: Tensor) -> None:
        """The same for a layer with several outputs, of which the loss uses one or more."""
        records = self.patients.records
        for output in outputs:
            if not output.dim() or output.shape[0] != records:
                raise BadInput(
                    f"model: a layer's output has shape {tuple(output.shape)}, "
                    f"{records} records were due in the first dimension"
                )
            self._edges.append(GradientEdge(_node(output), output.output_nr))
            if is_view(output):
                # Changed in place it gets another history, and this edge no gradient at all.
                self._note_version(output.detach())
        self._makes.append((len(outputs), make))
        for tensor in seen:
            self._note_version(tensor)

    def _note_version(self, tensor: Tensor) -> None:
        # The counter of changes has no public name; autograd checks it for what it saves.
        self._seen.append((tensor, tensor._version))  # noqa: SLF001 - as said

    def add(self, use: Use) -> None:
        """Take a use from a backward of its own."""
        self._added.append(use)

    @contextmanager
    def batch(self, patients: Patients) -> Iterator[None]:
        """Record what is called inside; forget it at the end."""
        self._patients = patients
        try:
            yield
        finally:
            self._patients = None
            self._edges, self._makes, self._seen, self._added = [], [], [], []

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Forwards inside are the plain ones."""
        self._pauses += 1
        try:
            yield
        finally:
            self._pauses -= 1

    def backward(self, output: Tensor, gradient: Tensor | None = None) -> list[Use]:
        """Run the backward pass as far as the watched outputs; return the uses.

        No parameter gradient is formed and no `.grad` changes. A layer whose output the loss does
        not depend on gives no use. `gradient` is that of the output, 1 for a loss.
        """
        patients = self.patients
        found = torch.autograd.grad(
            output, [*self._edges, self._anchor_edge], gradient, allow_unused=True
        )
        if any(seen._version != version for seen, version in self._seen):  # noqa: SLF001 - as above
            raise BadInput("model: a layer's input or output was changed in place afterwards")
        with torch.no_grad():
            return [*self._watched(found, patients), *self._added]

    def _watched(self, found: Sequence[Tensor | None], patients: Patients) -> Iterator[Use]:
        start = 0
        for count, make in self._makes:
            own = list(found[start : start + count])
            start += count
            if any(gradient is not None for gradient in own):
                yield make(own, patients)


def is_view(output: Tensor) -> bool:
    """Whether a change in place would go past the node that made this output."""
    return output._is_view()  # noqa: SLF001 - no public name either


def _node(output: Tensor) -> Node:
    if output.grad_fn is None:
        raise WardroundError("tape: an output that needs no gradient cannot be watched")
    return output.grad_fn


def _the_one(grads: list[Tensor | None]) -> Tensor:
    (grad,) = grads
    if grad is None:
        raise WardroundError("tape: a use without a gradient")
    return grad


Recorder = Callable[[Tape, Any], Forward | None]
"""A tape and a layer -> the forward to put there; None: not with these settings of the layer."""


@contextmanager
def recording(recorded: Sequence[tuple[nn.Module, Forward]]) -> Iterator[None]:
    """Put the recording forwards there; the layers' own come back at the end."""
    before = [(layer, layer.__dict__.get("forward")) for layer, _ in recorded]
    for layer, forward in recorded:
        layer.__dict__["forward"] = forward
    try:
        yield
    finally:
        for layer, own in before:
            layer.__dict__.pop("forward", None)
            if own is not None:
                layer.__dict__["forward"] = own
