"""Labels and columns of every kind in a study: what is written, and what is refused."""

import pytest
from tests.support.study_plans import (
    BINARY,
    CLASSES,
    EVENT,
    GRID,
    MANY,
    MOLECULE,
    NONE,
    NUMBERS,
    SERIES,
    STUDIES,
    TABLE,
    image,
    study_plan,
    study_value,
)

from wardround.canonical import canonical_bytes
from wardround.errors import BadInput
from wardround.study.contract import Contract, Label
from wardround.study.files import checked
from wardround.study.manifest import StudyPlan


def test_a_study_of_a_table_and_a_yes_or_no_is_written_as_before_other_kinds_came():
    """So that a study that was signed then keeps its bytes and its digest."""
    written = study_plan("risk", "logistic-regression").to_json()
    assert written["contract"]["label"] == BINARY
    assert set(written["contract"]) == {"patient_key", "label", "columns"}
    column = written["contract"]["columns"][0]
    due = {"name", "kind", "description", "unit", "range", "categories", "may_be_missing", "shape"}
    assert set(column) == due
    assert "time_bins" not in written["evaluation"]
    assert set(written["task"]) == {"family", "model", "hidden"}


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_of_every_family_is_read_back_from_what_is_written(name):
    study = STUDIES[name]()
    written = study.to_json()
    again = checked(StudyPlan, written, what="study")
    assert again == study
    assert canonical_bytes(again.to_json()) == canonical_bytes(written)


@pytest.mark.parametrize(
    ("label", "channels"),
    [
        (BINARY, ("sick",)),
        (CLASSES, ("normal", "benign", "malignant")),
        (EVENT, ("until 100 d", "until 200 d", "until 400 d")),
        (MANY, ("liver", "heart")),
        (NUMBERS, ("liver", "heart")),
        (NONE, ()),
    ],
)
def test_a_labels_channels_are_named(label, channels):
    read = Label.model_validate(label)
    assert read.channels == channels
    assert read.numbers == (label is NUMBERS)


def test_the_input_of_every_kind_of_contract_has_its_shape():
    def shape(columns, **more):
        value = {"patient_key": "id", "label": BINARY, "columns": columns} | more
        return Contract.model_validate(value).input_shape()

    assert shape(TABLE) == (5,)
    assert shape(MOLECULE + TABLE) == (37,)
    assert shape(image(9, 3)) == (3, 9, 9)
    assert shape(SERIES, grid=GRID) == (6, 3)


TIME = EVENT["time"]
BAD_LABELS = [
    (BINARY | {"classes": ["a", "b"]}, "`classes` does not belong to a label of kind binary"),
    ({"name": "sick", "description": "x"}, "`positive` is due in a label of kind binary"),
    (CLASSES | {"positive": "x"}, "`positive` does not belong to"),
    (CLASSES | {"classes": ["a"]}, "at least two `classes`"),
    (CLASSES | {"classes": ["a", "a"]}, "named twice"),
    (CLASSES | {"kind": "ordinal"}, "label.kind"),
    (EVENT | {"time": None}, "`time` is due"),
    (EVENT | {"time": TIME | {"edges": [200.0, 100.0]}}, "have to rise"),
    (EVENT | {"time": TIME | {"edges": [0.0, 100.0]}}, "greater than 0"),
    (EVENT | {"time": TIME | {"edges": []}}, "label.time.edges"),
    (MANY | {"targets": []}, "`targets` is due"),
    (MANY | {"targets": [MANY["targets"][0], NUMBERS["targets"][1]]}, "or none has"),
    (NUMBERS | {"targets": [NUMBERS["targets"][0]] * 2}, "named twice"),
    (MANY | {"targets": [{"name": "a", "description": "x", "range": [1, 1]}]}, "low < high"),
    (MANY | {"targets": [{"name": "age", "description": "x"}]}, "contract: named twice: age"),
    (NONE | {"classes": ["a", "b"]}, "does not belong to a label of kind none"),
]


@pytest.mark.parametrize(("label", "why"), BAD_LABELS)
def test_a_label_whose_parts_do_not_fit_its_kind_is_refused(label, why):
    with pytest.raises(BadInput, match=why):
        study_plan("response", "mlp", hidden=(4,), label=label)


PULSE, MALE = SERIES
SMILES = MOLECULE[0]


@pytest.mark.parametrize(
    ("columns", "more", "why"),
    [
        (SERIES, {}, "`grid` belongs to series columns"),
        (TABLE, {"grid": GRID}, "`grid` belongs to series columns"),
        ([PULSE | {"may_be_missing": True}], {"grid": GRID}, "always says what was not measured"),
        ([PULSE | {"range": None}], {"grid": GRID}, "`range` = "),
        (SERIES, {"grid": GRID | {"steps": 1}}, "contract.grid.steps"),
        (SERIES, {"grid": GRID | {"steps": 100_000}}, "contract.grid.steps"),
        ([SMILES | {"grams": None}], {}, "belong to fingerprint columns"),
        ([MALE | {"grams": SMILES["grams"]}], {}, "belong to fingerprint columns"),
        ([SMILES | {"may_be_missing": True}], {}, "a fingerprint may not be missing"),
        ([SMILES | {"grams": {"size": 10**6}}], {}, "grams.size"),
        ([image()[0], PULSE], {"grid": GRID}, "stands alone"),
    ],
)
def test_a_column_whose_parts_do_not_fit_its_kind_is_refused(columns, more, why):
    with pytest.raises(BadInput, match=why):
        study_plan("series", "gru", hidden=(4,), columns=columns, **more)


def test_statistics_are_asked_of_a_prognosis_too():
    value = study_value("survival", "logistic-regression", label=EVENT)
    value["statistics"] = {"epsilon": 1.0}
    value["privacy"]["delta"] = 1e-4
    assert checked(StudyPlan, value, what="study").statistics.epsilon == 1.0


def test_columns_over_time_are_not_scaled_by_statistics():
    value = study_value("series", "gru", hidden=(4,), columns=SERIES, grid=GRID)
    value["statistics"] = {"epsilon": 1.0, "standardise": True}
    value["privacy"]["delta"] = 1e-4
    with pytest.raises(BadInput, match="does not go with columns over time"):
        checked(StudyPlan, value, what="study")
