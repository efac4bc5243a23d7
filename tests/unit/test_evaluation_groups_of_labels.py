"""Groups of patients whatever the label: beside oracles on the rows of each, and what is hidden."""

import numpy as np
import pytest
from sklearn import metrics as oracle
from tests.support.labelled_groups import CLASSES, KINDS, LABELS, SCALES, detailed, patients, some
from tests.support.survival_oracles import harrell, product_limit

from wardround.errors import BadInput
from wardround.evaluation.histograms import CountsMode
from wardround.evaluation.layout import pooled_noise_sd, read_lanes

HORIZON = 400.0


def pooled(layout, hospitals):
    lanes = sum(layout.count(each).lanes for each in hospitals)
    return layout.metrics(read_lanes(lanes, layout), cell_noise_sd=0.0)


def of_anomaly(truth, said):
    return {("AUROC", ""): oracle.roc_auc_score(truth, said[:, 0])}


def of_classes(truth, said):
    one_each = {
        ("AUROC", name): oracle.roc_auc_score(truth == at, said[:, at])
        for at, name in enumerate(CLASSES)
    }
    return one_each | {
        ("Mean AUROC", ""): np.mean(list(one_each.values())),
        ("Balanced accuracy", ""): oracle.balanced_accuracy_score(truth, said.argmax(axis=1)),
    }


def of_labels(truth, said):
    found = {}
    for at, name in enumerate(LABELS):
        known = ~np.isnan(truth[:, at])
        found[("AUROC", name)] = oracle.roc_auc_score(truth[known, at], said[known, at])
    return found | {("Mean AUROC", ""): np.mean(list(found.values()))}


def of_numbers(truth, said):
    found = {}
    for at, scale in enumerate(SCALES):
        known = ~np.isnan(truth[:, at])
        y, p = (scale.low + scale.width * part[known, at] for part in (truth, said))
        found |= {
            ("Mean absolute error", scale.name): oracle.mean_absolute_error(y, p),
            ("Root mean squared error", scale.name): oracle.root_mean_squared_error(y, p),
            ("R squared", scale.name): oracle.r2_score(y, p),
            ("Mean predicted less measured", scale.name): (p - y).mean(),
        }
    return found


def of_survival(truth, said):
    times, events = truth.T
    until = f"{HORIZON:g} d"
    events = np.where(times < HORIZON, events, 0.0)
    times = np.minimum(times, HORIZON)
    observed = 1 - product_limit(times, events, HORIZON - 1e-9)
    return {
        ("C-index", ""): harrell(times, events, said[:, -1]),
        ("Observed risk", until): observed,
        ("Mean predicted risk", until): said[:, -1].mean(),
        ("Observed less predicted risk", until): observed - said[:, -1].mean(),
    }


