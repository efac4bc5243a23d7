"""Models on the same patients: measures and their differences against oracles of others."""

import numpy as np
import pytest
import statsmodels.api as sm
from sklearn.metrics import brier_score_loss, r2_score, roc_auc_score
from tests.support.masked_hospitals import seeded
from tests.support.own_patients import drawn_patients
from tests.support.study_plans import STUDIES

from wardround.evaluation.layout import Outcomes
from wardround_client.held_out import held_out_outcomes
from wardround_client.personalisation import measures
from wardround_client.personalisation.own_models import network_of
from wardround_client.personalisation.paired import (
    Way,
    auroc_difference,
    pairs_of,
    rows_of,
)

RANDOM = np.random.default_rng(9)
PATIENTS = 120
YES = RANDOM.random(PATIENTS) < 0.4
SCORES = np.round(np.clip(0.3 * YES + RANDOM.random(PATIENTS) * 0.7, 0.01, 0.99), 2)  # with ties
WEIGHTS = RANDOM.multinomial(PATIENTS, np.full(PATIENTS, 1 / PATIENTS), size=5).astype(float)


def test_measures_of_a_risk_are_those_of_scikit_learn_for_every_weighting():
    yes = YES.astype(float)
    aurocs, briers = (one(SCORES, yes, WEIGHTS) for one in (measures.auroc, measures.brier))
    for weights, auroc, brier in zip(WEIGHTS, aurocs, briers, strict=True):
        assert auroc == pytest.approx(roc_auc_score(YES, SCORES, sample_weight=weights), abs=1e-12)
        due = brier_score_loss(YES, SCORES, sample_weight=weights)
        assert brier == pytest.approx(due, abs=1e-12)


def test_calibration_and_net_benefit_by_others_and_by_hand():
    yes = YES.astype(float)
    slopes = measures.slope(SCORES, yes, WEIGHTS)
    odds = sm.add_constant(np.log(SCORES / (1 - SCORES)))
    for weights, slope in zip(WEIGHTS, slopes, strict=True):
        fit = sm.GLM(yes, odds, family=sm.families.Binomial(), freq_weights=weights).fit()
        assert slope == pytest.approx(fit.params[1], abs=1e-6)
    benefits = measures.net_benefit(0.25)(SCORES, yes, WEIGHTS)
    large = measures.in_the_large(SCORES, yes, WEIGHTS)
    for weights, benefit, off in zip(WEIGHTS, benefits, large, strict=True):
        right = sum(w for w, s, y in zip(weights, SCORES, YES, strict=True) if s >= 0.25 and y)
        wrong = sum(w for w, s, y in zip(weights, SCORES, YES, strict=True) if s >= 0.25 and not y)
        assert benefit == pytest.approx((right - wrong / 3) / PATIENTS, abs=1e-12)
        assert off == pytest.approx((weights * (yes - SCORES)).sum() / PATIENTS, abs=1e-12)


def test_the_c_index_counts_pairs_as_harrell_does():
    times, events = RANDOM.integers(1, 12, 60).astype(float), RANDOM.random(60) < 0.6
    risks, weights = np.round(RANDOM.random(60), 1), RANDOM.integers(0, 3, (4, 60)).astype(float)
    found = measures.c_index(times, events, risks, weights)
    for row, value in zip(weights, found, strict=True):
        agree = pairs = 0.0
        for i in range(60):
            for j in range(60):
                first = times[i] < times[j] or (times[i] == times[j] and not events[j])
                if events[i] and first:
                    weight = row[i] * row[j]
                    pairs += weight
                    agree += weight * ((risks[i] > risks[j]) + 0.5 * (risks[i] == risks[j]))
        assert value == pytest.approx(agree / pairs, abs=1e-9)


def test_what_nobody_can_say_is_not_available():
    one = np.ones((1, 5))
    scores, yes = np.linspace(0.1, 0.9, 5), np.ones(5)
    assert np.isnan(measures.auroc(scores, yes, one)).all()
    assert np.isnan(measures.slope(scores, yes, one)).all()
    separated = np.array([0.0, 0.0, 1.0, 1.0, 1.0])
    assert np.isnan(measures.slope(scores, separated, one)).all()
    assert np.isnan(measures.c_index(scores, np.zeros(5, bool), scores, one)).all()
    assert np.isnan(measures.brier(scores[:0], yes[:0], one[:, :0])).all()


def by_hand(first, second, yes):
    """DeLong's covariance matrix entry by entry, after the paper's section 3."""

    def side(scores):
        psi = np.array(
            [[(a > b) + 0.5 * (a == b) for b in scores[~yes]] for a in scores[yes]], dtype=float
        )
        return psi.mean(), psi.mean(axis=1), psi.mean(axis=0)

    one, two = side(first), side(second)
    parts = []
    for place in (1, 2):
        covariance = np.cov(one[place], two[place], ddof=1)
        whole = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
        parts.append(whole / len(one[place]))
    half = 1.959963984540054 * np.sqrt(sum(parts))
    return one[0] - two[0] - half, one[0] - two[0] + half


