"""Correlations of numbers from sums, against SciPy on the patients themselves."""

import math

import numpy as np
import pytest
from scipy import stats

from wardround.evaluation.correlation import fisher, mean_correlation
from wardround.evaluation.histograms import CountsMode
from wardround.evaluation.layout import Outcomes, pooled_noise_sd, read_lanes
from wardround.evaluation.regression import RegressionLayout, Scale
from wardround_client.comparison.result import figure

SCALES = (Scale("one", "ln(umol/L)", -8.0, 16.0), Scale("other", "1", 0.0, 1.0))
EXACT = RegressionLayout(mode=CountsMode.EXACT, targets=SCALES, bins=100)


def patients(seed: int, count: int) -> Outcomes:
    random = np.random.default_rng(seed)
    truth = random.beta(2, 2, (count, 2))
    outputs = np.clip(0.3 * truth + 0.4 + 0.1 * random.normal(size=(count, 2)), 0, 1)
    truth[random.random((count, 2)) < 0.2] = np.nan
    return Outcomes(truth, outputs)


@pytest.mark.parametrize(("seed", "count"), [(1, 40), (2, 3000)])
def test_correlations_and_their_intervals_are_scipys(seed, count):
    outcomes = patients(seed, count)
    lanes = read_lanes(EXACT.count(outcomes).exact(), EXACT)
    found = EXACT.metrics(lanes, cell_noise_sd=0.0)
    due, halves = [], []
    for place, said in enumerate(found["targets"]):
        known = ~np.isnan(outcomes.truth[:, place])
        oracle = stats.pearsonr(outcomes.truth[known, place], outcomes.outputs[known, place])
        ends = oracle.confidence_interval(0.95)
        due.append(oracle.statistic)
        halves.append((ends.high - ends.low) / 2)
        assert said["correlation"]["value"] == pytest.approx(oracle.statistic, abs=2e-6)
        assert said["correlation"]["low"] == pytest.approx(ends.low, abs=2e-6)
        assert said["correlation"]["high"] == pytest.approx(ends.high, abs=2e-6)
    mean = found["mean_correlation"]
    assert mean["value"] == pytest.approx(np.mean(due), abs=2e-6)
    assert mean["high"] - mean["value"] == pytest.approx(np.mean(halves), abs=2e-6)
    assert figure(found).value == mean["value"]
    assert figure(found).error == pytest.approx(np.mean(halves) / 1.959964, abs=1e-5)


def test_a_target_that_nobody_has_or_all_have_alike_is_not_in_the_mean():
    outcomes = patients(1, 60)
    truth = outcomes.truth.copy()
    for constant in (np.nan, 0.5):
        truth[:, 1] = constant
        lanes = read_lanes(EXACT.count(Outcomes(truth, outcomes.outputs)).exact(), EXACT)
        found = EXACT.metrics(lanes, cell_noise_sd=0.0)
        assert found["targets"][1]["correlation"] is None
        assert found["mean_correlation"]["value"] == found["targets"][0]["correlation"]["value"]
    nobody = EXACT.metrics(np.zeros(EXACT.lanes, dtype=np.int64), cell_noise_sd=0.0)
    assert nobody["mean_correlation"] is None


def test_the_noise_of_a_mean_is_less_than_that_of_its_targets():
    layout = RegressionLayout(mode=CountsMode.NOISED, targets=SCALES, bins=6)
    raw, sd = layout.count(patients(3, 4000)), pooled_noise_sd(layout, [2.0])
    exact = layout.metrics(raw.lanes, cell_noise_sd=sd)
    draws = [
        layout.metrics(
            read_lanes(raw.noised(2.0, np.random.default_rng(seed).bytes), layout),
            cell_noise_sd=sd,
        )["mean_correlation"]["value"]
        for seed in range(60)
    ]
    mean = exact["mean_correlation"]
    half = (mean["noise_high"] - mean["noise_low"]) / 2
    alone = [part["correlation"] for part in exact["targets"]]
    assert half < min((one["noise_high"] - one["noise_low"]) / 2 for one in alone)
    assert np.std(draws) == pytest.approx(half / 1.96, rel=0.35)  # four errors of 60 draws


def test_fishers_interval_of_few_patients_is_not_made_up():
    assert fisher(0.5, 3) is None
    assert fisher(1.0, 10) == (1.0, 1.0)
    low, high = fisher(-0.2, 50)
    assert math.atanh(high) - math.atanh(low) == pytest.approx(2 * 1.959964 / math.sqrt(47))
    assert mean_correlation([None, None]) is None
