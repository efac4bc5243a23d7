"""Which kinds of layers the network has that this hospital built: names, for its evidence log."""

import re

from torch import nn

from wardround.audit.layer_kinds import (
    ALONG_RECORDS,
    MIXING,
    MOST_KINDS,
    OTHER,
    WITH_STATISTICS,
)
from wardround.canonical import Json
from wardround.models.networks import build
from wardround.study.manifest import Study

_NAME = re.compile(r"^[A-Za-z_][A-Za-z0-9_.]{0,119}$")


def network_entry(study: Study, *, run: str, session: str) -> tuple[str, Json] | None:
    """The entry on the network of a study; None for a study that trains none.

    Raises BadInput for an own model that cannot be built.
    """
    if not study.rounds.count:
        return None
    return "network-built", {"run": run, "session": session, "layers": layer_kinds(build(study))}


def layer_kinds(network: nn.Module) -> list[str]:
    """The kinds of all its modules, sorted, each once.

    PyTorch's own layers go by their class name, all others with their package before it, so that
    nobody's class can pass for one of PyTorch's. A class that is made from a layer which mixes
    patients is named beside that layer. Of more than `MOST_KINDS` the rest are one "other".
    """
    found = {name for layer in network.modules() for name in _kinds_of(layer)}
    mixing = sorted(found & MIXING)
    listed = [*mixing, *sorted(found - MIXING)]
    if len(listed) > MOST_KINDS:
        listed = [*listed[: MOST_KINDS - 1], OTHER]
    return sorted(set(listed))


def _kinds_of(layer: nn.Module) -> list[str]:
    name = _name(type(layer))
    names = [name + ALONG_RECORDS if name != OTHER and _along_records(layer) else name]
    names += [base.__name__ for base in type(layer).__mro__ if _of_torch(base) in MIXING]
    if getattr(layer, "track_running_stats", False) and isinstance(
        layer,
        nn.modules.instancenorm._InstanceNorm,  # noqa: SLF001 - the base of all its kinds
    ):
        names.append(WITH_STATISTICS)
    return names


def _along_records(layer: nn.Module) -> bool:
    """Whether a layer of PyTorch's may take dimension 0 for something else than the records."""
    if isinstance(layer, nn.Flatten):
        return layer.start_dim < 1
    if isinstance(layer, nn.Softmax | nn.LogSoftmax):
        return layer.dim is None or (layer.dim < 1 and layer.dim != -1)
    return getattr(layer, "batch_first", True) is False


def _of_torch(kind: type) -> str | None:
    """The class's name if it is the one that torch.nn has under that name."""
    return kind.__name__ if getattr(nn, kind.__name__, None) is kind else None


def _name(kind: type[nn.Module]) -> str:
    own = _of_torch(kind)
    name = own or f"{kind.__module__}.{kind.__name__}"
    return name if _NAME.fullmatch(name) else OTHER
