"""A consortium's own network: found among the installed packages, run only with the right digest.

A package registers a function `network(study)` as an entry point of the group `wardround.models`.
A study names the entry point, its package and the digest of its sources. Nothing is ever fetched:
a hospital that has another version, or none, refuses by name.
"""

import copy
import importlib.metadata
from collections.abc import Callable
from importlib.metadata import EntryPoint
from typing import TYPE_CHECKING, Any, Final

from wardround.code_digest import code_digest, code_digests
from wardround.errors import BadInput
from wardround.study.own_model import OwnModel

if TYPE_CHECKING:  # a hospital's approval asks what is installed, and does not wait for torch
    from torch import nn

    from wardround.study.manifest import StudyPlan

GROUP: Final = "wardround.models"
_RECORDS = 2


def check_installed(own: OwnModel) -> EntryPoint:
    """The entry point that the study names, when its package is here with the study's digest.

    Nothing of the package is run for it. Its digest is read once in a process, as the code is.
    Raises BadInput naming the model, what is installed here and what is due.
    """
    points = importlib.metadata.entry_points(group=GROUP, name=own.name)
    if len(points) != 1:
        known = sorted({point.name for point in importlib.metadata.entry_points(group=GROUP)})
        raise BadInput(
            f"model {own.name}: {len(points)} installed packages register it, one is due; "
            f"registered here: {', '.join(known) or 'none'}"
        )
    (point,) = points
    package = package_of(point)
    if package != own.package:
        raise BadInput(f"model {own.name}: it comes from package {package}, {own.package} is due")
    came = code_digests((package,))[package]
    if came != own.digest:
        raise BadInput(
            f"model {own.name}: package {package} has the digest {came[:16]} here, the study names "
            f"{own.digest[:16]}; install the version that the consortium agreed on and start anew"
        )
    return point


def network(study: "StudyPlan") -> "nn.Module":
    """The study's network: [records, *contract.input_shape()] -> [records, channels].

    An autoencoder gives its input's shape. Raises BadInput as `check_installed` does, when the
    package cannot be loaded or was changed meanwhile, for what is no such network, and for one that
    mixes the records of a batch.
    """
    own = study.task.own
    if own is None:
        raise BadInput(f"study {study.name}: it names no model of its own")
    build = _loaded(check_installed(own), own)
    built = build(study)
    _check_network(built, study, own)
    network: nn.Module = built
    return network


def package_of(point: EntryPoint) -> str:
    """The top package that an entry point leads into."""
    return point.module.partition(".")[0]


def registered() -> dict[str, str]:
    """Every own model that is registered here, and its package; nothing is loaded."""
    points = importlib.metadata.entry_points(group=GROUP)
    return {point.name: package_of(point) for point in sorted(points, key=lambda p: p.name)}


def _loaded(point: EntryPoint, own: OwnModel) -> Callable[["StudyPlan"], Any]:
    try:
        found: Callable[[StudyPlan], Any] = point.load()
    except (ImportError, AttributeError) as error:
        raise BadInput(
            f"model {own.name}: {point.value} cannot be loaded ({type(error).__name__})"
        ) from error
    # Looked at again: what was loaded is what was checked.
    if code_digest(own.package) != own.digest:
        raise BadInput(f"model {own.name}: package {own.package} was changed while it was loaded")
    if not callable(found):
        raise BadInput(f"model {own.name}: {point.value} is no function of a study")
    return found


def _check_network(built: Any, study: "StudyPlan", own: OwnModel) -> None:
    import torch  # noqa: PLC0415  # see above
    from torch import nn  # noqa: PLC0415  # see above

    if not isinstance(built, nn.Module):
        raise BadInput(f"model {own.name}: a {type(built).__name__} came, a torch module is due")
    if any(parameter.dtype != torch.float32 for parameter in built.parameters()):
        raise BadInput(f"model {own.name}: parameters of float32 are due")
    if any(True for _ in built.buffers()):
        raise BadInput(
            f"model {own.name}: it keeps buffers beside its parameters, as BatchNorm does; they "
            "are in no update, so there may be none"
        )
    shape = study.contract.input_shape()
    channels = study.contract.label.channels
    due = (_RECORDS, len(channels)) if channels else (_RECORDS, *shape)
    try:
        with torch.inference_mode():
            came = tuple(built.eval()(torch.zeros(_RECORDS, *shape)).shape)
    except (RuntimeError, ValueError) as error:
        raise BadInput(f"model {own.name}: it takes no records of shape {shape}") from error
    if came != due:
        raise BadInput(f"model {own.name}: outputs of shape {came} came, {due} is due")
    _check_records_apart(built.train(), shape, own)


def _check_records_apart(built: "nn.Module", shape: tuple[int, ...], own: OwnModel) -> None:
    """Of a made-up record and parameters near the start, since those may be 0: no patient's."""
    import torch  # noqa: PLC0415  # see above

    from wardround.models.records_apart import records_mix  # noqa: PLC0415  # loads torch

    drawn = torch.Generator().manual_seed(0)
    record = 2.0 * torch.rand(1, *shape, generator=drawn) - 1.0
    tried = copy.deepcopy(built)
    with torch.no_grad():
        for parameter in tried.parameters():
            parameter.add_(0.1 * torch.rand(parameter.shape, generator=drawn) - 0.05)
    for training in (False, True):
        if records_mix(tried.train(training), record):
            raise BadInput(
                f"model {own.name}: what it says of a record depends on the others of its batch, "
                "so no clip bounds what one patient changes; only what lies within a record may be "
                "used, so GroupNorm in place of BatchNorm"
            )