ORACLES = {
    "anomaly": (of_anomaly, 1e-3),
    "classes": (of_classes, 1e-3),
    "labels": (of_labels, 1e-3),
    "numbers": (of_numbers, 1e-5),
    "survival": (of_survival, 6e-3),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_group_is_evaluated_as_by_definition_on_its_pooled_rows(kind):
    hospitals = [patients(kind, seed, 300 + 50 * seed) for seed in range(3)]
    found = pooled(detailed(kind, bins=500), hospitals)["subgroups"]
    truth, said, groups = (
        np.concatenate(parts)
        for parts in zip(*((h.truth, h.outputs, h.groups) for h in hospitals), strict=True)
    )
    due_of, within = ORACLES[kind]
    assert [each["column"] for each in found] == ["sex by age", "ward"]
    for at, grouping in enumerate(found):
        for place, group in enumerate(grouping["groups"][:-2]):
            rows = groups[:, at] == place
            assert group["standing"] == "shown"
            told = {(each["name"], each["of"]): each["estimate"] for each in group["metrics"]}
            due = due_of(truth[rows], said[rows])
            assert told.keys() == due.keys()
            for name, value in due.items():
                assert told[name]["value"] == pytest.approx(value, abs=within), name
                if told[name]["low"] is not None:
                    assert told[name]["low"] < value < told[name]["high"], name
            others = due_of(truth[~rows], said[~rows])
            gap = gap_of(kind, due, others)
            assert group["worse_by"]["value"] == pytest.approx(gap, abs=2 * within)
        told = sum(group["patients"] for group in grouping["groups"])
        assert told == len(truth) if kind not in {"labels", "numbers"} else told > 0.8 * len(truth)


def gap_of(kind, own, others):
    if kind == "numbers":  # the mean over the targets, each as a share of its range
        names = [("Mean absolute error", scale.name) for scale in SCALES]
        return np.mean([(own[n] - others[n]) / s.width for n, s in zip(names, SCALES, strict=True)])
    name = {"anomaly": "AUROC", "survival": "C-index"}.get(kind, "Mean AUROC")
    return others[(name, "")] - own[(name, "")]


@pytest.mark.slow
def test_the_intervals_of_a_groups_error_are_those_of_many_samples():
    layout, errors, biases, told = detailed("numbers"), [], [], []
    for seed in range(150):
        group = pooled(layout, [patients("numbers", seed, 400)])["subgroups"][0]["groups"][0]
        error, bias = group["metrics"][0]["estimate"], group["metrics"][2]["estimate"]
        errors.append(error["value"])
        biases.append(bias["value"])
        told.append((error["high"] - error["value"], bias["high"] - bias["value"]))
    halves = np.mean(told, axis=0)
    assert halves[0] == pytest.approx(1.96 * np.std(errors), rel=0.15)
    assert halves[1] == pytest.approx(1.96 * np.std(biases), rel=0.15)


@pytest.mark.parametrize("kind", KINDS)
def test_a_group_that_is_served_worse_is_worse_by_much_and_the_others_are_not(kind):
    groups = pooled(detailed(kind), [patients(kind, 1, 3000, worse=2)])["subgroups"][0]["groups"]
    assert groups[2]["worse_by"]["low"] > 0.04
    assert all(groups[at]["worse_by"]["low"] < 0.0 for at in (0, 1, 3))


@pytest.mark.parametrize("kind", KINDS)
def test_a_group_with_too_few_of_any_outcome_stays_at_its_hospital(kind):
    """The group is kept large, but of its last kind of outcome four patients are left."""
    layout, outcomes = detailed(kind), patients(kind, 1, 1200)
    kinds = layout.apart.of_patients(outcomes)
    last = np.flatnonzero(kinds[:, -1] & (outcomes.groups[:, 0] == 1))
    few = some(outcomes, np.setdiff1d(np.arange(1200), last[4:]))
    groups = pooled(layout, [few])["subgroups"][0]["groups"]
    assert groups[1]["standing"] == "nobody counted"
    assert groups[1]["metrics"] == []
    assert groups[1]["of_outcome"] == []
    other = groups[-1]
    assert other["group"] == "not counted apart"
    assert min(other["of_outcome"]) >= 5 + 4
    five = some(outcomes, np.setdiff1d(np.arange(1200), last[5:]))
    assert pooled(layout, [five])["subgroups"][0]["groups"][1]["of_outcome"][-1] == 5


@pytest.mark.parametrize("kind", KINDS)
def test_the_report_hides_what_a_careless_hospital_counted_apart(kind):
    layout, outcomes = detailed(kind), patients(kind, 1, 700)
    kinds = layout.apart.of_patients(outcomes)
    last = np.flatnonzero(kinds[:, -1] & (outcomes.groups[:, 0] == 1))
    few = some(outcomes, np.setdiff1d(np.arange(700), last[2:]))
    careless = type(layout)(whole=layout.whole, groupings=layout.groupings, smallest=1, shuffled=())
    lanes = careless.count(few).lanes
    groups = layout.metrics(read_lanes(lanes, layout), cell_noise_sd=0.0)["subgroups"][0]["groups"]
    assert groups[1]["standing"] == "too few"
    assert [group["standing"] for group in groups].count("withheld") >= 1
    for group in groups:
        if group["standing"] in {"too few", "withheld"}:
            assert (group["patients"], group["metrics"], group["worse_by"]) == (None, [], None)


@pytest.mark.parametrize("kind", KINDS)
def test_counts_that_contradict_themselves_are_refused(kind):
    layout, outcomes = detailed(kind, shuffled=("age",)), patients(kind, 1, 300)
    outcomes = type(outcomes)(
        outcomes.truth, outcomes.outputs, outcomes.groups, outcomes.outputs[None, ::-1]
    )
    lanes, each = layout.count(outcomes).lanes, layout.whole.lanes
    read_lanes(lanes, layout)
    fewer = layout.whole.count(some(outcomes, np.arange(1, 300))).lanes
    moved, less = lanes.copy(), lanes.copy()
    moved[each : 2 * each] = lanes[:each]
    with pytest.raises(BadInput, match="not the whole"):
        read_lanes(moved, layout)
    less[-each:] = fewer
    with pytest.raises(BadInput, match="a shuffled column has other patients"):
        read_lanes(less, layout)
    with pytest.raises(BadInput, match="outputs of 1 shuffled columns were due"):
        layout.count(some(outcomes, np.arange(300)))


def test_noise_reaches_every_number_of_a_group_and_small_groups_are_not_read():
    random = np.random.default_rng(3)
    for kind, bins in (("classes", 8), ("labels", 8), ("numbers", 8), ("survival", 8)):
        layout = detailed(kind, CountsMode.NOISED, bins=bins, time_bins=1)
        sd = pooled_noise_sd(layout, [1.5])
        lanes = layout.count(patients(kind, 1, 6000)).noised(1.5, random.bytes)
        ward = layout.metrics(read_lanes(lanes, layout), cell_noise_sd=sd)["subgroups"][1]
        assert ward["count_noise"] == pytest.approx(
            1.96 * sd * np.sqrt(layout.apart.cells_of_patients), rel=1e-3
        )
        *shown, unknown = ward["groups"]
        assert (unknown["group"], unknown["standing"]) == ("not known", "too few")
        for group in shown:
            assert abs(group["patients"] - 2000) < 500
            for each in (*group["metrics"], {"estimate": group["worse_by"]}):
                told = each["estimate"]
                assert told["noise_low"] < told["value"] < told["noise_high"], each


@pytest.mark.parametrize(
    "kind",
    ["numbers", *(pytest.param(name, marks=pytest.mark.slow) for name in ("labels", "survival"))],
)
def test_the_noise_intervals_of_a_group_are_those_of_many_draws(kind):
    """Raw counts are the truth here; linear propagation beside simulation."""
    layout, random = (
        detailed(kind, CountsMode.NOISED, bins=6, time_bins=1),
        np.random.default_rng(2),
    )
    raw, sd = layout.count(patients(kind, 1, 8000)).lanes, pooled_noise_sd(layout, [1.0])
    apart = layout.apart
    own = raw.reshape(-1, layout.whole.lanes)[1 + 2]
    told = {(m.name, m.of): m.estimate for m in apart.metrics(own, sd)}
    drawn = {name: [] for name in told}
    for _ in range(250):
        noisy = own + np.rint(random.normal(0, sd, own.shape)).astype(np.int64)
        for metric in apart.metrics(noisy, 1e-9):
            drawn[(metric.name, metric.of)].append(metric.estimate.value)
    for name, estimate in told.items():
        half = estimate.value - estimate.noise_low
        assert half == pytest.approx(1.96 * np.std(drawn[name]), rel=0.25), name
