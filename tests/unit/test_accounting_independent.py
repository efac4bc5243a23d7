"""Epsilon beside other accountants: the reference, RDP, Opacus' PRV, and an own lower end."""

import math

import numpy as np
import pytest
from dp_accounting import dp_event, gaussian_mechanism
from dp_accounting.pld import privacy_loss_distribution as pld
from dp_accounting.pld.pld_privacy_accountant import PLDAccountant
from dp_accounting.rdp.rdp_privacy_accountant import RdpAccountant
from scipy.stats import binom

from wardround.privacy.accounting import (
    GRID,
    composed_releases,
    epsilon_by_rdp,
    epsilon_spent,
    grid_of,
)
from wardround.privacy.bracket import epsilon_bracket
from wardround.privacy.mechanism import SampledGaussian

DELTA = 1e-5


def schedules(count, seed=11):
    """Studies of one dataset: different noise, rates and steps; some release to everybody."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield [
            SampledGaussian(
                round(float(rng.uniform(1.2, 8.0)), 4),
                1.0 if rng.random() < 0.2 else round(float(np.exp(rng.uniform(-4.5, -0.7))), 4),
                int(rng.integers(1, 40)),
            )
            for _ in range(rng.integers(1, 5))
        ]


def event_of(release):
    gaussian = dp_event.GaussianDpEvent(release.noise_multiplier)
    if release.sampling_rate == 1.0:
        return gaussian
    return dp_event.PoissonSampledDpEvent(release.sampling_rate, gaussian)


def reference_epsilon(releases, delta, grid):
    accountant = PLDAccountant(value_discretization_interval=grid)
    for release in releases:
        accountant.compose(event_of(release), release.steps)
    return accountant.get_epsilon(delta)


def test_fifty_random_schedules_cost_what_the_reference_accountant_says():
    unsampled = 0
    for releases in schedules(50):
        unsampled += any(release.sampling_rate == 1.0 for release in releases)
        spent = epsilon_spent(releases, delta=DELTA)
        grid = grid_of(composed_releases(releases)[0])
        assert spent == pytest.approx(reference_epsilon(releases, DELTA, grid), abs=1e-6)
        assert spent <= epsilon_by_rdp(releases, delta=DELTA)
    assert unsampled > 10


def test_the_bracket_holds_and_is_narrow_below():
    for releases in schedules(4, seed=3):
        low, decided, high = epsilon_bracket(releases, DELTA)
        assert 0.93 * decided < low <= decided <= high < 1.6 * decided
        assert decided == epsilon_spent(releases, delta=DELTA)
        finest = reference_epsilon(releases, DELTA, 1e-4)
        assert low < finest <= decided + 1e-6


def test_opacus_prv_encloses_what_decides():
    prv = pytest.importorskip("opacus.accountants.prv")
    for releases in schedules(3, seed=5):
        accountant = prv.PRVAccountant()
        # Its sampled Gaussian has no rate of 1: log(1 - q) is taken.
        sampled = [r for r in releases if r.sampling_rate < 1.0] or [SampledGaussian(2.0, 0.1, 9)]
        accountant.history = [(r.noise_multiplier, r.sampling_rate, r.steps) for r in sampled]
        composed = accountant._get_dprv(eps_error=0.01, delta_error=DELTA / 1000)
        low, _, high = composed.compute_epsilon(DELTA, DELTA / 1000, 0.01)
        assert low <= epsilon_spent(sampled, delta=DELTA) <= high


def test_where_opacus_prv_breaks_down_there_is_still_an_upper_bound():
    prv = pytest.importorskip("opacus.accountants.prv")
    release = SampledGaussian(0.02, 0.9, 10**6)
    accountant = prv.PRVAccountant()
    accountant.history = [(release.noise_multiplier, release.sampling_rate, release.steps)]
    with np.errstate(all="ignore"), pytest.raises((ValueError, RuntimeError, MemoryError)):
        accountant.get_epsilon(DELTA)
    assert 1e8 < epsilon_spent([release], delta=DELTA) < math.inf


def test_rdp_is_that_of_the_reference_where_it_has_its_digits():
    for releases in schedules(8, seed=7):
        reference = RdpAccountant((*range(2, 65), 96, 128, 256, 512, 1024, 2048))
        for release in releases:
            reference.compose(event_of(release), release.steps)
        due = reference.get_epsilon(DELTA)
        assert epsilon_by_rdp(releases, delta=DELTA) <= due * (1 + 1e-9)
        assert epsilon_by_rdp(releases, delta=DELTA) >= 0.99 * due


def test_where_the_references_rdp_says_nothing_was_spent_infinity_is_said():
    silent = SampledGaussian(1e-160, 0.5, 1)
    reference = RdpAccountant((2, 8, 32))
    reference.compose(event_of(silent))
    assert reference.get_epsilon(DELTA) == 0
    assert epsilon_by_rdp([silent], delta=DELTA) == math.inf
    assert epsilon_spent([silent], delta=DELTA) == math.inf


@pytest.mark.parametrize(("noise", "rate", "steps"), [(50.0, 0.01, 100_000), (100.0, 0.01, 10**6)])
def test_many_steps_that_lose_little_get_a_grid_that_resolves_them(noise, rate, steps):
    release = SampledGaussian(noise, rate, steps)
    mean = rate * math.sqrt(steps * math.expm1(noise**-2))
    due = gaussian_mechanism.get_epsilon_gaussian(1.0 / mean, DELTA)
    spent = epsilon_spent([release], delta=DELTA)
    assert due <= spent <= 1.003 * due
    assert spent < epsilon_by_rdp([release], delta=DELTA)
    coarse = pld.from_gaussian_mechanism(
        noise, sampling_prob=rate, value_discretization_interval=GRID
    ).self_compose(steps)
    assert coarse.get_epsilon_for_delta(DELTA) > 1.5 * due


def test_cut_samples_are_charged_as_total_variation():
    release = SampledGaussian(3.0, 0.1, 50, truncation=1e-9)
    cut = 50 * 1e-9
    curve = pld.from_gaussian_mechanism(
        3.0, sampling_prob=0.1, value_discretization_interval=GRID
    ).self_compose(50)
    spent = epsilon_spent([release], delta=DELTA)

    def needed(epsilon):
        return curve.get_delta_for_epsilon(epsilon) + (1 + math.exp(epsilon)) * cut

    assert needed(spent) <= DELTA < needed(spent - 1e-6)
    assert spent > epsilon_spent([SampledGaussian(3.0, 0.1, 50)], delta=DELTA)
    low, decided, high = epsilon_bracket([release], DELTA)
    assert low <= spent == decided <= high


def test_cut_samples_that_eat_up_delta_leave_no_guarantee():
    release = SampledGaussian(3.0, 0.1, 50, truncation=DELTA / 90)
    assert epsilon_spent([release], delta=DELTA) == math.inf
    assert epsilon_by_rdp([release], delta=DELTA) == math.inf
    assert epsilon_bracket([release], DELTA) == (0.0, math.inf, math.inf)


def test_cut_samples_cost_no_less_than_the_references_bound_for_them():
    patients, rate, most, steps = 1000, 0.1, 160, 100
    release = SampledGaussian(2.0, rate, steps, float(binom.sf(most, patients, rate)))
    assert release.truncation > 1e-12
    truncated = pld.from_truncated_subsampled_gaussian_mechanism(
        patients, rate, most, 2.0, value_discretization_interval=GRID
    ).self_compose(steps)
    due = truncated.get_epsilon_for_delta(DELTA)
    assert due - 1e-4 <= epsilon_spent([release], delta=DELTA) <= due + 0.05
