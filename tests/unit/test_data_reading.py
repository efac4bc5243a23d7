"""Reading at the hospital: every fault is counted and told, no value ever is."""

import errno
import re
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from wardround.errors import BadInput
from wardround.study.contract import Column, ColumnKind, Contract, Label
from wardround_client.data.check import Verdict, check
from wardround_client.data.description import DatasetDescription
from wardround_client.data.encoding import EncodedRecords, encode
from wardround_client.data.reading import Records, read_records

HEADER = "id,years,sex,pain,chol,outcome\n"
GOOD = "p1,40,1,sharp,200,0\np2,50,0,dull,0,2\np1,41,1,,310.5,0\n"
SECRET = "9173"  # a value that must not appear in any message

CONTRACT = Contract(
    patient_key="patient",
    label=Label(name="sick", description="disease", positive="outcome > 0"),
    columns=(
        Column(name="age", kind=ColumnKind.CONTINUOUS, description="age", unit="a", range=(20, 80)),
        Column(name="male", kind=ColumnKind.BINARY, description="sex"),
        Column(
            name="pain",
            kind=ColumnKind.CATEGORICAL,
            description="pain",
            categories=("sharp", "dull"),
            may_be_missing=True,
        ),
        Column(
            name="cholesterol",
            kind=ColumnKind.CONTINUOUS,
            description="cholesterol",
            unit="mg/dL",
            range=(100, 500),
            may_be_missing=True,
        ),
    ),
)


def described(**changes: object) -> DatasetDescription:
    value = {
        "schema": "wardround.dataset/1",
        "hospital": "north",
        "dataset": "north-heart",
        "title": "Heart patients of the north",
        "path": "heart.csv",
        "csv": {"missing": ["?"]},
        "patient": {"source": "id"},
        "label": {"source": "outcome", "positive_when": ">0"},
        "columns": [
            {"column": "age", "source": "years", "unit": "a"},
            {"column": "male", "source": "sex"},
            {"column": "pain", "source": "pain"},
            {"column": "cholesterol", "source": "chol", "unit": "mg/dL", "missing": ["0"]},
        ],
    }
    return DatasetDescription.model_validate({**value, **changes})


def read(text: str, folder: Path, **changes: object) -> Records:
    (folder / "heart.csv").write_text(text, encoding="utf-8")
    return read_records(described(**changes), CONTRACT, folder)


def refusal(text: str, folder: Path, **changes: object) -> str:
    with pytest.raises(BadInput) as caught:
        read(text, folder, **changes)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return str(caught.value)


def encoded(text: str, folder: Path, **changes: object) -> EncodedRecords:
    return encode(read(text, folder, **changes), CONTRACT)


def test_records_become_the_contracts_features_grouped_by_patient(tmp_path: Path) -> None:
    result = encoded(HEADER + GOOD, tmp_path)
    assert result.patients == ("p1", "p2")
    assert result.offsets.tolist() == [0, 2, 3]
    assert result.labels.tolist() == [0, 0, 1]
    expected = [
        [-1 / 3, 1, 1, 0, 0, -0.5, 0],
        [-0.3, 1, 0, 0, 1, 0.0525, 0],
        [0, -1, 0, 1, 0, 0, 1],
    ]
    assert result.features.dtype == np.float32
    np.testing.assert_allclose(result.features, expected, atol=1e-6)
    assert result.features.shape[1] == len(CONTRACT.features())


def test_a_missing_code_is_missing_in_any_spelling_of_the_number(tmp_path: Path) -> None:
    text = HEADER + "p1,40,1,sharp,0.0,0\np2,50,0,dull,0,2\np3,50,0,dull,?,2\n"
    assert encoded(text, tmp_path).features[:, -1].tolist() == [1, 1, 1]


def test_all_faults_come_together_counted_and_without_a_value(tmp_path: Path) -> None:
    text = HEADER + (
        f"p1,{SECRET},1,sharp,200,0\n"
        f"p2,old{SECRET},0,dull,{SECRET},2\n"
        f"p3,,x{SECRET},q{SECRET},300,{SECRET}x\n"
        ",40,1,sharp,1e999,1\n"
    )
    message = refusal(text, tmp_path)
    for fault in (
        "patient key: 1 of 4 rows have none",
        "label: 1 of 4 values are missing or unknown",
        "column age: 1 of 4 values are not numbers",
        "column age: 1 of 4 values outside 20..80 a",
        "column age: 1 of 4 values are missing, the contract wants all",
        "column male: 1 of 4 values are not known values",
        "column pain: 1 of 4 values are not known values",
        "column cholesterol: 1 of 4 values are not numbers",
        "column cholesterol: 1 of 4 values outside 100..500 mg/dL",
    ):
        assert fault in message
    assert SECRET not in message


@pytest.mark.parametrize("text", ["nan", "inf", "-Infinity", "0x10", "1_0", "1e", "4 0", "٤٠"])
def test_what_is_not_a_plain_number_is_not_a_number(text: str, tmp_path: Path) -> None:
    message = refusal(HEADER + f"p1,{text},1,sharp,200,0\n", tmp_path)
    assert "column age: 1 of 1 values are not numbers" in message


