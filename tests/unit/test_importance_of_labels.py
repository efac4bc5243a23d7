"""`wardround importance` for labels other than yes or no: by the metric of the whole model."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import mean_absolute_error, roc_auc_score
from tests.support.decision_support import support_of, ward_with_model
from tests.support.study_plans import CLASSES, EVENT, MANY, NUMBERS, TABLE, study_value
from tests.support.survival_oracles import harrell

from wardround.models.networks import build
from wardround.study.files import checked
from wardround.study.manifest import Study
from wardround_client.explanation.importance import importance
from wardround_client.training.plan import PatientRecords

FAMILIES = {
    "classes": ("risk", CLASSES),
    "labels": ("response", MANY),
    "numbers": ("response", NUMBERS),
    "survival": ("survival", EVENT),
}
ROSTER = [
    {"name": name, "fingerprint": sign * 64} for name, sign in (("a", "0"), ("b", "1"), ("c", "2"))
]
PATIENTS = 300


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    ward, _ = ward_with_model(tmp_path_factory.mktemp("ward") / "ward", patients=60)
    yield support_of(ward["lakeside"])
    ward.close()


def of_label(kept, kind):
    """A model that reads age alone, and patients whose truth is what it says of most of them."""
    family, label = FAMILIES[kind]
    value = study_value(family, "mlp", hidden=(4,), label=label, columns=TABLE[:2])
    study = checked(Study, value | {"roster": ROSTER, "rounds": ROUNDS}, what="study")
    network, random = build(study), np.random.default_rng(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter[:] = torch.from_numpy(random.normal(0, 0.8, parameter.shape))
        next(network.parameters())[:, 1] = 0.0  # the second feature is male
    features = torch.from_numpy(random.uniform(-1, 1, (PATIENTS, 2))).float()
    held_out = PatientRecords(
        features=features, labels=torch.zeros(PATIENTS), offsets=np.arange(PATIENTS + 1)
    )
    released = replace(kept.standing.released, network=network, scales=())
    standing = replace(kept.standing, study=study, released=released)
    support = replace(kept, standing=standing, held_out=held_out)
    truth = TRUTHS[kind](random, support.scores(held_out))
    shown = torch.from_numpy(2 * truth - 1 if kind == "numbers" else truth)
    return replace(support, held_out=replace(held_out, labels=shown)), truth


def _classes(random, said):
    truth = ((said - said.mean(axis=0)) / said.std(axis=0)).argmax(axis=1)
    return np.where(random.random(len(said)) < 0.2, random.integers(0, 3, len(said)), truth)


def _labels(random, said):
    middle = np.median(said, axis=0)
    return ((said > middle) ^ (random.random(said.shape) < 0.1)).astype(float)


def _numbers(random, said):
    return np.clip(said + random.normal(0, 0.02, said.shape), 0, 1)


def _survival(random, said):
    times = 500 * (1 - said[:, -1]) * random.uniform(0.6, 1.0, len(said))
    return np.stack([times, (random.random(len(said)) < 0.7).astype(float)], axis=1)


TRUTHS = {"classes": _classes, "labels": _labels, "numbers": _numbers, "survival": _survival}
# Outputs of a small network lie close together; of 300 times, some share a bin.
WITHIN = {"classes": 3e-3, "labels": 3e-3, "numbers": 1e-6, "survival": 1.5e-2}
ROUNDS = {"count": 2, "quorum": 3}


def oracle(kind, truth, said):
    if kind == "survival":
        within = truth[:, 0] < 400.0
        return harrell(np.minimum(truth[:, 0], 400.0), within * truth[:, 1], said[:, -1])
    if kind == "numbers":
        return mean_absolute_error(truth, said)
    asked = truth if kind == "labels" else truth[:, None] == np.arange(3)
    return np.mean([roc_auc_score(asked[:, at], said[:, at]) for at in range(said.shape[1])])


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_column_is_worth_what_the_whole_model_loses_without_it(kept, kind):
    support, truth = of_label(kept, kind)
    found = importance(support)
    said = support.scores(support.held_out)
    assert found.value == pytest.approx(oracle(kind, truth, said), abs=WITHIN[kind])
    age, male = (next(c for c in found.columns if c.column == name) for name in ("age", "male"))
    assert male.worse_by == pytest.approx(0.0, abs=1e-9)
    assert age.worse_by > 0.05
    assert f"{found.metric} {found.value:.3f}" in found.lines()[1]
    assert "worse by +0.000  male" in "\n".join(found.lines())
    assert found.to_json()["columns"][0]["worse_by"] == pytest.approx(age.worse_by, abs=1e-5)
