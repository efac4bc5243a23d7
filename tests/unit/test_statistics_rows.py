"""From a hospital's file to one row per patient."""

import csv

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.patient_table import plan_of

from wardround.statistics.layout import StatisticsLayout
from wardround.statistics.tally import tally
from wardround.study.contract import Column, ColumnKind, Contract, Label
from wardround_client.data.description import DatasetDescription
from wardround_client.data.reading import read_records
from wardround_client.statistics import patient_rows

CONTRACT = Contract(
    patient_key="patient",
    label=Label(name="sick", description="disease", positive="1"),
    columns=(
        Column(
            name="age",
            kind=ColumnKind.CONTINUOUS,
            description="age",
            unit="a",
            range=(0, 100),
            may_be_missing=True,
        ),
        Column(
            name="pain",
            kind=ColumnKind.CATEGORICAL,
            description="pain",
            categories=("x", "y"),
            may_be_missing=True,
        ),
        Column(name="male", kind=ColumnKind.BINARY, description="sex", may_be_missing=True),
    ),
)
DESCRIPTION = DatasetDescription.model_validate(
    {
        "schema": "wardround.dataset/1",
        "hospital": "north",
        "dataset": "north",
        "title": "North",
        "path": "north.csv",
        "patient": {"source": "id"},
        "label": {"source": "sick", "positive_values": ["1"], "negative_values": ["0"]},
        "columns": [
            {"column": "age", "source": "age", "unit": "a"},
            {"column": "pain", "source": "pain"},
            {"column": "male", "source": "male"},
        ],
    }
)
LAYOUT = StatisticsLayout.of(CONTRACT, plan_of())
ROWS = [
    ("b", "40", "y", "1", "0"),
    ("a", "60", "x", "", "0"),
    ("b", "50", "y", "0", "1"),
    ("a", "", "y", "", "0"),
    ("b", "", "x", "1", "0"),
    ("c", "", "", "0", "1"),
]


def rows_of(folder, rows, layout=LAYOUT, *, by_record=False):
    with (folder / "north.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("id", "age", "pain", "male", "sick"), *rows])
    return patient_rows(read_records(DESCRIPTION, CONTRACT, folder), layout, by_record=by_record)


def test_a_patient_has_the_mean_of_numbers_and_the_most_frequent_category(tmp_path):
    rows = rows_of(tmp_path, ROWS)
    assert rows.patients == 3
    np.testing.assert_array_equal(rows.numbers["age"], [60.0, 45.0, np.nan])
    # One x and one y: of equally frequent ones, the first in the contract.
    assert rows.codes["pain"].tolist() == [0, 1, -1]
    assert rows.codes["male"].tolist() == [-1, 1, 0]
    assert rows.outcomes.tolist() == [0, 1, 1]


def test_by_record_each_record_is_a_row(tmp_path):
    rows = rows_of(tmp_path, ROWS, by_record=True)
    assert rows.patients == 6
    assert rows.codes["pain"].tolist() == [1, 0, 1, 1, 0, -1]
    assert rows.outcomes.tolist() == [0, 0, 1, 0, 0, 1]


def test_only_the_columns_that_are_asked_for_are_taken(tmp_path):
    cohort = {"name": "men", "conditions": [{"column": "male", "values": ["1"]}]}
    layout = StatisticsLayout.of(CONTRACT, plan_of(columns=("age",), cohort=(cohort,)))
    rows = rows_of(tmp_path, ROWS, layout)
    assert set(rows.numbers) == {"age"}
    assert set(rows.codes) == {"male"}
    assert tally(rows, layout).values[-1] == 256


def test_neither_rows_nor_raw_statistics_show_a_patient(tmp_path):
    rows = rows_of(tmp_path, ROWS)
    for text in (repr(rows), repr(tally(rows, LAYOUT))):
        assert "45" not in text
        assert "array" not in text


RECORDS = st.lists(
    st.tuples(
        st.sampled_from("abcd"),
        st.one_of(st.just(""), st.integers(0, 100).map(str)),
        st.sampled_from(["x", "y", ""]),
        st.sampled_from(["0", "1", ""]),
        st.sampled_from("01"),
    ),
    min_size=1,
    max_size=15,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("rows")


@settings(max_examples=20, deadline=None)
@given(RECORDS, RECORDS, st.randoms(use_true_random=False))
def test_a_patient_with_any_records_moves_the_vector_by_one_patient(folder, others, own, shuffle):
    own = [("z", *record[1:]) for record in own]
    before = tally(rows_of(folder, others), LAYOUT).values
    mixed = others + own
    after = tally(rows_of(folder, mixed), LAYOUT).values
    assert 0 < int(((after - before) ** 2).sum()) <= LAYOUT.sensitivity_squared
    shuffle.shuffle(mixed)
    assert tally(rows_of(folder, mixed), LAYOUT).values.tolist() == after.tolist()
