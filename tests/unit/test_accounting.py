"""Epsilon is what dp-accounting says, bracketed, never exceeded, and refused where it is none."""

import subprocess
import sys

import numpy as np
import pytest
from dp_accounting import gaussian_mechanism
from dp_accounting.pld import privacy_loss_distribution as pld

from wardround.canonical import canonical_bytes, parse_canonical
from wardround.errors import BadInput
from wardround.privacy import accounting
from wardround.privacy.accounting import (
    epsilon_by_rdp,
    epsilon_spent,
    gaussian_count_noise,
    guarantee,
    noise_for,
)
from wardround.privacy.engine import (
    ExactEvaluation,
    GaussianEvaluation,
    TrainingEngine,
    parse_engine,
)
from wardround.privacy.mechanism import Exact, SampledGaussian

DELTA = 1e-4


def schedules(count):
    rng = np.random.default_rng(5)
    for _ in range(count):
        yield [
            SampledGaussian(
                round(float(rng.uniform(1.0, 6.0)), 3),
                round(float(rng.uniform(0.01, 0.5)), 3),
                int(rng.integers(1, 40)),
            )
            for _ in range(rng.integers(1, 4))
        ]


def direct_epsilon(releases, delta):
    """One by one, unmerged, straight through dp-accounting."""
    composed = pld.identity(value_discretization_interval=1e-3)
    for release in releases:
        one = pld.from_gaussian_mechanism(
            release.noise_multiplier,
            value_discretization_interval=1e-3,
            sampling_prob=release.sampling_rate,
        )
        composed = composed.compose(one.self_compose(release.steps))
    return composed.get_epsilon_for_delta(delta)


def test_no_release_costs_nothing():
    assert epsilon_spent([], delta=DELTA) == 0.0
    assert epsilon_by_rdp([], delta=DELTA) == 0.0


def test_epsilon_is_that_of_dp_accounting_and_rdp_brackets_it_from_above():
    for releases in schedules(5):
        spent = epsilon_spent(releases, delta=DELTA)
        assert spent == pytest.approx(direct_epsilon(releases, DELTA), abs=1e-6)
        assert spent <= epsilon_by_rdp(releases, delta=DELTA) <= 1.5 * spent + 0.05


def test_epsilon_does_not_depend_on_the_order_or_the_grouping_of_releases():
    releases = [SampledGaussian(2.0, 0.2, 7), SampledGaussian(3.0, 0.1, 5)]
    again = [SampledGaussian(3.0, 0.1, 5)] + [SampledGaussian(2.0, 0.2, 1)] * 7
    assert epsilon_spent(again, delta=DELTA) == epsilon_spent(releases, delta=DELTA)


def test_unsampled_gaussians_cost_what_the_analytic_formula_says_and_never_less():
    for noise, steps in [(1.0, 1), (4.0, 9), (20.0, 100)]:
        exact = gaussian_mechanism.get_epsilon_gaussian(noise / np.sqrt(steps), DELTA)
        spent = epsilon_spent([SampledGaussian(noise, 1.0, steps)], delta=DELTA)
        assert exact - 1e-9 <= spent <= exact + 1e-3


def test_a_half_sampling_rate_would_be_seen_in_epsilon():
    honest = epsilon_spent([SampledGaussian(2.0, 0.2, 50)], delta=DELTA)
    assert epsilon_spent([SampledGaussian(2.0, 0.1, 50)], delta=DELTA) < 0.6 * honest


@pytest.mark.parametrize(
    ("epsilon", "rate", "steps"), [(3.0, 0.1, 100), (1.0, 0.3, 60), (0.5, 1.0, 4)]
)
def test_calibrated_noise_keeps_epsilon_and_one_step_less_does_not(epsilon, rate, steps):
    noise = noise_for(epsilon, delta=DELTA, sampling_rate=rate, steps=steps)
    less = round(noise - 1e-4, 4)
    assert noise == round(noise, 4)
    assert epsilon_spent([SampledGaussian(noise, rate, steps)], delta=DELTA) <= epsilon
    assert epsilon_spent([SampledGaussian(less, rate, steps)], delta=DELTA) > epsilon


