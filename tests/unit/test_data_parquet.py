"""Parquet at the hospital: the same table as in CSV, within bounds, no value in an error."""

import datetime as dt
import decimal
import sys
import tracemalloc
from base64 import b64decode, b64encode
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow.parquet import encryption
from tests.support.described_data import AGE, contract, description, encoded, refusal

from wardround.errors import BadInput
from wardround_client.data.check import check
from wardround_client.data.parquet_table import read_parquet
from wardround_client.data.sources import CsvFormat
from wardround_client.data.table_source import Asked, Bound
from wardround_client.data.text import read_text

SECRET = "Meier-9173"
LABEL = {"name": "sick", "description": "x", "positive": "y > 0"}
RULE = {"source": "y", "positive_when": ">0"}
MAYBE = {**AGE, "name": "weight", "unit": "kg", "range": [0, 500], "may_be_missing": True}
SOURCES = (
    {"column": "age", "source": "age", "unit": "a"},
    {"column": "weight", "source": "weight", "unit": "kg", "missing": ["-1"]},
)
TEXTS = st.one_of(st.none(), st.text(st.characters(codec="utf-8", exclude_characters="\r\0")))
NUMBERS = st.floats(allow_infinity=False, width=32)
ROWS = st.tuples(st.floats(allow_infinity=False), NUMBERS, st.integers(-(2**63), 2**63 - 1), TEXTS)


def table_of(folder: Path, columns: dict, **options) -> pd.DataFrame:
    pq.write_table(pa.table(columns), folder / "main.parquet", **options)
    return read(folder, *columns)


def read(folder: Path, *names: str) -> pd.DataFrame:
    asked = Asked(folder=folder, path="main.parquet", columns=frozenset(names))
    return read_parquet(asked)


def why(folder: Path, *names: str) -> str:
    with pytest.raises(BadInput) as caught:
        read(folder, *names)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert SECRET not in str(caught.value)
    return str(caught.value)


@settings(max_examples=25, deadline=None)  # files are written, by a busy machine too
@given(st.lists(ROWS, min_size=1, max_size=20))
def test_what_pandas_writes_as_csv_and_as_parquet_is_one_table(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("both", numbered=True)
    frame = pd.DataFrame(rows, columns=["number", "short", "whole", "text"])
    frame = frame.astype({"short": np.float32})
    frame.to_csv(folder / "main.csv", index=False, lineterminator="\n")
    frame.to_parquet(folder / "main.parquet")
    expected = read_text(folder, "main.csv", CsvFormat())
    pd.testing.assert_frame_equal(read(folder, *frame.columns), expected)


def test_a_study_sees_the_same_records_and_says_the_same_of_both(tmp_path):
    weight = [70.5, np.nan, -1.0, 71.25, 1e-3, 80, 81, 82]
    ids = ["p1", "p2", "p3", "p1", "p4", "p5", "p6", "p7"]
    ages = [40, 50, 60, 41, 42, 43, 44, 45]
    frame = pd.DataFrame({"id": ids, "age": ages, "weight": weight, "y": [0, 2, 0, 1] * 2})
    frame.to_csv(tmp_path / "main.csv", index=False)
    frame.assign(id=frame["id"].astype("category")).to_parquet(tmp_path / "main.parquet")
    agreed = contract(LABEL, (AGE, MAYBE))
    text = description(RULE, SOURCES)
    packed = description(RULE, SOURCES, format="parquet", path="main.parquet")
    one, other = encoded(text, agreed, tmp_path), encoded(packed, agreed, tmp_path)
    assert one.patients == other.patients
    np.testing.assert_array_equal(one.features, other.features)
    np.testing.assert_array_equal(one.labels, other.labels)
    seen = check(packed, agreed, tmp_path)
    assert seen.columns == check(text, agreed, tmp_path).columns
    assert [c.missing for c in seen.columns] == ["0", "<5"]


def test_every_kind_of_one_value_becomes_the_text_of_an_export(tmp_path):
    zoned = pa.array([5_685_408_000, None, None]).cast(pa.timestamp("s", "Europe/Zurich"))
    read_back = table_of(
        tmp_path,
        {
            "packed": pa.array(["x ", None, "x "]).dictionary_encode(),
            "yes": [True, None, False],
            "cents": pa.array([decimal.Decimal("1.50"), None, decimal.Decimal("0E-2")]),
            "day": [dt.date(2150, 3, 1), None, dt.date(2150, 3, 2)],
            "time": pa.array([0, None, 1_500_000_000], pa.timestamp("ns")),
            "zoned": zoned,
            "half": pa.array([np.float16(0.1), None, np.float16(2)], pa.float16()),
            "nothing": pa.nulls(3),
        },
    )
    assert read_back.to_dict("list") == {
        "packed": ["x", "", "x"],
        "yes": ["1", "", "0"],
        "cents": ["1.50", "", "0.00"],
        "day": ["2150-03-01", "", "2150-03-02"],
        "time": ["1970-01-01 00:00:00", "", "1970-01-01 00:00:01.500000"],
        "zoned": ["2150-03-01 08:00:00+00:00", "", ""],
        "half": ["0.1", "", "2.0"],
        "nothing": ["", "", ""],
    }


def test_only_what_is_used_is_unpacked(tmp_path):
    columns = {"id": ["a"], "list": [[1]], "raw": [b"x"], "a.b": [1], "a": [{"b": 2}]}
    pq.write_table(pa.table(columns), tmp_path / "main.parquet")
    assert read(tmp_path, "id", "a.b", "nobody's").to_dict("list") == {"id": ["a"], "a.b": ["1"]}


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ([[1]], "column 'odd' is nested"),
        ([{"x": 1}], "column 'odd' is nested"),
        ([b"raw"], "column 'odd' is of the kind binary"),
        (pa.array([1], pa.duration("s")), "column 'odd' is of the kind duration"),
    ],
)
def test_a_column_that_is_no_text_number_or_time_is_named(tmp_path, values, named):
    pq.write_table(pa.table({"id": ["a"], "odd": values}), tmp_path / "main.parquet")
    assert named in why(tmp_path, "id", "odd")


