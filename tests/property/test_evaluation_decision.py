"""Net benefit, precision over recall and F1 from counts, against the patients themselves."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from wardround.evaluation.histograms import (
    CountsLayout,
    CountsMode,
    EvaluationCounts,
    count_patients,
)
from wardround.evaluation.metrics import evaluate_counts

BINS = 1000
EXACT = CountsLayout(mode=CountsMode.EXACT, bins=BINS)
NOISED = CountsLayout(mode=CountsMode.NOISED, bins=20)


def cohort(seed: int, patients: int, share: float = 0.4):
    random = np.random.default_rng(seed)
    labels = (random.random(patients) < share).astype(int)
    scores = 1 / (1 + np.exp(-(2 * (labels - 0.5) + random.normal(0, 1.2, patients))))
    return labels, scores


def by_hand(labels, scores, threshold):
    """Every patient above the threshold is treated: 1 for who needs it, minus the odds if not."""
    odds = threshold / (1 - threshold)
    worth = np.where(scores >= threshold, np.where(labels == 1, 1.0, -odds), 0.0)
    return worth.mean(), 1.959964 * worth.std(ddof=1) / np.sqrt(len(worth))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 300), st.integers(1, 99))
def test_net_benefit_is_the_mean_over_patients(seed, patients, percent):
    labels, scores = cohort(seed, patients)
    found = evaluate_counts(count_patients(labels, scores, EXACT).exact(), threshold=percent / 100)
    value, half = by_hand(labels, scores, percent / 100)
    assert found.net_benefit is not None
    assert found.net_benefit.value == pytest.approx(value, abs=1e-12)
    least = -percent / (100 - percent)
    assert found.net_benefit.low == pytest.approx(max(value - half, least), abs=1e-6)
    assert found.net_benefit.high == pytest.approx(min(value + half, 1.0), abs=1e-6)


def test_the_curve_holds_every_threshold_and_what_treating_everybody_brings():
    labels, scores = cohort(3, 400)
    found = evaluate_counts(count_patients(labels, scores, EXACT).exact(), threshold=0.3)
    assert [round(point[0], 6) for point in found.decision_curve] == [
        round(0.02 * step, 6) for step in range(1, 50)
    ]
    for threshold, of_model, of_all in found.decision_curve:
        assert of_model == pytest.approx(by_hand(labels, scores, threshold)[0], abs=1e-12)
        everybody = by_hand(labels, np.ones(len(labels)), threshold)[0]
        assert of_all == pytest.approx(everybody, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(5, 300))
def test_precision_over_recall_and_f1_are_scikit_learns(seed, patients):
    labels, scores = cohort(seed, patients)
    labels[:2] = (0, 1)
    binned = np.floor(scores * BINS) / BINS + 0.5 / BINS
    found = evaluate_counts(count_patients(labels, binned, EXACT).exact(), threshold=0.5)
    assert found.average_precision is not None
    due = oracle.average_precision_score(labels, binned)
    assert found.average_precision.value == pytest.approx(due, abs=1e-12)
    due = oracle.f1_score(labels, binned >= 0.5, zero_division=np.nan)
    assert found.f1 is not None
    assert found.f1.value == pytest.approx(due, abs=1e-12)


def test_a_thousand_bins_come_near_the_scores_themselves():
    errors = []
    for seed in range(20):
        labels, scores = cohort(seed, 500)
        found = evaluate_counts(count_patients(labels, scores, EXACT).exact(), threshold=0.5)
        assert found.average_precision is not None
        errors.append(
            found.average_precision.value - oracle.average_precision_score(labels, scores)
        )
    assert max(np.abs(errors)) < 2e-3


def test_the_interval_of_precision_over_recall_covers():
    truth = oracle.average_precision_score(*cohort(99, 400_000))
    held = 0
    for seed in range(300):
        found = evaluate_counts(
            count_patients(*cohort(seed, 150), EXACT).exact(), threshold=0.5
        ).average_precision
        assert found is not None
        assert found.low is not None
        assert found.high is not None
        held += found.low <= truth <= found.high
    assert 0.90 <= held / 300 <= 1.0


def test_the_noise_interval_covers_and_one_of_half_the_noise_does_not():
    clean = count_patients(*cohort(7, 600), NOISED).counts
    truth = evaluate_counts(clean, threshold=0.5, cell_noise_sd=1e-9)
    random, runs = np.random.default_rng(1), 120
    held = {"net_benefit": 0, "average_precision": 0, "f1": 0}
    half = dict(held)
    for _ in range(runs):
        cells = clean.histogram + np.rint(random.normal(0, 4, clean.histogram.shape)).astype(int)
        noised = EvaluationCounts(NOISED, cells, clean.score_sums, clean.square_sums)
        found = evaluate_counts(noised, threshold=0.5, cell_noise_sd=4.0)
        for name in held:
            due, came = getattr(truth, name).value, getattr(found, name)
            held[name] += came.noise_low <= due <= came.noise_high
            half[name] += came.noise_low + came.value <= 2 * due <= came.value + came.noise_high
    for name, count in held.items():
        assert count / runs > 0.89, name
        assert half[name] / runs < 0.85, name


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_gives_what_it_can_and_no_crash(label):
    labels, scores = np.full(20, label), np.linspace(0.05, 0.95, 20)
    found = evaluate_counts(count_patients(labels, scores, EXACT).exact(), threshold=0.5)
    assert found.net_benefit is not None
    assert (found.average_precision is None) == (label == 0)
    nobody = evaluate_counts(count_patients([], [], EXACT).exact(), threshold=0.5)
    assert nobody.net_benefit is nobody.average_precision is nobody.f1 is None
    assert nobody.decision_curve == ()
