"""Each fault that real systems had is planted, and the check that names it rejects it.

A check takes a `train` function; the honest one passes, the variant with the bug does not.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from wardround.models.networks import binary_loss
from wardround_client.training import local
from wardround_client.training.local import PatientRecords, StepSizes, TrainingPlan
from wardround_client.training.per_patient import clipped_sum
from wardround_client.training.stages import NoisedSum, add_noise

FEATURES = 4000
CLIP, NOISE = 0.7, 1.3
SIZES = StepSizes(learning_rate=0.5, expected_batch=8.0)


def seeded(seed):
    return np.random.default_rng(seed).bytes


def same_bytes_every_call(count):
    """Two runs that draw in different amounts still meet the same numbers."""
    return (np.random.default_rng(3).bytes(4096) * (count // 4096 + 1))[:count]


def model(features):
    layer = nn.Linear(features, 1, bias=False)
    nn.init.zeros_(layer.weight)
    return layer


def records(features):
    count = len(features)
    return PatientRecords(features=features, labels=torch.ones(count), offsets=np.arange(count + 1))


def plan(**changes):
    fields = {
        "mechanism": "local",
        "noise_multiplier": NOISE,
        "clip_norm_l2": CLIP,
        "sampling_rate": 0.5,
        "records_per_patient": 1,
        "local_steps": 1,
    }
    return TrainingPlan(**(fields | changes))


def train(features, randomness, **changes):
    return local.train(
        model(features.shape[1]),
        records(features),
        binary_loss,
        plan(**changes),
        SIZES,
        randomness=randomness,
    )


def sum_behind(update):
    """The noised sum of the one step: the update without step size and normaliser."""
    return update.values.astype(float) * -SIZES.expected_batch / SIZES.learning_rate


def check_noise_is_all_there():
    """Coordinates whose gradient is zero by construction hold the noise and nothing else."""
    update, report = train(torch.zeros(8, FEATURES), seeded(1))
    due = report.engine.noise_multiplier * report.engine.clip_norm_l2
    statistic = float(np.sum((sum_behind(update) / due) ** 2))
    below = stats.chi2.cdf(statistic, FEATURES)
    assert 2 * min(below, 1 - below) > 0.01, "noise: not of the scale reported"


def check_clip_bounds_a_patient():
    features = torch.full((1, 50), 1e3)
    update, report = train(features, seeded(2), sampling_rate=1.0, noise_multiplier=1e-6)
    norm = float(np.linalg.norm(sum_behind(update)))
    assert norm <= report.engine.clip_norm_l2 * (1 + 1e-4), "clip: a patient adds more"


def check_noise_is_never_replayed():
    features = torch.zeros(8, FEATURES)
    noises = [sum_behind(train(features, randomness)[0]) for randomness in (seeded(3), seeded(33))]
    correlation = stats.pearsonr(*noises)
    assert correlation.pvalue > 0.01, "noise: drawn twice"


def check_the_rate_is_the_studys():
    for patients in (640, 641):
        _, report = train(torch.zeros(patients, 3), seeded(4))
        assert report.engine.sampling_rate == 0.5, "rate: it depends on the data"


def check_the_normaliser_is_the_studys():
    """A patient more, whose gradient is zero, changes nothing at rate 1 and equal randomness."""
    features = torch.ones(10, 3)
    neighbour = torch.cat([features, torch.zeros(1, 3)])
    steps = [
        train(data, same_bytes_every_call, sampling_rate=1.0)[0].values
        for data in (features, neighbour)
    ]
    assert np.allclose(*steps, rtol=1e-5, atol=0), "normaliser: it depends on the data"


def check_an_empty_sample_steps_with_noise():
    update, report = train(torch.ones(2, 50), seeded(5), sampling_rate=1e-9, local_steps=4)
    assert report.engine.steps == 4, "empty sample: a step is missing"
    assert report.batch_sizes == (0, 0, 0, 0), "the sample was not empty"
    assert np.abs(update.values).min() > 0, "empty sample: stepped without noise"


def half_noise(clipped, *, noise_multiplier, randomness):
    honest = add_noise(clipped, noise_multiplier=noise_multiplier / 2, randomness=randomness)
    done = local.NoiseDone(noise_multiplier=noise_multiplier, clip_norm_l2=clipped.clip_norm_l2)
    return NoisedSum(values=honest.values, done=done)


def slightly_less_noise(clipped, *, noise_multiplier, randomness):
    less = add_noise(clipped, noise_multiplier=0.95 * noise_multiplier, randomness=randomness)
    done = local.NoiseDone(noise_multiplier=noise_multiplier, clip_norm_l2=clipped.clip_norm_l2)
    return NoisedSum(values=less.values, done=done)


def clip_at_twice_the_norm(*arguments, clip_norm_l2, **more):
    wide = clipped_sum(*arguments, clip_norm_l2=2 * clip_norm_l2, **more)
    return local.ClippedSum(values=wide.values, clip_norm_l2=clip_norm_l2)


def noise_from_a_fixed_seed(clipped, *, noise_multiplier, randomness):
    return add_noise(clipped, noise_multiplier=noise_multiplier, randomness=seeded(0))


def no_noise_for_an_empty_sample(clipped, *, noise_multiplier, randomness):
    if clipped.values.any():
        return add_noise(clipped, noise_multiplier=noise_multiplier, randomness=randomness)
    done = local.NoiseDone(noise_multiplier=noise_multiplier, clip_norm_l2=clipped.clip_norm_l2)
    return NoisedSum(values=clipped.values, done=done)


HONEST_TRAIN = local.train
HONEST_REPORT = local._report


def rate_from_the_number_of_patients(model, patients, loss, plan, sizes, *, randomness):
    from_n = replace(plan, sampling_rate=320 / patients.patients)
    return HONEST_TRAIN(model, patients, loss, from_n, sizes, randomness=randomness)


def normaliser_from_the_number_of_patients(model, patients, loss, plan, sizes, *, randomness):
    from_n = replace(sizes, expected_batch=plan.sampling_rate * patients.patients)
    return HONEST_TRAIN(model, patients, loss, plan, from_n, randomness=randomness)


def report_without_empty_steps(steps, plan, *, salt):
    kept = [step for step in steps if step.batch_size] or steps[:1]
    return HONEST_REPORT(kept, plan, salt=salt)


CHECKS = [
    check_noise_is_all_there,
    check_clip_bounds_a_patient,
    check_noise_is_never_replayed,
    check_the_rate_is_the_studys,
    check_the_normaliser_is_the_studys,
    check_an_empty_sample_steps_with_noise,
]


@pytest.mark.parametrize("check", CHECKS)
def test_the_honest_engine_passes(check):
    check()


@pytest.mark.parametrize(
    ("name", "bug", "check", "said"),
    [
        ("add_noise", half_noise, check_noise_is_all_there, "not of the scale"),
        ("add_noise", slightly_less_noise, check_noise_is_all_there, "not of the scale"),
        ("clipped_sum", clip_at_twice_the_norm, check_clip_bounds_a_patient, "adds more"),
        ("add_noise", noise_from_a_fixed_seed, check_noise_is_never_replayed, "drawn twice"),
        ("_report", report_without_empty_steps, check_an_empty_sample_steps_with_noise, "missing"),
        (
            "train",
            rate_from_the_number_of_patients,
            check_the_rate_is_the_studys,
            "rate: it depends",
        ),
        (
            "train",
            normaliser_from_the_number_of_patients,
            check_the_normaliser_is_the_studys,
            "normaliser: it depends",
        ),
        (
            "add_noise",
            no_noise_for_an_empty_sample,
            check_an_empty_sample_steps_with_noise,
            "stepped without noise",
        ),
    ],
)
def test_a_planted_bug_is_caught_by_the_check_that_names_it(name, bug, check, said, monkeypatch):
    monkeypatch.setattr(local, name, bug)
    with pytest.raises(AssertionError, match=said):
        check()
