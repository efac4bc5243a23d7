"""A table study for timing rounds: a network of the size that is wanted, few generated patients."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wardround.canonical import Json
from wardround.study.files import checked
from wardround.study.manifest import StudyPlan

PATIENTS = 40


@dataclass(frozen=True, slots=True)
class Shape:
    """A fully connected network: columns of the table, then hidden layers, then one logit."""

    columns: int
    hidden: tuple[int, ...]


# Each has exactly so many parameters; 122,570 are those of the reference CNN with ten classes.
SHAPES = {
    1_000: Shape(8, (7, 104)),
    122_570: Shape(9, (255, 467)),
    1_000_000: Shape(12, (423, 2340)),
    25_000_000: Shape(8, (4082, 4025, 2118)),
}
# One trip needs noise that hospitals share; double masks are measured with the least training.
MECHANISMS = {"one-trip": "distributed", "double-mask": "none"}
# The same in all studies: a warm process accounts once, which takes seconds.
_ATTEMPTS = 30
_NOISED = {"epsilon": 8.0, "delta": 1e-4, "colluders": 1}

POLICY = """
epsilon_budget = 1000.0
delta_max = 1e-3
mechanisms = ["local", "distributed", "none"]
least_colluders = 1
minimum_hospitals = 3
allow_exact_evaluation = true
empirical_audit = false
attack_test = false
"""

_DESCRIPTION = """
schema = "wardround.dataset/1"
hospital = "{hospital}"
dataset = "{dataset}"
title = "Random numbers"
path = "{hospital}.csv"

[patient]
source = "patient"

[label]
source = "label"
positive_values = ["yes"]
negative_values = ["no"]
"""

_COLUMN = """
[[columns]]
column = "{name}"
source = "{name}"
unit = "1"
"""


def round_study(*, parameters: int, hospitals: int, profile: str, rounds: int) -> StudyPlan:
    """A study whose model has so many parameters; nothing is learned from random numbers."""
    shape = SHAPES[parameters]
    mechanism = MECHANISMS[profile]
    value: Json = {
        "schema": "wardround.study/1",
        "name": f"rounds-{hospitals}-{parameters}-{profile}",
        "title": "Random numbers, to time rounds",
        "purpose": "Measure what a round costs beside training.",
        "contact": "bench@example.org",
        "task": {"family": "risk", "model": "mlp", "hidden": list(shape.hidden)},
        "contract": {
            "patient_key": "patient",
            "label": {"name": "label", "description": "drawn by lot", "positive": "the lot"},
            "columns": [
                {"name": name, "kind": "continuous", "description": "random", "range": [0, 1]}
                for name in _columns(shape)
            ],
        },
        "privacy": {
            "mechanism": mechanism,
            "clip_norm_l2": 1.0,
            "sampling_rate": 0.05,
            **({} if mechanism == "none" else _NOISED),
        },
        "training": {"local_steps": 1, "learning_rate": 0.01, "expected_batch": 2.0},
        "rounds": {
            "count": rounds,
            "spare_attempts": max(0, _ATTEMPTS - rounds),
            "quorum": hospitals,
            "deadline_s": 300.0,
        },
        "masking": {
            "minimum_hospitals": min(hospitals, 3),
            "profile": profile,
            "bits": bits_of(hospitals),
        },
        "evaluation": {"registered": "2026-11-22", "bins": 100},
    }
    return checked(StudyPlan, value, what="bench study")


def write_data(folder: Path, hospital: str, plan: StudyPlan) -> Path:
    """Write one hospital's table and its description into `folder`; where the latter lies."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [column.name for column in plan.contract.columns]
    generator = np.random.default_rng(1)
    rows = [",".join(["patient", "label", *names])]
    for patient in range(PATIENTS):
        numbers = ",".join(f"{number:.4f}" for number in generator.random(len(names)))
        rows.append(f"P{patient},{'no' if patient % 2 else 'yes'},{numbers}")
    (folder / f"{hospital}.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    text = _DESCRIPTION.format(hospital=hospital, dataset=f"{plan.name}-{hospital}")
    text += "".join(_COLUMN.format(name=name) for name in names)
    path = folder / f"{hospital}.toml"
    path.write_text(text, encoding="utf-8")
    return path


def bits_of(hospitals: int) -> int:
    """How wide a parameter travels: shares of noise of many hospitals need more than 20 bits."""
    return 20 if hospitals <= 4 else 24


def _columns(shape: Shape) -> list[str]:
    return [f"column_{number}" for number in range(shape.columns)]


def parameters_of(plan: StudyPlan) -> int:
    """How many parameters the study's network has; nothing is built."""
    width = len(plan.contract.columns)
    layers = (*plan.task.hidden, 1)
    return sum((into + 1) * out for into, out in zip((width, *layers), layers, strict=False))