def test_a_column_that_differs_in_case_or_spaces_is_named_beside_the_one_due(
    tmp_path: Path,
) -> None:
    message = refusal(HEADER.replace("years", " Ye ars") + f"{SECRET},40,1,sharp,200,0\n", tmp_path)
    assert "column age: the file has no column 'years', but 'Ye ars'" in message
    assert SECRET not in message


def test_a_table_in_one_column_asks_for_the_separator_and_names_nothing_of_it(
    tmp_path: Path,
) -> None:
    message = refusal(f"{SECRET};years\np1;40\n", tmp_path)
    assert "with the separator ',' the file has one column: is it another?" in message
    assert SECRET not in message


def test_a_file_that_may_not_be_read_is_no_damaged_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(_path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "a/private/place")

    monkeypatch.setattr("wardround_client.data.text.open_text", denied)
    message = refusal(HEADER + "p1,40,1,sharp,200,0\n", tmp_path)
    assert "cannot be read (permission denied)" in message
    assert "private" not in message


def test_numbers_with_another_decimal_sign_are_told_with_the_one_due(tmp_path: Path) -> None:
    message = refusal(HEADER + 'p1,"40,5",1,sharp,200,0\n', tmp_path)
    assert "column age: 1 of 1 values are not numbers with the decimal sign '.'" in message


def test_missing_columns_are_named_all_at_once(tmp_path: Path) -> None:
    message = refusal("id,sex,pain,chol\np1,1,sharp,200\n", tmp_path)
    assert "column age: the file has no column 'years'" in message
    assert "label: the file has no column 'outcome'" in message


@pytest.mark.parametrize(
    ("text", "due"),
    [
        ("", "empty"),
        (HEADER, "no rows"),
        (HEADER + f"p1,40,1,sharp,200,0,{SECRET}\n", "1 of 1 rows do not have the 6 fields"),
        (HEADER + "p1,40,1\n", "1 of 1 rows do not have the 6 fields"),
        (HEADER + f'p1,"40,{SECRET}\n', "quote"),
        (HEADER.replace("years", "sex") + GOOD, "twice"),
    ],
)
def test_a_file_that_is_no_table_is_refused_without_a_value(
    text: str, due: str, tmp_path: Path
) -> None:
    message = refusal(text, tmp_path)
    assert due in message
    assert SECRET not in message


def test_a_file_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    (tmp_path / "heart.csv").write_bytes(HEADER.encode() + b"p1,40,1,\xff,200,0\n")
    with pytest.raises(BadInput, match="not UTF-8"):
        read_records(described(), CONTRACT, tmp_path)


def test_a_link_out_of_the_data_folder_is_refused(tmp_path: Path) -> None:
    inside = tmp_path / "data"
    inside.mkdir()
    (tmp_path / "other.csv").write_text(HEADER + GOOD)
    (inside / "heart.csv").symlink_to(tmp_path / "other.csv")
    with pytest.raises(BadInput, match="leads out of the data folder"):
        read_records(described(), CONTRACT, inside)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"heart\.csv: no such file"):
        read_records(described(), CONTRACT, tmp_path)


def test_values_out_of_range_can_be_declared_missing_and_are_remarked(tmp_path: Path) -> None:
    columns = list(described().model_dump()["columns"])
    columns[3]["out_of_range"] = "missing"
    records = read(HEADER + "p1,40,1,sharp,900,0\np2,40,1,,200,1\n", tmp_path, columns=columns)
    assert encode(records, CONTRACT).features[0, -2:].tolist() == [0, 1]
    assert any("1 of 2 values out of range, taken as missing" in r for r in records.remarks)


def test_values_out_of_range_can_be_declared_as_the_nearest_end_and_are_remarked(
    tmp_path: Path,
) -> None:
    columns = list(described().model_dump()["columns"])
    columns[3]["out_of_range"] = "nearest"
    rows = "p1,40,1,sharp,90000,0\np2,40,1,,-7,1\np3,40,1,,,1\n"
    records = read(HEADER + rows, tmp_path, columns=columns)
    assert encode(records, CONTRACT).features[:, -2:].tolist() == [[1, 0], [-1, 0], [0, 1]]
    assert any("2 of 3 values out of range, taken as the range's" in r for r in records.remarks)


def test_one_class_only_is_a_remark_and_no_refusal(tmp_path: Path) -> None:
    records = read(HEADER + "p1,40,1,sharp,200,0\np2,40,1,,200,0\n", tmp_path)
    assert any("one class only" in remark for remark in records.remarks)


def test_repeated_rows_are_counted_in_a_remark(tmp_path: Path) -> None:
    records = read(HEADER + GOOD + GOOD, tmp_path)
    assert "rows that repeat another row, field by field: 3" in records.remarks


