"""A small image study for timing rounds: random images, few patients, one short step a round."""

import json
from pathlib import Path

import numpy as np

SHAPE = (3, 32, 32)
PATIENTS = 40
POSITIVE, NEGATIVE = "yes", "no"

STUDY = """
schema = "wardround.study/1"
name = "bench-rounds"
title = "Random images, to time rounds"
purpose = "Measure what a round costs beside training. Nothing is learned from random images."
contact = "bench@example.org"

[task]
family = "image"
model = "reference-cnn"

[contract]
patient_key = "patient"

[contract.label]
name = "label"
description = "Drawn by lot"
positive = "the lot says yes"

[[contract.columns]]
name = "picture"
kind = "image"
description = "Random pixels"
range = [0, 255]
shape = {shape}

[privacy]
unit = "patient"
mechanism = "local"
epsilon = 8.0
delta = 1e-4
clip_norm_l2 = 1.0
sampling_rate = 0.05

[training]
local_steps = 1
learning_rate = 0.1
expected_batch = 2.0
update_bound = 4.0

[rounds]
count = {rounds}
quorum = {hospitals}
deadline_s = 120.0

[masking]
minimum_hospitals = {hospitals}

[evaluation]
registered = 2025-11-22
"""

HOSPITAL = """
schema = "wardround.dataset/1"
hospital = "{name}"
dataset = "bench-{name}"
title = "Random images"
path = "{name}.csv"

[patient]
source = "patient"

[label]
source = "label"
positive_values = ["yes"]
negative_values = ["no"]

[[columns]]
column = "picture"
source = "picture"
unit = "1"
"""


def write_image_study(folder: Path, *, hospitals: int, rounds: int) -> None:
    """Write study, descriptions and data: `folder`/study and `folder`/data."""
    descriptions = folder / "study" / "hospitals"
    descriptions.mkdir(parents=True)
    text = STUDY.format(shape=json.dumps(SHAPE), rounds=rounds, hospitals=hospitals)
    (folder / "study" / "study.toml").write_text(text, encoding="utf-8")
    generator = np.random.default_rng(1)
    for number in range(1, hospitals + 1):
        name = f"hospital-{number}"
        description = HOSPITAL.format(name=name)
        (descriptions / f"{name}.toml").write_text(description, encoding="utf-8")
        _write_images(folder / "data", name, generator)


def _write_images(data: Path, name: str, generator: np.random.Generator) -> None:
    (data / name).mkdir(parents=True)
    rows = ["patient,picture,label"]
    for patient in range(PATIENTS):
        picture = f"{name}/{patient}.npy"
        pixels = generator.integers(0, 256, SHAPE, dtype=np.int16)
        np.save(data / picture, pixels, allow_pickle=False)
        rows.append(f"P{patient},{picture},{NEGATIVE if patient % 2 else POSITIVE}")
    (data / f"{name}.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
