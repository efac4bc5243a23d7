"""The lower bounds lie below the truth with the confidence they state, and come close to it."""

import numpy as np
import pytest
from scipy.special import expit

from wardround.privacy.accounting import epsilon_spent
from wardround.privacy.engine_audit import AuditRule, audit_rule, critical_count, judge
from wardround.privacy.mechanism import SampledGaussian
from wardround.privacy.one_run import Guesses, epsilon_at_least, epsilon_of_curve_at_least
from wardround.privacy.verdict import Verdict

DELTA = 1e-5
# Exactly Gaussian and of the design's size: (4.61, 1e-5)-DP.
RULE = AuditRule(noise_multiplier=1 / 1.0457, sampling_rate=1.0, steps=1, canaries=1000, named=150)


def right_names(rule, rng, *, noise=1.0, clip=1.0):
    """One run of an exact mechanism, and the count that the attack reaches on it."""
    members = rng.random(rule.canaries) < 0.5
    released = clip * members + noise * rule.noise_multiplier * rng.standard_normal(rule.canaries)
    order = np.argsort(released)
    named_in, named_out = order[-rule.named :], order[: rule.named]
    return int(members[named_in].sum() + (~members[named_out]).sum())


def bounds(rule, rights):
    return np.array(
        [
            epsilon_of_curve_at_least(rule.guesses(right), rule.claim, delta=DELTA, alpha=0.05)
            for right in rights
        ]
    )


def test_the_f_dp_bound_lies_below_the_true_epsilon_and_near_the_designs():
    rng = np.random.default_rng(11)
    claimed = epsilon_spent([RULE.claim], delta=DELTA)
    counts = [right_names(RULE, rng) for _ in range(4_000)]
    # The bound rises with the count: the highest count of all runs has the highest bound.
    highest, middle = bounds(RULE, [max(counts), int(np.median(counts))])
    assert claimed == pytest.approx(4.61, abs=0.01)
    assert highest <= claimed
    assert 2.0 < middle < 2.7, "the bound is not of the size that the design measured"


def beyond_epsilon(rng, epsilon, *, accuracy, runs=4000):
    """How often the bound of one point passes the true epsilon of randomised response."""
    counts = rng.binomial(1000, accuracy, runs)
    bound = {
        int(count): epsilon_at_least(
            Guesses(canaries=1000, made=1000, right=int(count)), delta=0.0, alpha=0.05
        )
        for count in np.unique(counts)
    }
    return float(np.mean([bound[int(count)] > epsilon for count in counts]))


def test_the_bound_of_one_point_is_wrong_one_time_in_twenty_where_it_is_tight():
    rng = np.random.default_rng(13)
    assert 0.035 < beyond_epsilon(rng, 1.0, accuracy=float(expit(1.0))) < 0.06


def test_the_check_rejects_a_mechanism_whose_epsilon_is_ten_percent_more():
    rng = np.random.default_rng(14)
    assert beyond_epsilon(rng, 1.0, accuracy=float(expit(1.1))) > 0.2


@pytest.mark.parametrize(
    ("fault", "noise", "clip"),
    [("half the noise", 0.5, 1.0), ("clipped at 2C", 1.0, 2.0), ("no noise", 1e-9, 1.0)],
)
def test_an_engine_with_a_fault_is_a_violation(fault, noise, clip):
    rng = np.random.default_rng(15)
    line = critical_count(RULE)
    caught = np.mean([right_names(RULE, rng, noise=noise, clip=clip) >= line for _ in range(100)])
    assert caught >= 0.97, fault
    worst = judge(RULE, right_names(RULE, rng, noise=noise, clip=clip), delta=DELTA)
    assert worst.verdict is Verdict.VIOLATION
    assert worst.epsilon_f_dp > worst.epsilon_claimed


def test_an_honest_engine_is_never_accused_and_the_stated_power_is_the_real_one():
    rng = np.random.default_rng(16)
    line = critical_count(RULE)
    honest = np.array([right_names(RULE, rng) for _ in range(300)])
    assert (line - honest.mean()) / honest.std() > 4.5
    # With 0.6 of the noise the power is neither 0 nor 1, so a wrong formula would show.
    caught = np.mean([right_names(RULE, rng, noise=0.6) >= line for _ in range(300)])
    assert 0.3 < caught < 0.95


def sampled_right_names(rule, rng, noise):
    """One run of Poisson-sampled steps, attacked with the accountant's own privacy loss."""
    from wardround.privacy.engine_audit import score

    members = rng.random(rule.canaries) < 0.5
    total = np.zeros(rule.canaries)
    for _ in range(rule.steps):
        drawn = members & (rng.random(rule.canaries) < rule.sampling_rate)
        values = noise * rule.noise_multiplier * rng.standard_normal(rule.canaries) + drawn
        total += score(values, rule)
    order = np.argsort(total)
    named_in, named_out = order[-rule.named :], order[: rule.named]
    return int(members[named_in].sum() + (~members[named_out]).sum())


def test_sampled_steps_are_audited_as_well():
    rng = np.random.default_rng(17)
    rule = audit_rule(3.5, 0.5)
    assert judge(rule, sampled_right_names(rule, rng, 1.0), delta=DELTA).verdict is Verdict.PASS
    halved = judge(rule, sampled_right_names(rule, rng, 0.5), delta=DELTA)
    assert halved.verdict is Verdict.VIOLATION


def test_a_claim_so_large_that_everything_may_show_is_inconclusive():
    rule = AuditRule(noise_multiplier=0.2, sampling_rate=1.0, steps=1, canaries=1000, named=150)
    assert critical_count(rule) > 300
    assert judge(rule, 300, delta=DELTA).verdict is Verdict.INCONCLUSIVE
    assert SampledGaussian(0.2, 1.0, 1) == rule.claim