def test_a_file_without_rows_or_without_the_columns_is_refused(tmp_path):
    pq.write_table(pa.table({"id": pa.array([], pa.string())}), tmp_path / "main.parquet")
    assert "the file has no rows" in why(tmp_path, "id")
    assert "none of the columns" in why(tmp_path, "age")
    twice = pa.table([["a"], ["b"]], names=["id", "id"])
    pq.write_table(twice, tmp_path / "main.parquet")
    assert "names a column twice: id" in why(tmp_path, "id")


def test_a_missing_column_is_told_as_for_every_other_file(tmp_path):
    pq.write_table(pa.table({"id": ["a"], "y": [1]}), tmp_path / "main.parquet")
    described = description(RULE, format="parquet", path="main.parquet")
    assert "column age: the file has no column 'age'" in refusal(
        described, contract(LABEL), tmp_path
    )


def test_a_file_cut_off_anywhere_is_refused(tmp_path):
    whole = {"id": [f"{SECRET}-{n}" for n in range(50)], "age": list(range(50))}
    pq.write_table(pa.table(whole), tmp_path / "main.parquet", compression="zstd")
    content = (tmp_path / "main.parquet").read_bytes()
    for length in range(0, len(content), 7):
        (tmp_path / "main.parquet").write_bytes(content[:length])
        assert "main.parquet" in why(tmp_path, "id", "age")


def test_a_page_that_was_changed_is_refused_by_its_checksum(tmp_path):
    columns = {"id": [f"{SECRET}-{n}" for n in range(50)]}
    path = tmp_path / "main.parquet"
    pq.write_table(
        pa.table(columns), path, compression="none", use_dictionary=False, write_page_checksum=True
    )
    changed = path.read_bytes().replace(b"-17", b"-71")
    path.write_bytes(changed)
    assert "cannot be read as Parquet" in why(tmp_path, "id")


