"""What one patient can move in groups and shuffled columns of any label, and what they lose."""

import itertools
import math

import numpy as np
import pytest
from sklearn import metrics as oracle
from tests.support.labelled_groups import CLASSES, CROSSED, KINDS, WARD, detailed, patients, some
from tests.support.survival_oracles import harrell

from wardround.evaluation.histograms import CountsMode
from wardround.evaluation.layout import Outcomes, pooled_noise_sd, read_lanes

# Two outputs of the model that differ in every table that a patient is in, and what came true.
PROFILES = {
    "anomaly": ([[0.1], [0.9]], 1.0),
    "classes": ([[0.9, 0.1, 0.2], [0.2, 0.8, 0.7]], 2.0),
    "labels": ([[0.9, 0.1], [0.2, 0.8]], [1.0, 0.0]),
    "numbers": ([[0.9, 0.1], [0.2, 0.8]], [0.6, 0.3]),
    "survival": ([[0.1, 0.1, 0.1], [0.9, 0.9, 0.9]], [150.0, 1.0]),
}
TABLES = {"anomaly": 1, "classes": 3 + 1, "labels": 2, "numbers": 2, "survival": 1}


def noised(kind, **more):
    return detailed(kind, CountsMode.NOISED, bins=2, time_bins=1, **more)


@pytest.mark.parametrize("kind", KINDS)
def test_one_patient_more_moves_the_whole_and_each_grouping_by_one_in_each_table(kind):
    layout, most = noised(kind), 0
    for seed in range(20):
        outcomes = patients(kind, seed, 6)
        whole = layout.count(outcomes).lanes
        for left_out in range(6):
            less = layout.count(some(outcomes, np.arange(6) != left_out)).lanes
            most = max(most, int(((whole - less) ** 2).sum()))
    assert most == layout.squared_sensitivity == 3 * TABLES[kind]
    assert noised(kind, groupings=(CROSSED, WARD, WARD)).squared_sensitivity == 4 * TABLES[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_one_patient_more_moves_a_shuffled_column_by_five_in_each_table_at_most(kind):
    """Every order of two patients beside every order of three that comes from it."""
    layout, most, random = noised(kind, groupings=(), shuffled=("x",)), 0, np.random.default_rng(1)
    profiles, true = np.array(PROFILES[kind][0]), np.array(PROFILES[kind][1])
    truth = np.stack([true] * 3)
    for _ in range(40):
        said = profiles[random.integers(0, 2, (3, 3))]  # of p with the column of q
        for before in itertools.permutations(range(2)):
            for place in range(3):
                order = [*before, 2]
                order[2], order[place] = order[place], order[2]
                moved = _column(layout, truth, said, order)
                moved = moved - _column(layout, truth[:2], said, before)
                most = max(most, int((moved**2).sum()))
    assert most == 5 * TABLES[kind]
    assert layout.squared_sensitivity == TABLES[kind] + most
    assert pooled_noise_sd(layout, [3.0]) == pytest.approx(
        3.0 * math.sqrt(6 * TABLES[kind]), rel=0.01
    )


def _column(layout, truth, said, order):
    outputs = np.array([said[p, q] for p, q in enumerate(order)])
    outcomes = Outcomes(truth, np.full_like(outputs, 0.5), shuffled=outputs[None])
    return layout.count(outcomes).lanes[layout.whole.lanes :]


def _headline(kind, truth, said):
    if kind == "anomaly":
        return oracle.roc_auc_score(truth, said[:, 0])
    if kind == "classes":
        return np.mean([oracle.roc_auc_score(truth == at, said[:, at]) for at in range(3)])
    if kind == "survival":
        within = truth[:, 0] < 400.0
        return harrell(np.minimum(truth[:, 0], 400.0), within * truth[:, 1], said[:, -1])
    known = ~np.isnan(truth)
    if kind == "labels":
        of = [oracle.roc_auc_score(truth[k, at], said[k, at]) for at, k in enumerate(known.T)]
        return np.mean(of)
    return -np.mean([np.abs(truth[k, at] - said[k, at]).mean() for at, k in enumerate(known.T)])


NAMES = {
    "anomaly": "AUROC",
    "numbers": "mean absolute error, share of the range",
    "survival": "C-index",
}


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_shuffled_column_loses_is_the_headline_metric_of_the_rows(kind):
    """One column changes nothing, one a little, one makes a coin of every output."""
    whole, random = patients(kind, 1, 900), np.random.default_rng(2)
    coin = whole.outputs[random.permutation(900)]
    # Two outputs of one model are both probabilities; so is their mean.
    little = (3 * whole.outputs + coin) / 4
    outcomes = Outcomes(
        whole.truth, whole.outputs, shuffled=np.stack([whole.outputs, little, coin])
    )
    layout = detailed(kind, groupings=(), shuffled=("none", "little", "all"))
    found = layout.metrics(read_lanes(layout.count(outcomes).lanes, layout), cell_noise_sd=0.0)
    before = _headline(kind, whole.truth, whole.outputs)
    for told, said in zip(found["importance"], outcomes.shuffled, strict=True):
        due = before - _headline(kind, whole.truth, said)
        assert told["metric"] == NAMES.get(kind, "mean AUROC")
        assert told["lost"]["value"] == pytest.approx(due, abs=5e-3)
        assert told["lost"]["low"] <= due + 1e-6 <= told["lost"]["high"] + 2e-6
    none, little, lost = (each["lost"] for each in found["importance"])
    assert none["value"] == 0.0
    assert lost["low"] > 0.05
    assert little["value"] < lost["value"]


def test_classes_are_of_their_own_kind_and_an_unknown_label_is_of_none():
    layout = detailed("labels")
    outcomes = patients("labels", 1, 200)
    kinds = layout.apart.of_patients(outcomes)
    assert layout.apart.kinds == ("liver no", "liver yes", "heart no", "heart yes")
    assert (kinds[:, :2].sum(axis=1) == ~np.isnan(outcomes.truth[:, 0])).all()
    assert layout.apart.totals(layout.whole.count(outcomes).lanes) == tuple(kinds.sum(axis=0))
    classes = detailed("classes").apart
    assert classes.kinds == CLASSES
    assert classes.of_patients(patients("classes", 1, 50)).sum(axis=1).tolist() == [1] * 50
