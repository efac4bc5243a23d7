"""The sampler and the noise are the ones the accountant assumes; each check also rejects."""

import numpy as np
import pytest
from scipy import stats

from wardround import noise as noise_module
from wardround.errors import BadInput
from wardround.noise import MOST_VARIANCE, discrete_gaussian, gaussian
from wardround.privacy.truncation import truncation_bound
from wardround.randomness import system_randomness
from wardround_client.training.sampling import at_most, sample_patients

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
    values = gaussian(DRAWS, scale=2.5, randomness=seeded(1))
    assert fits_normal(values, 2.5) > 0.01
    for wrong in (0.9, 1.1):
        assert fits_normal(wrong * values, 2.5) < 1e-6


def test_the_scale_of_the_noise_is_right_and_the_check_rejects_three_percent_off():
    values = gaussian(DRAWS, scale=0.3, randomness=seeded(2))
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
    assert values.dtype == np.float64
    assert np.isfinite(values).all()


def test_drawing_in_blocks_never_repeats_one(monkeypatch):
    monkeypatch.setattr(noise_module, "_AT_ONCE", 8)
    values = gaussian(1001, scale=1.0, randomness=seeded(5))
    assert len(np.unique(values)) == 1001
    whole = discrete_gaussian(1001, variance=2**50, randomness=seeded(5))
    assert len(np.unique(whole)) == 1001


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_noise_without_a_scale_is_refused(scale):
    with pytest.raises(BadInput, match="scale"):
        gaussian(3, scale=scale, randomness=seeded(0))


def probabilities(variance):
    """The exact pmf over what matters, and its support."""
    reach = int(12 * np.sqrt(variance)) + 2
    support = np.arange(-reach, reach + 1)
    weights = np.exp(-(support**2) / (2.0 * variance))
    return support, weights / weights.sum()


def fits_pmf(values, variance):
    """Chi-square over the values that are due five times or more; the tails are one bin each."""
    support, chances = probabilities(variance)
    kept = support[chances * len(values) >= 5]
    low, high = kept[0], kept[-1]
    observed = np.bincount(np.clip(values, low, high) - low, minlength=high - low + 1)
    due = chances[(support >= low) & (support <= high)]
    due[0] += chances[support < low].sum()
    due[-1] += chances[support > high].sum()
    return float(stats.chisquare(observed, due * len(values)).pvalue)


@pytest.mark.parametrize("variance", [1, 2, 3, 30, 400])
def test_discrete_noise_has_its_exact_probabilities_and_three_percent_off_is_rejected(variance):
    values = discrete_gaussian(400_000, variance=variance, randomness=seeded(variance))
    assert fits_pmf(values, variance) > 0.01
    for wrong in (0.97, 1.03):
        assert fits_pmf(values, wrong**2 * variance) < 1e-6


@pytest.mark.parametrize("variance", [2**20, 10**12 + 7, MOST_VARIANCE])
def test_wide_discrete_noise_is_normal_and_three_percent_off_is_rejected(variance):
    values = discrete_gaussian(DRAWS, variance=variance, randomness=seeded(11)).astype(float)
    scale = np.sqrt(variance)
    assert fits_normal(values, scale) > 0.01
    assert fits_variance(values, scale) > 0.01
    for wrong in (0.97, 1.03):
        assert fits_variance(wrong * values, scale) < 1e-6


def test_rounded_normal_noise_is_not_taken_for_discrete_noise():
    rounded = np.rint(gaussian(400_000, scale=1.0, randomness=seeded(12))).astype(np.int64)
    assert fits_pmf(rounded, 1) < 1e-6


def test_wide_discrete_noise_uses_every_residue():
    """A proposal is u + t v: a fault in u or v would leave stripes of period t."""
    variance = 15**2
    values = np.abs(discrete_gaussian(2_000_000, variance=variance, randomness=seeded(13))) % 16
    support, chances = probabilities(variance)
    due = np.bincount(np.abs(support) % 16, weights=chances)
    observed = np.bincount(values, minlength=16)
    assert stats.chisquare(observed, due * len(values)).pvalue > 0.01
    striped = observed * np.where(np.arange(16) == 3, 0.97, 1.0)
    assert stats.chisquare(striped, due * striped.sum()).pvalue < 1e-6


