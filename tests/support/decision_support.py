"""A hospital that has kept a model: real directory, approval, evidence log and model file."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from safetensors.numpy import save
from tests.support.hospitals import RUN, MemoryHospital, Ward

from wardround.models.networks import build, parameters_of
from wardround.protocol.halves import model_digest
from wardround_client.approval import approved_study, find_study
from wardround_client.prediction.standing import standing
from wardround_client.prediction.support import Support

RISK = {"name": "fever", "description": "Fever within two days", "positive": "over 38 degrees"}


def keep_model(hospital: MemoryHospital, study, network=None, **body) -> str:
    """What the end of a run leaves at the hospital: the model, and the log's last entry."""
    vector = parameters_of(network or build(study)).numpy()
    folder = hospital.home.directory / "models"
    folder.mkdir(exist_ok=True)
    metadata = {"study_digest": study.digest, "run": RUN}
    (folder / f"{RUN}.safetensors").write_bytes(save({"model": vector}, metadata=metadata))
    ended = {"run": RUN, "coordinator_head": "0" * 64, "model": model_digest(vector)} | body
    with hospital.home.log(study.digest) as log:
        log.append("run-ended", ended, time=datetime.now(UTC))
    return model_digest(vector)


def support_of(
    hospital: MemoryHospital, name: str = "fever", report: Path | None = None
) -> Support:
    """As `wardround predict` opens it."""
    approved = approved_study(hospital.home, find_study(hospital.home, name))
    return Support.of(standing(hospital.home, approved.study, report=report), approved)


def write_fevers(path: Path, patients: int, seed: int, prefix: str = "p") -> None:
    """Rows as the study's contract wants them; old men have more fevers."""
    random = np.random.default_rng(seed)
    lines = ["id,age,male,fever"]
    for number in range(patients):
        age, male = random.integers(1, 99), random.integers(0, 2)
        fever = int(random.random() < age / 150 + 0.3 * male)
        lines.append(f"{prefix}{number},{age},{male},{fever}")
    path.write_text("\n".join(lines) + "\n")


def fever_network(study, slope: float = 2.0):
    """A logistic regression that knows it: weight `slope` for age, 1 for men."""
    import torch

    network = build(study)
    with torch.no_grad():
        network.weight[:] = torch.tensor([[slope, 1.0]])
        network.bias[:] = 0.1
    return network


def ward_with_model(folder: Path, *, patients: int = 400, **changes) -> tuple[Ward, object]:
    """One hospital of two, with so many patients and a model that has learned something."""
    ward = Ward.make(folder, ("lakeside", "northside"))
    hospital = ward["lakeside"]
    write_fevers(hospital.data / "patients.csv", patients, seed=5)
    study = ward.study(**changes)
    hospital.approve(ward.signed(study))
    keep_model(hospital, study, fever_network(study))
    return ward, study
