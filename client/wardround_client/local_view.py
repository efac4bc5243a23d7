"""What a hospital sees of the shared model on its own held-out patients. None of it leaves."""

import json

import numpy as np
import torch
from safetensors.numpy import save

from wardround.canonical import canonical_bytes
from wardround.durable import replace_file, write_durably
from wardround.evaluation.histograms import CountsLayout, CountsMode, count_patients
from wardround.evaluation.metrics import evaluate_counts
from wardround.models.networks import build, load_parameters
from wardround.protocol.envelope import Vector
from wardround.study.manifest import Study
from wardround_client.home import HospitalHome
from wardround_client.round import held_out_scores
from wardround_client.session import RunSession
from wardround_client.training.plan import PatientRecords

_LEAST_SCORE = 1e-7
_BINS = 1000


def held_out_loss(study: Study, held_out: PatientRecords, model: Vector) -> float | None:
    """Mean cross entropy per held-out patient; None when there is no patient."""
    network = build(study)
    load_parameters(network, torch.from_numpy(np.array(model)))
    labels, scores = held_out_scores(network, held_out)
    if not labels.size:
        return None
    scores = np.clip(scores, _LEAST_SCORE, 1 - _LEAST_SCORE)
    return float(-np.mean(np.where(labels, np.log(scores), np.log1p(-scores))))


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
    network = build(study)
    load_parameters(network, torch.from_numpy(np.array(model)))
    labels, scores = held_out_scores(network, session.records.held_out)
    layout = CountsLayout(mode=CountsMode.EXACT, bins=_BINS)
    counts = count_patients(labels, scores, layout).exact()
    evaluation = evaluate_counts(counts, threshold=study.evaluation.threshold).to_json()
    replace_file(folder / f"{session.run}.evaluation.json", json.dumps(evaluation).encode())