def test_text_that_is_no_utf_8_is_refused_and_not_shown(tmp_path):
    raw = f"{SECRET} Müller".encode("latin-1")
    offsets = np.array([0, len(raw)], dtype=np.int32)
    text = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(offsets), pa.py_buffer(raw)])
    pq.write_table(pa.table({"id": text}), tmp_path / "main.parquet")
    assert why(tmp_path, "id") == "main.parquet: not UTF-8 text"


class _Keys(encryption.KmsClient):
    """Wraps nothing: it is the test's own file."""

    def wrap_key(self, key_bytes, master_key_identifier):
        return b64encode(key_bytes)

    def unwrap_key(self, wrapped_key, master_key_identifier):
        return b64decode(wrapped_key)


@pytest.mark.parametrize("plain_footer", [False, True])
def test_an_encrypted_file_is_refused(tmp_path, plain_footer):
    factory = encryption.CryptoFactory(lambda _: _Keys())
    how = encryption.EncryptionConfiguration(
        footer_key="f", column_keys={"c": ["id"]}, plaintext_footer=plain_footer
    )
    properties = factory.file_encryption_properties(encryption.KmsConnectionConfig(), how)
    table = pa.table({"id": [SECRET], "age": [4]})
    with pq.ParquetWriter(
        tmp_path / "main.parquet", table.schema, encryption_properties=properties
    ) as writer:
        writer.write_table(table)
    assert "encrypted" in why(tmp_path, "id", "age")


@pytest.mark.parametrize("says_so", [True, False])
def test_a_text_packed_once_for_many_rows_cannot_fill_the_memory(tmp_path, says_so):
    """A file of one megabyte that says 40 gigabytes: of ordinary text, and of packed text."""
    long = pa.DictionaryArray.from_arrays(pa.array(np.zeros(40_000, np.int32)), [SECRET * 100_000])
    pq.write_table(pa.table({"id": long}), tmp_path / "main.parquet", store_schema=says_so)
    assert (tmp_path / "main.parquet").stat().st_size < 2_000_000
    before = pa.default_memory_pool().max_memory()
    tracemalloc.start()
    assert "over 2147483648 characters" in why(tmp_path, "id")
    assert tracemalloc.get_traced_memory()[1] < 50_000_000
    tracemalloc.stop()
    assert pa.default_memory_pool().max_memory() - before < 50_000_000


def test_more_rows_than_the_bound_are_refused_by_the_footer(tmp_path):
    chunk = pa.table({"id": pa.nulls(10_000_001)})
    with pq.ParquetWriter(tmp_path / "main.parquet", chunk.schema) as writer:
        for _ in range(10):
            writer.write_table(chunk, row_group_size=10_000_001)
    assert why(tmp_path, "id") == "main.parquet: over 100000000 rows"


def test_a_bound_counts_over_all_that_comes():
    bound = Bound("x", rows=10, characters=100)
    for _ in range(2):
        bound.rows(5)
        bound.cells(10, 40)
    with pytest.raises(BadInput, match="x: over 10 rows"):
        bound.rows(1)
    with pytest.raises(BadInput, match="x: over 100 characters"):
        bound.cells(1, 0)


def test_a_joined_file_can_be_parquet_in_long_form_too(tmp_path):
    (tmp_path / "main.csv").write_text("id,age,y\np1,40,0\np2,50,1\n")
    long = {"id": ["p1", "p2", "p1"], "what": ["W", "W", "H"], "n": [70.5, None, 180.0]}
    pq.write_table(pa.table(long), tmp_path / "long.parquet")
    pivot = {"variable": "what", "value": "n", "names": ["W", "H"]}
    join = {"path": "long.parquet", "format": "parquet", "key": "id", "pivot": pivot}
    weight = {"column": "weight", "source": "W", "unit": "kg"}
    described = description(RULE, (SOURCES[0], weight), join=[join])
    features = encoded(described, contract(LABEL, (AGE, MAYBE)), tmp_path).features
    np.testing.assert_allclose(features[:, 1], [70.5 / 500 * 2 - 1, 0], atol=1e-6)


def test_without_pyarrow_the_extra_is_named(tmp_path, monkeypatch):
    pq.write_table(pa.table({"id": ["a"]}), tmp_path / "main.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "install the extra `parquet`" in why(tmp_path, "id")
