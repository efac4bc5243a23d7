"""Risks of a prognosis where many are lost from sight, against a law that is known."""

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression
from tests.support.study_plans import STUDIES
from tests.support.survival_oracles import followed

from wardround.errors import BadInput
from wardround.evaluation.layout import Outcomes
from wardround_client.prediction.answers import Risk
from wardround_client.prediction.calibrated import Calibrator, RiskInterval
from wardround_client.prediction.calibration import Calibration
from wardround_client.prediction.censoring import known_at, stand_in_weights

EDGES = np.array([100.0, 200.0, 400.0])  # of study "hazards"
STUDY = STUDIES["hazards"]()


def drawn(count, seed, *, lost_after=250.0):
    """Times, events, true risks until each edge, and scores that are far from calibrated."""
    random = np.random.default_rng(seed)
    rates = np.exp(random.normal(size=count)) / 500
    death, lost = random.exponential(1 / rates), random.exponential(lost_after, count)
    times, events = np.minimum(death, lost), death <= lost
    risks = 1 - np.exp(-rates[:, None] * EDGES)
    return times, events, risks, risks**3


def calibration(times, events, scores):
    return Calibration(STUDY, Outcomes(np.stack([times, events], axis=1), scores))


def errors_by_group(found, truth, groups=6):
    """Mean of found - truth in groups of patients by true risk."""
    parts = np.array_split(np.argsort(truth), groups)
    return np.array([(found[part] - truth[part]).mean() for part in parts])


def test_weights_are_one_over_the_chance_of_being_followed_up():
    times, events, _, _ = drawn(300, 1)
    times = np.ceil(times / 20)  # with ties, deaths and losses at the same time
    for edge in (2.0, 5.0, 9.5):
        known, _ = known_at(times, events, edge)
        weights = stand_in_weights(times, events, edge)
        at = np.minimum(times, edge)[known]
        due = 1 / followed(times, events.astype(float), at, before=True)
        assert weights[known] == pytest.approx(due, rel=1e-12)
        assert not weights[~known].any()
        assert weights.max() > 1.0


def test_where_nobody_is_lost_everybody_counts_once():
    times, events, _, _ = drawn(50, 2, lost_after=1e9)
    assert events.all()
    assert stand_in_weights(times, events, 400.0).tolist() == [1.0] * 50
    assert stand_in_weights(np.zeros(0), np.zeros(0, dtype=bool), 400.0).tolist() == []


def test_those_who_are_known_stand_in_for_all():
    """The weights add up to the number of patients, on average: nobody is lost in the sum."""
    sums = []
    for seed in range(200):
        times, events, _, _ = drawn(200, seed)
        sums.append(stand_in_weights(times, events, 400.0).sum())
    assert np.mean(sums) == pytest.approx(200, rel=0.02)


@pytest.mark.parametrize("edge", [1, 2])
def test_risks_are_those_of_the_law_although_many_are_lost(edge):
    times, events, _, scores = drawn(2500, 3)
    found = calibration(times, events, scores)
    _, _, truth, said = drawn(200, 4)
    risks = np.array([found.answer(row, own_row=None)[0][edge].risk for row in said])
    assert np.abs(errors_by_group(risks, truth[:, edge])).max() < 0.1
    assert abs((risks - truth[:, edge]).mean()) < 0.03
    # Those alone whose status is known make it far too high: what the weights are for.
    known, had = known_at(times, events, EDGES[edge])
    alone = Calibrator.of(scores[known, edge], had[known])
    naive = np.array([alone.interval(score).risk for score in said[:, edge]])
    assert (naive - truth[:, edge]).mean() > 0.06


@pytest.mark.slow
def test_both_ends_hold_the_risk_on_average_with_few_patients_of_whom_most_are_lost():
    ends, truths = [], []
    for seed in range(250):
        times, events, _, scores = drawn(60, 1000 + seed, lost_after=200.0)
        found = calibration(times, events, scores)
        _, _, truth, said = drawn(4, 9000 + seed)
        for row, risk in zip(said, truth[:, 1], strict=True):
            at_200 = found.answer(row, own_row=None)[0][1]
            if isinstance(at_200, Risk):
                ends.append((at_200.low, at_200.high))
                truths.append(risk)
    low, high = np.mean(ends, axis=0)
    assert len(truths) > 900
    assert low < np.mean(truths) < high


def test_the_sensitivity_is_that_of_the_law_although_late_events_are_lost():
    times, events, _, scores = drawn(6000, 5)
    points = calibration(times, events, scores).operating_points()
    deaths, had, _, said = drawn(100_000, 6, lost_after=1e9)
    for edge, point in enumerate(points):
        died = had & (deaths < EDGES[edge])
        above = said[:, edge] >= point.threshold
        assert point.sensitivity.low < above[died].mean() < point.sensitivity.high
        assert point.specificity.low < (~above)[~died].mean() < point.specificity.high
    _, early = known_at(times, events, EDGES[2])
    naive = (scores[early, 2] >= points[2].threshold).mean()
    assert naive > points[2].sensitivity.high  # an early event, which is seen, has a high score


def test_intervals_are_those_of_two_weighted_isotonic_regressions():
    random = np.random.default_rng(7)
    scores, outcomes = np.round(random.random(60), 1), random.random(60) < 0.4
    weights = random.uniform(1.0, 5.0, 60)
    calibrator = Calibrator.of(scores, outcomes, weights)
    for score in (0.0, 0.1, 0.34, 1.0):
        due = []
        for outcome in (0.0, 1.0):
            fitted = IsotonicRegression().fit(
                np.append(scores, score),
                np.append(outcomes.astype(float), outcome),
                sample_weight=np.append(weights, weights.max()),
            )
            due.append(float(fitted.predict([score])[0]))
        assert calibrator.interval(score) == pytest.approx(RiskInterval(*due))


def test_the_more_are_lost_the_wider_the_interval():
    def width(lost_after):
        times, events, _, scores = drawn(800, 8, lost_after=lost_after)
        found = calibration(times, events, scores)
        said = np.quantile(scores, 0.5, axis=0)
        risk = found.answer(said, own_row=None)[0][2]
        return risk.high - risk.low

    assert width(100.0) > 2 * width(1e9)


def test_one_that_was_lost_is_left_out_of_the_curve_that_it_is_answered_by():
    times, events, _, scores = drawn(120, 9)
    found = calibration(times, events, scores)
    own = int(np.flatnonzero(~events & (times < 100))[0])
    others = np.delete(np.arange(120), own)
    alone = calibration(times[others], events[others], scores[others])
    said = found.answer(scores[own], own_row=own)
    assert said == alone.answer(scores[own], own_row=None)
    assert said != found.answer(scores[own], own_row=None)


@pytest.mark.parametrize("weight", [0.0, -1.0, np.nan, np.inf])
def test_a_weight_that_is_none_is_refused(weight):
    scores, outcomes = np.array([0.1, 0.9]), np.array([False, True])
    with pytest.raises(BadInput, match="weight above 0"):
        Calibrator.of(scores, outcomes, np.array([1.0, weight]))
