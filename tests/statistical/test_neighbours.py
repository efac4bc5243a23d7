"""Neighbouring datasets, N and N + 1 patients, differ in nothing but what the one patient adds.

Opacus 1.6 takes rate and normaliser from the length of the data (its issues 571 and 819): with 640
or 641 patients ONE step tells the neighbours apart, by the size of its noise. That is shown here
as well, so that the check is known to see it.
"""

import math
import warnings

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from wardround.masking.quantise import largest_limit
from wardround.models.networks import binary_loss
from wardround_client.training.distributed import one_step
from wardround_client.training.local import train
from wardround_client.training.plan import PatientRecords, StepSizes, TrainingPlan

PATIENTS, WIDTH, BATCH = 640, 6000, 64
SILENT = 5800  # so many coordinates have a zero gradient whatever the patients
CLIP, NOISE, RATE = 1.0, 1.0, 0.1
SIZES = StepSizes(learning_rate=0.5, expected_batch=64.0)
SCALE = 2.0**22
MECHANISMS = ("local", "distributed")


class CoupledRandomness:
    """The n-th draw of two runs begins with the same bytes, however long it is in each."""

    def __init__(self, seed):
        self.seed, self.draws = seed, 0

    def __call__(self, count):
        self.draws += 1
        return np.random.default_rng([self.seed, self.draws]).bytes(count)


def patients(count, seed=1):
    generator = torch.Generator().manual_seed(seed)
    told = torch.randn(count, WIDTH - SILENT, generator=generator)
    return torch.cat([torch.zeros(count, SILENT), told], dim=1)


def with_one_more(features, size):
    """A patient more; `size` 0 makes the gradient zero."""
    return torch.cat([features, size * patients(1, seed=2)])


def layer():
    linear = nn.Linear(WIDTH, 1, bias=False)
    nn.init.zeros_(linear.weight)
    return linear


def one_release(mechanism, features, randomness):
    """What leaves, in real space, after one step over these patients, one record each."""
    plan = TrainingPlan(
        mechanism=mechanism,
        noise_multiplier=NOISE,
        clip_norm_l2=CLIP,
        sampling_rate=RATE,
        records_per_patient=1,
        local_steps=1,
    )
    records = PatientRecords(
        features=features, labels=torch.ones(len(features)), offsets=np.arange(len(features) + 1)
    )
    common = (layer(), records, binary_loss, plan, SIZES)
    if mechanism == "local":
        return train(*common, randomness=randomness)[0].values.astype(float)
    limit = largest_limit(3)
    lanes, _ = one_step(*common, scale=SCALE, limit=limit, randomness=randomness)
    return lanes.values / SCALE


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_patient_with_a_zero_gradient_leaves_the_distribution_as_it_is(mechanism):
    """Equal randomness gives equal releases: so the two distributions are one and the same."""
    features = patients(PATIENTS)
    for seed in range(3):
        first, second = (
            one_release(mechanism, data, CoupledRandomness(seed))
            for data in (features, with_one_more(features, 0.0))
        )
        np.testing.assert_allclose(first, second, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_patient_changes_a_release_by_their_clipped_gradient_or_not_at_all(mechanism):
    features, moved = patients(30), []
    for seed in range(25):
        first, second = (
            one_release(mechanism, data, CoupledRandomness(seed))
            for data in (features, with_one_more(features, 1.0))
        )
        moved.append(np.linalg.norm(second - first))
    one_patient = SIZES.learning_rate * CLIP / SIZES.expected_batch
    taking_part = np.array(moved) > one_patient / 2
    assert 0 < taking_part.sum() < 13  # at rate 0.1
    np.testing.assert_allclose(np.array(moved)[taking_part], one_patient, rtol=1e-2)
    assert np.array(moved)[~taking_part].max() < 1e-2 * one_patient


def opacus_release(features, seed):
    """One step of Opacus 1.6 as its tutorials take it: make_private, first batch, step."""
    from opacus import PrivacyEngine

    model = layer()
    optimiser = torch.optim.SGD(model.parameters(), lr=SIZES.learning_rate)
    data = TensorDataset(features, torch.ones(len(features)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        private, optimiser, loader = PrivacyEngine(accountant="rdp").make_private(
            module=model,
            optimizer=optimiser,
            data_loader=DataLoader(data, batch_size=BATCH),
            noise_multiplier=NOISE,
            max_grad_norm=CLIP,
            noise_generator=torch.Generator().manual_seed(seed),
        )
        torch.manual_seed(seed)
        inputs, labels = next(iter(loader))
        binary_loss(private(inputs), labels).mean().backward()
        optimiser.step()
    return model.weight.detach().numpy().ravel().astype(float)


def tells_apart(first, second):
    """p of the hypothesis that two releases have noise of one size (F-test, two-sided)."""
    ratio = np.mean(first[:SILENT] ** 2) / np.mean(second[:SILENT] ** 2)
    below = stats.f.cdf(ratio, SILENT, SILENT)
    return 2 * min(below, 1 - below)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_one_step_does_not_tell_640_patients_from_641(mechanism):
    first, second = (
        one_release(mechanism, patients(count), np.random.default_rng(count).bytes)
        for count in (PATIENTS, PATIENTS + 1)
    )
    assert tells_apart(first, second) > 0.01
    assert tells_apart(first, 1.1 * second) < 1e-6


def test_one_step_of_opacus_tells_640_patients_from_641():
    """If this fails, Opacus has mended it: say so in privacy.md and drop the test."""
    first, second = (opacus_release(patients(count), seed=count) for count in (640, 641))
    assert tells_apart(first, second) < 1e-6
    noise = SIZES.learning_rate * NOISE * CLIP
    for values, divisor in ((first, 64), (second, math.floor(641 / 11))):
        assert abs(values[:SILENT].std() * divisor / noise - 1) < 0.06
