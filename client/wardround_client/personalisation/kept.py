"""The personalised model at home: for its owner alone, and never taken for a released one."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from wardround.errors import BadInput, VerificationFailed, why
from wardround.models.networks import build, parameters_of
from wardround.models.released import read_tensors
from wardround.protocol.halves import digest_of_model
from wardround.study.manifest import Study
from wardround_client.comparison.training import Model
from wardround_client.home import HospitalHome
from wardround_client.personalisation.own_models import network_of
from wardround_client.personalisation.page import page
from wardround_client.personalisation.result import WARNING, Result
from wardround_client.prediction.own_files import new_folder, write_new
from wardround_client.prediction.standing import Standing

FOLDER = "personalised"
MODEL, PAGE, NUMBERS = "personalised.safetensors", "personalisation.html", "personalisation.json"
# Not the name in released files: whoever reads those refuses this one.
_TENSOR = "trained without noise"


def folder_of(home: HospitalHome, study: Study) -> Path:
    """Where the personalised model of a study and its page lie."""
    return home.directory / FOLDER / study.digest


def refuse_a_second_look(home: HospitalHome, study: Study) -> None:
    """Raise BadInput where this was done already: held-out patients are scored once."""
    if folder_of(home, study).exists():
        raise BadInput(
            f"{FOLDER}/{study.digest[:16]}: it is there already. Held-out patients are scored "
            "once: a second look, after another choice, would flatter it. Move that folder away "
            "if you mean it"
        )


def keep(home: HospitalHome, study: Study, result: Result, model: Model | None) -> Path:
    """Write page, numbers and, where one was made, the model: mode 0600 in a folder of 0700."""
    refuse_a_second_look(home, study)
    (home.directory / FOLDER).mkdir(mode=0o700, exist_ok=True)
    folder = folder_of(home, study)
    new_folder(folder)
    if model is not None and result.choice is not None:
        tuning = result.choice.tuning
        metadata = {
            "study_digest": study.digest,
            "run": result.run,
            "released": result.released,
            "scope": tuning.scope.value,
            "steps": str(tuning.steps),
            "pull": f"{tuning.pull:g}",
            "warning": WARNING,
        }
        vector = np.ascontiguousarray(model, dtype=np.float32)
        write_new(folder / MODEL, save({_TENSOR: vector}, metadata=metadata))
    write_new(folder / NUMBERS, json.dumps(result.to_json(), indent=1, sort_keys=True).encode())
    write_new(folder / PAGE, page(result).encode())
    return folder


def personalised(home: HospitalHome, standing: Standing) -> Standing:
    """The same study and run, standing on the model that was personalised from the released one.

    What the report says is of the released model, so none of it stands behind this one. Raises
    BadInput when there is none, and VerificationFailed when it was made from another model or is
    not the one whose digest stands beside it.
    """
    study, released = standing.study, standing.released
    path = folder_of(home, study) / MODEL
    if not path.exists():
        raise BadInput(
            f"study {study.name}: no personalised model is kept here; `wardround personalise` "
            "makes one, unless it finds that the released model is the one to use"
        )
    vector, metadata = _read(path, study)
    came = (metadata.get("study_digest"), metadata.get("run"), metadata.get("released"))
    if came != (study.digest, released.run, standing.model):
        raise VerificationFailed(f"{path.name}: it was made from a model of another study or run")
    model = digest_of_model(study, vector, released.statistics)
    if _noted(path.with_name(NUMBERS)) != model:
        raise VerificationFailed(f"{path.name}: {NUMBERS} names another model than this one")
    return replace(
        standing,
        released=replace(
            released,
            network=network_of(study, vector),
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        ),
        model=model,
        report=None,
        metrics=None,
        personalised_from=standing.model,
    )


def _read(path: Path, study: Study) -> tuple[Model, dict[str, str]]:
    tensors, metadata = read_tensors(path)
    vector = tensors.get(_TENSOR)
    due = (parameters_of(build(study)).numel(),)
    if vector is None or len(tensors) != 1 or vector.shape != due or vector.dtype != np.float32:
        raise BadInput(f"{path.name}: it is no personalised model of the study's network")
    if not np.isfinite(vector).all():
        raise BadInput(f"{path.name}: it has values that are not finite")
    return vector, metadata


def _noted(path: Path) -> object:
    """The digest that stands in the numbers beside the model."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise BadInput(f"{path.name}: cannot be read ({why(error)})") from error
    return value.get("personalised") if isinstance(value, dict) else None
