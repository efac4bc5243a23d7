"""Prognoses from counts: C-index, survival curve and Brier beside their record-level oracles."""

import numpy as np
import pytest
import statsmodels.api as sm
from tests.support.survival_oracles import cohort, followed, harrell, ipcw_brier, product_limit

from wardround.errors import BadInput
from wardround.evaluation.concordance import concordance
from wardround.evaluation.histograms import CountsMode
from wardround.evaluation.kaplan_meier import kaplan_meier
from wardround.evaluation.layout import Outcomes, pooled_noise_sd, read_lanes
from wardround.evaluation.survival import SurvivalLayout, followed_up
from wardround.randomness import Randomness

EDGES = (100.0, 200.0, 400.0)
LAYOUT = SurvivalLayout(mode=CountsMode.EXACT, edges=EDGES, unit="d", bins=320, time_bins=50)
NOISED = SurvivalLayout(mode=CountsMode.NOISED, edges=EDGES, unit="d", bins=8, time_bins=1)


def outcomes(times, events, risks):
    return Outcomes(np.stack([times, events], axis=1), risks)


def metrics(times, events, risks, layout=LAYOUT):
    lanes = layout.count(outcomes(times, events, risks)).exact()
    return layout.metrics(read_lanes(lanes, layout), cell_noise_sd=0.0)


def until_the_horizon(times, events, risks):
    return np.minimum(times, 400.0), np.where(times >= 400.0, 0.0, events), risks[:, -1]


@pytest.mark.parametrize(
    ("seed", "count", "bound"),
    [(1, 250, 1e-3), (2, 1000, 4e-4), (3, 1000, 4e-4), (4, 4000, 1.2e-4)],
)
def test_the_c_index_is_that_of_the_records_and_lies_in_its_bracket(seed, count, bound):
    patients = cohort(seed, count)
    found, due = metrics(*patients), harrell(*until_the_horizon(*patients))
    assert abs(found["c_index"]["value"] - due) < bound
    assert found["c_index_lower"] <= due <= found["c_index_upper"]
    assert found["c_index"]["low"] < due < found["c_index"]["high"]


@pytest.mark.parametrize("seed", range(6))
def test_with_one_time_and_one_risk_in_a_bin_the_c_index_is_exact(seed):
    random = np.random.default_rng(seed)
    count = 40
    table = np.zeros((2, count, count), dtype=np.int64)
    events = random.integers(0, 2, count)
    risks = random.permutation(count)
    table[events, np.arange(count), risks] = 1
    found = concordance(table)
    due = harrell(np.arange(count), events, risks)
    assert found.c_index == pytest.approx(due, abs=1e-12)
    assert found.lower == pytest.approx(due, abs=1e-12)
    assert found.upper == pytest.approx(due, abs=1e-12)


def test_the_standard_error_of_the_c_index_is_that_of_repeated_cohorts():
    layout = SurvivalLayout(mode=CountsMode.EXACT, edges=EDGES, unit="d", bins=100, time_bins=20)
    found = []
    for seed in range(150):
        table = layout.count(outcomes(*cohort(seed, 200))).lanes
        cells = 2 * (layout.times + 1) * layout.bins
        found.append(concordance(table[:cells].reshape(2, -1, layout.bins)))
    spread = np.std([each.c_index for each in found])
    said = np.mean([each.standard_error for each in found])
    assert 0.85 < said / spread < 1.18  # 150 cohorts know it within 6 %


