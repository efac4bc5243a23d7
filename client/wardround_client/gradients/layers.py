"""Which layers of a model are recorded, and which share one clip norm."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from wardround.errors import BadInput
from wardround_client.gradients import opaque
from wardround_client.gradients.recorders import RECORDERS
from wardround_client.gradients.tape import Forward, Tape

_BATCH_NORMS = (nn.modules.batchnorm._BatchNorm,)  # noqa: SLF001 - the base of all its kinds


def refuse_batch_norm(model: nn.Module) -> None:
    """Raise BadInput for a layer that mixes patients, naming it and what to put there."""
    for name, layer in model.named_modules():
        if isinstance(layer, _BATCH_NORMS):
            channels = layer.num_features
            groups = math.gcd(channels, 32)
            raise BadInput(
                f"model: layer {name or 'itself'} is {type(layer).__name__}, which mixes the "
                f"patients of a batch; put GroupNorm({groups}, {channels}) there"
            )


@dataclass(frozen=True, slots=True)
class Layers:
    """The layers with something to train. `recorded` holds their forwards for a tape."""

    recorded: list[tuple[nn.Module, Forward]] = field(repr=False)
    clipped_together: list[list[nn.Parameter]] = field(repr=False)
    """Parameters of each layer; layers that share one are one. What they are is the model's."""

    @classmethod
    def of(cls, model: nn.Module, tape: Tape) -> "Layers":
        """Raise BadInput for BatchNorm; warn, with their names, of layers that are slow."""
        refuse_batch_norm(model)
        recorded, slow = [], []
        for name, layer in _topmost(model):
            fast = None if _is_changed(layer) else RECORDERS.get(type(layer))
            forward = None if fast is None else fast(tape, layer)
            if forward is None:
                forward = opaque.record(tape, layer)
                slow.append(f"{name or 'the model'} ({type(layer).__name__})")
            recorded.append((layer, forward))
        if slow:
            opaque.warn_of(slow)
        return cls(recorded, _joined(_trained(layer) for layer, _ in recorded))


def _topmost(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Layers that are recorded or have parameters of their own; not what is inside of these."""
    done: set[int] = set()

    def visit(name: str, layer: nn.Module) -> Iterator[tuple[str, nn.Module]]:
        if id(layer) in done or not _trained(layer):
            return
        done.add(id(layer))
        own = any(p.requires_grad for p in layer.parameters(recurse=False))
        if own or type(layer) in RECORDERS or _is_changed(layer):
            yield name, layer
            return
        for key, child in layer.named_children():
            yield from visit(f"{name}.{key}" if name else key, child)

    return visit("", model)


def _is_changed(layer: nn.Module) -> bool:
    """Whether weights are computed before the layer runs, as by weight_norm."""
    own = dict(layer.named_parameters(recurse=False))
    # Not by one ending alone: attention has a bias_v of its own.
    normed = any(name.endswith("_g") and f"{name[:-2]}_v" in own for name in own)
    return is_parametrized(layer) or normed or any(name.endswith("_orig") for name in own)


def _trained(layer: nn.Module) -> list[nn.Parameter]:
    return [p for p in layer.parameters() if p.requires_grad]


def _joined(layers: Iterable[list[nn.Parameter]]) -> list[list[nn.Parameter]]:
    """Join the lists that have a parameter in common."""
    joined: list[dict[int, nn.Parameter]] = []
    for layer in layers:
        own = {id(p): p for p in layer}
        touching = [group for group in joined if group.keys() & own.keys()]
        joined = [group for group in joined if not group.keys() & own.keys()]
        for group in touching:
            own |= group
        joined.append(own)
    return [list(group.values()) for group in joined]
