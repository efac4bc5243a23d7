"""Laws of the data path: the split, the encoding and the reader, for any input."""

import csv
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from wardround.errors import BadInput
from wardround.study.contract import Column, ColumnKind, Contract, Label
from wardround_client.data.check import check
from wardround_client.data.description import DatasetDescription
from wardround_client.data.encoding import EncodedRecords, encode
from wardround_client.data.reading import read_records
from wardround_client.data.split import is_held_out, split

GOLDEN_SPLIT = [2, 4, 6, 9, 10, 13, 15, 16]
KEYS = st.text(min_size=1, max_size=20)
FRACTIONS = st.floats(0.01, 0.89)

CONTRACT = Contract(
    patient_key="patient",
    label=Label(name="sick", description="disease", positive="1"),
    columns=(
        Column(name="age", kind=ColumnKind.CONTINUOUS, description="age", unit="a", range=(0, 99)),
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
ROW = st.tuples(
    st.sampled_from(["p1", "p2", "p3", "p10", "q"]),
    st.floats(0, 99).map(repr),
    st.sampled_from(["x", "y", ""]),
    st.sampled_from(["0", "1", "1.0", ""]),
    st.sampled_from(["0", "1"]),
)


def write(folder: str, rows: list[tuple[str, ...]]) -> Path:
    with (Path(folder) / "north.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("id", "age", "pain", "male", "sick"), *rows])
    return Path(folder)


def encoded(rows: list[tuple[str, ...]]) -> EncodedRecords:
    with tempfile.TemporaryDirectory() as folder:
        return encode(read_records(DESCRIPTION, CONTRACT, write(folder, rows)), CONTRACT)


@given(KEYS, FRACTIONS, FRACTIONS)
def test_a_larger_fraction_only_adds_patients(key: str, one: float, other: float) -> None:
    small, large = sorted((one, other))
    assert not is_held_out(key, "heart", small) or is_held_out(key, "heart", large)


def test_a_golden_split_never_changes() -> None:
    keys = [f"patient-{i}" for i in range(20)]
    held_out = [i for i, key in enumerate(keys) if is_held_out(key, "heart", 0.25)]
    assert held_out == GOLDEN_SPLIT


def test_the_split_hits_its_fraction_and_would_show_one_that_is_ten_percent_off() -> None:
    count = 100_000
    share = sum(is_held_out(str(i), "heart", 0.25) for i in range(count)) / count
    error = (0.25 * 0.75 / count) ** 0.5
    assert abs(share - 0.25) < 4 * error
    assert abs(share - 0.275) > 10 * error


def test_two_data_sets_split_independently() -> None:
    both = [(is_held_out(str(i), "a", 0.5), is_held_out(str(i), "b", 0.5)) for i in range(20_000)]
    agree = sum(one == other for one, other in both) / len(both)
    assert abs(agree - 0.5) < 4 * 0.5 / len(both) ** 0.5


@settings(max_examples=60, deadline=None)
@given(st.lists(ROW, min_size=1, max_size=12), FRACTIONS, st.randoms())
def test_all_records_of_a_patient_land_on_one_side_whoever_else_is_there(
    rows: list[tuple[str, ...]], fraction: float, shuffle: object
) -> None:
    whole = encoded(rows)
    train, held_out = split(whole, dataset="north", fraction=fraction)
    assert sorted((*train.patients, *held_out.patients)) == sorted(whole.patients)
    assert len(train.labels) + len(held_out.labels) == len(rows)
    fewer = [row for row in rows if row[0] != rows[0][0]]
    if fewer:
        without, _ = split(encoded(fewer), dataset="north", fraction=fraction)
        assert set(without.patients) == set(train.patients) - {rows[0][0]}


@settings(max_examples=60, deadline=None)
@given(st.lists(ROW, min_size=1, max_size=12))
def test_every_feature_lies_in_minus_one_to_one_and_patients_are_adjacent(
    rows: list[tuple[str, ...]],
) -> None:
    result = encoded(rows)
    assert result.features.shape == (len(rows), len(CONTRACT.features()))
    assert np.abs(result.features).max() <= 1
    assert list(result.patients) == sorted({row[0] for row in rows})
    counts = dict(zip(result.patients, np.diff(result.offsets).tolist(), strict=True))
    assert counts == {key: sum(row[0] == key for row in rows) for key in result.patients}


@settings(max_examples=60, deadline=None)
@given(
    st.permutations(
        [("p1", "1", "x", "1", "0"), ("p2", "2", "y", "0", "1"), ("p3", "3", "", "", "1")]
    )
)
def test_the_order_of_the_file_does_not_matter_between_patients(
    rows: list[tuple[str, ...]],
) -> None:
    first, other = encoded(sorted(rows)), encoded(rows)
    assert np.array_equal(first.features, other.features)
    assert np.array_equal(first.labels, other.labels)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(*[st.text(alphabet='7?x,"\n ;é0.', max_size=6)] * 5), max_size=6))
def test_any_text_is_read_or_refused_with_bad_input_and_no_field_in_the_message(
    rows: list[tuple[str, ...]],
) -> None:
    marked = [tuple(f"{cell}Zw7" if cell.strip() else cell for cell in row) for row in rows]
    with tempfile.TemporaryDirectory() as folder:
        write(folder, marked)
        message = ""
        try:
            read_records(DESCRIPTION, CONTRACT, Path(folder))
        except BadInput as error:
            message = str(error)
        assert "Zw7" not in message
        assert "Zw7" not in str(check(DESCRIPTION, CONTRACT, Path(folder)).to_json())
