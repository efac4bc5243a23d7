"""What a hospital sees of the shared model on its own held-out patients. None of it leaves."""

import json

import numpy as np
from safetensors.numpy import save

from wardround.canonical import canonical_bytes
from wardround.durable import replace_file, write_durably
from wardround.evaluation.layouts import exact_layout_of
from wardround.protocol.envelope import Vector
from wardround_client.held_out import held_out_outcomes, losses_of_patients
from wardround_client.home import HospitalHome
from wardround_client.session import RunSession


def held_out_loss(session: RunSession, model: Vector) -> float | None:
    """Mean over the held-out patients of the loss that training lowers; None without a patient."""
    network = session.network(model)
    losses = losses_of_patients(network, session.records.held_out, session.study)
    return float(losses.mean()) if losses.size else None


def model_file(session: RunSession, model: Vector) -> bytes:
    """The file in `models/` of the model that a run ended with, and what its features scale by."""
    metadata = {"study_digest": session.study.digest, "run": session.run}
    if session.released is not None:
        metadata["statistics"] = canonical_bytes(session.released.to_json()).decode()
    return save({"model": np.ascontiguousarray(model, dtype=np.float32)}, metadata=metadata)


def keep_final_model(home: HospitalHome, session: RunSession, model: Vector) -> None:
    """Store the released model, and how it does on our own held-out patients."""
    study = session.study
    folder = home.directory / "models"
    folder.mkdir(mode=0o700, exist_ok=True)
    write_durably(folder / f"{session.run}.safetensors", model_file(session, model))
    network = session.network(model)
    layout = exact_layout_of(study)
    counts = layout.count(held_out_outcomes(network, session.records.held_out, study))
    evaluation = layout.metrics(counts.lanes, cell_noise_sd=0.0)
    replace_file(folder / f"{session.run}.evaluation.json", json.dumps(evaluation).encode())