def test_two_parties_calibrate_to_the_same_noise():
    first = noise_for(2.0, delta=DELTA, sampling_rate=0.2, steps=30)
    accounting._pld.cache_clear()
    noise_for.cache_clear()
    epsilon_spent([SampledGaussian(9.0, 0.4, 3)], delta=DELTA)
    assert noise_for(2.0, delta=DELTA, sampling_rate=0.2, steps=30) == first


def test_noise_for_counts_keeps_epsilon_for_one_release():
    noise = gaussian_count_noise(0.5, DELTA)
    assert epsilon_spent([SampledGaussian(noise, 1.0, 1)], delta=DELTA) <= 0.5
    assert noise == pytest.approx(gaussian_mechanism.get_sigma_gaussian(0.5, DELTA), rel=2e-3)


def test_an_epsilon_that_no_noise_keeps_is_refused():
    with pytest.raises(BadInput, match="no noise up to"):
        noise_for(1e-7, delta=1e-12, sampling_rate=1.0, steps=1000)


def test_a_release_far_beyond_any_guarantee_still_gets_an_upper_bound():
    hopeless = SampledGaussian(0.05, 0.5, 10_000)
    spent = epsilon_spent([hopeless], delta=DELTA)
    assert 1e5 < spent < np.inf
    assert epsilon_spent([hopeless] * 2, delta=DELTA) > spent


def test_a_guarantee_is_printed_with_all_that_belongs_to_it():
    text = str(guarantee([SampledGaussian(2.0, 0.2, 10)], delta=1e-5, unit="patient"))
    for part in ("1e-05", "per patient", "add/remove", "dp-accounting", "PLD"):
        assert part in text


@pytest.mark.parametrize(
    "wrong", [(0.0, 0.1, 1), (float("nan"), 0.1, 1), (1.0, 0.0, 1), (1.0, 1.1, 1), (1.0, 0.1, 0)]
)
def test_what_is_no_sampled_gaussian_is_refused(wrong):
    with pytest.raises(BadInput):
        SampledGaussian(*wrong)


@pytest.mark.parametrize("delta", [0.0, 1.0, float("nan")])
def test_a_delta_outside_0_and_1_is_refused(delta):
    with pytest.raises(BadInput, match="delta"):
        epsilon_spent([SampledGaussian(1.0, 0.1, 1)], delta=delta)


def test_the_accountant_is_loaded_on_first_use_only():
    script = (
        "import sys, wardround.privacy.accounting;"
        "print(sorted({'dp_accounting', 'scipy', 'torch'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def training_engine(**changes):
    fields = {
        "mechanism": "local",
        "noise_multiplier": 1.0,
        "clip_norm_l2": 1.0,
        "sampling_rate": 0.25,
        "steps": 10,
        "records_per_patient": 4,
        "batches_commitment": "ab" * 32,
    }
    return fields | changes


@pytest.mark.parametrize(
    ("engine", "released"),
    [
        (TrainingEngine(**training_engine()), SampledGaussian(1.0, 0.25, 10)),
        (TrainingEngine(**training_engine(mechanism="none", noise_multiplier=0.0)), Exact()),
        (ExactEvaluation(), Exact()),
        (GaussianEvaluation(noise_multiplier=3.0), SampledGaussian(3.0, 1.0, 1)),
    ],
)
def test_an_engine_object_survives_canonical_json_and_is_charged_as_done(engine, released):
    text = canonical_bytes(engine.body())
    read = parse_engine(parse_canonical(text, what="engine", limit_bytes=4096))
    assert read == engine
    assert read.released == released


@pytest.mark.parametrize(
    "wrong",
    [
        {"mechanism": "other"},
        {"mechanism": ["local"]},
        {"mechanism": "gaussian", "noise_multiplier": 0},
        {"mechanism": "exact", "more": 1},
        training_engine(noise_multiplier=0.0),
        training_engine(clip_norm_l2=None),
        training_engine(mechanism="none"),
        training_engine(steps=True),
        training_engine(noise_multiplier="1"),
        training_engine(batches_commitment="ab"),
    ],
)
def test_an_engine_object_of_another_form_is_refused(wrong):
    with pytest.raises(BadInput, match="engine"):
        parse_engine(wrong)
