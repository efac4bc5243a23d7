"""Which group a patient is in, and what a study may ask: the hospital's side, the plan's side."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.support.study_plans import (
    BINARY,
    CLASSES,
    EVENT,
    MANY,
    NONE,
    NUMBERS,
    TABLE,
    image,
    study_plan,
    study_value,
)

from wardround.canonical import canonical_bytes
from wardround.errors import BadInput
from wardround.evaluation.binary import BinaryLayout
from wardround.evaluation.detailed import DetailedLayout
from wardround.evaluation.layouts import layout_of
from wardround.study.files import checked
from wardround.study.manifest import StudyPlan
from wardround_client.data.reading import Records
from wardround_client.subgroups import groups_of

AGE = {"column": "age", "edges": [45, 65]}
MALE, WARD = {"column": "male"}, {"column": "ward"}
CROSSED = {"crossed": [MALE, AGE]}
UNKNOWN = {key: value for key, value in NONE.items() if key != "positive"}


def plan(**evaluation):
    noised = {"mechanism": "local", "epsilon": 2.0, "delta": 1e-4} if "counts" in evaluation else {}
    privacy = {"mechanism": "none", "clip_norm_l2": 1.0, "sampling_rate": 0.5} | noised
    asked = {"registered": "2026-11-22", **evaluation}
    return study_plan("risk", "mlp", hidden=(5,), evaluation=asked, privacy=privacy)


def records(patients, **columns):
    table = pd.DataFrame(columns)
    return Records(
        patients=tuple(patients),
        values=table,
        labels=np.zeros(len(table), dtype=np.int8),
        folder=Path(),
    )


def test_every_patient_is_in_one_group_of_each_grouping():
    study = plan(subgroups=[AGE, MALE, WARD])
    found = groups_of(
        records(
            "abcdef",
            age=[44.999, 45.0, 64.999, 65.0, 0.0, 100.0],
            male=[0.0, 1.0, 1.0, 0.0, 0.0, 1.0],
            ward=["a", "b", None, "a", "b", "a"],
        ),
        list("abcdef"),
        study,
    )
    assert found.T.tolist() == [[0, 1, 1, 2, 0, 2], [0, 1, 1, 0, 0, 1], [0, 1, 2, 0, 1, 0]]


def test_who_is_missing_or_differs_between_records_is_not_known_and_others_do_not_matter():
    rows = records("aabbccd", age=[30.0, 44.0, 44.0, 46.0, np.nan, 50.0, np.nan], male=[0.0] * 7)
    study = plan(subgroups=[AGE])
    assert groups_of(rows, list("abcd"), study).tolist() == [[0], [3], [3], [3]]
    assert groups_of(rows, ["d", "a"], study).tolist() == [[3], [0]]
    assert groups_of(rows, [], study).shape == (0, 1)
    assert groups_of(rows, ["a"], plan()) is None


def test_a_crossing_has_a_group_for_each_pair_and_one_for_who_is_not_known_in_either():
    rows = records(
        "abcdefg",
        age=[30.0, 50.0, 80.0, 30.0, 80.0, np.nan, 50.0],
        male=[0.0, 0.0, 0.0, 1.0, 1.0, 1.0, np.nan],
    )
    study = plan(subgroups=[CROSSED, WARD])
    found = groups_of(replace(rows, values=rows.values.assign(ward="b")), list("abcdefg"), study)
    assert found[:, 0].tolist() == [0, 1, 2, 3, 5, 6, 6]
    assert set(found[:, 1].tolist()) == {1}
    (crossed, ward) = layout_of(study).groupings
    assert (crossed.column, crossed.unit) == ("male by age", "a")
    assert crossed.names[:4] == ("0, < 45", "0, ≥ 45, < 65", "0, ≥ 65", "1, < 45")
    assert ward.names == ("a", "b")
    asked = study.to_json()["evaluation"]["subgroups"]
    assert asked[0] == {"crossed": [{"column": "male", "edges": []}, AGE]}


def test_with_noise_a_crossing_may_stand_beside_its_margins():
    study = plan(subgroups=[CROSSED, MALE, AGE], **NOISED)
    assert [len(g.names) for g in layout_of(study).groupings] == [6, 2, 3]
    assert layout_of(study).squared_sensitivity == 4


def test_with_exact_counts_no_group_is_told_by_the_column_of_a_treatment():
    treatment = {
        "column": "male",
        "treated": "drug",
        "untreated": "placebo",
        "probability": 0.5,
        "assignment": "randomised",
        "protocol": "a trial",
    }
    task = {"family": "risk", "model": "mlp", "hidden": [5], "treatment": treatment}
    value = study_value("risk", "mlp", task=task)
    asked = value["evaluation"] | {"subgroups": [WARD]}
    layout_of(checked(StudyPlan, value | {"evaluation": asked}, what="study"))
    asked = value["evaluation"] | {"subgroups": [{"crossed": [WARD, MALE]}]}
    with pytest.raises(BadInput, match="no group is told by the column of the treatment"):
        layout_of(checked(StudyPlan, value | {"evaluation": asked}, what="study"))


@pytest.mark.parametrize("label", [CLASSES, MANY, NUMBERS, EVENT], ids=lambda each: each["name"])
def test_every_label_is_told_apart(label):
    family = "survival" if label is EVENT else "risk" if label is CLASSES else "response"
    evaluation = {"registered": "2026-11-22", "subgroups": [CROSSED], "bins": 20, "time_bins": 2}
    study = study_plan(
        family, "mlp", hidden=(4,), label=label, evaluation={**evaluation, "importance": ["age"]}
    )
    found = layout_of(study)
    assert isinstance(found, DetailedLayout)
    assert found.lanes == found.whole.lanes * (1 + 6 + 2 + 1)
    whole = layout_of(study_plan(family, "mlp", hidden=(4,), label=label, evaluation=evaluation))
    assert found.whole == whole or found.whole == whole.whole


def test_the_study_says_the_cells_and_the_hospital_counts_into_them():
    study = plan(subgroups=[AGE, MALE], importance=["male"])
    found = layout_of(study)
    assert isinstance(found, DetailedLayout)
    assert [grouping.names for grouping in found.groupings] == [
        ("< 45", "≥ 45, < 65", "≥ 65"),
        ("0", "1"),
    ]
    assert (found.smallest, found.shuffled) == (5, ("male",))
    assert isinstance(layout_of(plan()), BinaryLayout)
    assert plan(importance=True).evaluation.shuffled(study.contract) == ("age", "male", "ward")


def test_a_study_without_groups_keeps_its_bytes():
    value = study_value("risk", "mlp", hidden=(5,))
    before = canonical_bytes(checked(StudyPlan, value, what="study").to_json())
    for name in (b"subgroups", b"smallest_group", b"importance"):
        assert name not in before
    asked = plan(subgroups=[AGE], smallest_group=10, importance=True).to_json()["evaluation"]
    assert asked["subgroups"] == [{"column": "age", "edges": [45.0, 65.0]}]
    assert (asked["smallest_group"], asked["importance"]) == (10, True)


NOISED = {"counts": "noised", "epsilon": 1.0, "bins": 8}
MANY_BANDS = {"column": "age", "edges": list(range(1, 20))}
FAULTS = [
    ({"subgroups": [{"column": "height"}]}, "subgroups by height: a column of the contract"),
    ({"subgroups": [{"column": "age"}]}, "`edges` belong to continuous columns, and are due there"),
    ({"subgroups": [{"column": "male", "edges": [0.5]}]}, "`edges` belong to continuous"),
    ({"subgroups": [{"column": "age", "edges": [65, 45]}]}, "rise within the column's range"),
    ({"subgroups": [{"column": "age", "edges": [0, 45]}]}, "rise within the column's range"),
    ({"subgroups": [MALE, MALE]}, "named twice"),
    ({"subgroups": [AGE], "smallest_group": 4}, "greater than or equal to 5"),
    ({"smallest_group": 10}, "`smallest_group` belongs to `subgroups`"),
    ({"subgroups": [{"crossed": [MALE]}]}, "crossed"),
    ({"subgroups": [{"crossed": [MALE, MALE]}], **NOISED}, "two different columns are due"),
    ({"subgroups": [{"crossed": [MALE, {"column": "age"}]}]}, "`edges` belong to continuous"),
    ({"subgroups": [{"crossed": [MALE, {"column": "height"}]}]}, "subgroups by height: a column"),
    ({"subgroups": [CROSSED, MALE]}, "a column is in one grouping or crossing alone"),
    ({"subgroups": [CROSSED, {"crossed": [WARD, AGE]}]}, "would come out by subtraction"),
    ({"subgroups": [CROSSED, {"crossed": [AGE, MALE]}], **NOISED}, "named twice"),
    ({"subgroups": [{"crossed": [MALE, MANY_BANDS]}]}, "male by age: 40 groups, 36 at most"),
    ({"importance": ["height"]}, "importance names a column that is not the contract's"),
    ({"importance": ["age", "age"]}, "named twice"),
    ({"importance": []}, "at least 1 item"),
    ({"importance": 1}, "importance"),
]


@pytest.mark.parametrize(("evaluation", "why"), FAULTS)
def test_a_plan_that_does_not_fit_its_contract_is_refused(evaluation, why):
    with pytest.raises(BadInput, match=why):
        plan(**evaluation)


@pytest.mark.parametrize(
    ("family", "columns", "label", "asked", "why"),
    [
        ("autoencoder", TABLE, UNKNOWN, {"subgroups": [MALE]}, "that the evaluation knows"),
        (
            "risk",
            TABLE[:1],
            BINARY,
            {"importance": True},
            "of an image or one column",
        ),
        ("image", image(), BINARY, {"importance": True}, "of an image or one column"),
    ],
)
def test_what_cannot_be_told_apart_is_refused(family, columns, label, asked, why):
    model = {"image": "reference-cnn", "autoencoder": "dense-autoencoder"}.get(family, "mlp")
    hidden = () if family == "image" else (4,)
    evaluation = {"registered": "2026-11-22", **asked}
    with pytest.raises(BadInput, match=why):
        study_plan(
            family, model, hidden=hidden, columns=columns, label=label, evaluation=evaluation
        )
