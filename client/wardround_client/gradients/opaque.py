"""Layers that are not known: each record's gradient by itself, through Opacus or torch.func.

Slow, and a layer that draws randomly draws anew here; but nothing is left out.
"""

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.utils import _pytree as pytree

from wardround.errors import BadInput
from wardround_client.gradients.patients import Patients
from wardround_client.gradients.tape import Forward, Tape
from wardround_client.gradients.uses import FormedUse, exact_enough

Sampler = Callable[[nn.Module, list[Tensor], Tensor], Mapping[nn.Parameter, Tensor]]


class SlowLayersWarning(UserWarning):
    """Layers without a recorder of their own; training is right, and slower."""


def warn_of(names: list[str]) -> None:
    """Name the layers."""
    warnings.warn(
        f"model: no fast per-patient gradient for {', '.join(names)}; Opacus forms it, slower",
        SlowLayersWarning,
        stacklevel=2,
    )


def record(tape: Tape, layer: nn.Module) -> Forward:
    """Run the layer with its parameters held fixed, and form its gradients afterwards."""
    plain, sampler = layer.forward, _of_opacus(layer)

    def forward(*args: Any, **kwargs: Any) -> Any:
        if not tape.recording:
            return plain(*args, **kwargs)
        fixed = {name: p.detach() for name, p in layer.named_parameters()}
        with tape.paused():
            output = functional_call(layer, fixed, args, kwargs)
        # The anchor makes what came out need a gradient, where no input did.
        leaves, shape = pytree.tree_flatten(output)
        places = [i for i, leaf in enumerate(leaves) if _carries_gradient(leaf)]
        for place in places:
            leaves[place] = leaves[place] + tape.anchor.to(leaves[place].dtype)
        call = _Call(tape, layer, args, kwargs, places, sampler)
        tape.watch_all([leaves[place] for place in places], call.use, *call.tensors)
        return pytree.tree_unflatten(leaves, shape)

    return forward


def _carries_gradient(leaf: object) -> bool:
    return isinstance(leaf, Tensor) and leaf.is_floating_point()


def _of_opacus(layer: nn.Module) -> Sampler | None:
    """What Opacus registers for the layer's type; its import is half of a hospital's start."""
    from opacus.grad_sample import GradSampleModule  # noqa: PLC0415 - only who needs it waits

    if any(True for _ in layer.children()):
        return None
    found: Sampler | None = GradSampleModule.GRAD_SAMPLERS.get(type(layer))
    return found


class _Call:
    def __init__(
        self,
        tape: Tape,
        layer: nn.Module,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        places: list[int],
        sampler: Sampler | None,
    ) -> None:
        self._tape, self._layer, self._places, self._sampler = tape, layer, places, sampler
        self._inputs, self._shape = pytree.tree_flatten((args, kwargs))
        self._inputs = [i.detach() if isinstance(i, Tensor) else i for i in self._inputs]

    @property
    def tensors(self) -> list[Tensor]:
        """The inputs that are tensors."""
        return [i for i in self._inputs if isinstance(i, Tensor)]

    def use(self, grads: list[Tensor | None], patients: Patients) -> FormedUse:
        """All of the layer's gradients in full."""
        trained = {name: p for name, p in self._layer.named_parameters() if p.requires_grad}
        (first, *rest), sampler = grads, self._sampler
        if sampler is not None and first is not None and not rest and len(self._inputs) == 1:
            by_parameter = sampler(self._layer, self.tensors, first)
            rows = [by_parameter[p] for p in trained.values()]
        else:
            with self._tape.paused():
                by_name = self._by_record(trained, grads, patients.records)
            rows = [by_name[name] for name in trained]
        formed = tuple(patients.summed(exact_enough(row.detach())) for row in rows)
        return FormedUse(tuple(trained.values()), formed)

    def _by_record(
        self, trained: dict[str, nn.Parameter], grads: list[Tensor | None], records: int
    ) -> dict[str, Tensor]:
        """Gradient of <output gradient, output> for each record alone, as a batch of one."""
        fixed = {name: p.detach() for name, p in self._layer.named_parameters()}
        own = {name: fixed.pop(name) for name in trained}
        along = [
            0 if isinstance(i, Tensor) and i.dim() and len(i) == records else None
            for i in self._inputs
        ]
        used = [(p, g) for p, g in zip(self._places, grads, strict=True) if g is not None]

        def product(own: dict[str, Tensor], inputs: list[Any], grads: list[Tensor]) -> Tensor:
            alone = [i if a is None else i[None] for i, a in zip(inputs, along, strict=True)]
            args, kwargs = pytree.tree_unflatten(alone, self._shape)
            output = functional_call(self._layer, own | fixed, args, kwargs)
            leaves = pytree.tree_leaves(output)
            parts = [
                (leaves[place][0] * grad).sum()
                for (place, _), grad in zip(used, grads, strict=True)
            ]
            return torch.stack(parts).sum()

        try:
            formed: dict[str, Tensor] = vmap(
                torch.func.grad(product), in_dims=(None, along, 0), randomness="different"
            )(own, self._inputs, [grad for _, grad in used])
        except RuntimeError as error:
            raise BadInput(
                f"model: layer {type(self._layer).__name__} has no gradient per record"
            ) from error
        return formed