def test_a_column_that_a_hospital_does_not_record_is_missing_everywhere(tmp_path: Path) -> None:
    columns = list(described().model_dump()["columns"])
    columns[2] = {"column": "pain", "absent": True}
    columns[3] = {"column": "cholesterol", "absent": True}
    features = encoded(HEADER + GOOD, tmp_path, columns=columns).features
    assert features[:, 2:].tolist() == [[0, 0, 1, 0, 1]] * 3


def test_units_are_converted_and_decimal_commas_read(tmp_path: Path) -> None:
    columns = list(described().model_dump()["columns"])
    columns[3] = {
        "column": "cholesterol",
        "source": "chol",
        "unit": "mmol/L",
        "convert": {"to": "mg/dL", "scale": 38.67},
    }
    text = (HEADER + "p1,40,1,sharp,5.17,0\n").replace(",", ";").replace(".", ",")
    records = read(text, tmp_path, columns=columns, csv={"separator": ";", "decimal": ","})
    assert records.values["cholesterol"].tolist() == [pytest.approx(199.92, abs=0.01)]


def test_a_thousands_point_is_no_decimal_comma(tmp_path: Path) -> None:
    text = (HEADER + "p1,40,1,sharp,1.200,0\n").replace(",", ";")
    message = refusal(text, tmp_path, csv={"separator": ";", "decimal": ","})
    assert "column cholesterol: 1 of 1 values are not numbers" in message


def test_a_file_without_header_takes_its_names_from_the_description(tmp_path: Path) -> None:
    names = HEADER.strip().split(",")
    headless = read(GOOD, tmp_path, csv={"header": False, "columns": names})
    assert headless.patients == ("p1", "p2", "p1")
    message = refusal(GOOD, tmp_path, csv={"header": False, "columns": names[1:]})
    assert "3 of 3 rows do not have the 5 fields of csv.columns" in message


def test_row_numbers_stand_in_for_patients_only_with_a_remark(tmp_path: Path) -> None:
    records = read(HEADER + GOOD, tmp_path, patient={"row_number_as_patient": True})
    assert records.patients == ("1", "2", "3")
    assert any("every row counts as another patient" in remark for remark in records.remarks)


def test_records_do_not_show_themselves(tmp_path: Path) -> None:
    records = read(HEADER + GOOD, tmp_path)
    for shown in (repr(records), repr(encode(records, CONTRACT))):
        assert "p1" not in shown
        assert "310.5" not in shown


def test_the_check_hides_small_counts_and_never_shows_a_value(tmp_path: Path) -> None:
    rows = "".join(f"q{i},{20 + i},0,dull,{SECRET[:3]},1\n" for i in range(40))
    (tmp_path / "heart.csv").write_text(HEADER + GOOD + rows)
    found = check(described(), CONTRACT, tmp_path)
    assert found.verdict is Verdict.NOT_READY
    assert (found.patients, found.rows, found.records_per_patient) == (42, 43, 2)
    assert (found.positive, found.negative) == (">37", "<5")
    cholesterol = found.columns[3]
    assert (cholesterol.missing, cholesterol.out_of_range) == ("<5", 40)
    assert SECRET[:3] not in str(found.to_json())


def test_the_check_of_a_good_file_says_ready(tmp_path: Path) -> None:
    (tmp_path / "heart.csv").write_text(HEADER + GOOD)
    found = check(described(), CONTRACT, tmp_path)
    assert found.verdict is Verdict.READY
    assert found.to_json()["verdict"] == "ready"


def test_the_check_of_an_unreadable_file_says_what_to_fix_and_does_not_raise(
    tmp_path: Path,
) -> None:
    found = check(described(), CONTRACT, tmp_path)
    assert found.verdict is Verdict.NOT_READY
    assert found.to_fix == ("heart.csv: no such file in the data folder",)


@pytest.mark.parametrize("width", [80, 120])
def test_no_word_of_the_table_is_cut_in_a_terminal(width: int, tmp_path: Path) -> None:
    (tmp_path / "heart.csv").write_text(HEADER + GOOD)
    found = check(described(), CONTRACT, tmp_path)
    categories = ("typical", "atypical", "non-anginal", "asymptomatic", "reversible-defect")
    pain = replace(
        found.columns[2],
        column="chest_pain_at_admission",
        due=", ".join(categories),
        unreadable=86,
        unseen=("non-anginal",),
    )
    printed = Console(width=width, file=StringIO(), record=True)
    printed.print(replace(found, columns=(*found.columns, pain)))
    text = printed.export_text()
    assert max(map(len, text.splitlines())) <= width
    words = re.split(r"[\s,()]+", text)
    for word in (*categories, "chest_pain_at_admission", "86", "20..80", "mg/dL", "unreadable"):
        assert word in words, word
    assert "outside" not in words


def test_a_table_without_faults_has_no_columns_for_them(tmp_path: Path) -> None:
    (tmp_path / "heart.csv").write_text(HEADER + GOOD)
    printed = Console(width=80, file=StringIO(), record=True)
    printed.print(check(described(), CONTRACT, tmp_path))
    header = printed.export_text().splitlines()[3]
    assert header.split() == ["column", "from", "missing", "allowed"]
