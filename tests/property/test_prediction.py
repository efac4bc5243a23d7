"""Intervals hold at the rate they state, on thousands of drawn patients; the doubt is honest."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from wardround.errors import BadInput
from wardround_client.prediction.calibrated import Calibrator, RiskInterval
from wardround_client.prediction.conformal import (
    class_set,
    least_patients,
    number_interval,
    p_value,
    quantile,
)
from wardround_client.prediction.novelty import Neighbourhood


def patients(count, seed, distortion=3.0):
    """True risks, outcomes, and a model's scores that are far from calibrated."""
    random = np.random.default_rng(seed)
    risks = random.beta(1.0, 3.0, count)
    outcomes = random.random(count) < risks
    logit = np.log(risks / (1 - risks)) + random.normal(0.0, 0.3, count)
    return risks, outcomes, 1 / (1 + np.exp(-distortion * logit - 1.0))


def test_a_distorted_score_becomes_a_calibrated_risk():
    _, outcomes, scores = patients(800, 1)
    calibrator = Calibrator.of(scores, outcomes)
    _, new_outcomes, new_scores = patients(4000, 2)
    found = np.array([calibrator.interval(s).risk for s in new_scores])
    edges = np.quantile(found, np.linspace(0, 1, 9))
    group = np.clip(np.searchsorted(edges, found) - 1, 0, 7)
    for number in range(8):
        chosen = group == number
        spread = math.sqrt(found[chosen].mean() * (1 - found[chosen].mean()) / chosen.sum())
        # The calibrating patients are a sample too: half of the bound is for them.
        assert abs(found[chosen].mean() - new_outcomes[chosen].mean()) < 4 * spread + 0.04
    raw = np.mean((new_scores - new_outcomes) ** 2)
    assert np.mean((found - new_outcomes) ** 2) < raw - 0.01


def test_intervals_are_those_of_two_isotonic_regressions():
    _, outcomes, scores = patients(60, 3)
    scores = np.round(scores, 1)  # with ties
    calibrator = Calibrator.of(scores, outcomes)
    for score in (0.0, 0.1, 0.34, 0.5, 1.0):
        due = []
        for outcome in (0.0, 1.0):
            x, y = np.append(scores, score), np.append(outcomes.astype(float), outcome)
            due.append(float(IsotonicRegression().fit(x, y).predict([score])[0]))
        assert calibrator.interval(score) == pytest.approx(RiskInterval(*due))


@given(st.integers(2, 60), st.integers(0, 2**32 - 1), st.floats(0, 1))
def test_an_interval_is_one_and_narrows_with_patients(count, seed, score):
    random = np.random.default_rng(seed)
    outcomes = np.arange(count) % 2 == 0
    found = Calibrator.of(random.random(count), outcomes).interval(score)
    assert 0.0 <= found.low <= found.risk <= found.high <= 1.0
    assert found.high > found.low


def test_few_patients_make_a_wide_interval():
    def width(count):
        _, outcomes, scores = patients(count, 4)
        found = Calibrator.of(scores, outcomes).interval(0.3)
        return found.high - found.low

    assert width(20) > 3 * width(2000)


def test_one_outcome_only_calibrates_nothing():
    with pytest.raises(BadInput, match="7 of one kind came"):
        Calibrator.of(np.linspace(0, 1, 7), np.zeros(7, dtype=bool))
    with pytest.raises(BadInput, match="finite score"):
        Calibrator.of(np.array([0.1, np.nan]), np.array([True, False]))


@pytest.mark.parametrize("error", [0.05, 0.1, 0.3])
def test_an_interval_of_numbers_holds_at_its_rate(error):
    random = np.random.default_rng(5)
    missed = []
    for _ in range(3000):
        residuals = random.standard_t(3, 60)
        low, high = number_interval(0.0, residuals[:-1], error=error, most=(-1e9, 1e9))
        missed.append(not low <= residuals[-1] <= high)
    rate, spread = np.mean(missed), math.sqrt(error * (1 - error) / 3000)
    assert error - 1 / 60 - 4 * spread < rate < error + 4 * spread


def test_a_set_of_classes_holds_at_its_rate_and_may_be_all_of_them():
    random = np.random.default_rng(6)
    missed = []
    for _ in range(2000):
        given_to = random.dirichlet((2.0, 1.0, 1.0), 41)
        truth = [random.choice(3, p=row) for row in given_to]
        kept = class_set(given_to[-1], given_to[np.arange(40), truth[:-1]], error=0.1)
        missed.append(truth[-1] not in kept)
    assert 0.1 - 1 / 41 - 0.03 < np.mean(missed) < 0.1 + 0.03
    assert class_set(np.array([0.9, 0.1]), np.ones(3), error=0.1) == (0, 1)


def test_too_few_patients_bound_nothing():
    assert quantile(np.zeros(least_patients(0.1)), 0.1) == 0.0
    assert quantile(np.zeros(least_patients(0.1) - 1), 0.1) == math.inf
    assert number_interval(3.0, np.zeros(2), error=0.1, most=(0.0, 10.0)) == (0.0, 10.0)
    with pytest.raises(BadInput, match="between 0 and 1"):
        quantile(np.zeros(3), 1.0)


def test_p_values_of_patients_like_the_others_are_uniform():
    random = np.random.default_rng(7)
    drawn = [p_value(values[-1], values[:-1]) for values in random.normal(size=(4000, 50))]
    for level in (0.02, 0.1, 0.5):
        assert np.mean(np.array(drawn) <= level) == pytest.approx(level, abs=0.025)


@pytest.mark.parametrize("width", [4, 300])
def test_strange_patients_are_told_from_the_others(width):
    random = np.random.default_rng(8)
    mixing = random.normal(size=(3, width))

    def usual(count):
        return random.normal(size=(count, 3)) @ mixing + 0.1 * random.normal(size=(count, width))

    near = Neighbourhood.of(usual(300))
    held_out = near.distance(usual(200))
    shifted = usual(50) + 6.0 * mixing[0]
    artefact = usual(50)
    artefact[:, 1] += 30.0
    for strange in (shifted, artefact):
        found = [p_value(d, held_out) for d in near.distance(strange)]
        assert np.mean(np.array(found) <= 0.01) > 0.9
    like_others = [p_value(d, held_out) for d in near.distance(usual(500))]
    assert np.mean(np.array(like_others) <= 0.05) < 0.1


def test_a_constant_feature_that_moves_is_strange_and_few_patients_are_refused():
    features = np.hstack([np.random.default_rng(9).normal(size=(50, 2)), np.ones((50, 1))])
    near = Neighbourhood.of(features)
    moved = features[:1] + np.array([[0.0, 0.0, 40.0]])
    assert near.distance(moved)[0] > 10 * near.distance(features[:1])[0]
    assert near.distance(np.zeros((0, 3))).shape == (0,)
    with pytest.raises(BadInput, match="more than 5"):
        Neighbourhood.of(features[:5])