def test_the_survival_curve_is_kaplan_and_meiers():
    random = np.random.default_rng(3)
    times = random.integers(0, 400, 300) + 0.5  # a day each: one bin holds one time
    events = random.integers(0, 2, 300).astype(float)
    layout = SurvivalLayout(mode=CountsMode.EXACT, edges=(400.0,), unit="d", bins=2, time_bins=400)
    alone = np.where(np.isin(times, times[events == 0]), 0.0, events)  # nor both in one bin
    found = metrics(times, alone, np.full((300, 1), 0.5), layout)
    oracle = sm.SurvfuncRight(times, alone)
    ends, curve = np.array(found["curve"]).T
    for time, survival in zip(oracle.surv_times, oracle.surv_prob, strict=True):
        at = np.searchsorted(ends, time + 0.5, side="right") - 1
        assert curve[at] == pytest.approx(survival, abs=1e-6)
    assert found["edges"][0]["observed"] == pytest.approx(1 - oracle.surv_prob[-1], abs=1e-6)
    middle = len(oracle.surv_times) // 2
    place = int(oracle.surv_times[middle])
    mine = kaplan_meier(
        *(np.bincount(times[alone == kind].astype(int), minlength=401) for kind in (1, 0))
    )
    greenwood = mine.survival[place] * np.sqrt(mine.variance[place])
    assert greenwood == pytest.approx(oracle.surv_prob_se[middle], rel=1e-9)


@pytest.mark.parametrize(("seed", "count"), [(1, 250), (2, 1500)])
def test_observed_and_predicted_risk_and_brier_are_those_of_the_records(seed, count):
    times, events, risks = cohort(seed, count)
    found = metrics(times, events, risks)
    for at, edge in enumerate(EDGES):
        said = found["edges"][at]
        assert said["time"] == edge
        assert said["predicted"] == pytest.approx(risks[:, at].mean(), abs=1e-6)
        assert said["observed"] == pytest.approx(1 - product_limit(times, events, edge), abs=5e-4)
        due = ipcw_brier(times, events, risks[:, at], edge)
        assert said["brier"] == pytest.approx(due, abs=5e-4)
        assert said["at_risk"] == (times >= edge).sum()
        assert said["observed_low"] < said["observed"] < said["observed_high"]


def test_the_probability_of_being_followed_up_is_that_of_the_records():
    times, events, _ = cohort(5, 2000)
    layout = SurvivalLayout(mode=CountsMode.EXACT, edges=EDGES, unit="d", bins=2, time_bins=100)
    bins = np.minimum(np.searchsorted(layout.time_edges, times, side="right") - 1, 300)
    margins = [np.bincount(bins[events == kind], minlength=301) for kind in (1, 0)]
    got = followed_up(*margins)
    for place in (49, 149, 299):
        due = followed(times, events, layout.time_edges[place + 1])
        assert got[place] == pytest.approx(due, abs=1e-3)


def test_hospitals_counts_add_up_to_those_of_all_patients():
    patients = [np.concatenate(parts) for parts in zip(cohort(1, 90), cohort(2, 60), strict=True)]
    parts = [LAYOUT.count(outcomes(*cohort(s, n))).lanes for s, n in ((1, 90), (2, 60))]
    whole = LAYOUT.count(outcomes(*patients)).lanes
    one, other = (LAYOUT.metrics(lanes, cell_noise_sd=0.0) for lanes in (sum(parts), whole))
    assert one == other
    assert read_lanes(sum(parts), LAYOUT) is not None


def test_a_time_on_a_public_edge_belongs_to_the_interval_after_it():
    times, events = np.array([100.0, 400.0, 900.0, 0.0]), np.array([1.0, 1.0, 1.0, 1.0])
    lanes = LAYOUT.count(outcomes(times, events, np.full((4, 3), 0.5))).lanes
    table = lanes[: 2 * 151 * 320].reshape(2, 151, 320).sum(axis=2)
    assert table[1, 50] == 1
    assert table[1, 0] == 1
    assert table[0, 150] == 2  # at the horizon and after it: alive there


@pytest.mark.parametrize("count", [0, 1, 5])
def test_few_patients_or_none_give_what_is_known_and_no_crash(count):
    times, events, risks = cohort(7, count)
    found = metrics(times, np.zeros(count), risks)
    assert found["c_index"] is None
    assert found["patients"] == count
    assert found["edges"][0]["brier"] is None or count
    found = metrics(times, events, risks)
    assert found["patients"] == count
    empty = metrics(times[:0], events[:0], risks[:0])
    assert all(edge["observed"] in (None, 0.0) for edge in empty["edges"])
    assert [edge["brier"] for edge in empty["edges"]] == [None] * 3


