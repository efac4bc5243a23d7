"""A look at a model before its first step: whether its layers see one record a row, and all."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils import _pytree as pytree

from wardround.errors import BadInput
from wardround_client.gradients.layers import Layers
from wardround_client.gradients.patients import Patients
from wardround_client.gradients.tape import Forward, Tape, recording

Loss = Callable[[Tensor, Tensor], Tensor]


def probe(
    model: nn.Module, tape: Tape, layers: Layers, features: Tensor, labels: Tensor, loss: Loss
) -> None:
    """Run one record two and three times over; nothing is kept.

    Raises BadInput where a layer's first dimension is not the records' (a transposed or flattened
    batch that fits by chance once does not fit twice), and for a parameter that is used outside of
    its layer, for then a part of its gradient would be missed.
    """
    with torch.random.fork_rng(devices=[]):
        for records in (2, 3):
            once, label = (t[:1].expand(records, *t.shape[1:]) for t in (features, labels))
            with tape.batch(Patients.one_record_each(records)), torch.enable_grad():
                loss(model(once), label)
        _refuse_stray(model, tape, layers, loss, (once, label))


def _refuse_stray(
    model: nn.Module, tape: Tape, layers: Layers, loss: Loss, records: tuple[Tensor, Tensor]
) -> None:
    """With each layer's parameters held fixed, the loss should depend on none."""
    fixed = [(layer, _held_fixed(tape, layer)) for layer, _ in layers.recorded]
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    with recording(fixed), torch.enable_grad():
        total = loss(model(records[0]), records[1]).sum() + tape.anchor
        found = torch.autograd.grad(total, list(trained.values()), allow_unused=True)
    stray = [name for name, grad in zip(trained, found, strict=True) if grad is not None]
    if stray:
        raise BadInput(
            f"model: {', '.join(stray)} is used outside of the layer that it belongs to, "
            "where its gradient per patient cannot be seen"
        )


def _held_fixed(tape: Tape, layer: nn.Module) -> Forward:
    swapped = layer.forward

    def forward(*args: object, **kwargs: object) -> object:
        fixed = {name: p.detach() for name, p in layer.named_parameters()}
        own, layer.__dict__["forward"] = layer.__dict__["forward"], swapped
        try:
            with tape.paused():
                output = functional_call(layer, fixed, args, kwargs)
        finally:
            layer.__dict__["forward"] = own
        return pytree.tree_map_only(Tensor, _anchored(tape), output)

    return forward


def _anchored(tape: Tape) -> Callable[[Tensor], Tensor]:
    return lambda t: t + tape.anchor.to(t.dtype) if t.is_floating_point() else t
