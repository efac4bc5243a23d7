"""Counts of right guesses against a claim: the two one-run bounds, and the curve behind one."""

import math

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import linprog

from wardround.errors import BadInput
from wardround.privacy.engine_audit import ALPHA, audit_rule, critical_count, judge
from wardround.privacy.mechanism import SampledGaussian
from wardround.privacy.noise_measured import noise_measured
from wardround.privacy.one_run import (
    Guesses,
    epsilon_at_least,
    epsilon_of_curve_at_least,
    noise_at_most,
    p_of_claim,
    p_of_curve,
)
from wardround.privacy.trade_off import TradeOff, profile_curve, trade_off
from wardround.privacy.verdict import Verdict

MU = 1.0457051933  # one Gaussian release of noise 1 / MU is (4.61, 1e-5)-DP
GAUSSIAN = SampledGaussian(1 / MU, 1.0, 1)


def guesses(right, made=300, canaries=1000):
    return Guesses(canaries=canaries, made=made, right=right)


def most_likely_by_linear_programming(outcome, curve):
    """The largest P[right >= outcome.right] over all distributions that the theorem allows."""
    made, m = outcome.made, outcome.canaries
    counts = np.arange(made + 1)
    rows, limits = [], []
    for least in range(1, made + 1):
        right = np.where(counts >= least, counts, 0) / m
        wrong = np.where(counts >= least - 1, made - counts, 0) / m
        for intercept, slope in zip(curve.intercepts, curve.slopes, strict=True):
            rows.append(slope * right - wrong)
            limits.append(-intercept)
    best = linprog(
        -(counts >= outcome.right).astype(float),
        A_ub=np.array(rows),
        b_ub=limits,
        A_eq=np.ones((1, made + 1)),
        b_eq=[1.0],
    )
    assert best.success
    return -best.fun


@pytest.mark.parametrize(("right", "made", "canaries"), [(7, 8, 8), (8, 8, 12), (6, 6, 30)])
@pytest.mark.parametrize("noise", [0.8, 1.5])
def test_no_distribution_of_right_guesses_is_likelier_than_the_bound(right, made, canaries, noise):
    epsilons = np.linspace(0.0, 6.0, 25)
    mu = 1 / noise
    deltas = stats.norm.cdf(mu / 2 - epsilons / mu) - np.exp(epsilons) * stats.norm.cdf(
        -mu / 2 - epsilons / mu
    )
    curve = profile_curve(epsilons, deltas)
    outcome = guesses(right, made, canaries)
    best = most_likely_by_linear_programming(outcome, curve)
    assert 0.0 < best < 1.0
    assert best * 0.999 <= p_of_curve(outcome, curve) <= best * 1.02


def test_a_pure_claim_is_judged_as_randomised_response():
    for right in (50, 75, 99):
        outcome = guesses(right, 100, 100)
        exact = stats.binom.sf(right - 1, 100, 0.75)
        assert p_of_claim(outcome, math.log(3), 0.0) == pytest.approx(exact, rel=1e-9)


def test_delta_adds_what_the_paper_says():
    right, made, m, delta = 90, 100, 1000, 1e-5
    accuracy = 1 / (1 + math.exp(-1.0))
    pure = stats.binom.sf(right - 1, made, accuracy)
    slack = max(
        (stats.binom.sf(right - i - 1, made, accuracy) - pure) / i for i in range(1, right + 1)
    )
    got = p_of_claim(guesses(right, made, m), 1.0, delta)
    assert got == pytest.approx(pure + 2 * m * delta * slack, rel=1e-9)


def test_nothing_right_and_nothing_better_than_chance_prove_nothing():
    assert p_of_claim(guesses(0), 0.0, 1e-5) == 1.0
    for right in (0, 150, 160):
        assert epsilon_at_least(guesses(right), delta=1e-5, alpha=0.05) == 0.0
        bound = epsilon_of_curve_at_least(guesses(right), GAUSSIAN, delta=1e-5, alpha=0.05)
        assert bound == 0.0


def test_the_curve_of_one_gaussian_release_is_the_known_one_and_never_above_it():
    curve = trade_off(GAUSSIAN)
    for right in (1e-3, 0.02, 0.3, 0.7, 0.99):
        exact = stats.norm.cdf(stats.norm.ppf(right) - MU)
        assert exact * 0.999 <= curve.wrong_least(right) <= exact * (1 + 1e-9)
    assert curve.wrong_least(0.0) == 0.0


def test_a_release_of_batches_that_were_cut_has_no_curve():
    with pytest.raises(BadInput, match="truncation"):
        trade_off(SampledGaussian(1.0, 0.5, 3, 1e-6))


def test_the_f_dp_bound_is_sharper_than_the_bound_of_one_point_and_of_the_designs_size():
    outcome = guesses(250)
    steinke = epsilon_at_least(outcome, delta=1e-5, alpha=0.05)
    f_dp = epsilon_of_curve_at_least(outcome, GAUSSIAN, delta=1e-5, alpha=0.05)
    assert 1.2 < steinke < 1.5
    assert 2.1 < f_dp < 2.4


