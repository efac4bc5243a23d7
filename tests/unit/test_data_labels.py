"""Labels of every kind, from a hospital's file to what a network learns."""

import numpy as np
import pytest
from tests.support.described_data import contract, description, encoded, refusal, write
from tests.support.study_plans import BINARY, CLASSES, EVENT, MANY, NONE, NUMBERS

from wardround_client.data.check import Verdict, check

CLASS_RULE = {"source": "y", "classes": {"n": "normal", "b": "benign", "m": "malignant"}}
EVENT_RULE = {
    "source": "dead",
    "positive_when": "==1",
    "time": {"column": "time", "source": "t", "unit": "d"},
}
TARGET_RULE = {
    "targets": [
        {"column": "liver", "source": "a"},
        {"column": "heart", "source": "b", "missing": ["?"]},
    ]
}


def rows(names, *lines):
    return "\n".join([f"id,age,{names}", *lines]) + "\n"


def test_classes_become_numbers_in_the_contracts_order(tmp_path):
    write(tmp_path, main_csv=rows("y", "p1,50,m", "p2,60,n", "p3,70,b"))
    got = encoded(description(CLASS_RULE), contract(CLASSES), tmp_path)
    assert got.labels.tolist() == [2, 0, 1]
    assert got.labels.dtype == np.float32


def test_a_code_that_no_class_is_named_for_is_counted(tmp_path):
    write(tmp_path, main_csv=rows("y", "p1,50,m", "p2,60,strange", "p3,70,"))
    said = refusal(description(CLASS_RULE), contract(CLASSES), tmp_path)
    assert "label: 2 of 3 values are missing or unknown to its rule" in said
    assert "strange" not in said


def test_a_time_to_an_event_is_a_time_and_whether_it_came(tmp_path):
    write(tmp_path, main_csv=rows("dead,t", "p1,50,1,12.5", "p2,60,0,999"))
    got = encoded(description(EVENT_RULE), contract(EVENT), tmp_path)
    assert got.labels.tolist() == [[12.5, 1], [999, 0]]


def test_a_time_in_another_unit_is_converted_and_without_it_refused(tmp_path):
    write(tmp_path, main_csv=rows("dead,t", "p1,50,1,2"))
    time = {"column": "time", "source": "t", "unit": "mo"}
    rule = EVENT_RULE | {"time": time | {"convert": {"to": "d", "scale": 30.0}}}
    assert encoded(description(rule), contract(EVENT), tmp_path).labels.tolist() == [[60, 1]]
    said = refusal(description(EVENT_RULE | {"time": time}), contract(EVENT), tmp_path)
    assert "unit mo came, the contract has d" in said


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("p1,50,1,-3", "label time: 1 of 1 values outside 0..1e+09 d"),
        ("p1,50,1,", "label time: 1 of 1 values are missing"),
        ("p1,50,1,soon", "label time: 1 of 1 values cannot be read"),
        ("p1,50,,3", "label: 1 of 1 values are missing or unknown"),
    ],
)
def test_a_prognosis_that_is_not_whole_is_refused_in_counts(tmp_path, line, why):
    write(tmp_path, main_csv=rows("dead,t", line))
    assert why in refusal(description(EVENT_RULE), contract(EVENT), tmp_path)


def test_two_prognoses_of_one_patient_are_refused(tmp_path):
    write(tmp_path, main_csv=rows("dead,t", "p1,50,1,5", "p1,51,1,6", "p2,50,0,6"))
    said = refusal(description(EVENT_RULE), contract(EVENT), tmp_path)
    assert "1 patients have records with different labels" in said


def test_targets_may_be_missing_and_are_scaled_by_their_ranges(tmp_path):
    write(tmp_path, main_csv=rows("a,b", "p1,50,0,?", "p2,60,10,0.5", "p3,60,,?"))
    described = description(TARGET_RULE, csv={"missing": [""]})
    found = encoded(described, contract(NUMBERS), tmp_path)
    np.testing.assert_allclose(found.labels, [[-1, np.nan], [1, 0.5], [np.nan, np.nan]])
    seen = check(described, contract(NUMBERS), tmp_path)
    assert "label: 1 of 3 rows have no target at all" in seen.remarks
    assert seen.outcomes == ("liver known of <5 patients", "heart known of <5 patients")


