"""Importance by shuffling: beside scikit-learn's, and what one patient can change of it."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from dp_accounting import GaussianDpEvent
from dp_accounting.pld import PLDAccountant
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from tests.support.study_plans import SERIES, STUDIES, study_plan

from wardround.errors import BadInput
from wardround.evaluation.binary import BinaryLayout
from wardround.evaluation.detailed import DetailedLayout
from wardround.evaluation.histograms import CountsLayout, CountsMode
from wardround.evaluation.layout import Outcomes, pooled_noise_sd, read_lanes
from wardround.evaluation.layouts import exact_layout_of, layout_of
from wardround.evaluation.subgroups import Groups
from wardround.models.networks import build
from wardround.privacy.accounting import gaussian_count_noise
from wardround.randomness import system_randomness
from wardround_client.data.places import places
from wardround_client.held_out import evaluated_outcomes, held_out_outcomes
from wardround_client.records import StudyRecords
from wardround_client.shuffling import random_order, shuffled
from wardround_client.training.plan import PatientRecords

COLUMNS = ("a", "b", "c")


def layout(mode=CountsMode.EXACT, *, bins=1000, columns=COLUMNS):
    whole = BinaryLayout(CountsLayout(mode=mode, bins=bins), 0.5)
    return DetailedLayout(whole=whole, groupings=(), smallest=5, shuffled=columns)


def records_of(features, counts=None, labels=None):
    counts = np.ones(len(features), dtype=int) if counts is None else np.array(counts)
    labels = np.zeros(len(features)) if labels is None else labels
    return PatientRecords(
        features=torch.tensor(features).float(),
        labels=torch.tensor(labels).float(),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
    )


def test_what_is_lost_is_scikit_learns_permutation_importance_with_the_same_orders():
    """Each hospital shuffles among its own; scikit-learn does it there; scores are pooled."""
    random, hospitals = np.random.default_rng(1), []
    for count in (150, 220, 300):
        x = random.normal(size=(count, 3)).astype(np.float32)
        logits = 1.6 * x[:, 0] - 0.7 * x[:, 1] + 0.05 * x[:, 2] + random.normal(size=count)
        hospitals.append((x, (logits > 0).astype(int)))
    model = LogisticRegression().fit(
        np.concatenate([x for x, _ in hospitals]), np.concatenate([y for _, y in hospitals])
    )
    lanes, whole, after = 0, [], {column: [] for column in COLUMNS}
    for number, (x, y) in enumerate(hospitals):
        seen = []

        def scored(estimator, features, labels, seen=seen):
            seen.append(estimator.predict_proba(features)[:, 1])
            return roc_auc_score(labels, seen[-1])

        permutation_importance(model, x, y, scoring=scored, n_repeats=1, random_state=number)
        order, ours = _order_of_scikit_learn(len(y), number), []
        for place, column in enumerate(COLUMNS):
            moved = shuffled(records_of(x), slice(place, place + 1), order).features.numpy()
            ours.append(model.predict_proba(moved)[:, 1])
            np.testing.assert_allclose(ours[-1], seen[1 + place], atol=1e-12)
            after[column].append(seen[1 + place])
        whole.append(seen[0])
        outcomes = Outcomes(y.astype(float), seen[0][:, None], shuffled=np.array(ours))
        lanes = lanes + layout().count(outcomes).lanes
    found = layout().metrics(read_lanes(lanes, layout()), cell_noise_sd=0.0)["importance"]
    truth = np.concatenate([y for _, y in hospitals])
    before = roc_auc_score(truth, np.concatenate(whole))
    for column, told in zip(COLUMNS, found, strict=True):
        due = before - roc_auc_score(truth, np.concatenate(after[column]))
        assert told["column"] == column
        assert told["lost"]["value"] == pytest.approx(due, abs=1e-3)
        assert told["lost"]["low"] < due < told["lost"]["high"]
    assert found[0]["lost"]["low"] > 0.1
    assert found[2]["lost"]["low"] < 0 < found[2]["lost"]["high"]


def _order_of_scikit_learn(count, seed):
    """What `permutation_importance` does with its random state for one repeat of each column."""
    state = np.random.RandomState(seed)
    columns = np.random.RandomState(state.randint(np.iinfo(np.int32).max + 1))
    order = np.arange(count)
    columns.shuffle(order)
    return order


def test_one_patient_moves_a_shuffled_columns_counts_by_the_root_of_five_at_most():
    """Every order of three patients beside every order of four that comes from it, as argued."""
    cut, most, seen = layout(CountsMode.NOISED, bins=8, columns=("a",)), 0, set()
    random = np.random.default_rng(1)
    for _ in range(6):
        table = random.random((4, 4))  # the score of p with the column of q
        truth = random.integers(0, 2, 4).astype(float)
        for before in itertools.permutations(range(3)):
            for place in range(4):
                order = [*before, 3]
                if place < 3:
                    order[3], order[place] = order[place], 3
                seen.add(tuple(order))
                moved = _column(cut, truth, table, order) - _column(cut, truth[:3], table, before)
                most = max(most, int((moved**2).sum()))
    assert seen == set(itertools.permutations(range(4)))  # each once: as likely on both sides
    assert most == 5
    assert cut.squared_sensitivity == 1 + 5
    assert layout(CountsMode.NOISED, bins=8).squared_sensitivity == 1 + 3 * 5


def _column(cut, truth, table, order):
    scores = np.array([table[p, q] for p, q in enumerate(order)])
    outcomes = Outcomes(truth, np.full((len(truth), 1), 0.5), shuffled=scores[None])
    return cut.count(outcomes).lanes[cut.cut.lanes :]


def test_the_epsilon_of_the_counts_covers_each_part_as_a_release_of_its_own():
    """Another accountant composes them one by one: the whole, two groupings, three columns."""
    epsilon, delta = 2.0, 1e-5
    groupings = (Groups("x", "1", ("0", "1")), Groups("y", "1", ("0", "1")))
    cut = layout(CountsMode.NOISED, bins=8)
    cut = replace(cut, groupings=groupings)
    deviation = gaussian_count_noise(epsilon, delta) * math.sqrt(cut.squared_sensitivity)
    accountant = PLDAccountant()
    for sensitivity, times in ((1.0, 3), (math.sqrt(5), 3)):
        for _ in range(times):
            accountant.compose(GaussianDpEvent(deviation / sensitivity))
    assert accountant.get_epsilon(delta) == pytest.approx(epsilon, abs=2e-3)
    accountant.compose(GaussianDpEvent(deviation / math.sqrt(5)))
    assert accountant.get_epsilon(delta) > 1.05 * epsilon


def test_every_order_is_as_likely():
    counts = dict.fromkeys(itertools.permutations(range(3)), 0)
    for _ in range(6000):
        counts[tuple(random_order(3, system_randomness).tolist())] += 1
    squared = sum((count - 1000) ** 2 / 1000 for count in counts.values())
    assert squared < 25  # chi squared of five: once in 7,000 runs
    assert max(abs(count - 1000) for count in counts.values()) > 0


def test_a_patient_gets_the_column_of_one_other_record_by_record():
    features = np.array([[1, 10], [2, 20], [3, 30], [4, 40], [5, 50], [6, 60]], dtype=float)
    records = records_of(features, counts=[2, 1, 3])
    found = shuffled(records, slice(1, 2), np.array([2, 0, 1]))
    assert found.features[:, 0].tolist() == [1, 2, 3, 4, 5, 6]
    assert found.features[:, 1].tolist() == [40, 50, 10, 30, 30, 30]
    assert records.features[:, 1].tolist() == [10, 20, 30, 40, 50, 60]
    with pytest.raises(BadInput, match="an order of 3 patients was due"):
        shuffled(records, slice(1, 2), np.array([0, 0, 1]))


def test_a_series_is_shuffled_with_all_its_steps_and_what_says_that_it_is_missing():
    grid = {"steps": 6, "step": 1.0, "unit": "h"}
    study = study_plan("series", "gru", hidden=(4,), columns=SERIES, grid=grid)
    where = {column.name: place for column, place in places(study.contract)}
    random = np.random.default_rng(1)
    records = records_of(random.random((4, *study.contract.input_shape())))
    found = shuffled(records, where["pulse"], np.array([1, 2, 3, 0])).features
    assert torch.equal(found[0, :, :2], records.features[1, :, :2])
    assert torch.equal(found[..., 2], records.features[..., 2])


def asking(**evaluation):
    study = STUDIES["mlp"]()
    plan = study.evaluation.model_copy(update=evaluation)
    return study.model_copy(update={"evaluation": plan})


def test_the_hospital_counts_what_the_study_asks_for_and_its_own_view_stays_as_it_was():
    study = asking(importance=("age", "ward"))
    random = np.random.default_rng(1)
    features = random.uniform(-1, 1, (30, *study.contract.input_shape()))
    held_out = records_of(features, labels=random.integers(0, 2, 30))
    records, network = StudyRecords(held_out, held_out), build(study)
    found = evaluated_outcomes(network, records, study, system_randomness)
    assert found.shuffled.shape == (2, 30, 1)
    plain = held_out_outcomes(network, held_out, study)
    np.testing.assert_array_equal(found.outputs, plain.outputs)
    assert layout_of(study).lanes == 3 * layout_of(asking()).lanes
    assert exact_layout_of(study) == exact_layout_of(asking())
    assert layout_of(study).count(found).lanes.size == layout_of(study).lanes
    assert evaluated_outcomes(network, records, asking(), system_randomness).shuffled is None


def test_a_column_that_the_network_does_not_read_is_shuffled_without_a_loss():
    study = asking(importance=True)
    random, network = np.random.default_rng(1), build(asking())
    where = {column.name: place for column, place in places(study.contract)}
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(generator=torch.Generator().manual_seed(1))
        next(iter(network.parameters()))[:, where["age"]] = 0.0
    held_out = records_of(random.uniform(-1, 1, (60, *study.contract.input_shape())))
    found = evaluated_outcomes(network, StudyRecords(held_out, held_out), study, random.bytes)
    np.testing.assert_array_equal(found.shuffled[0], found.outputs)
    assert (found.shuffled[1] != found.outputs).any()


def test_noised_counts_of_shuffled_columns_are_read_with_their_noise():
    cut, random = layout(CountsMode.NOISED, bins=8), np.random.default_rng(1)
    truth = (random.random(5000) < 0.4).astype(float)
    scores = 1 / (1 + np.exp(-(random.normal(size=5000) + 2 * truth - 1)))
    nothing = random.permutation(scores)
    outcomes = Outcomes(truth, scores[:, None], shuffled=np.array([nothing, scores, scores]))
    lanes, sd = cut.count(outcomes).noised(2.0, random.bytes), pooled_noise_sd(cut, [2.0])
    assert sd == pytest.approx(2 * math.sqrt(16), rel=0.01)
    found = cut.metrics(read_lanes(lanes, cut), cell_noise_sd=sd)["importance"]
    assert found[0]["lost"]["noise_low"] > 0.2
    for told in found[1:]:
        assert abs(told["lost"]["value"]) < told["lost"]["noise_high"] - told["lost"]["noise_low"]


def test_counts_with_other_patients_are_refused_and_one_outcome_gives_no_number():
    truth = np.array([0.0, 1, 1, 0])
    outcomes = Outcomes(truth, np.full((4, 1), 0.25), shuffled=np.full((3, 4), 0.75))
    lanes = layout().count(outcomes).lanes
    others = Outcomes(1 - truth[:3], outcomes.outputs[:3], shuffled=np.full((3, 3), 0.75))
    lanes[-layout().cut.lanes :] = layout().count(others).lanes[-layout().cut.lanes :]
    with pytest.raises(BadInput, match="a shuffled column has other patients"):
        read_lanes(lanes, layout())
    with pytest.raises(BadInput, match="outputs of 3 shuffled columns were due"):
        layout().count(Outcomes(truth, np.full((4, 1), 0.25)))
    ill = Outcomes(np.ones(4), np.full((4, 1), 0.25), shuffled=np.full((3, 4), 0.75))
    found = layout().metrics(layout().count(ill).lanes, cell_noise_sd=0.0)["importance"]
    assert found[0] == {"column": "a", "auroc": None, "lost": None}