def test_more_right_guesses_never_prove_less():
    bounds = [
        epsilon_of_curve_at_least(guesses(right), GAUSSIAN, delta=1e-5, alpha=0.05)
        for right in (200, 240, 270, 290, 298)
    ]
    assert bounds == sorted(bounds)
    curve = trade_off(GAUSSIAN)
    chances = [p_of_curve(guesses(right), curve) for right in (250, 280, 290, 298, 300)]
    assert chances == sorted(chances, reverse=True)


def test_the_noise_that_is_ruled_out_is_the_least_whose_curve_is():
    outcome = guesses(270)
    noise = noise_at_most(outcome, GAUSSIAN, alpha=0.05)
    assert p_of_curve(outcome, trade_off(SampledGaussian(1.01 * noise, 1.0, 1))) <= 0.05
    assert p_of_curve(outcome, trade_off(SampledGaussian(0.97 * noise, 1.0, 1))) > 0.05


@pytest.mark.parametrize(
    ("right", "made", "canaries"), [(-1, 3, 9), (4, 3, 9), (3, 10, 9), (0, 0, 9)]
)
def test_an_impossible_count_is_refused(right, made, canaries):
    with pytest.raises(BadInput, match="guesses"):
        Guesses(canaries=canaries, made=made, right=right)


def test_a_curve_without_privacy_allows_every_guess_to_be_right():
    nothing_hidden = TradeOff(intercepts=np.array([0.0]), slopes=np.array([0.0]))
    assert p_of_curve(guesses(300), nothing_hidden) == 1.0


@pytest.mark.parametrize(("noise", "rate"), [(1.0, 0.05), (3.5, 0.5), (2.0, 0.05)])
def test_the_rule_is_fixed_by_the_public_numbers_and_its_line_is_the_verdicts(noise, rate):
    rule = audit_rule(noise, rate)
    line = critical_count(rule)
    assert rule == audit_rule(noise, rate)
    below, at = (judge(rule, right, delta=1e-5) for right in (line - 1, line))
    assert (below.verdict, at.verdict) == (Verdict.PASS, Verdict.VIOLATION)
    assert at.p_of_claim <= ALPHA
    assert below.power >= 0.9


@pytest.mark.parametrize(("noise", "rate"), [(1e3, 0.5), (50.0, 0.001)])
def test_luck_alone_is_never_a_violation_however_little_is_claimed(noise, rate):
    rule = audit_rule(noise, rate)
    by_coins = rule.named + 4 * math.sqrt(2 * rule.named * 0.25)
    assert critical_count(rule) > by_coins
    assert judge(rule, math.floor(by_coins), delta=1e-5).verdict is Verdict.INCONCLUSIVE


def test_an_audit_that_could_not_have_caught_half_the_noise_says_nothing():
    rule = audit_rule(0.7, 0.05)
    outcome = judge(rule, rule.named, delta=1e-5)
    assert outcome.power < 0.5
    assert outcome.verdict is Verdict.INCONCLUSIVE


def test_a_bound_never_passes_the_claim_without_a_violation():
    rule = audit_rule(3.5, 0.5)
    for right in range(rule.named, 2 * rule.named + 1, 25):
        outcome = judge(rule, right, delta=1e-5)
        if outcome.epsilon_f_dp > outcome.epsilon_claimed * 1.03:
            assert outcome.verdict is Verdict.VIOLATION


RUN = 30 * 20 * 512


def test_the_right_noise_passes_and_one_percent_less_over_a_run_is_a_violation():
    rng = np.random.default_rng(5)
    noise = rng.standard_normal(RUN)
    whole = noise_measured(RUN, float(noise @ noise))
    short = noise_measured(RUN, float(noise @ noise) * 0.99**2)
    assert whole.verdict is Verdict.PASS
    assert whole.sigma_ratio_low < 1.0 < whole.sigma_ratio_high
    assert short.verdict is Verdict.VIOLATION
    assert short.p_value < 1e-10
    assert short.sigma_ratio_high < 1.0


def test_three_percent_less_shows_over_a_few_rounds():
    rng = np.random.default_rng(6)
    noise = rng.standard_normal(60 * 512)
    assert noise_measured(len(noise), float(noise @ noise)).verdict is Verdict.PASS
    short = noise_measured(len(noise), float(noise @ noise) * 0.97**2)
    assert short.verdict is Verdict.VIOLATION


def test_too_much_noise_breaks_no_guarantee_but_shows():
    loud = noise_measured(RUN, 1.02**2 * RUN)
    assert loud.verdict is Verdict.PASS
    assert loud.p_value < 1e-6


def test_few_values_say_what_they_could_have_seen_and_no_more():
    few = noise_measured(512, 500.0)
    assert few.verdict is Verdict.INCONCLUSIVE
    assert 0.10 < few.shortfall_seen < 0.20
    assert noise_measured(RUN, float(RUN)).shortfall_seen < 0.01
    least = stats.chi2.ppf(5e-7, 512)
    assert few.shortfall_seen == pytest.approx(1 - math.sqrt(least / 512), rel=1e-6)
    assert noise_measured(512, 0.5**2 * 512).verdict is Verdict.VIOLATION


@pytest.mark.parametrize(("count", "total"), [(0, 0.0), (5, -1.0), (5, math.nan), (5, math.inf)])
def test_a_measurement_of_nothing_is_refused(count, total):
    with pytest.raises(BadInput, match="noise measured"):
        noise_measured(count, total)
