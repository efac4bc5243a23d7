"""Metrics from counts against scikit-learn and statsmodels on the scores themselves."""

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle

from wardround.evaluation.histograms import (
    CountsLayout,
    CountsMode,
    EvaluationCounts,
    count_patients,
)
from wardround.evaluation.metrics import evaluate_counts

LAYOUT = CountsLayout(mode=CountsMode.EXACT, bins=1000)


@st.composite
def cohorts(draw):
    count = draw(st.integers(2, 400))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels = random.integers(0, 2, count)
    strength = draw(st.floats(-1.5, 3))
    scores = 1 / (1 + np.exp(-(strength * (labels - 0.5) + random.normal(0, 1.5, count))))
    if draw(st.booleans()):
        scores = scores.round(draw(st.integers(1, 3)))  # many on the edges
    return labels, scores


def evaluated(labels, scores, threshold=0.5):
    return evaluate_counts(count_patients(labels, scores, LAYOUT).exact(), threshold=threshold)


@settings(max_examples=120, deadline=None)
@given(cohorts())
def test_auroc_lies_in_its_bracket(cohort):
    labels, scores = cohort
    assume(0 < labels.sum() < labels.size)
    result = evaluated(labels, scores)
    due = oracle.roc_auc_score(labels, scores)
    assert result.auroc_lower - 1e-12 <= due <= result.auroc_upper + 1e-12
    assert result.auroc_lower <= result.auroc.value <= result.auroc_upper
    assert result.auroc.low <= result.auroc.value <= result.auroc.high


@settings(max_examples=120, deadline=None)
@given(cohorts(), st.integers(1, 999))
def test_the_table_at_the_threshold_is_exact(cohort, at):
    labels, scores = cohort
    result = evaluated(labels, scores, at / 1000)
    called = scores >= at / 1000
    tn, fp, fn, tp = oracle.confusion_matrix(labels, called, labels=[0, 1]).ravel()
    for name, part, whole in (
        ("sensitivity", tp, tp + fn),
        ("specificity", tn, tn + fp),
        ("ppv", tp, tp + fp),
        ("npv", tn, tn + fn),
        ("accuracy", tp + tn, labels.size),
        ("prevalence", tp + fn, labels.size),
    ):
        estimate = getattr(result, name)
        assert (estimate is None) == (whole == 0)
        if estimate is not None:
            assert estimate.value == part / whole


@settings(max_examples=80, deadline=None)
@given(cohorts())
def test_brier_and_calibration_are_exact(cohort):
    labels, scores = cohort
    result = evaluated(labels, scores)
    assert result.brier.value == pytest.approx(
        oracle.brier_score_loss(labels, scores), abs=result.brier_error
    )
    assert result.calibration_in_the_large == pytest.approx(labels.mean() - scores.mean(), abs=1e-7)
    group = np.minimum(np.searchsorted(np.arange(11) / 10, scores, side="right") - 1, 9)
    error = 0.0
    for at, row in enumerate(result.calibration):
        inside = group == at
        assert (row.patients, row.positives) == (inside.sum(), labels[inside].sum())
        if inside.any():
            assert row.predicted == pytest.approx(scores[inside].mean(), abs=1e-7)
            assert row.observed == pytest.approx(labels[inside].mean())
            error += inside.mean() * abs(labels[inside].mean() - scores[inside].mean())
    assert result.calibration_error == pytest.approx(error, abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.3, 2.0), st.floats(-1.0, 1.0))
def test_slope_and_intercept_are_those_of_statsmodels(seed, slope, intercept):
    random = np.random.default_rng(seed)
    logits = np.clip(random.normal(0, 1.5, 2000), -6, 6)
    chance = 1 / (1 + np.exp(-(intercept + slope * logits)))
    labels = (random.random(2000) < chance).astype(int)
    line = evaluated(labels, 1 / (1 + np.exp(-logits))).calibration_line
    fit = sm.Logit(labels, sm.add_constant(logits)).fit(disp=0)
    # The binned scores differ from the scores by less than 0.0005.
    assert (line.intercept, line.slope) == pytest.approx(tuple(fit.params), abs=0.02)
    assert (line.intercept_se, line.slope_se) == pytest.approx(tuple(fit.bse), rel=0.03)


def test_slope_and_intercept_on_bin_centres_are_those_of_statsmodels_to_nine_digits():
    random = np.random.default_rng(11)
    scores = LAYOUT.centres[random.integers(0, 1000, 1500)]
    labels = (random.random(1500) < scores**1.5).astype(int)
    line = evaluated(labels, scores).calibration_line
    design = sm.add_constant(np.log(scores / (1 - scores)))
    fit = sm.Logit(labels, design).fit(disp=0, tol=1e-14, maxiter=100)
    assert (line.intercept, line.slope) == pytest.approx(tuple(fit.params), abs=1e-9)


def delong_by_pairs(labels, scores):
    ill, well = scores[labels == 1], scores[labels == 0]
    wins = (ill[:, None] > well).astype(float) + 0.5 * (ill[:, None] == well)
    return np.sqrt(wins.mean(1).var(ddof=1) / ill.size + wins.mean(0).var(ddof=1) / well.size)


@settings(max_examples=40, deadline=None)
@given(cohorts())
def test_the_standard_error_is_delongs(cohort):
    labels, scores = cohort
    assume(1 < labels.sum() < labels.size - 1)
    binned = np.minimum(np.floor(scores * 1000), 999)
    bins = count_patients(labels, scores, LAYOUT).exact()
    assume(
        (
            bins.histogram
            == np.stack(
                [np.bincount(binned[labels == kind].astype(int), minlength=1000) for kind in (0, 1)]
            )
        ).all()
    )
    result = evaluate_counts(bins, threshold=0.5)
    assert result.auroc_se == pytest.approx(delong_by_pairs(labels, binned), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(cohorts(), st.integers(1, 5))
def test_pooling_hospitals_is_evaluating_their_patients_together(cohort, hospitals):
    labels, scores = cohort
    lanes = sum(
        count_patients(labels[at::hospitals], scores[at::hospitals], LAYOUT).exact().to_lanes()
        for at in range(hospitals)
    )
    pooled = evaluate_counts(EvaluationCounts.from_lanes(lanes, LAYOUT), threshold=0.5)
    assert pooled.to_json() == evaluated(labels, scores).to_json()
