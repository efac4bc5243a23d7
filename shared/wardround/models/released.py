"""The released model from its file, read strictly: this study's tensors and nothing else."""

import hashlib
import json
import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from torch import nn

from wardround.canonical import parse_json
from wardround.errors import BadInput
from wardround.models.networks import build, load_parameters
from wardround.protocol.specs import standardises, statistics_layout, statistics_noise_lanes
from wardround.statistics.released import ReleasedStatistics
from wardround.statistics.scaling import Standardisation, standardisations
from wardround.study.manifest import Study

_FILE_LIMIT_BYTES = 1 << 30
_SCALES_LIMIT_BYTES = 1 << 20
_RUN = re.compile(r"[0-9a-f]{32}")
_FLAT = "model"  # the one tensor of the copy that a hospital keeps

Tensors = dict[str, npt.NDArray[np.float32]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasedModel:
    """The network as it was released, how its features are scaled, and which file it was.

    `statistics` are the released sums that the scales follow from, where the file has them.
    """

    network: nn.Module = field(repr=False)
    scales: tuple[Standardisation, ...]
    run: str
    sha256: str
    statistics: ReleasedStatistics | None = field(default=None, repr=False)


def read_released(path: Path, study: Study) -> ReleasedModel:
    """Read a `model.safetensors`, or the copy in a hospital's `models/`.

    Raises BadInput for what is no model of `study`: another study's digest, other tensors, values
    that are not finite, or a file without the scales that the study's features need.
    """
    tensors, metadata = read_tensors(path)
    if metadata.get("study_digest") != study.digest:
        raise BadInput(f"{path.name}: it is not a model of study {study.name}, by its digest")
    network = build(study)
    vector = _vector(path, tensors, network)
    if not np.isfinite(vector).all():
        raise BadInput(f"{path.name}: it has values that are not finite")
    load_parameters(network, torch.from_numpy(vector))
    statistics = _statistics(path, metadata.get("statistics"), study)
    scales = _scales(path, metadata.get("standardisation"))
    if statistics is not None:
        scales = standardisations(statistics, statistics_noise_lanes(study, statistics))
    if standardises(study) and not scales:
        raise BadInput(
            f"{path.name}: the study scales its features and this file does not say how; the "
            "coordinator's model.safetensors is due"
        )
    run = metadata.get("run", "")
    if not _RUN.fullmatch(run):
        raise BadInput(f"{path.name}: it does not say which run released it")
    return ReleasedModel(
        network=network,
        scales=scales,
        run=run,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        statistics=statistics,
    )


def read_tensors(path: Path) -> tuple[Tensors, dict[str, str]]:
    """The tensors of a .safetensors file and its metadata. Raises BadInput for any other file."""
    try:
        if path.stat().st_size > _FILE_LIMIT_BYTES:
            raise BadInput(f"{path.name}: over {_FILE_LIMIT_BYTES} bytes")
        with safe_open(path, framework="numpy") as file:
            tensors = {name: np.asarray(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118  # no dict
            return tensors, dict(file.metadata() or {})
    except (OSError, SafetensorError, TypeError, ValueError) as error:
        raise BadInput(f"{path.name}: not a readable model ({type(error).__name__})") from error


def _vector(path: Path, tensors: Tensors, network: nn.Module) -> npt.NDArray[np.float32]:
    due = {name: tuple(value.shape) for name, value in network.named_parameters()}
    total = sum(parameter.numel() for parameter in network.parameters())
    came = {name: value.shape for name, value in tensors.items()}
    if came not in (due, {_FLAT: (total,)}):
        raise BadInput(f"{path.name}: its tensors are not those of the study's network")
    if any(value.dtype != np.float32 for value in tensors.values()):
        raise BadInput(f"{path.name}: its tensors are not float32")
    if came != due:
        return tensors[_FLAT].copy()
    return np.concatenate([tensors[name].reshape(-1) for name in due])


def _scales(path: Path, text: str | None) -> tuple[Standardisation, ...]:
    if text is None:
        return ()
    value = parse_json(text.encode(), what=path.name, limit_bytes=_SCALES_LIMIT_BYTES)
    try:
        listed = TypeAdapter(list[Standardisation]).validate_json(
            json.dumps(value.get("columns")), strict=True
        )
    except ValidationError as error:
        raise BadInput(f"{path.name}: its standardisation is not one") from error
    return tuple(listed)


def _statistics(path: Path, text: str | None, study: Study) -> ReleasedStatistics | None:
    if text is None:
        return None
    if not standardises(study):
        raise BadInput(f"{path.name}: it has statistics, and the study does not scale by any")
    value = parse_json(text.encode(), what=path.name, limit_bytes=_SCALES_LIMIT_BYTES)
    return ReleasedStatistics.from_json(value, statistics_layout(study))
