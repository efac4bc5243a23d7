"""Metrics from counts: corners, intervals, noise."""

import json

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from wardround.canonical import canonical_bytes
from wardround.errors import BadInput
from wardround.evaluation.discrimination import ranking
from wardround.evaluation.histograms import CountsLayout, CountsMode, count_patients
from wardround.evaluation.intervals import auroc_interval, wilson
from wardround.evaluation.metrics import evaluate_counts
from wardround.evaluation.noise import gaussian_cells, pooled_cell_sd

EXACT = CountsLayout(mode=CountsMode.EXACT, bins=1000)
NOISED = CountsLayout(mode=CountsMode.NOISED, bins=8)


def evaluated(labels, scores, *, threshold=0.5, layout=EXACT):
    return evaluate_counts(count_patients(labels, scores, layout).exact(), threshold=threshold)


def risks(count, *, auroc, prevalence, random):
    """Calibrated scores with this AUROC: two normals, and the true posterior as the score."""
    labels = (np.arange(count) < round(count * prevalence)).astype(int)
    shift = np.sqrt(2) * stats.norm.ppf(auroc)
    evidence = random.normal(shift * labels, 1.0)
    prior = np.log(prevalence / (1 - prevalence))
    return labels, 1 / (1 + np.exp(-(shift * evidence - shift**2 / 2 + prior)))


@pytest.mark.parametrize("label", [0, 1])
def test_one_class_gives_na_and_no_crash(label):
    result = evaluated([label] * 9, np.linspace(0.1, 0.9, 9))
    assert result.auroc is result.auroc_se is result.auroc_lower is result.calibration_line is None
    assert (result.sensitivity is None) == (label == 0)
    assert (result.specificity is None) == (label == 1)
    assert result.roc == ()
    assert result.brier is not None
    assert result.to_json()["auroc"] is None


def test_no_patients_give_na_and_no_crash():
    result = evaluated([], [])
    assert result.patients == 0
    assert result.prevalence is result.brier is result.accuracy is None
    assert result.calibration_error is result.calibration_in_the_large is None
    assert {group.observed for group in result.calibration} == {None}


def test_nobody_above_the_threshold_gives_no_ppv():
    result = evaluated([0, 1, 1], [0.1, 0.2, 0.3])
    assert result.ppv is None
    assert result.npv is not None
    assert result.npv.value == pytest.approx(1 / 3)


def test_a_perfect_result_from_few_patients_keeps_an_honest_interval():
    result = evaluated([0] * 10 + [1] * 10, [0.1] * 10 + [0.9] * 10)
    assert result.auroc is not None
    assert (result.auroc.value, result.auroc.high) == (1.0, 1.0)
    assert 0.7 < result.auroc.low < 0.95
    assert result.calibration_line is None  # separated: no finite slope


def test_one_score_for_all_gives_one_half_with_the_bracket_wide_open():
    result = evaluated([0, 1] * 20, [0.5] * 40)
    assert result.auroc is not None
    assert (result.auroc.value, result.auroc_lower, result.auroc_upper) == (0.5, 0.0, 1.0)
    assert result.calibration_line is None


def test_the_roc_curve_goes_from_corner_to_corner_and_its_area_is_the_auroc():
    random = np.random.default_rng(5)
    result = evaluated(*risks(400, auroc=0.8, prevalence=0.4, random=random))
    x, y = np.array(result.roc).T
    assert result.roc[0] == (0.0, 0.0)
    assert result.roc[-1] == (1.0, 1.0)
    assert (np.diff(x) >= 0).all()
    assert (np.diff(y) >= 0).all()
    assert np.trapezoid(y, x) == pytest.approx(result.auroc.value, abs=1e-12)


def test_json_has_six_digits_one_form_and_no_minus_zero():
    random = np.random.default_rng(6)
    value = evaluated(*risks(300, auroc=0.9, prevalence=0.3, random=random)).to_json()
    line = canonical_bytes(value)
    assert canonical_bytes(json.loads(line)) == line
    assert value["auroc"]["value"] == round(value["auroc"]["value"], 6)
    assert value["mode"] == "exact"
    assert len(value["calibration"]) == 10
    perfect = evaluated([0, 1], [0.0, 1.0]).to_json()
    assert str(perfect["calibration_in_the_large"]) == "0.0"


@pytest.mark.parametrize("trials", [1, 2, 10, 137])
def test_wilson_is_that_of_statsmodels(trials):
    for successes in range(trials + 1):
        due = proportion_confint(successes, trials, method="wilson")
        assert wilson(successes, trials) == pytest.approx(due, abs=1e-12)


def test_wilson_without_trials_is_none_and_stays_inside_for_noised_counts():
    assert wilson(0, 0) is None
    assert wilson(3, -2) is None
    for successes, trials in ((-3, 10), (14, 10)):
        low, high = wilson(successes, trials)
        assert 0 <= low < high <= 1


@pytest.mark.parametrize(("auroc", "prevalence"), [(0.99, 0.37), (0.8, 0.3)])
def test_the_auroc_interval_covers_and_a_narrower_one_does_not(auroc, prevalence):
    random = np.random.default_rng(7)
    covered = narrow = 0
    for _ in range(600):
        result = evaluated(*risks(142, auroc=auroc, prevalence=prevalence, random=random))
        value, low, high = result.auroc.value, result.auroc.low, result.auroc.high
        covered += low <= auroc <= high
        narrow += value - (value - low) / 2 <= auroc <= value + (high - value) / 2
    assert covered / 600 > 0.93
    assert narrow / 600 < 0.9