def test_yes_or_no_targets_are_0_and_1_and_another_value_is_refused(tmp_path):
    write(tmp_path, main_csv=rows("a,b", "p1,50,0,?", "p2,60,1.0,1"))
    found = encoded(description(TARGET_RULE), contract(MANY), tmp_path)
    np.testing.assert_array_equal(found.labels, [[0, np.nan], [1, 1]])
    write(tmp_path, main_csv=rows("a,b", "p1,50,7,1"))
    assert "label liver: 1 of 1 values cannot be read" in refusal(
        description(TARGET_RULE), contract(MANY), tmp_path
    )


def test_a_number_outside_its_targets_range_is_refused(tmp_path):
    write(tmp_path, main_csv=rows("a,b", "p1,50,11,0"))
    said = refusal(description(TARGET_RULE), contract(NUMBERS), tmp_path)
    assert "label liver: 1 of 1 values outside 0..10 1" in said


def test_a_target_that_a_hospital_does_not_have_is_missing_everywhere(tmp_path):
    write(tmp_path, main_csv=rows("a", "p1,50,1"))
    rule = {"targets": [TARGET_RULE["targets"][0], {"column": "heart", "absent": True}]}
    found = encoded(description(rule), contract(MANY), tmp_path)
    np.testing.assert_array_equal(found.labels, [[1, np.nan]])


def test_without_a_label_records_are_read_and_with_one_it_serves_the_evaluation(tmp_path):
    write(tmp_path, main_csv=rows("y", "p1,50,1", "p2,60,0"))
    alone = {name: part for name, part in NONE.items() if name != "positive"}
    assert encoded(description(), contract(alone), tmp_path).labels.shape == (2, 0)
    rule = {"source": "y", "positive_when": ">0"}
    assert encoded(description(rule), contract(NONE), tmp_path).labels.tolist() == [1, 0]
    assert "the study uses none" in refusal(description(rule), contract(alone), tmp_path)


@pytest.mark.parametrize(
    ("rule", "label", "why"),
    [
        (CLASS_RULE, BINARY, "wants yes or no"),
        (CLASS_RULE, EVENT, "wants an event with `time`"),
        ({"source": "y", "positive_when": ">0"}, EVENT, "a rule of yes or no came"),
        (EVENT_RULE, BINARY, "a rule of an event with `time` came"),
        (TARGET_RULE, CLASSES, "wants `classes`"),
        (None, BINARY, "label sick: the contract wants it, it is not described"),
        (CLASS_RULE | {"classes": {"n": "fine"}}, CLASSES, "leads to 'fine', the contract knows"),
        ({"targets": TARGET_RULE["targets"][:1]}, MANY, "wants target heart"),
        (
            {"targets": [*TARGET_RULE["targets"], {"column": "lung", "source": "c"}]},
            MANY,
            "no target lung in the contract",
        ),
    ],
)
def test_a_rule_that_does_not_fit_the_contracts_label_is_refused(tmp_path, rule, label, why):
    write(tmp_path, main_csv=rows("y,dead,t,a,b", "p1,50,1,1,1,1,1"))
    assert why in refusal(description(rule), contract(label), tmp_path)


def test_the_check_counts_patients_of_each_outcome_and_hides_small_counts(tmp_path):
    lines = [f"p{i},50,{'nnnnnnnmmb'[i % 10]}" for i in range(20)]
    write(tmp_path, main_csv=rows("y", *lines))
    seen = check(description(CLASS_RULE), contract(CLASSES), tmp_path)
    assert seen.verdict is Verdict.READY
    due = ("14 patients normal", "<5 patients benign", "<5 patients malignant")
    assert seen.outcomes == due
    lines = [f"p{i},50,{int(i < 6)},{i + 1}" for i in range(20)]
    write(tmp_path, main_csv=rows("dead,t", *lines))
    seen = check(description(EVENT_RULE), contract(EVENT), tmp_path)
    assert seen.outcomes == ("6 patients with the event, 14 without",)
    assert (seen.positive, seen.negative) == ("6", "14")


def test_a_hospital_without_any_event_is_told_so_and_may_train(tmp_path):
    write(tmp_path, main_csv=rows("dead,t", "p1,50,0,5", "p2,50,0,6"))
    seen = check(description(EVENT_RULE), contract(EVENT), tmp_path)
    assert any("C-index will be NA" in remark for remark in seen.remarks)
    assert seen.verdict is Verdict.READY_WITH_REMARKS
