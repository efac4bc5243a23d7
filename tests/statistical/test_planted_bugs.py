"""Each fault that real systems had is planted, and the check that names it rejects it.

A check takes a way to make releases; the honest one passes, the one with the bug does not. Both
mechanisms with noise go through all of them.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from wardround.masking.quantise import largest_limit
from wardround.models.networks import binary_loss
from wardround.privacy.noise_shares import StepScale, noise_share
from wardround_client.training import distributed, local, step
from wardround_client.training.plan import PatientRecords, StepSizes, TrainingPlan
from wardround_client.training.sampling import sample_patients
from wardround_client.training.stages import NoisedSum, add_noise, add_share

FEATURES = 40_000  # noise that is 3 % short then shows at 8 standard deviations
CLIP, NOISE, HOSPITALS, COLLUDERS = 0.7, 1.3, 4, 1
SIZES = StepSizes(learning_rate=0.5, expected_batch=8.0)
MECHANISMS = ("local", "distributed")


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


def plan(mechanism, **changes):
    fields = {
        "mechanism": mechanism,
        "noise_multiplier": NOISE,
        "clip_norm_l2": CLIP,
        "sampling_rate": 0.5,
        "records_per_patient": 1,
        "local_steps": 1,
        "honest": HOSPITALS - COLLUDERS if mechanism == "distributed" else 1,
    }
    return TrainingPlan(**(fields | changes))


def share(lanes, noise_multiplier):
    """The scale of a round and the share of its noise, as the coordinator opens it."""
    return noise_share(
        noise_multiplier,
        StepScale(
            learning_rate=SIZES.learning_rate,
            clip_norm_l2=CLIP,
            expected_batch=SIZES.expected_batch,
        ),
        most_change=64.0,
        hospitals=HOSPITALS,
        honest=HOSPITALS - COLLUDERS,
        lanes=lanes,
    )


def release(mechanism, features, randomness, **changes):
    """One release: the noised sum behind its steps, and its report."""
    made = plan(mechanism, **changes)
    common = (model(features.shape[1]), records(features), binary_loss, made, SIZES)
    back = -SIZES.expected_batch / SIZES.learning_rate
    if mechanism == "local":
        update, report = local.train(*common, randomness=randomness)
        return update.values.astype(float) * back, report
    round_ = share(features.shape[1], made.noise_multiplier)
    lanes, report = distributed.one_step(
        *common, scale=round_.scale, limit=largest_limit(HOSPITALS), randomness=randomness
    )
    return lanes.values / round_.scale * back, report


def claimed_deviation(report, features, noise_multiplier=NOISE):
    """Of one coordinate of the noised sum, by what the report says was done."""
    if report.engine.mechanism == "local":
        return report.engine.noise_multiplier * report.engine.clip_norm_l2
    lanes = np.sqrt(report.engine.share_variance)
    scale = share(features, noise_multiplier).scale
    return lanes / scale * SIZES.expected_batch / SIZES.learning_rate


def fits_chi_squared(statistic, degrees):
    below = stats.chi2.cdf(statistic, degrees)
    return 2 * min(below, 1 - below)


def check_noise_is_all_there(mechanism):
    """Coordinates whose gradient is zero by construction hold the noise and nothing else."""
    noised, report = release(mechanism, torch.zeros(8, FEATURES), seeded(1))
    assert report.engine.noise_multiplier >= NOISE, "noise: less is claimed than is due"
    statistic = float(np.sum((noised / claimed_deviation(report, FEATURES)) ** 2))
    assert fits_chi_squared(statistic, FEATURES) > 0.001, "noise: not of the scale reported"


def check_clip_bounds_a_patient(mechanism):
    """Noise of 1e-3 deviations does not hide a patient who counts twice."""
    features = torch.full((1, 50), 1e3)
    noised, report = release(
        mechanism, features, seeded(2), sampling_rate=1.0, noise_multiplier=1e-3
    )
    norm = float(np.linalg.norm(noised))
    room = 10 * np.sqrt(50) * claimed_deviation(report, 50, 1e-3)
    assert room < 0.1 * CLIP
    assert norm <= report.engine.clip_norm_l2 + room, "clip: a patient adds more"


def check_noise_is_never_replayed(mechanism):
    features = torch.zeros(8, FEATURES)
    first, second = (release(mechanism, features, seeded(seed))[0] for seed in (3, 33))
    assert stats.pearsonr(first, second).pvalue > 0.01, "noise: drawn twice"


def batch_sizes(mechanism, patients, draws, seed):
    randomness, features = seeded(seed), torch.zeros(patients, 1)
    if mechanism == "local":
        return release(mechanism, features, randomness, local_steps=draws)[1].batch_sizes
    made = (release(mechanism, features, randomness) for _ in range(draws))
    return tuple(size for _, report in made for size in report.batch_sizes)


def check_sampling_is_poisson(mechanism):
    """Batches of a fixed size, or of a shuffled pass, spread less than independent draws do."""
    patients, draws = 40, 40
    sizes = np.array(batch_sizes(mechanism, patients, draws, seed=4))
    statistic = float(np.sum((sizes - patients * 0.5) ** 2) / (patients * 0.25))
    assert fits_chi_squared(statistic, draws) > 0.001, "sampling: the batches are not Poisson"


def check_the_rate_is_the_studys(mechanism):
    """At q = 0.5 twice the patients make batches of twice the size, whatever is reported."""
    for patients in (50, 100):
        sizes = batch_sizes(mechanism, patients, 15, seed=5)
        fits = stats.binomtest(sum(sizes), 15 * patients, 0.5).pvalue
        assert fits > 0.001, "rate: it depends on the data"
    _, report = release(mechanism, torch.zeros(641, 3), seeded(5))
    assert report.engine.sampling_rate == 0.5, "rate: it depends on the data"


def check_the_normaliser_is_the_studys(mechanism):
    """A patient more, whose gradient is zero, changes nothing at rate 1 and equal randomness."""
    features = torch.ones(10, 3)
    neighbour = torch.cat([features, torch.zeros(1, 3)])
    sums = [
        release(mechanism, data, same_bytes_every_call, sampling_rate=1.0)[0]
        for data in (features, neighbour)
    ]
    assert np.allclose(*sums, rtol=1e-5, atol=0), "normaliser: it depends on the data"


def check_an_empty_sample_steps_with_noise(mechanism):
    steps = 4 if mechanism == "local" else 1
    noised, report = release(
        mechanism, torch.ones(2, 50), seeded(6), sampling_rate=1e-9, local_steps=steps
    )
    assert report.engine.steps == steps, "empty sample: a step is missing"
    assert report.batch_sizes == (0,) * steps, "empty sample: it is not told"
    assert np.abs(noised).min() > 0, "empty sample: stepped without noise"


def check_the_probe_sees_the_noise(mechanism):
    _, report = release(mechanism, torch.ones(8, 3), seeded(7))
    probe = report.noise_probe
    fits = fits_chi_squared(probe.sum_of_squares_over_variance, probe.count)
    assert fits > 0.001, "probe: not of the scale claimed"


def less_noise(part):
    """Noise of a part of its deviation that is reported as whole."""

    def of_sum(clipped, *, noise_multiplier, **rest):
        less = add_noise(clipped, noise_multiplier=part * noise_multiplier, **rest)
        squares = part**2 * less.probe.sum_of_squares_over_variance
        probe = replace(less.probe, sum_of_squares_over_variance=squares)
        return replace(
            less, done=replace(less.done, noise_multiplier=noise_multiplier), probe=probe
        )

    def of_share(clipped, *, share_variance, randomness):
        less = add_share(
            clipped, share_variance=int(part**2 * share_variance), randomness=randomness
        )
        squares = part**2 * less.probe.sum_of_squares_over_variance
        probe = replace(less.probe, sum_of_squares_over_variance=squares)
        return replace(less, share_variance=share_variance, probe=probe)

    return {(local, "add_noise"): of_sum, (distributed, "add_share"): of_share}


def noise_from_a_fixed_seed():
    def of_sum(clipped, **rest):
        return add_noise(clipped, **{**rest, "randomness": seeded(0)})

    def of_share(clipped, *, share_variance, randomness):
        return add_share(clipped, share_variance=share_variance, randomness=seeded(0))

    return {(local, "add_noise"): of_sum, (distributed, "add_share"): of_share}


def no_noise_for_an_empty_sample():
    def of_sum(clipped, **rest):
        honest = add_noise(clipped, **rest)
        if clipped.values.any():
            return honest
        return NoisedSum(values=clipped.values, done=honest.done, probe=honest.probe)

    def of_share(clipped, *, share_variance, randomness):
        honest = add_share(clipped, share_variance=share_variance, randomness=randomness)
        return honest if clipped.values.any() else replace(honest, values=clipped.values)

    return {(local, "add_noise"): of_sum, (distributed, "add_share"): of_share}


HONEST_CLIP, HONEST_TRAIN, HONEST_STEP = step.clip, local.train, distributed.one_step
HONEST_REPORTS = local.report_steps, distributed.report_share


def clip_at_twice_the_norm():
    def wide(*arguments, clip_norm_l2, **more):
        twice = HONEST_CLIP(*arguments, clip_norm_l2=2 * clip_norm_l2, **more)
        return replace(twice, clip_norm_l2=clip_norm_l2)

    return {(local, "clip"): wide, (distributed, "clip"): wide}


def shuffled_batches():
    """Passes over a shuffled order, half of the patients at a time: the rate is right."""
    rng = np.random.default_rng(8)
    left = []

    def shuffled(patients, *, rate, randomness):
        if not left:
            order = rng.permutation(patients)
            left.extend([np.sort(order[: patients // 2]), np.sort(order[patients // 2 :])])
        return left.pop()

    return {(step, "sample_patients"): shuffled}


def rate_from_the_number_of_patients():
    def from_n(patients, *, rate, randomness):
        return sample_patients(patients, rate=min(1.0, 25 / patients), randomness=randomness)

    return {(step, "sample_patients"): from_n}


def normaliser_from_the_number_of_patients():
    def sizes_of(patients, plan, sizes):
        return replace(sizes, expected_batch=plan.sampling_rate * patients.patients)

    def trained(model, patients, loss, plan, sizes, **more):
        return HONEST_TRAIN(model, patients, loss, plan, sizes_of(patients, plan, sizes), **more)

    def stepped(model, patients, loss, plan, sizes, **more):
        return HONEST_STEP(model, patients, loss, plan, sizes_of(patients, plan, sizes), **more)

    return {(local, "train"): trained, (distributed, "one_step"): stepped}


def empty_samples_are_skipped():
    """As samplers do that draw again until somebody is in."""
    of_steps, of_share = HONEST_REPORTS

    def steps_with_patients(steps, plan, *, salt):
        return of_steps([s for s in steps if s.batch_size] or steps[:1], plan, salt=salt)

    def share_with_patients(step, *more, salt):
        return of_share(replace(step, batch_size=max(1, step.batch_size)), *more, salt=salt)

    return {
        (local, "report_steps"): steps_with_patients,
        (distributed, "report_share"): share_with_patients,
    }


CHECKS = [
    check_noise_is_all_there,
    check_clip_bounds_a_patient,
    check_noise_is_never_replayed,
    check_sampling_is_poisson,
    check_the_rate_is_the_studys,
    check_the_normaliser_is_the_studys,
    check_an_empty_sample_steps_with_noise,
    check_the_probe_sees_the_noise,
]


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("check", CHECKS)
def test_the_honest_engine_passes(check, mechanism):
    check(mechanism)


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize(
    ("bug", "check", "said"),
    [
        pytest.param(*case, id=name)
        for name, *case in (
            ("half noise", less_noise(0.5), CHECKS[0], "not of the scale"),
            ("noise 3 % short", less_noise(0.97), CHECKS[0], "not of the scale"),
            ("half noise, by the probe", less_noise(0.5), CHECKS[7], "not of the scale"),
            ("double clip", clip_at_twice_the_norm(), CHECKS[1], "adds more"),
            ("replayed noise", noise_from_a_fixed_seed(), CHECKS[2], "drawn twice"),
            ("shuffled sampling", shuffled_batches(), CHECKS[3], "not Poisson"),
            ("q from N", rate_from_the_number_of_patients(), CHECKS[4], "rate: it depends"),
            (
                "normaliser from N",
                normaliser_from_the_number_of_patients(),
                CHECKS[5],
                "it depends",
            ),
            (
                "empty batch without noise",
                no_noise_for_an_empty_sample(),
                CHECKS[6],
                "without noise",
            ),
            ("skipped empty batch", empty_samples_are_skipped(), CHECKS[6], "empty sample"),
        )
    ],
)
def test_a_planted_bug_is_caught_by_the_check_that_names_it(
    bug, check, said, mechanism, monkeypatch
):
    for (module, name), planted in bug.items():
        monkeypatch.setattr(module, name, planted)
    with pytest.raises(AssertionError, match=said):
        check(mechanism)
