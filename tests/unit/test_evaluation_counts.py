"""Counts of held-out patients: what is counted, what travels, what is refused."""

import numpy as np
import pytest
from scipy import stats

from wardround.canonical import canonical_bytes, parse_canonical
from wardround.errors import BadInput
from wardround.evaluation.histograms import (
    SCORE_ONE,
    CountsLayout,
    CountsMode,
    EvaluationCounts,
    count_patients,
)
from wardround.evaluation.noise import gaussian_cells, pooled_cell_sd
from wardround.evaluation.suppression import shown_row

EXACT = CountsLayout(mode=CountsMode.EXACT, bins=20)
NOISED = CountsLayout(mode=CountsMode.NOISED, bins=8)
LABELS = [0, 0, 1, 1, 1]
SCORES = [0.0, 0.05, 0.5, 0.999, 1.0]


def test_a_score_on_an_edge_belongs_to_the_bin_above_and_one_to_the_last():
    histogram = count_patients(LABELS, SCORES, EXACT).exact().histogram
    assert np.flatnonzero(histogram[0]).tolist() == [0, 1]
    assert histogram[1].tolist() == [0] * 10 + [1] + [0] * 8 + [2]


def test_every_edge_counts_as_the_threshold_says_it_does():
    for bins in (10, 16, 100, 997, 1000):
        layout = CountsLayout(mode=CountsMode.EXACT, bins=bins)
        edges = layout.edges[1:-1]
        for score in (edges, np.nextafter(edges, 0), np.nextafter(edges, 1)):
            histogram = count_patients(np.ones(len(score)), score, layout).exact().histogram
            for at, edge in enumerate(edges, start=1):
                assert histogram[1, at:].sum() == (score >= edge).sum()


def test_one_patient_more_changes_one_cell_by_one():
    before = count_patients(LABELS, SCORES, NOISED).counts.histogram
    after = count_patients([*LABELS, 0], [*SCORES, 0.7], NOISED).counts.histogram
    assert np.abs(after - before).sum() == 1


def test_no_patients_give_empty_counts():
    assert count_patients([], [], EXACT).exact().histogram.sum() == 0


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([0, 1, 1], [0.1, 0.2], "two vectors of one length"),
        ([2], [0.1], "0 or 1"),
        ([0], [1.5], "1 of 1 scores"),
        ([0], [float("nan")], "1 of 1 scores"),
    ],
)
def test_patients_that_cannot_be_counted_are_refused(labels, scores, message):
    with pytest.raises(BadInput, match=message):
        count_patients(labels, scores, EXACT)


def test_exact_counts_travel_and_come_back():
    counts = count_patients(LABELS, SCORES, EXACT).exact()
    lanes = counts.to_lanes()
    assert lanes.dtype == np.int32
    assert lanes.size == EXACT.lanes == 40 + 2 * 22
    back = EvaluationCounts.from_lanes(lanes, EXACT)
    assert back.score_sums.sum() == pytest.approx(sum(SCORES) * SCORE_ONE, abs=5)
    assert (back.to_lanes() == lanes).all()


def test_the_sum_of_lanes_is_the_counts_of_the_pooled_patients():
    random = np.random.default_rng(1)
    labels, scores = random.integers(0, 2, 300), random.random(300)
    parts = [count_patients(labels[at::3], scores[at::3], EXACT).exact() for at in range(3)]
    pooled = count_patients(labels, scores, EXACT).exact()
    summed = EvaluationCounts.from_lanes(sum(part.to_lanes() for part in parts), EXACT)
    again = parts[0] + parts[1] + parts[2]
    for other in (summed, again):
        assert (other.histogram == pooled.histogram).all()
        assert (other.score_sums == pooled.score_sums).all()
        assert (other.square_sums == pooled.square_sums).all()


def test_no_lane_exceeds_the_limit_of_its_layout():
    for patients in (1, 1000):
        lanes = count_patients([1] * patients, [1.0] * patients, EXACT).exact().to_lanes()
        assert np.abs(lanes).max() <= EXACT.lane_limit(patients)
    assert EXACT.lane_limit(1 << 20) * 4 < 2**31


def test_counts_come_back_from_json():
    counts = count_patients(LABELS, SCORES, EXACT).exact()
    line = canonical_bytes(counts.to_json())
    back = EvaluationCounts.from_json(parse_canonical(line, what="counts", limit_bytes=10_000))
    assert (back.to_lanes() == counts.to_lanes()).all()


@pytest.mark.parametrize(
    "changes",
    [
        {"mode": "open"},
        {"mode": ["exact"]},
        {"bins": 20.0},
        {"bins": 10**9},
        {"lanes": [0]},
        {"lanes": "0"},
        {"lanes": [0.0] * EXACT.lanes},
        {"lanes": [True] * EXACT.lanes},
        {"lanes": [2**40] * EXACT.lanes},
        {"more": 1},
    ],
)
def test_json_that_is_not_counts_is_refused(changes):
    good = {"mode": "exact", "bins": 20, "lanes": [0] * EXACT.lanes}
    with pytest.raises(BadInput):
        EvaluationCounts.from_json(good | changes)


