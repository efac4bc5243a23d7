"""A study over generated patients whose labels nobody can learn, only remember."""

from typing import Any

import numpy as np
import torch
from tests.support.hospitals import study_json

from wardround.study.files import checked
from wardround.study.manifest import Study
from wardround_client.attacks.released import ReleasedModel
from wardround_client.records import StudyRecords
from wardround_client.training.plan import PatientRecords

FEATURES = 120
NAMES = ("harbour", "lakeside", "northside")


def seeded(seed: int) -> Any:
    return np.random.default_rng(seed).bytes


def _columns() -> list[dict[str, Any]]:
    return [
        {
            "name": f"marker_{number}",
            "kind": "continuous",
            "description": "a marker",
            "range": [-1, 1],
        }
        for number in range(FEATURES)
    ]


def attacked_study(**changes: Any) -> Study:
    fields: dict[str, Any] = {
        "contract__columns": _columns(),
        "evaluation__held_out": 0.5,
        "rounds__count": 8,
        "training__expected_batch": 25.0,
        "privacy__clip_norm_l2": 1.0,
    }
    roster = [{"name": n, "fingerprint": f"{i:064x}"} for i, n in enumerate(NAMES)]
    return checked(Study, study_json(roster=roster, **fields | changes), what="study")


def remembering_mlp(**changes: Any) -> Study:
    """An MLP with room for every patient, trained without noise and without a clip that bites."""
    fields: dict[str, Any] = {
        "task__model": "mlp",
        "task__hidden": [32],
        "privacy__mechanism": "none",
        "privacy__epsilon": None,
        "privacy__delta": None,
        "privacy__clip_norm_l2": 1000.0,
        "privacy__sampling_rate": 0.99,
        "training__local_steps": 4,
        "training__expected_batch": 60.0,
        "training__learning_rate": 0.5,
        "training__momentum": 0.9,
    }
    return attacked_study(**fields | changes)


def generated(patients: int, *, seed: int = 0, records_each: int = 1) -> PatientRecords:
    draw = np.random.default_rng(seed)
    records = patients * records_each
    features = draw.uniform(-1, 1, (records, FEATURES)).astype(np.float32)
    labels = np.repeat(draw.integers(2, size=patients), records_each).astype(np.float32)
    return PatientRecords(
        features=torch.from_numpy(features),
        labels=torch.from_numpy(labels),
        offsets=np.arange(0, records + 1, records_each, dtype=np.int64),
    )


def of_two_groups(train: int, held_out: int, *, seed: int = 0) -> StudyRecords:
    return StudyRecords(generated(train, seed=seed), generated(held_out, seed=seed + 1))


def released(network: torch.nn.Module, *, sha256: str = "ab" * 32) -> ReleasedModel:
    return ReleasedModel(network=network, scales=(), run="cd" * 16, sha256=sha256)