@pytest.mark.parametrize("auroc", [0.0, 0.3, 0.5, 0.97, 1.0])
def test_the_auroc_interval_holds_its_value_and_mirrors(auroc):
    low, high = auroc_interval(auroc, 20, 30)
    assert 0 <= low <= auroc <= high <= 1
    assert low < high
    mirrored = auroc_interval(1 - auroc, 20, 30)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-12)


def test_the_noise_interval_covers_and_one_of_half_the_noise_does_not():
    random = np.random.default_rng(8)
    multiplier, sd = 1.2232, pooled_cell_sd([1.2232] * 4)
    hits = {"auroc": 0, "sensitivity": 0, "prevalence": 0, "brier": 0}
    half = dict(hits)
    runs = 150
    for _ in range(runs):
        labels, scores = risks(230, auroc=0.88, prevalence=0.55, random=random)
        raw = count_patients(labels, scores, NOISED)
        plain = raw.noised(np.zeros(NOISED.lanes, np.int64))
        truth = evaluate_counts(plain, threshold=0.5, cell_noise_sd=1e-9)
        noise = sum(gaussian_cells(NOISED.lanes, multiplier, random.bytes) for _ in range(4))
        noised = evaluate_counts(raw.noised(noise), threshold=0.5, cell_noise_sd=sd)
        for name in hits:
            due, came = getattr(truth, name).value, getattr(noised, name)
            hits[name] += came.noise_low <= due <= came.noise_high
            half[name] += came.noise_low + came.value <= 2 * due <= came.value + came.noise_high
    for name, count in hits.items():
        assert count / runs > 0.89, name
        assert half[name] / runs < 0.85, name


def test_the_noise_interval_covers_at_the_end_of_the_scale():
    random = np.random.default_rng(10)
    sd, runs = 2.0, 400
    raw = count_patients([0] * 60 + [1] * 60, [0.1] * 60 + [0.9] * 59 + [0.05], NOISED)
    hits = {"auroc": 0, "specificity": 0}
    for _ in range(runs):
        noise = np.rint(random.normal(0, sd, NOISED.lanes)).astype(np.int64)
        noised = evaluate_counts(raw.noised(noise), threshold=0.5, cell_noise_sd=sd)
        for name, due in (("auroc", 59 / 60), ("specificity", 1.0)):
            came = getattr(noised, name)
            hits[name] += came.noise_low <= due <= came.noise_high
    for name, count in hits.items():
        assert count / runs > 0.91, (name, count / runs)


def test_noise_that_drowns_the_counts_leaves_nothing_known():
    raw = count_patients([0, 1, 1], [0.1, 0.6, 0.9], NOISED)
    noised = raw.noised(np.zeros(NOISED.lanes, np.int64))
    result = evaluate_counts(noised, threshold=0.5, cell_noise_sd=5.0)
    assert (result.auroc.noise_low, result.auroc.noise_high) == (0.0, 1.0)
    assert result.auroc_lower is None


def test_negative_noised_counts_are_counted_and_never_leave_the_scale():
    random = np.random.default_rng(9)
    raw = count_patients([0, 0, 1, 1], [0.1, 0.2, 0.8, 0.9], NOISED)
    for _ in range(100):
        noise = gaussian_cells(NOISED.lanes, 3.0, random.bytes)
        result = evaluate_counts(raw.noised(noise), threshold=0.5, cell_noise_sd=3.0)
        assert result.negative_cells > 0
        for part in ("auroc", "sensitivity", "ppv", "accuracy", "brier", "prevalence"):
            estimate = getattr(result, part)
            if estimate is not None:
                assert 0 <= estimate.noise_low <= estimate.value <= estimate.noise_high <= 1
        canonical_bytes(result.to_json())


@pytest.mark.parametrize(("layout", "sd"), [(EXACT, 1.0), (NOISED, 0.0), (NOISED, float("nan"))])
def test_noise_that_does_not_fit_the_mode_is_refused(layout, sd):
    raw = count_patients([0, 1], [0.1, 0.9], layout)
    counts = raw.exact() if layout is EXACT else raw.noised(np.zeros(16, np.int64))
    with pytest.raises(BadInput, match="noise"):
        evaluate_counts(counts, threshold=0.5, cell_noise_sd=sd)


def test_the_brier_score_of_noised_counts_stays_within_its_bound():
    random = np.random.default_rng(10)
    labels, scores = risks(500, auroc=0.7, prevalence=0.5, random=random)
    counts = count_patients(labels, scores, NOISED).noised(np.zeros(16, np.int64))
    result = evaluate_counts(counts, threshold=0.5, cell_noise_sd=1e-9)
    due = np.mean((scores - labels) ** 2)
    assert abs(result.brier.value - due) <= result.brier_error == 1 / 8


@pytest.mark.parametrize(
    ("count", "auroc", "prevalence", "worst_at_8", "least_at_1000"),
    [(142, 0.99, 0.37, 0.035, 0.15), (230, 0.88, 0.55, 0.035, 0.15)],
)
def test_noise_on_a_thousand_bins_drowns_the_auroc_and_on_eight_it_does_not(
    count, auroc, prevalence, worst_at_8, least_at_1000
):
    random = np.random.default_rng(12)
    errors = {8: [], 1000: []}
    for _ in range(300):
        labels, scores = risks(count, auroc=auroc, prevalence=prevalence, random=random)
        for bins, found in errors.items():
            layout = CountsLayout(mode=CountsMode.EXACT, bins=bins)
            plain = count_patients(labels, scores, layout).exact().histogram
            noise = sum(gaussian_cells(2 * bins, 1.2232, random.bytes) for _ in range(4))
            came = ranking(plain + noise.reshape(2, bins))
            if came is not None:
                found.append(came.auroc - ranking(plain).auroc)
    assert np.std(errors[8]) < worst_at_8
    assert np.std(errors[1000]) > least_at_1000
