"""How a rehearsal's model does at a hospital that took no part in its training."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from wardround.canonical import Json, parse_canonical
from wardround.errors import BadInput
from wardround.evaluation.layouts import exact_layout_of
from wardround.models.networks import parameters_of
from wardround.models.released import read_released
from wardround.study.files import STUDY_LIMIT_BYTES, checked
from wardround.study.manifest import Study
from wardround_client.comparison.result import MARK
from wardround_client.comparison.sites import gather
from wardround_client.comparison.ways import counts_of

SCHEMA = "wardround.left-out/1"


def at_unseen(folder: Path, data: Path, run: Path, hospital: str) -> Json:
    """The metrics of the model in `run` over all patients of `hospital`, described in `folder`.

    Raises BadInput when the hospital is not described or took part, and for a model whose features
    were scaled by released statistics.
    """
    study = _signed(run / "study.signed.json")
    if hospital in study.names():
        raise BadInput(f"{hospital}: it took part in this run, so its patients were trained on")
    released = read_released(run / "model.safetensors", study)
    if released.scales:
        raise BadInput(f"study {study.name}: its features are scaled by the others' statistics")
    gathered = gather(folder, data)
    if hospital not in gathered.encoded:
        raise BadInput(f"{hospital}: {folder.name}/hospitals does not describe it")
    if gathered.plan.contract != study.contract:
        raise BadInput(f"study {study.name}: the folder's contract is not the run's")
    patients = gathered.sites()[hospital].everybody
    layout = exact_layout_of(study)
    counts = counts_of(study, _vector(parameters_of(released.network)), patients, layout)
    metrics = layout.metrics(counts, cell_noise_sd=0.0)
    return {
        "schema": SCHEMA,
        "mark": MARK,
        "study": study.name,
        "run": released.run,
        "hospital": hospital,
        "metrics": metrics,
    }


def _vector(parameters: Tensor) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    return parameters.to(torch.float32).numpy()


def _signed(path: Path) -> Study:
    """The rehearsal's own signed study; its hospitals have checked the signature."""
    if not path.is_file():
        raise BadInput(f"{path.name}: no such file in the folder of the run")
    value = parse_canonical(path.read_bytes(), what=path.name, limit_bytes=STUDY_LIMIT_BYTES)
    return checked(Study, value.get("study", {}), what=path.name)
