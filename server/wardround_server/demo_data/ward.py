"""Generated patients of four hospitals whose outcome follows a law that is known.

Nobody of them has lived. So the study has no data to be fetched, and what the best possible model
would reach can be computed: `risk_of` is the truth.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
SEED = 20251123
_HEADER = ("patient", "age", "male", "pressure", "marker", "infection", "died")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ward:
    """One hospital: how many it treats, how old they are, and how often the marker is measured."""

    hospital: str
    patients: int
    mean_age: float
    infected: float
    measured: float


WARDS = (
    Ward(hospital="north", patients=400, mean_age=62.0, infected=0.25, measured=1.0),
    Ward(hospital="east", patients=300, mean_age=70.0, infected=0.35, measured=0.8),
    Ward(hospital="south", patients=200, mean_age=55.0, infected=0.15, measured=0.6),
    Ward(hospital="west", patients=100, mean_age=66.0, infected=0.45, measured=0.9),
)


@dataclass(frozen=True, slots=True)
class WardPatients:
    """The patients of one hospital, [patients] each; `marker` before some of it gets lost."""

    age: Floats
    male: Floats
    pressure: Floats
    marker: Floats
    infection: Floats


def risk_of(patients: WardPatients) -> Floats:
    """The true probability of death of each patient, [patients]."""
    odds = (
        -2.2
        + 0.05 * (patients.age - 65.0)
        + 0.3 * patients.male
        - 0.04 * (patients.pressure - 80.0)
        + 0.5 * (patients.marker - 4.0)
        + 1.2 * patients.infection
    )
    risks: Floats = 1.0 / (1.0 + np.exp(-odds))
    return risks


def write_ward(folder: Path) -> None:
    """Write HOSPITAL.csv of each hospital into `folder`, the same bytes at every call."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, ward in enumerate(WARDS):
        draw = np.random.default_rng([SEED, number])
        patients = drawn(ward, draw)
        died = draw.random(ward.patients) < risk_of(patients)
        measured = draw.random(ward.patients) < ward.measured
        with (folder / f"{ward.hospital}.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(_HEADER)
            for row in range(ward.patients):
                writer.writerow(
                    [
                        f"{ward.hospital}-{row + 1:04d}",
                        f"{patients.age[row]:.1f}",
                        f"{patients.male[row]:.0f}",
                        f"{patients.pressure[row]:.0f}",
                        f"{patients.marker[row]:.2f}" if measured[row] else "",
                        f"{patients.infection[row]:.0f}",
                        f"{died[row]:d}",
                    ]
                )


def drawn(ward: Ward, draw: np.random.Generator) -> WardPatients:
    """The patients of one hospital, within the contract's ranges."""
    count = ward.patients
    infection = (draw.random(count) < ward.infected).astype(np.float64)
    return WardPatients(
        age=np.clip(draw.normal(ward.mean_age, 12.0, count), 18.0, 100.0).round(1),
        male=(draw.random(count) < 0.55).astype(np.float64),
        pressure=np.clip(draw.normal(82.0 - 6.0 * infection, 12.0, count), 30.0, 140.0).round(),
        marker=np.clip(draw.normal(4.0 + 1.5 * infection, 1.5, count), 0.0, 12.0).round(2),
        infection=infection,
    )
