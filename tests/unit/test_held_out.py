"""Held-out patients of every family: outcomes that are counted, and losses for our own eyes."""

import numpy as np
import pytest
import torch
from tests.support.study_plans import STUDIES
from torch import nn

from wardround.evaluation.layouts import exact_layout_of, layout_of
from wardround.evaluation.shown import rows
from wardround.models.family import family_of
from wardround.models.networks import build
from wardround_client.attacks.membership import confidence, loss_score
from wardround_client.held_out import held_out_outcomes, held_out_scores, losses_of_patients
from wardround_client.records import learned
from wardround_client.training.plan import PatientRecords


def patients_of(study, counts=(2, 1, 3, 1, 1, 1)):
    """Records of some patients, whose label is the same in all of a patient's records."""
    random = np.random.default_rng(5)
    label, patients = study.contract.label, len(counts)
    if label.time is not None:
        labels = np.stack(
            [random.uniform(0, 500, patients), random.integers(0, 2, patients)], axis=1
        )
    elif label.targets:
        labels = random.integers(0, 2, (patients, len(label.targets))).astype(float)
        labels[0, 0] = np.nan
    else:
        labels = random.integers(0, max(2, len(label.classes)), patients).astype(float)
    features = random.uniform(-1, 1, (sum(counts), *study.contract.input_shape()))
    return PatientRecords(
        features=torch.tensor(features).float(),
        labels=torch.tensor(np.repeat(labels, counts, axis=0)).float(),
        offsets=np.cumsum([0, *counts]),
    )


def network_of(study):
    network = build(study)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network


@pytest.mark.parametrize("name", STUDIES)
def test_held_out_patients_of_every_family_are_counted_and_shown(name):
    study = STUDIES[name]()
    held_out = patients_of(study)
    outcomes = held_out_outcomes(network_of(study), held_out, study)
    assert len(outcomes.truth) == len(outcomes.outputs) == held_out.patients
    for layout in (layout_of(study), exact_layout_of(study)):
        lanes = layout.count(outcomes).lanes
        assert len(lanes) == layout.lanes
        assert rows(layout.metrics(lanes, cell_noise_sd=0.0))


def test_a_score_is_the_mean_over_the_patients_records():
    study = STUDIES["mlp"]()
    held_out, network = patients_of(study), network_of(study)
    labels, scores = held_out_scores(network, held_out, study)
    with torch.no_grad():
        each = torch.sigmoid(network(held_out.features)).double().numpy()[:, 0]
    due = np.add.reduceat(each, held_out.offsets[:-1]) / np.diff(held_out.offsets)
    np.testing.assert_allclose(scores, due, rtol=1e-6)
    assert labels.tolist() == held_out.labels.numpy()[held_out.offsets[:-1]].astype(bool).tolist()


def test_nobody_held_out_gives_no_row():
    study = STUDIES["hazards"]()
    nobody = PatientRecords(
        features=torch.zeros(0, 5), labels=torch.zeros(0, 2), offsets=np.array([0])
    )
    assert len(held_out_outcomes(build(study), nobody, study).truth) == 0
    assert losses_of_patients(build(study), nobody, study).size == 0


@pytest.mark.parametrize("name", STUDIES)
def test_a_patients_loss_is_the_mean_of_its_records(name):
    study = STUDIES[name]()
    family, records, network = family_of(study), patients_of(study), network_of(study)
    with torch.no_grad():
        targets = family.targets(records.features, records.labels)
        each = family.loss(study)(network.eval()(records.features), targets).double().numpy()
    due = np.add.reduceat(each, records.offsets[:-1]) / np.diff(records.offsets)
    np.testing.assert_allclose(losses_of_patients(network, records, study), due, rtol=1e-5)


def test_what_is_learned_are_the_labels_or_the_records_themselves():
    plain, mirror = STUDIES["mlp"](), STUDIES["dense autoencoder"]()
    assert learned(patients_of(plain), plain).labels.dim() == 1
    records = patients_of(mirror)
    assert learned(records, mirror).labels is records.features


def test_the_confidence_of_an_attack_is_the_logit_of_the_patients_own_label():
    study = STUDIES["logistic regression"]()
    records = patients_of(study, (1,) * 6)
    network = nn.Linear(5, 1)
    with torch.no_grad():
        network.weight.mul_(30)
        logits = network(records.features)[:, 0].double().numpy()
    own = (2 * records.labels.numpy() - 1) * logits
    np.testing.assert_allclose(confidence(network, records), own, rtol=1e-5)
    np.testing.assert_allclose(loss_score(network, records), -np.log1p(np.exp(-own)), rtol=1e-5)


@pytest.mark.parametrize("name", ["hazards", "classes of a table", "several targets"])
def test_an_attack_scores_patients_of_other_labels_by_the_loss_they_were_trained_with(name):
    study = STUDIES[name]()
    records, network = patients_of(study), network_of(study)
    loss = family_of(study).loss(study)
    scores = loss_score(network, records, loss)
    np.testing.assert_allclose(scores, -losses_of_patients(network, records, study), rtol=1e-5)
    odds = confidence(network, records, loss)
    assert np.isfinite(odds).all()
    single = np.diff(records.offsets) == 1
    assert (np.argsort(odds[single]) == np.argsort(scores[single])).all()