def test_the_sign_of_discrete_noise_says_nothing_of_its_size():
    values = discrete_gaussian(DRAWS, variance=10**6, randomness=seeded(14))
    positive, negative = values[values > 0], -values[values < 0]
    assert stats.binomtest(len(positive), len(positive) + len(negative)).pvalue > 0.01
    assert stats.ks_2samp(positive, negative).pvalue > 0.01
    assert stats.ks_2samp(positive * 1.06, negative).pvalue < 1e-4


def test_the_parameter_of_discrete_noise_is_its_variance_as_far_as_is_said():
    for variance, part in ((1, 3e-7), (2, 1e-14), (4, 1e-14)):
        support, chances = probabilities(variance)
        assert abs(float(chances @ support.astype(float) ** 2) / variance - 1) < part


@pytest.mark.parametrize("count", [0, 1, 2, 70_000])
def test_any_number_of_discrete_values_is_drawn(count):
    values = discrete_gaussian(count, variance=9, randomness=system_randomness)
    assert values.shape == (count,)
    assert values.dtype == np.int64


@pytest.mark.parametrize(("count", "variance"), [(3, 0), (3, -4), (3, MOST_VARIANCE + 1), (-1, 4)])
def test_discrete_noise_without_a_variance_is_refused(count, variance):
    with pytest.raises(BadInput, match="variance"):
        discrete_gaussian(count, variance=variance, randomness=seeded(0))


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


def fits_total(table):
    """The rate over all patients and steps: the sharpest test of it."""
    return float(stats.binomtest(int(table.sum()), table.size, RATE).pvalue)


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
    fits = (fits_rate(table), fits_total(table), fits_poisson(table), fits_no_memory(table))
    assert min(fits) > 0.01


@pytest.mark.parametrize("wrong", [0.97, 1.03])
def test_the_check_rejects_a_rate_three_percent_off(wrong):
    randomness = seeded(7)
    table = included(lambda _: sample_patients(PATIENTS, rate=wrong * RATE, randomness=randomness))
    assert fits_total(table) < 1e-6


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


def kept(draw, of=20):
    """How often each of 20 patients is in a sample of all that is cut to 15."""
    counts = np.zeros(of)
    for _ in range(4000):
        counts[draw(np.arange(of))] += 1
    return counts


def fits_even(counts):
    # Without replacement the counts spread less than independent ones, by (1 - 15/20).
    spread = np.sum((counts - counts.mean()) ** 2) / (counts.mean() * 0.25) * 19 / 20
    below = stats.chi2.cdf(spread, len(counts) - 1)
    return 2 * min(below, 1 - below)


def test_a_sample_beyond_the_ceiling_is_cut_to_a_uniform_subset():
    randomness = seeded(15)
    counts = kept(lambda sampled: at_most(sampled, 15, randomness=randomness))
    assert counts.sum() == 15 * 4000
    assert fits_even(counts) > 0.01


def test_the_check_rejects_a_cut_that_spares_one_patient_three_percent():
    rng = np.random.default_rng(16)
    sparing = np.append(np.full(19, 1.0), 1.3)
    counts = kept(lambda sampled: rng.choice(sampled, 15, replace=False, p=sparing / sparing.sum()))
    assert counts[-1] / counts[:-1].mean() > 1.03
    assert fits_even(counts) < 1e-6


def test_a_cut_sample_is_sorted_and_a_smaller_one_is_left_alone():
    cut = at_most(np.arange(100), 30, randomness=seeded(17))
    assert len(np.unique(cut)) == 30
    assert (np.diff(cut) > 0).all()
    assert at_most(np.array([4, 7]), 2, randomness=seeded(18)).tolist() == [4, 7]


@pytest.mark.parametrize("patients", [10, 200, 5000, 10**6])
@pytest.mark.parametrize("rate", [0.001, 0.05, 0.5])
def test_what_a_cut_is_charged_is_never_less_than_how_often_it_happens(patients, rate):
    for deviations in (0.5, 2, 5, 10):
        most = round(patients * rate + deviations * np.sqrt(patients * rate * (1 - rate))) + 1
        charged = truncation_bound(patients, rate, most)
        exact = stats.binom.sf(most, patients, rate)
        assert charged >= exact * (1 - 1e-9)
        # and not wildly more: the noise would pay for it
        assert charged <= 100 * np.sqrt(patients) * exact + 1e-300
