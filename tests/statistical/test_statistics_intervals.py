"""The noise of a statistics release is what is charged, and its intervals hold their 95 %.

Every check is drawn from a fixed seed, accepts what is right and rejects noise that is 3 % off, or
an interval that is too short.
"""

from math import sqrt

import numpy as np
import pytest
from scipy import stats
from tests.support.patient_table import CONTRACT, plan_of, random_table, rows_of

from wardround.noise import discrete_gaussian
from wardround.privacy.accounting import epsilon_spent, gaussian_count_noise
from wardround.privacy.mechanism import SampledGaussian
from wardround.statistics.intervals import NoisedMoments, quantile
from wardround.statistics.layout import StatisticsLayout
from wardround.statistics.noise import deviation_of_sum, statistics_share
from wardround.statistics.released import ReleasedStatistics
from wardround.statistics.tally import tally

COHORTS = ({"name": "older", "conditions": [{"column": "age", "range": [60, 90]}]},)
LAYOUT = StatisticsLayout.of(CONTRACT, plan_of(cohort=COHORTS))
EPSILON, DELTA = 1.0, 1e-5
HOSPITALS = 4
RELEASES = 1000


def drawn(hospitals, share, randomness, releases):
    """[releases, lanes]: the noise of whole sums, each hospital's share drawn by itself."""
    count = hospitals * releases * LAYOUT.lanes
    noise = discrete_gaussian(count, variance=share.variance, randomness=randomness)
    return noise.reshape(hospitals, releases, LAYOUT.lanes).sum(axis=0)


def fits_variance(values, deviation):
    statistic = float(np.sum((values / deviation) ** 2))
    below = stats.chi2.cdf(statistic, values.size)
    return 2.0 * min(below, 1.0 - below)


@pytest.fixture(scope="module")
def pooled():
    """Sums over four hospitals, 1000 times anew, with the noise and without."""
    multiplier = gaussian_count_noise(EPSILON, DELTA)
    share = statistics_share(multiplier, LAYOUT, hospitals=HOSPITALS, honest=HOSPITALS - 1)
    tables = [random_table(700, seed=seed) for seed in range(HOSPITALS)]
    exact = sum(tally(rows_of(table), LAYOUT).values for table in tables)
    noise = drawn(HOSPITALS, share, np.random.default_rng(11).bytes, RELEASES)
    return tables, exact, noise, share


def test_the_honest_shares_cost_what_the_study_says():
    share = statistics_share(
        gaussian_count_noise(EPSILON, DELTA), LAYOUT, hospitals=HOSPITALS, honest=3
    )
    charged = sqrt(3 * share.variance) / LAYOUT.sensitivity_lanes
    spent = epsilon_spent([SampledGaussian(charged, 1.0, 1)], delta=DELTA)
    assert 0.999 * EPSILON < spent <= EPSILON


def test_the_noise_of_a_sum_is_normal_of_its_deviation_and_three_percent_off_is_rejected(pooled):
    _, _, noise, share = pooled
    deviation = deviation_of_sum(share, HOSPITALS)
    assert fits_variance(noise, deviation) > 0.01
    assert stats.kstest(noise[:, 0], "norm", args=(0.0, deviation)).pvalue > 0.01
    for wrong in (0.97, 1.03):
        assert fits_variance(wrong * noise, deviation) < 1e-6


def test_the_noise_of_two_cells_is_independent(pooled):
    _, _, noise, _ = pooled
    table = np.corrcoef(noise, rowvar=False)[np.triu_indices(LAYOUT.lanes, 1)]
    assert np.abs(table).max() < 4.5 / sqrt(RELEASES)
    mixed = noise[:, 0] + 0.2 * noise[:, 1]
    assert abs(np.corrcoef(mixed, noise[:, 1])[0, 1]) > 4.5 / sqrt(RELEASES)


def holds_95(hits, tries):
    """Whether so many intervals that held the truth can be 95 % of so many."""
    return stats.binomtest(hits, tries, 0.95).pvalue


@pytest.fixture(scope="module")
def found(pooled):
    """Every release estimated: with the noise that its intervals assume, and with a louder one."""
    _, exact, noise, share = pooled
    deviation = deviation_of_sum(share, HOSPITALS)
    return {
        factor: [
            ReleasedStatistics(LAYOUT, exact + one, HOSPITALS, HOSPITALS).estimates(deviation)
            for one in np.rint(factor * noise).astype(np.int64)
        ]
        for factor in (1.0, 1.2)
    }


def held(estimates, pick, truth):
    """How many intervals hold `truth`."""
    picked = [pick(found) for found in estimates]
    return sum(estimate.low <= truth <= estimate.high for estimate in picked)


PICKS = {
    "patients": lambda found: found.patients,
    "age": lambda found: found.columns[0].mean,
    "pressure present": lambda found: found.columns[1].present,
    "pressure": lambda found: found.columns[1].mean,
    "age variance": lambda found: found.columns[0].variance,
    "pressure variance": lambda found: found.columns[1].variance,
    "older": lambda found: found.cohorts[0][1],
}


