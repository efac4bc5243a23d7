"""The sampler and the noise are the ones the accountant assumes; each check also rejects."""

import numpy as np
import pytest
from scipy import stats

from wardround.errors import BadInput
from wardround.randomness import system_randomness
from wardround_client.training import noise as noise_module
from wardround_client.training.noise import gaussian
from wardround_client.training.sampling import sample_patients

DRAWS = 20_000


def seeded(seed):
    return np.random.default_rng(seed).bytes


def fits_normal(values, scale):
    return float(stats.kstest(values, "norm", args=(0.0, scale)).pvalue)


def fits_variance(values, scale):
    """Two-sided p of the variance: the sharpest test of the scale alone."""
    statistic = float(np.sum((values / scale) ** 2))
    below = stats.chi2.cdf(statistic, len(values))
    return 2.0 * min(below, 1.0 - below)


def test_noise_is_normal_of_its_scale_and_the_check_rejects_ten_percent_off():
    values = gaussian(DRAWS, scale=2.5, randomness=seeded(1)).astype(float)
    assert fits_normal(values, 2.5) > 0.01
    for wrong in (0.9, 1.1):
        assert fits_normal(wrong * values, 2.5) < 1e-6


def test_the_scale_of_the_noise_is_right_and_the_check_rejects_three_percent_off():
    values = gaussian(DRAWS, scale=0.3, randomness=seeded(2)).astype(float)
    assert fits_variance(values, 0.3) > 0.01
    for wrong in (0.97, 1.03):
        assert fits_variance(wrong * values, 0.3) < 1e-6


def test_both_halves_of_each_pair_are_independent():
    values = gaussian(DRAWS, scale=1.0, randomness=seeded(3))
    first, second = values[: DRAWS // 2], values[DRAWS // 2 :]
    assert stats.pearsonr(first, second).pvalue > 0.01
    assert stats.pearsonr(first**2, second**2).pvalue > 0.01
    assert stats.pearsonr(first, second + 0.1 * first).pvalue < 1e-6


def test_the_tails_are_there_and_the_check_rejects_clipped_ones():
    values = np.abs(gaussian(200_000, scale=1.0, randomness=seeded(4)))
    due = 200_000 * 2 * stats.norm.sf(3.0)
    assert abs(np.sum(values > 3.0) - due) < 4 * np.sqrt(due)
    assert abs(np.sum(np.minimum(values, 2.9) > 3.0) - due) > 4 * np.sqrt(due)


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_any_number_of_values_is_drawn(count):
    values = gaussian(count, scale=1.0, randomness=system_randomness)
    assert values.shape == (count,)
    assert values.dtype == np.float32
    assert np.isfinite(values).all()


def test_drawing_in_blocks_never_repeats_one(monkeypatch):
    monkeypatch.setattr(noise_module, "_PAIRS_AT_ONCE", 8)
    values = gaussian(1001, scale=1.0, randomness=seeded(5))
    assert len(np.unique(values)) == 1001


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_noise_without_a_scale_is_refused(scale):
    with pytest.raises(BadInput, match="scale"):
        gaussian(3, scale=scale, randomness=seeded(0))


RATE, PATIENTS, STEPS = 0.2, 60, 3000


def included(draw):
    """Steps x patients, True where a patient took part."""
    table = np.zeros((STEPS, PATIENTS), dtype=bool)
    for step in range(STEPS):
        table[step, draw(step)] = True
    return table


def fits_rate(table):
    """Each patient's own rate, Bonferroni-corrected."""
    counts = table.sum(axis=0)
    smallest = min(stats.binomtest(int(c), STEPS, RATE).pvalue for c in counts)
    return min(1.0, smallest * PATIENTS)


def fits_poisson(table):
    """The spread of the batch size is binomial only when patients are drawn independently."""
    sizes = table.sum(axis=1)
    statistic = float(np.sum((sizes - PATIENTS * RATE) ** 2) / (PATIENTS * RATE * (1 - RATE)))
    below = stats.chi2.cdf(statistic, STEPS)
    return 2.0 * min(below, 1.0 - below)


def fits_no_memory(table):
    """A patient's part in one step says nothing of the next."""
    return float(stats.pearsonr(table[:-1].ravel(), table[1:].ravel()).pvalue)


def test_every_patient_is_drawn_independently_at_the_public_rate():
    randomness = seeded(6)
    table = included(lambda _: sample_patients(PATIENTS, rate=RATE, randomness=randomness))
    assert min(fits_rate(table), fits_poisson(table), fits_no_memory(table)) > 0.01


def test_the_check_rejects_a_rate_ten_percent_off():
    randomness = seeded(7)
    table = included(lambda _: sample_patients(PATIENTS, rate=1.1 * RATE, randomness=randomness))
    assert fits_poisson(table) < 1e-6


def test_the_check_rejects_one_patient_who_is_drawn_more_often():
    rng = np.random.default_rng(8)
    rates = np.full(PATIENTS, RATE)
    rates[17] = 1.4 * RATE
    table = included(lambda _: np.flatnonzero(rng.random(PATIENTS) < rates))
    assert fits_rate(table) < 1e-6


def test_the_check_rejects_shuffled_batches_of_a_fixed_size():
    rng = np.random.default_rng(9)
    size = int(PATIENTS * RATE)
    order = [rng.permutation(PATIENTS) for _ in range(STEPS * size // PATIENTS + 1)]
    stream = np.concatenate(order)
    table = included(lambda step: stream[step * size : (step + 1) * size])
    assert fits_poisson(table) < 1e-6
    assert fits_no_memory(table) < 1e-6
