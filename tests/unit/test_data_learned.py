"""Who is trained on: everybody, or in search of the strange only those that are not."""

import numpy as np
import pytest
from tests.support.study_plans import BINARY, NONE, STUDIES, study_plan

from wardround.errors import BadInput
from wardround.study.contract import Label
from wardround_client.cli.review import in_words
from wardround_client.comparison.sites import Gathered, study_of
from wardround_client.data.encoding import EncodedRecords
from wardround_client.data.split import learned_from

NORMAL_ONLY = NONE | {"train_on": "negative"}
RECORDS = EncodedRecords(
    features=np.arange(12, dtype=np.float32).reshape(6, 2),
    labels=np.array([0, 0, 1, 0, 1, 0], dtype=np.float32),
    offsets=np.array([0, 1, 3, 4, 5, 6]),
    patients=("a", "b", "c", "d", "e"),
)


def test_a_patient_with_one_strange_record_is_not_trained_on():
    kept = learned_from(RECORDS, Label.model_validate(NORMAL_ONLY))
    assert kept.patients == ("a", "c", "e")
    assert kept.features[:, 0].tolist() == [0, 6, 10]
    assert not kept.labels.any()
    assert learned_from(RECORDS, Label.model_validate(NONE)) is RECORDS


def test_one_patient_more_changes_nobody_elses_part():
    without = RECORDS.of_patients([0, 1, 2, 3])
    label = Label.model_validate(NORMAL_ONLY)
    assert learned_from(without, label).patients == ("a", "c")
    nobody = learned_from(RECORDS.of_patients([1, 3]), label)
    assert (nobody.patients, nobody.features.shape) == ((), (0, 2))


def test_the_strange_ones_are_held_out_and_never_trained_on():
    plan = STUDIES["dense autoencoder"]()
    contract = plan.contract.model_copy(update={"label": Label.model_validate(NORMAL_ONLY)})
    many = EncodedRecords(
        features=np.zeros((200, 5), dtype=np.float32),
        labels=(np.arange(200) % 2).astype(np.float32),
        offsets=np.arange(201),
        patients=tuple(sorted(f"p{number}" for number in range(200))),
    )
    plain = Gathered(plan, {"north": many}, {"north": "north-all"}).sites()["north"]
    own = Gathered(
        plan.model_copy(update={"contract": contract}), {"north": many}, {"north": "north-all"}
    ).sites()["north"]
    assert plain.train.labels.sum() > 50
    assert own.train.labels.sum() == 0
    assert own.train.patients == int((plain.train.labels == 0).sum())
    assert own.held_out.labels.tolist() == plain.held_out.labels.tolist()
    assert own.held_out.labels.sum() > 10


@pytest.mark.parametrize(
    "label", [BINARY | {"train_on": "negative"}, NORMAL_ONLY | {"positive": None}]
)
def test_whom_to_leave_out_has_to_be_known_and_of_no_use_otherwise(label):
    with pytest.raises(BadInput, match="belongs to a label of kind none with `positive`"):
        study_plan("autoencoder", "dense-autoencoder", hidden=(3,), label=label)


def test_a_study_that_trains_on_everybody_is_written_as_before():
    assert "train_on" not in STUDIES["dense autoencoder"]().to_json()["contract"]["label"]
    only = study_plan("autoencoder", "dense-autoencoder", hidden=(3,), label=NORMAL_ONLY)
    assert only.to_json()["contract"]["label"]["train_on"] == "negative"


def test_an_officer_is_told_whom_a_study_learns_from():
    only = study_plan("autoencoder", "dense-autoencoder", hidden=(3,), label=NORMAL_ONLY)
    told = f"; it learns from patients without {only.contract.label.positive} alone\n"
    names = ("harbour", "lakeside", "northside")
    assert told in in_words(study_of(only, names))
    assert "it learns from" not in in_words(study_of(STUDIES["dense autoencoder"](), names))