def test_all_dead_or_all_lost_before_the_horizon_is_said_as_it_is():
    risks = np.full((6, 3), 0.5)
    times = np.arange(10.0, 70.0, 10)
    dead = metrics(times, np.ones(6), risks)
    assert [edge["observed"] for edge in dead["edges"]] == [1.0, 1.0, 1.0]
    lost = metrics(times, np.zeros(6), risks)
    assert [edge["observed"] for edge in lost["edges"]] == [None, None, None]
    assert lost["c_index"] is None


def test_one_patient_changes_one_noised_cell_by_one():
    times, events, risks = cohort(1, 30)
    whole = NOISED.count(outcomes(times, events, risks)).lanes
    less = NOISED.count(outcomes(times[1:], events[1:], risks[1:])).lanes
    assert NOISED.squared_sensitivity == 1
    assert np.abs(whole - less).sum() == 1


def test_noised_counts_give_the_c_index_with_an_interval_that_holds_it():
    patients = cohort(3, 6000)
    raw = NOISED.count(outcomes(*patients))
    without = concordance(raw.lanes.reshape(2, 4, 8)).c_index
    held, sd = 0, pooled_noise_sd(NOISED, [4.0])
    for seed in range(20):
        lanes = raw.noised(4.0, stream(seed))
        said = NOISED.metrics(read_lanes(lanes, NOISED), cell_noise_sd=sd)["c_index"]
        held += said["noise_low"] <= without <= said["noise_high"]
        assert said["noise_high"] - said["noise_low"] < 0.1
    assert held >= 16


def test_the_noised_brier_score_at_the_horizon_is_near_that_of_the_records():
    times, events, risks = cohort(3, 4000)
    layout = SurvivalLayout(mode=CountsMode.NOISED, edges=EDGES, unit="d", bins=32, time_bins=4)
    lanes = layout.count(outcomes(times, events, risks)).lanes
    edges = layout.metrics(lanes, cell_noise_sd=1e-9)["edges"]
    assert [edge["brier"] for edge in edges[:-1]] == [None, None]
    due = ipcw_brier(times, events, risks[:, -1], 400.0)
    assert edges[-1]["brier"] == pytest.approx(due, abs=5e-3)


def stream(seed):
    random = np.random.default_rng(seed)
    made: Randomness = random.bytes
    return made


@pytest.mark.parametrize(
    ("times", "events", "risks", "why"),
    [
        ([-1.0], [1.0], [[0.1, 0.2, 0.3]], "below 0"),
        ([np.nan], [1.0], [[0.1, 0.2, 0.3]], "below 0"),
        ([1.0], [0.5], [[0.1, 0.2, 0.3]], "neither 0 nor 1"),
        ([1.0], [1.0], [[0.1, 0.2]], "3 risks were due"),
        ([1.0], [1.0], [[0.1, 0.2, 1.3]], "not in"),
    ],
)
def test_what_is_no_prognosis_is_not_counted(times, events, risks, why):
    with pytest.raises(BadInput, match=why):
        LAYOUT.count(outcomes(np.array(times), np.array(events), np.array(risks)))


def test_counts_that_contradict_themselves_are_refused():
    lanes = LAYOUT.count(outcomes(*cohort(1, 50))).lanes
    beyond = lanes.copy()
    beyond[2 * 151 * 320 - 1] += 1
    more = lanes.copy()
    more[-2] += 1 << 15
    for wrong in (beyond, more):
        with pytest.raises(BadInput, match="do not fit the table"):
            read_lanes(wrong, LAYOUT)
    with pytest.raises(BadInput, match="negative"):
        read_lanes(-lanes, LAYOUT)
    with pytest.raises(BadInput, match="integer lanes were due"):
        read_lanes(lanes[1:], LAYOUT)


@pytest.mark.parametrize(
    ("mode", "bins", "time_bins", "why"),
    [("exact", 1000, 50, "at most 100000"), ("noised", 64, 10, "1024 at most")],
)
def test_a_layout_beyond_the_log_or_the_noise_is_refused(mode, bins, time_bins, why):
    with pytest.raises(BadInput, match=why):
        SurvivalLayout(mode=CountsMode(mode), edges=EDGES, unit="d", bins=bins, time_bins=time_bins)
