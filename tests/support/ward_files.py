"""What lies in a hospital's folders: its table, its description of it, its policy."""

from pathlib import Path

import numpy as np

PATIENTS = 40

DATASET_TOML = """
schema = "wardround.dataset/1"
hospital = "{name}"
dataset = "fever-{name}"
title = "Forty patients"
path = "patients.csv"
[patient]
source = "id"
[label]
source = "fever"
positive_when = ">0"
[[columns]]
column = "age"
source = "age"
unit = "a"
[[columns]]
column = "male"
source = "male"
"""

POLICY_TOML = """
epsilon_budget = {budget}
delta_max = 1e-3
mechanisms = ["local", "distributed", "none"]
minimum_hospitals = 2
allow_exact_evaluation = true
empirical_audit = false
"""


def write_patients(path: Path, seed: int) -> None:
    """A table that the contract takes: older men have more fevers."""
    random = np.random.default_rng(seed)
    lines = ["id,age,male,fever"]
    for number in range(PATIENTS):
        age, male = random.integers(1, 99), random.integers(0, 2)
        fever = int(random.random() < (age / 200 + 0.3 * male))
        lines.append(f"p{number},{age},{male},{fever}")
    path.write_text("\n".join(lines))