def truth_of(tables, name):
    ages = np.concatenate([table["age"] for table in tables])
    pressures = np.concatenate([table["pressure"].dropna() for table in tables])
    return {
        "patients": float(len(ages)),
        "age": ages.mean(),
        "pressure present": float(len(pressures)),
        "pressure": pressures.mean(),
        "age variance": ages.var(),
        "pressure variance": pressures.var(),
        "older": float((ages >= 60).sum()),
    }[name]


@pytest.mark.parametrize("name", PICKS)
def test_an_interval_holds_the_truth_in_95_of_100_releases(pooled, found, name):
    truth = truth_of(pooled[0], name)
    assert held(found[1.0], PICKS[name], truth) > 0.93 * RELEASES


@pytest.mark.parametrize("name", ["patients", "pressure present", "older"])
def test_the_interval_of_a_count_is_exact_and_noise_a_fifth_larger_is_seen(pooled, found, name):
    truth = truth_of(pooled[0], name)
    assert holds_95(held(found[1.0], PICKS[name], truth), RELEASES) > 0.01
    assert holds_95(held(found[1.2], PICKS[name], truth), RELEASES) < 1e-4


MANY = 6_000


def moments_drawn(patients, mean, square, noise, patients_noise, seed):
    """True moments with fresh noise, `MANY` times."""
    random = np.random.default_rng(seed)
    return zip(
        patients + patients_noise * random.standard_normal(MANY),
        patients * mean + noise * random.standard_normal(MANY),
        patients * square + noise * random.standard_normal(MANY),
        strict=True,
    )


@pytest.mark.parametrize(
    ("patients", "mean", "spread"),
    [(40.0, 0.0, 0.3), (40.0, -0.9, 0.1), (150.0, 0.4, 0.5), (1000.0, 0.7, 0.2)],
)
def test_fiellers_interval_of_a_mean_holds_95_whatever_the_noise_is(patients, mean, spread):
    """Patients from 2.8 to 70 standard deviations of noise; half a lane of rounding is on top."""
    noise, tries, hits = 10.0, 0, 0
    square = mean**2 + spread**2 - 0.5
    for number, total, _ in moments_drawn(patients, mean, square, noise, sqrt(2) * noise, seed=1):
        found = NoisedMoments(
            patients=number, total=total, square=0.0, noise=noise, patients_noise=sqrt(2) * noise
        ).mean()
        hits += found.low <= mean <= found.high
        tries += 1
    assert 0.945 < hits / tries < 0.975


@pytest.mark.parametrize(
    ("ratio", "mean", "spread"),
    [(10.5, 0.0, 0.3), (10.5, -0.6, 0.2), (15.0, 0.9, 0.3), (60.0, 0.3, 0.5)],
)
def test_the_interval_of_a_variance_holds_95_where_it_is_stated(ratio, mean, spread):
    noise = 10.0
    patients_noise = sqrt(2) * noise
    patients, truth = ratio * patients_noise, spread**2
    square = mean**2 + spread**2 - 0.5
    hits = stated = 0
    for number, total, squares in moments_drawn(patients, mean, square, noise, patients_noise, 2):
        found = NoisedMoments(
            patients=number,
            total=total,
            square=squares,
            noise=noise,
            patients_noise=patients_noise,
        ).variance()
        if found.value is not None:
            stated += 1
            hits += found.low <= truth <= found.high
    assert stated > MANY / 3
    assert 0.935 < hits / stated < 0.975


@pytest.mark.parametrize("share", [0.05, 0.25, 0.5, 0.95])
def test_the_interval_of_a_quantile_holds_at_least_95(share):
    random = np.random.default_rng(3)
    values = np.clip(random.normal(62, 11, 900), 20, 90)
    edges = np.linspace(20, 90, 11)
    bins, _ = np.histogram(values, edges)
    truth = np.quantile(values, share, method="inverted_cdf")
    noise, tries = 12.0, 2000
    found = [
        quantile(bins + noise * random.standard_normal(10), edges, share, noise)
        for _ in range(tries)
    ]
    hits = sum(one.low <= truth <= one.high for one in found)
    assert hits > 0.95 * tries - 3 * sqrt(0.95 * 0.05 * tries)
    # It is not simply everything: of 70 years it leaves out at least a third.
    assert np.mean([one.high - one.low for one in found]) < 47
    too_short = sum(
        one.low <= truth <= one.high
        for one in (
            quantile(bins + 3 * noise * random.standard_normal(10), edges, share, noise)
            for _ in range(tries)
        )
    )
    assert too_short < hits


def test_without_enough_patients_nothing_is_stated_but_what_is_always_true():
    drowned = NoisedMoments(patients=15.0, total=3.0, square=1.0, noise=10.0, patients_noise=10.0)
    assert (drowned.mean().value, drowned.mean().low, drowned.mean().high) == (None, -1.0, 1.0)
    assert (drowned.variance().value, drowned.variance().high) == (None, 1.0)
    edges = np.linspace(0, 1, 4)
    nothing = quantile(np.array([1.0, -4.0, 2.0]), edges, 0.5, 10.0)
    assert (nothing.value, nothing.low, nothing.high) == (None, 0.0, 1.0)