def test_a_sum_whose_masks_did_not_cancel_is_refused():
    random = np.random.default_rng(2)
    lanes = random.integers(-(2**31), 2**31, EXACT.lanes).astype(np.int32)
    with pytest.raises(BadInput, match="negative"):
        EvaluationCounts.from_lanes(lanes, EXACT)


def test_sums_that_contradict_the_histogram_are_refused():
    lanes = count_patients(LABELS, SCORES, EXACT).exact().to_lanes()
    lanes[40] += 1000  # the high limb of a group without so many patients
    with pytest.raises(BadInput, match="do not fit"):
        EvaluationCounts.from_lanes(lanes, EXACT)


@pytest.mark.parametrize("lanes", [np.zeros(3, np.int32), np.zeros(EXACT.lanes)])
def test_lanes_of_another_shape_or_kind_are_refused(lanes):
    with pytest.raises(BadInput, match="lanes were due"):
        EvaluationCounts.from_lanes(lanes, EXACT)


def test_counts_without_noise_do_not_leave_a_study_that_asks_for_noise():
    raw = count_patients(LABELS, SCORES, NOISED)
    assert not hasattr(raw, "to_lanes")
    with pytest.raises(BadInput, match="noised"):
        raw.exact()
    with pytest.raises(BadInput, match="exact"):
        count_patients(LABELS, SCORES, EXACT).noised(np.zeros(EXACT.lanes, np.int64))


def test_noised_counts_keep_their_negative_cells():
    noise = np.full(NOISED.lanes, -1)
    lanes = count_patients(LABELS, SCORES, NOISED).noised(noise).to_lanes()
    assert lanes.min() == -1
    assert (EvaluationCounts.from_lanes(lanes, NOISED).histogram.ravel() == lanes).all()


@pytest.mark.parametrize("noise", [np.zeros(3, np.int64), np.zeros(16)])
def test_noise_of_another_shape_or_kind_is_refused(noise):
    with pytest.raises(BadInput, match="noise"):
        count_patients(LABELS, SCORES, NOISED).noised(noise)


def test_two_layouts_are_not_added():
    exact = count_patients(LABELS, SCORES, EXACT).exact()
    other = count_patients(LABELS, SCORES, CountsLayout(mode=CountsMode.EXACT, bins=10)).exact()
    with pytest.raises(BadInput, match="two layouts"):
        _ = exact + other


@pytest.mark.parametrize(("mode", "bins"), [("exact", 1), ("exact", 10_001), ("noised", 65)])
def test_a_layout_with_too_few_or_too_many_bins_is_refused(mode, bins):
    with pytest.raises(BadInput, match="bins"):
        CountsLayout(mode=CountsMode(mode), bins=bins)


@pytest.mark.parametrize("threshold", [0.0, 1.0, 0.33, 0.5001, -0.5, 2.0])
def test_a_threshold_off_the_inner_edges_is_refused(threshold):
    with pytest.raises(BadInput, match="threshold"):
        EXACT.threshold_bin(threshold)


def test_every_threshold_of_two_decimals_lies_on_an_edge_of_1000_bins():
    layout = CountsLayout(mode=CountsMode.EXACT, bins=1000)
    assert [layout.threshold_bin(at / 100) for at in range(1, 100)] == list(range(10, 1000, 10))


def test_noise_has_the_promised_scale_and_not_one_ten_percent_off():
    stream = np.random.default_rng(3)
    noise = gaussian_cells(20_000, 12.0, stream.bytes)
    jitter = stream.random(noise.size) - 0.5  # undoes the rounding for a continuous test
    assert stats.kstest(noise + jitter, stats.norm(scale=12.0).cdf).pvalue > 0.01
    assert stats.kstest(noise + jitter, stats.norm(scale=13.2).cdf).pvalue < 1e-6


def test_pooled_noise_has_the_promised_scale_and_not_one_ten_percent_off():
    stream = np.random.default_rng(4)
    noise = sum(gaussian_cells(20_000, 1.2, stream.bytes) for _ in range(4))
    measured = (noise / pooled_cell_sd([1.2] * 4)) ** 2
    freedom = stats.chi2(noise.size)
    assert 0.005 < freedom.cdf(measured.sum()) < 0.995
    assert freedom.sf(measured.sum() * 1.1**2) < 1e-6


@pytest.mark.parametrize("multiplier", [0.0, -1.0, float("nan"), float("inf")])
def test_noise_without_a_scale_is_refused(multiplier):
    with pytest.raises(BadInput):
        gaussian_cells(4, multiplier, bytes)


def test_a_row_never_lets_a_small_cell_be_had_by_subtraction():
    assert shown_row([100, 2, 7]) == ["100", "<5", "withheld"]
    assert shown_row([100, 20, 7]) == ["100", "20", "7"]
    assert shown_row([3]) == ["<5"]
    assert shown_row([]) == []
