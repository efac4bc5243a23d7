"""hospitals/NAME.toml: what is accepted, what is refused, and how the refusal reads."""

from pathlib import Path

import pytest

from wardround.errors import BadInput
from wardround.study.contract import Column, ColumnKind, Contract, Label
from wardround_client.data.description import (
    ColumnSource,
    DatasetDescription,
    is_inside,
    read_description,
)

DESCRIPTION = """
schema = "wardround.dataset/1"
hospital = "north"
dataset = "north-heart"
title = "Heart patients of the north"
path = "export/heart.csv"

[csv]
missing = ["?"]

[patient]
source = "id"

[label]
source = "num"
positive_when = ">0"

[[columns]]
column = "height"
source = "Height"
unit = "cm"
convert = { to = "mm", scale = 10.0 }

[[columns]]
column = "pain"
source = "cp"
values = { "1" = "typical", "2" = "none" }
"""


def contract(**height: object) -> Contract:
    columns = (
        Column(
            name="height",
            kind=ColumnKind.CONTINUOUS,
            description="body height",
            **{"unit": "mm", "range": (500, 2500), **height},
        ),
        Column(
            name="pain",
            kind=ColumnKind.CATEGORICAL,
            description="chest pain",
            categories=("typical", "none"),
        ),
    )
    label = Label(name="sick", description="disease", positive="num > 0")
    return Contract(patient_key="patient", label=label, columns=columns)


def read(text: str, tmp_path: Path) -> DatasetDescription:
    path = tmp_path / "north.toml"
    path.write_text(text, encoding="utf-8")
    return read_description(path)


def test_a_complete_description_is_read_and_fits_its_contract(tmp_path: Path) -> None:
    description = read(DESCRIPTION, tmp_path)
    assert description.faults(contract()) == []
    assert description.source_of("pain").values["2"] == "none"


@pytest.mark.parametrize(
    ("key", "misspelt"),
    [
        ("hospital =", "hospitall ="),
        ("missing =", "mising ="),
        ("positive_when =", "positive_wen ="),
        ("unit =", "unti ="),
        ("scale =", "scael ="),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_known_one(
    key: str, misspelt: str, tmp_path: Path
) -> None:
    known = key.removesuffix(" =")
    with pytest.raises(BadInput, match=rf"nearest known one is `{known}`"):
        read(DESCRIPTION.replace(key, misspelt, 1), tmp_path)


@pytest.mark.parametrize(
    "path", ["../heart.csv", "/etc/passwd", "a/../../b", "a\\\\b", "a\\u0000b"]
)
def test_a_path_that_leaves_the_data_folder_is_refused(path: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"inside the data folder"):
        read(DESCRIPTION.replace("export/heart.csv", path), tmp_path)


def test_dots_inside_a_file_name_are_no_way_out() -> None:
    assert is_inside("heart..csv")


def test_a_wrong_unit_is_refused_naming_both(tmp_path: Path) -> None:
    text = DESCRIPTION.replace('convert = { to = "mm", scale = 10.0 }', "")
    assert any(
        "height: unit cm came, the contract has mm" in fault
        for fault in read(text, tmp_path).faults(contract())
    )


def test_a_conversion_to_another_unit_than_the_contracts_is_refused(tmp_path: Path) -> None:
    faults = read(DESCRIPTION.replace('to = "mm"', 'to = "m"'), tmp_path).faults(contract())
    assert faults
    assert "unit m came, the contract has mm" in faults[0]


def test_no_patient_key_is_refused_unless_a_row_is_said_to_be_a_patient(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no patient key"):
        read(DESCRIPTION.replace('source = "id"', ""), tmp_path)
    said = DESCRIPTION.replace('source = "id"', "row_number_as_patient = true")
    assert read(said, tmp_path).patient.row_number_as_patient


def test_a_key_and_row_numbers_together_are_refused(tmp_path: Path) -> None:
    both = DESCRIPTION.replace('source = "id"', 'source = "id"\nrow_number_as_patient = true')
    with pytest.raises(BadInput, match="not both"):
        read(both, tmp_path)


@pytest.mark.parametrize(
    "rule",
    [
        "",
        'positive_values = ["1"]',
        'positive_when = ">0"\npositive_values = ["1"]\nnegative_values = ["0"]',
        'positive_when = "big"',
        'positive_values = ["1"]\nnegative_values = ["1"]',
    ],
)
def test_a_label_rule_that_does_not_say_both_classes_once_is_refused(
    rule: str, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match="label"):
        read(DESCRIPTION.replace('positive_when = ">0"', rule), tmp_path)


def test_a_column_outside_the_contract_and_a_contract_column_left_out_are_both_named(
    tmp_path: Path,
) -> None:
    text = DESCRIPTION.replace('column = "pain"', 'column = "weight"')
    faults = " ".join(read(text, tmp_path).faults(contract()))
    assert "column weight: described here, but the contract has no such column" in faults
    assert "column pain: the contract wants it, it is not described" in faults


def test_a_value_map_to_an_unknown_category_is_refused(tmp_path: Path) -> None:
    text = DESCRIPTION.replace('"2" = "none"', '"2" = "nothing"')
    assert "'nothing'" in read(text, tmp_path).faults(contract())[0]


def test_a_column_may_be_absent_only_where_the_contract_lets_it_be_missing() -> None:
    absent = ColumnSource(column="height", absent=True)
    strict, lenient = contract().columns[0], contract(may_be_missing=True).columns[0]
    assert absent.faults(strict)
    assert absent.faults(lenient) == []


def test_out_of_range_as_missing_needs_a_column_that_may_be_missing() -> None:
    source = ColumnSource(column="height", source="h", unit="mm", out_of_range="missing")
    assert "contract wants every value" in source.faults(contract().columns[0])[0]


def test_out_of_range_as_the_nearest_end_needs_an_order() -> None:
    source = ColumnSource(column="sex", source="s", out_of_range="nearest")
    binary = Column(name="sex", kind=ColumnKind.BINARY, description="sex")
    assert "belongs to continuous and series columns" in source.faults(binary)[0]
