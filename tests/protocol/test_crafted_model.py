"""A coordinator that makes up the model reads patients out of a sum; noise is what stops it.

Masks keep their promise all the while: it sees one sum of all hospitals. PROTOCOL 9.12 says so.
(Fowl et al. 2022, "Robbing the Fed": one hidden neuron for each bin of a feature)
"""

import csv

import numpy as np
import pytest
import torch
from tests.support.hospitals import NAMES, Ward
from tests.support.hostile_coordinator import codes, sealed
from tests.support.memory_runs import Federation

from wardround_server.rounds import run as rounds

pytestmark = pytest.mark.slow

YEARS = np.arange(1, 100)  # neuron k is awake for whoever is older than k - 1/2
HIDDEN = YEARS.size
SMALL = 0.01  # of the second layer: every patient's gradient is then about as long as the next


@pytest.fixture
def ward(tmp_path):
    ward = Ward.make(tmp_path)
    yield ward
    ward.close()


def crafted() -> torch.Tensor:
    """Parameters of the MLP, flat: first layer [hidden, 2] and [hidden], then [1, hidden], [1]."""
    weights = np.zeros((HIDDEN, 2))
    weights[:, 0] = 1.0
    biases = -scaled(YEARS - 0.5)
    flat = np.concatenate([weights.ravel(), biases, np.full(HIDDEN, SMALL), [0.0]])
    return torch.from_numpy(flat.astype(np.float32))


def scaled(age):
    """As the contract's range 0 to 100 is."""
    return np.asarray(age) / 50.0 - 1.0


def patients_read_from(update) -> set[tuple[int, int, int]]:
    """Of each year of age the one patient, if it has one row's exact form: (age, sex, label).

    Two neurons next to each other differ by those whose age lies between them.
    """
    weights = update[: 2 * HIDDEN].reshape(HIDDEN, 2).astype(np.float64)
    biases = update[2 * HIDDEN : 3 * HIDDEN].astype(np.float64)
    of_weights, of_biases = -np.diff(weights, axis=0), -np.diff(biases)
    found = set()
    for year, (age, male), one in zip(YEARS[:-1], of_weights, of_biases, strict=True):
        if one == 0.0:
            continue
        sex = male / one
        # A lane is 1/4,000,000, and so a patient's share of a neuron is known to a few thousandths.
        if abs(age / one - scaled(year)) < 8e-3 and min(abs(sex), abs(sex - 1.0)) < 2e-2:
            found.add((int(year), round(sex), int(one > 0)))
    return found


def rows(ward) -> list[tuple[int, int, int]]:
    found = []
    for name in NAMES:
        with (ward[name].data / "patients.csv").open() as file:
            found += [
                (int(r["age"]), int(r["male"]), int(r["fever"])) for r in csv.DictReader(file)
            ]
    return found


def first_update(federation, monkeypatch):
    """What the coordinator opens in a round that it began with `crafted` parameters."""
    seen = []
    real = rounds.Run._stepped

    def stepped(run, state, mean):
        seen.append(np.array(mean))
        return real(run, state, mean)

    monkeypatch.setattr(rounds, "parameters_of", lambda _network: crafted())
    monkeypatch.setattr(rounds.Run, "_stepped", stepped)
    parts = federation.close(*federation.run().train_and_evaluate())
    assert codes(sealed(federation.ward, parts)) == {}  # nothing that a verifier could see
    return seen[0]


def federation_with(ward, mechanism):
    task = {"task__model": "mlp", "task__hidden": [HIDDEN]}
    return Federation(ward, rounds__count=1, privacy__mechanism=mechanism, **task)


def test_without_noise_a_sum_of_three_hospitals_shows_the_rows_of_single_patients(
    ward, monkeypatch
):
    read = patients_read_from(first_update(federation_with(ward, "none"), monkeypatch))
    everybody = rows(ward)
    alone = {row for row in everybody if sum(other[0] == row[0] for other in everybody) == 1}
    assert read <= set(everybody)
    assert len(read & alone) >= 2  # of 40, of whom a draw of half the training patients has 12


def test_with_noise_the_same_model_shows_nobody(ward, monkeypatch):
    read = patients_read_from(first_update(federation_with(ward, "local"), monkeypatch))
    assert len(read) <= 1
