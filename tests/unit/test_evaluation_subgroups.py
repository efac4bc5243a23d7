"""Groups of patients: counts beside scikit-learn on the rows of each, and what is never shown."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as oracle
from statsmodels.stats.proportion import proportion_confint

from wardround.errors import BadInput
from wardround.evaluation.binary import BinaryLayout
from wardround.evaluation.detailed import DetailedLayout
from wardround.evaluation.discrimination import unbounded_auroc
from wardround.evaluation.histograms import CountsLayout, CountsMode
from wardround.evaluation.layout import Outcomes, pooled_noise_sd, read_lanes
from wardround.evaluation.subgroups import Groups, counted_apart
from wardround.evaluation.suppression import Standing, standings

SEX, AGE = Groups("sex", "1", ("0", "1")), Groups("age", "a", ("< 45", "≥ 45, < 65", "≥ 65"))
THRESHOLD = 0.5
SMALLEST = 5


def layout_of(mode=CountsMode.EXACT, *, bins=1000, groupings=(SEX, AGE), smallest=SMALLEST):
    whole = BinaryLayout(CountsLayout(mode=mode, bins=bins), THRESHOLD)
    return DetailedLayout(whole=whole, groupings=groupings, smallest=smallest, shuffled=())


def patients(seed, count, *, worse=None, shares=(0.3, 0.4, 0.3)):
    """Groups [patients, 2]; of age group `worse` the scores say nothing."""
    random = np.random.default_rng(seed)
    truth = (random.random(count) < 0.4).astype(float)
    groups = np.stack(
        [random.integers(0, 2, count), random.choice(3, size=count, p=shares)], axis=1
    )
    signal = np.where(groups[:, 1] == worse, 0.0, 1.5)
    scores = 1 / (1 + np.exp(-(random.normal(size=count) + signal * (2 * truth - 1))))
    return Outcomes(truth, scores[:, None], groups=groups)


def kinds_of(outcomes):
    return layout_of().apart.of_patients(outcomes)


def of(outcomes, kept):
    return Outcomes(outcomes.truth[kept], outcomes.outputs[kept], groups=outcomes.groups[kept])


def pooled(layout, hospitals):
    lanes = sum(layout.count(each).lanes for each in hospitals)
    return layout.metrics(read_lanes(lanes, layout), cell_noise_sd=0.0)


def test_every_group_is_evaluated_as_scikit_learn_does_on_its_pooled_rows():
    hospitals = [patients(seed, 300 + 50 * seed) for seed in range(4)]
    found = pooled(layout_of(), hospitals)
    truth, scores, groups = (
        np.concatenate(parts)
        for parts in zip(*((h.truth, h.outputs[:, 0], h.groups) for h in hospitals), strict=True)
    )
    assert [grouping["column"] for grouping in found["subgroups"]] == ["sex", "age"]
    for at, grouping in enumerate(found["subgroups"]):
        names = [group["group"] for group in grouping["groups"]]
        assert names[-2:] == ["not known", "not counted apart"]
        for place, group in enumerate(grouping["groups"][:-2]):
            rows = groups[:, at] == place
            own, said = truth[rows], scores[rows]
            assert group["standing"] == "shown"
            assert (group["patients"], group["positives"]) == (rows.sum(), own.sum())
            due = oracle.roc_auc_score(own, said)
            assert group["auroc"]["value"] == pytest.approx(due, abs=1e-3)
            assert group["auroc"]["low"] < due < group["auroc"]["high"]
            tn, fp, fn, tp = oracle.confusion_matrix(own, said >= THRESHOLD).ravel()
            shares = {"sensitivity": (tp, tp + fn), "specificity": (tn, tn + fp)}
            for name, (part, whole) in shares.items():
                low, high = proportion_confint(part, whole, method="wilson")
                for key, value in (("value", part / whole), ("low", low), ("high", high)):
                    assert group[name][key] == pytest.approx(value, abs=1e-6), name
            large, error = own.mean() - said.mean(), np.std(own - said) / math.sqrt(rows.sum())
            told = group["calibration_in_the_large"]
            assert told["value"] == pytest.approx(large, abs=1e-6)
            assert told["high"] - told["low"] == pytest.approx(2 * 1.959964 * error, abs=1e-5)
            others = oracle.roc_auc_score(truth[~rows], scores[~rows])
            assert group["auroc_gap"]["value"] == pytest.approx(others - due, abs=2e-3)


def test_nobody_is_in_a_group_that_nobody_is_in():
    found = pooled(layout_of(), [patients(1, 400)])
    for grouping in found["subgroups"]:
        for group in grouping["groups"][-2:]:
            assert (group["standing"], group["patients"], group["auroc"]) == (
                "nobody counted",
                0,
                None,
            )


def test_a_hospital_does_not_count_a_small_group_apart_and_the_large_ones_are_unmoved():
    large, small = patients(1, 500), patients(2, 60, shares=(0.48, 0.48, 0.04))
    found = pooled(layout_of(), [large, small])["subgroups"][1]["groups"]
    old = large.groups[:, 1] == 2
    assert found[2]["patients"] == old.sum()
    due = oracle.roc_auc_score(large.truth[old], large.outputs[old, 0])
    assert found[2]["auroc"]["value"] == pytest.approx(due, abs=2e-3)
    other = found[4]
    assert other["group"] == "not counted apart"
    assert other["standing"] == "shown"
    assert other["patients"] > (small.groups[:, 1] == 2).sum()
    assert sum(group["patients"] for group in found) == 560


def test_what_a_tiny_hospital_leaves_over_is_hidden_and_something_else_with_it():
    found = pooled(layout_of(), [patients(1, 500), patients(3, 6)])
    groups = found["subgroups"][1]["groups"]
    words = [group["standing"] for group in groups]
    assert words[4] == "too few"
    assert words.count("withheld") == 1
    hidden = [group for group in groups if group["standing"] in {"too few", "withheld"}]
    for group in hidden:
        assert all(
            group[name] is None
            for name in ("patients", "positives", "auroc", "sensitivity", "auroc_gap")
        )


def test_the_report_hides_a_small_group_that_a_careless_hospital_counted_apart():
    careless, layout = layout_of(smallest=1), layout_of()
    outcomes = patients(1, 300, shares=(0.49, 0.49, 0.02))
    old = outcomes.groups[:, 1] == 2
    assert 1 <= min((outcomes.truth[old] == 0).sum(), (outcomes.truth[old] == 1).sum()) < 5
    lanes = careless.count(outcomes).lanes
    groups = layout.metrics(read_lanes(lanes, layout), cell_noise_sd=0.0)["subgroups"][1]["groups"]
    words = [group["standing"] for group in groups]
    assert words[2] == "too few"
    assert sorted(words[:2]) == ["shown", "withheld"]
    assert groups[words.index("withheld")]["patients"] is None


@given(
    st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), min_size=1, max_size=7),
    st.integers(5, 20),
)
@settings(max_examples=300)
def test_no_small_cell_comes_out_by_subtraction(cells, smallest):
    words = standings(cells, smallest, exact=True)
    hidden = [c for c, w in zip(cells, words, strict=True) if w in {"too few", "withheld"}]
    for cell, word in zip(cells, words, strict=True):
        assert (word is Standing.NOBODY) == (cell == (0, 0))
        if word is Standing.SHOWN:
            assert min(cell) >= smallest
    if hidden and Standing.SHOWN in words:
        assert np.sum(hidden, axis=0).min() >= smallest
        assert len(hidden) > 1
    loose = standings(cells, smallest, exact=False)
    assert [w is Standing.SHOWN for w in loose] == [min(cell) >= smallest for cell in cells]


@given(st.integers(0, 10_000), st.integers(0, 80), st.integers(5, 20))
@settings(max_examples=60)
def test_no_small_group_leaves_a_hospital(seed, count, smallest):
    outcomes = patients(seed, count)
    groups, cells = outcomes.groups[:, 1], len(AGE.names) + 2
    apart = counted_apart(groups, kinds_of(outcomes), cells, smallest)
    sizes = [
        [int(((apart == cell) & (outcomes.truth == value)).sum()) for value in (0, 1)]
        for cell in range(cells)
    ]
    assert sum(map(sum, sizes)) == count
    named = [size for size in sizes[:-1] if any(size)]
    assert all(min(size) >= smallest for size in named)
    if named and any(sizes[-1]):
        assert min(sizes[-1]) >= smallest
    assert ((apart == groups) | (apart == cells - 1)).all()


def test_one_patient_is_in_one_cell_of_the_whole_and_of_each_grouping_of_noised_counts():
    layout, outcomes = layout_of(CountsMode.NOISED, bins=8), patients(1, 40)
    assert layout.lanes == 16 * (1 + 3 + 4)
    whole = layout.count(outcomes).lanes
    for left_out in range(40):
        less = layout.count(of(outcomes, np.arange(40) != left_out)).lanes
        assert sorted(np.abs(whole - less).tolist())[-4:] == [0, 1, 1, 1]
    assert layout.squared_sensitivity == 3
    assert pooled_noise_sd(layout, [2.0]) == pytest.approx(2 * math.sqrt(3), rel=0.01)


def test_noised_groups_are_read_with_their_noise_and_small_ones_are_not_read():
    layout = layout_of(CountsMode.NOISED, bins=8)
    outcomes, random = patients(1, 6000), np.random.default_rng(3)
    lanes, sd = layout.count(outcomes).noised(3.0, random.bytes), pooled_noise_sd(layout, [3.0])
    age = layout.metrics(read_lanes(lanes, layout), cell_noise_sd=sd)["subgroups"][1]
    assert age["count_noise"] == pytest.approx(1.96 * sd * 4, rel=1e-3)
    assert [group["group"] for group in age["groups"]][-1] == "not known"
    assert age["groups"][-1]["standing"] == "too few"
    for place, group in enumerate(age["groups"][:-1]):
        count = int((outcomes.groups[:, 1] == place).sum())
        assert abs(group["patients"] - count) < 2 * age["count_noise"]
        for name in ("auroc", "sensitivity", "specificity", "calibration_in_the_large"):
            assert group[name]["noise_low"] < group[name]["value"] < group[name]["noise_high"]
        assert group["auroc_gap"]["noise_low"] < group["auroc_gap"]["noise_high"]


def test_the_noise_interval_of_a_groups_auroc_is_that_of_many_draws():
    layout, random = layout_of(CountsMode.NOISED, bins=8), np.random.default_rng(2)
    raw, sd = layout.count(patients(1, 4000)), pooled_noise_sd(layout, [4.0])
    told = layout.metrics(raw.lanes, cell_noise_sd=sd)["subgroups"][1]["groups"][1]
    own = raw.lanes.reshape(-1, 2, 8)[1 + 3 + 1]
    drawn = [unbounded_auroc(own + np.rint(random.normal(0, sd, (2, 8)))) for _ in range(2000)]
    half = told["auroc"]["value"] - told["auroc"]["noise_low"]
    assert half == pytest.approx(1.96 * np.std(drawn), rel=0.06)
    assert told["auroc_gap"]["value"] - told["auroc_gap"]["noise_low"] > half  # two AUROCs, jointly


@pytest.mark.slow
def test_the_noise_interval_of_a_groups_auroc_and_calibration_holds_as_often_as_it_says():
    layout, random = layout_of(CountsMode.NOISED, bins=8), np.random.default_rng(1)
    raw, sd = layout.count(patients(1, 4000)), pooled_noise_sd(layout, [4.0])
    due = layout.metrics(raw.lanes, cell_noise_sd=1e-9)["subgroups"][1]["groups"][2]
    held = {"auroc": 0, "calibration_in_the_large": 0, "auroc_gap": 0}
    for _ in range(120):
        found = layout.metrics(raw.noised(4.0, random.bytes), cell_noise_sd=sd)["subgroups"][1]
        for name in held:
            told = found["groups"][2][name]
            held[name] += told["noise_low"] <= due[name]["value"] <= told["noise_high"]
    assert all(count >= 107 for count in held.values()), held  # of 120: 95 % less three errors
    assert held["auroc_gap"] >= held["auroc"]  # three groups are looked at together


@pytest.mark.slow
def test_gaps_are_joint_so_that_looking_for_the_worst_group_finds_none_too_often():
    layout = layout_of(bins=50)
    alarms = 0
    for seed in range(200):
        found = pooled(layout, [patients(seed, 400)])["subgroups"]
        gaps = [group["auroc_gap"] for grouping in found for group in grouping["groups"]]
        alarms += any(gap is not None and not gap["low"] <= 0 <= gap["high"] for gap in gaps)
    assert alarms <= 19  # 5 % of 200 and three standard errors


def test_a_group_that_is_ranked_worse_has_a_gap():
    worse = pooled(layout_of(bins=50), [patients(1, 2000, worse=2)])["subgroups"][1]["groups"]
    assert worse[2]["auroc_gap"]["low"] > 0.3
    assert worse[0]["auroc_gap"]["high"] < 0


def test_counts_that_contradict_themselves_are_refused():
    layout, outcomes = layout_of(), patients(1, 300)
    lanes = layout.count(outcomes).lanes
    first = layout.cut.lanes
    moved = lanes.copy()
    moved[first : 2 * first] = lanes[:first]
    with pytest.raises(BadInput, match="not the whole"):
        read_lanes(moved, layout)
    with pytest.raises(BadInput, match="groups of 2 groupings were due"):
        layout.count(Outcomes(outcomes.truth, outcomes.outputs))
    with pytest.raises(BadInput, match="sex has 3 groups, another number came"):
        layout.count(Outcomes(outcomes.truth, outcomes.outputs, groups=outcomes.groups + 2))
    with pytest.raises(BadInput, match="53 times 1000 bins for groups and columns make 108332"):
        layout_of(bins=1000, groupings=(Groups("w", "1", tuple(map(str, range(50)))),))


def test_an_empty_hospital_counts_nobody():
    layout = layout_of()
    assert not layout.count(patients(1, 0)).lanes.any()
    assert (
        pooled(layout, [patients(1, 0)])["subgroups"][0]["groups"][0]["standing"]
        == "nobody counted"
    )
