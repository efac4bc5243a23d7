"""What attacks reached and what claims allow, against scikit-learn, SciPy and closed forms."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import roc_auc_score, roc_curve

from wardround.errors import BadInput
from wardround.privacy.attack_bounds import (
    NO_LEAK,
    advantage,
    advantage_most,
    auroc,
    auroc_most,
    clopper_pearson,
    naming_rule,
    operating_point,
)
from wardround.privacy.mechanism import SampledGaussian
from wardround.privacy.trade_off import profile_curve, trade_off

SCORES = st.lists(st.integers(-4, 4), min_size=1, max_size=30).map(np.array)


@given(SCORES, SCORES)
def test_auroc_and_advantage_are_scikit_learns_with_ties(members, others):
    labels = np.repeat([1, 0], [len(members), len(others)])
    scores = np.concatenate([members, others])
    assert auroc(members, others) == pytest.approx(roc_auc_score(labels, scores))
    false, true, _ = roc_curve(labels, scores)
    reached = advantage(members, others, alpha=0.05).value
    assert reached == pytest.approx(max(0.0, np.max(true - false)))


@given(st.integers(1, 300), st.floats(0, 1), st.sampled_from([0.05, 0.005]))
def test_clopper_pearson_is_scipys(trials, share, alpha):
    successes = round(share * trials)
    due = stats.binomtest(successes, trials).proportion_ci(1 - alpha, method="exact")
    assert clopper_pearson(successes, trials, alpha=alpha) == pytest.approx((due.low, due.high))


def test_a_proportion_of_nobody_is_refused():
    with pytest.raises(BadInput, match="0 of 0"):
        clopper_pearson(0, 0, alpha=0.05)


@given(st.floats(0, 5), st.floats(0, 0.1), st.floats(0, 1))
def test_epsilon_and_delta_allow_e_to_epsilon_times_the_false_positives_plus_delta(
    epsilon, delta, wrong
):
    curve = profile_curve(np.array([epsilon]), np.array([delta]))
    both = (math.exp(epsilon) * wrong + delta, 1 - math.exp(-epsilon) * (1 - wrong - delta))
    assert curve.right_most(wrong) == pytest.approx(min(1.0, *both), abs=1e-9)


@pytest.mark.parametrize("shift", [0.5, 1.0, 2.0])
def test_a_gaussian_release_allows_the_gaussian_curve_and_hardly_more(shift):
    curve = trade_off(SampledGaussian(1 / shift, 1.0, 1))
    wrong = np.linspace(0.001, 0.999, 50)
    due = stats.norm.cdf(shift + stats.norm.ppf(wrong))
    allowed = np.array([curve.right_most(value) for value in wrong])
    assert (allowed >= due - 1e-9).all()
    assert np.abs(allowed - due).max() < 0.01
    area, gap = stats.norm.cdf(shift / math.sqrt(2)), 2 * stats.norm.cdf(shift / 2) - 1
    assert area <= auroc_most(curve) < area + 0.01
    assert gap <= advantage_most(curve) < gap + 0.01


def test_no_leak_allows_guessing():
    assert NO_LEAK.right_most(0.25) == 0.25
    assert auroc_most(NO_LEAK) == pytest.approx(0.5, abs=1e-3)


def test_the_threshold_of_a_rate_is_passed_by_no_more_non_members_than_it_says():
    others = np.arange(1000.0)
    point = operating_point(np.full(10, 995.5), others, NO_LEAK, rate=0.01, alpha=0.05)
    assert (point.false_positives, point.true_positives) == (10, 10)
    assert point.false_positive_high == pytest.approx(stats.beta.ppf(0.975, 11, 990))
    assert point.violates
    rarer = operating_point(np.full(10, 995.5), others, NO_LEAK, rate=0.001, alpha=0.05)
    assert (rarer.false_positives, rarer.true_positives) == (1, 0)
    assert not rarer.violates


def test_members_that_score_like_the_best_non_member_are_not_told():
    point = operating_point(np.zeros(50), np.zeros(50), NO_LEAK, rate=0.01, alpha=0.05)
    assert (point.true_positives, point.false_positives, point.violates) == (0, 0, False)


def test_more_subjects_find_smaller_leaks_and_too_few_find_none():
    claim = trade_off(SampledGaussian(1.0, 1.0, 1))
    assert naming_rule(3, claim, alpha=0.01) is None
    few, many = (naming_rule(count, claim, alpha=0.01) for count in (12, 400))
    assert few is not None
    assert many is not None
    assert few.unseen_auroc is None
    assert not few.conclusive
    assert few.critical > 2 * few.named
    assert many.conclusive
    assert auroc_most(claim) < many.unseen_auroc < 0.99


def test_perfect_scores_are_all_named_rightly():
    rule = naming_rule(40, NO_LEAK, alpha=0.01)
    assert rule is not None
    members = np.arange(40) % 2 == 0
    assert rule.right(members.astype(float), members) == 2 * rule.named
    assert rule.right(-members.astype(float), members) == 0
    assert rule.p_of_claim(rule.critical, NO_LEAK) <= 0.01
    assert rule.p_of_claim(rule.critical - 1, NO_LEAK) > 0.01
