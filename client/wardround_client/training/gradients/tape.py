"""A tape of layer calls: forwards are swapped while it runs, the backward pass fills it.

A recorder has two ways to be filled:

- `tape.watch(layer, output, make)`: the layer's own forward made `output`; the backward pass
  hands its gradient to `make`, which returns the Use. No own backward code, no Python in the
  backward pass. This does for every layer whose gradients follow from inputs and output gradient.
- an own autograd.Function that takes `tape.anchor` as an input (so that it runs even where no
  input needs a gradient) and calls `tape.add(use)` in its backward, returning None for the anchor.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import GradientEdge, get_gradient_edge

from wardround.errors import BadInput, WardroundError
from wardround_client.training.gradients.patients import Patients
from wardround_client.training.gradients.uses import Use

Forward = Callable[..., Any]
MakeUse = Callable[[Tensor, Patients], Use]
"""Gradient of the watched output [records, ...] and the batch's patients -> the use."""


class Tape:
    """Collects the uses of one forward and backward pass."""

    def __init__(self) -> None:
        self.anchor = torch.zeros((), requires_grad=True)
        self._edges: list[GradientEdge] = []
        self._makes: list[MakeUse] = []
        self._added: list[Use] = []
        self._patients: Patients | None = None

    @property
    def patients(self) -> Patients:
        """The batch's patients, for a backward of its own."""
        if self._patients is None:
            raise WardroundError("tape: a layer was called outside of a recorded batch")
        return self._patients

    @property
    def recording(self) -> bool:
        """Whether a batch is recorded now: outside of one a swapped forward is the plain one."""
        return self._patients is not None and torch.is_grad_enabled()

    def watch(self, output: Tensor, make: MakeUse) -> None:
        """Have the gradient of this output handed to `make` once the backward pass is over.

        Raises BadInput where the first dimension does not count the records: per-patient gradients
        along another dimension would bound nothing.
        """
        if len(output) != self.patients.records:
            raise BadInput(
                f"model: a layer's output has shape {tuple(output.shape)}, "
                f"{self.patients.records} records were due in the first dimension"
            )
        self._edges.append(get_gradient_edge(output))
        self._makes.append(make)

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
            self._edges, self._makes, self._added = [], [], []

    def backward(self, total_loss: Tensor) -> list[Use]:
        """Run the backward pass as far as the watched outputs; return the uses.

        No parameter gradient is formed and no `.grad` changes. A layer whose output the loss does
        not depend on gives no use.
        """
        patients = self.patients
        found: Sequence[Tensor | None] = torch.autograd.grad(
            total_loss, [*self._edges, get_gradient_edge(self.anchor)], allow_unused=True
        )
        watched = [
            make(gradient, patients)
            for make, gradient in zip(self._makes, found, strict=False)
            if gradient is not None
        ]
        return [*watched, *self._added]


Recorder = Callable[[Tape, Any], Forward | None]
"""A tape and a layer -> the forward to put there; None: not with these settings of the layer."""


@contextmanager
def recording(recorded: Sequence[tuple[nn.Module, Forward]]) -> Iterator[None]:
    """Put the recording forwards there; the layers' own come back at the end."""
    for layer, forward in recorded:
        layer.__dict__["forward"] = forward
    try:
        yield
    finally:
        for layer, _ in recorded:
            layer.__dict__.pop("forward", None)
