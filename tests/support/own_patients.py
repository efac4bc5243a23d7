"""Patients of a study of any family, drawn at random: a hospital of its own."""

import math

import numpy as np
import torch

from wardround.study.manifest import StudyPlan
from wardround_client.training.plan import PatientRecords


def drawn_patients(study: StudyPlan, patients: int, *, each: int = 1, seed: int = 3):
    """So many patients of `each` records; the first feature raises what a label has of risk."""
    random = np.random.default_rng(seed)
    shape = study.contract.input_shape()
    features = random.uniform(-1, 1, (patients * each, *shape))
    first = features.reshape(patients, each, math.prod(shape)).mean(axis=1)[:, 0]
    risk = 3 * first + random.normal(size=patients)
    return PatientRecords(
        features=torch.tensor(features).float(),
        labels=torch.tensor(np.repeat(_labels(study, risk, random), each, axis=0)).float(),
        offsets=np.arange(0, patients * each + 1, each),
    )


def _labels(study: StudyPlan, risk, random):
    label = study.contract.label
    if label.time is not None:
        times = random.exponential(200 * np.exp(-risk))
        followed = random.uniform(50, 500, len(risk))
        return np.stack([np.minimum(times, followed), times < followed], axis=1)
    if label.targets:
        values = np.tanh(risk[:, None] + random.normal(size=(len(risk), len(label.targets))) / 4)
        return values if label.numbers else (values > 0).astype(float)
    if label.classes:
        return np.digitize(risk, np.linspace(-1, 1, len(label.classes) - 1)).astype(float)
    return (risk > 0).astype(float)