def test_two_aurocs_are_compared_as_delong_does():
    other = np.round(np.clip(SCORES + RANDOM.normal(0, 0.3, PATIENTS), 0, 1), 2)
    assert auroc_difference(SCORES, other, YES) == pytest.approx(by_hand(SCORES, other, YES))


def test_the_interval_of_a_difference_holds_the_truth_as_often_as_it_says():
    """600 draws of two equally good scores; half as wide an interval fails the same test."""
    held = held_by_half = 0
    draw = np.random.default_rng(3)
    for _ in range(600):
        yes = draw.random(80) < 0.4
        shared = yes + draw.normal(size=80)
        one, two = (shared + draw.normal(size=80) / 2 for _ in range(2))
        low, high = auroc_difference(one, two, yes)
        held += low <= 0 <= high
        held_by_half += abs(low + high) / 2 <= (high - low) / 4
    assert 0.92 <= held / 600 <= 0.975
    assert held_by_half / 600 < 0.8


@pytest.mark.parametrize("ill", [0, 4, 76, 80])
def test_with_fewer_than_five_of_a_kind_a_difference_has_no_interval(ill):
    yes = np.arange(80) < ill
    assert auroc_difference(RANDOM.random(80), RANDOM.random(80), yes) is None
    assert auroc_difference(SCORES, SCORES, YES) is None  # they rank alike: nothing is known


def outcomes_of(name, seed, patients=60):
    study = STUDIES[name]()
    own, random = drawn_patients(study, patients), np.random.default_rng(seed)
    network = network_of(study, random.normal(scale=0.3, size=size_of(study)).astype(np.float32))
    return held_out_outcomes(network, own, study)


def size_of(study):
    from wardround.models.networks import build, parameters_of

    return parameters_of(build(study)).numel()


FIRST = {
    "mlp": "AUROC",
    "classes of a table": "Mean AUROC",
    "hazards": "C-index",
    "several targets": "Mean AUROC",
    "several numbers": "Mean R squared",
    "dense autoencoder": "AUROC",
}


@pytest.mark.parametrize("name", FIRST)
def test_every_kind_of_label_has_a_first_measure_with_a_paired_interval(name):
    study = STUDIES[name]()
    three = {way: outcomes_of(name, seed) for seed, way in enumerate(Way)}
    rows = rows_of(study, three, seeded("x"))
    assert rows[0].name == FIRST[name]
    assert len(rows[0].gains) == 3
    for gain in rows[0].gains:
        values = rows[0].values
        told = gain.difference
        assert told.value == pytest.approx(values[gain.of].value - values[gain.over].value)
        assert told.low < told.value < told.high
    for row in rows:
        for told in row.values.values():
            assert told.value is None or told.low is None or told.low <= told.value <= told.high


@pytest.mark.parametrize("name", FIRST)
@pytest.mark.parametrize("patients", [1, 2, 5])
def test_a_handful_of_patients_tell_nothing_and_break_nothing(name, patients):
    three = {way: outcomes_of(name, seed, patients) for seed, way in enumerate(Way)}
    for row in rows_of(STUDIES[name](), three, seeded("x")):
        assert all(gain.difference.low is None for gain in row.gains)


def test_numbers_are_scored_as_scikit_learn_does():
    truth, said = RANDOM.random((40, 2)), RANDOM.random((40, 2))
    truth[3, 1] = np.nan
    study = STUDIES["several numbers"]()
    rows = {
        (row.name, row.of): row
        for row in rows_of(study, {Way.RELEASED: Outcomes(truth, said)}, seeded("x"))
    }
    known = ~np.isnan(truth[:, 1])
    found = rows["R squared", "heart"].values[Way.RELEASED].value
    assert found == pytest.approx(r2_score(truth[known, 1], said[known, 1]))
    error = rows["Root mean squared error", "liver"].values[Way.RELEASED].value
    assert error == pytest.approx(10 * np.sqrt(((truth[:, 0] - said[:, 0]) ** 2).mean()))
    mean = rows["Mean error", "heart"].values[Way.RELEASED].value
    assert mean == pytest.approx(2 * (said[known, 1] - truth[known, 1]).mean())


def test_the_first_comparison_is_with_what_a_hospital_would_use():
    assert pairs_of(tuple(Way))[0] == (Way.PERSONALISED, Way.ALONE)
    assert pairs_of((Way.RELEASED, Way.ALONE)) == ((Way.RELEASED, Way.ALONE),)
