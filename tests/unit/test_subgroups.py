"""Which group a patient is in, and what a study may ask: the hospital's side, the plan's side."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.support.study_plans import BINARY, CLASSES, TABLE, image, study_plan, study_value

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


def plan(**evaluation):
    return study_plan(
        "risk", "mlp", hidden=(5,), evaluation={"registered": "2026-11-22", **evaluation}
    )


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


FAULTS = [
    ({"subgroups": [{"column": "height"}]}, "subgroups by height: a column of the contract"),
    ({"subgroups": [{"column": "age"}]}, "`edges` belong to continuous columns, and are due there"),
    ({"subgroups": [{"column": "male", "edges": [0.5]}]}, "`edges` belong to continuous"),
    ({"subgroups": [{"column": "age", "edges": [65, 45]}]}, "rise within the column's range"),
    ({"subgroups": [{"column": "age", "edges": [0, 45]}]}, "rise within the column's range"),
    ({"subgroups": [MALE, MALE]}, "named twice"),
    ({"subgroups": [AGE], "smallest_group": 4}, "greater than or equal to 5"),
    ({"smallest_group": 10}, "`smallest_group` belongs to `subgroups`"),
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
        ("risk", TABLE, CLASSES, {"subgroups": [MALE]}, "need a label of yes or no"),
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
    model = "reference-cnn" if family == "image" else "mlp"
    hidden = () if family == "image" else (4,)
    evaluation = {"registered": "2026-11-22", **asked}
    with pytest.raises(BadInput, match=why):
        study_plan(
            family, model, hidden=hidden, columns=columns, label=label, evaluation=evaluation
        )
