"""ARFF at the hospital: every value is held to the header, within bounds, none in an error."""

import gzip
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import arff
from tests.support.described_data import AGE, contract, description, encoded, refusal

from wardround.errors import BadInput
from wardround_client.data import arff_table
from wardround_client.data.arff_table import LINE_LIMIT_CHARS, read_arff
from wardround_client.data.check import check
from wardround_client.data.table import read_table
from wardround_client.data.table_source import Asked

REAL = Path(__file__).resolve().parents[3] / "shared" / "data"
FILES = (
    ("gse7390_breast_expression", "breast_cancer_GSE7390-metastasis.arff", 198, 82),
    ("survival_multisite", "GBSG2.arff", 686, 10),
    ("survival_multisite", "actg320.arff", 1151, 15),
    ("survival_multisite", "whas500.arff", 500, 16),
)
SECRET = "Meier-9173"
HEADER = "@relation ward\n@attribute id string\n@attribute age numeric\n@attribute er {no,yes}\n"
ROWS = "p1,40,no\np2,50.5,yes\np3,?,?\n"


def read(folder: Path, text: str, *names: str) -> pd.DataFrame:
    (folder / "main.arff").write_text(text)
    asked = names or ("id", "age", "er", "stage", "note")
    return read_arff(Asked(folder=folder, path="main.arff", columns=frozenset(asked)))


def why(folder: Path, text: str) -> str:
    with pytest.raises(BadInput) as caught:
        read(folder, text)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    assert SECRET not in str(caught.value)
    return str(caught.value)


def oracle(path: Path) -> dict[str, list[float] | list[str]]:
    data, kinds = arff.loadarff(path)
    return {
        name: list(data[name]) if kind == "numeric" else [value.decode() for value in data[name]]
        for name, kind in zip(kinds.names(), kinds.types(), strict=True)
    }


@pytest.mark.parametrize(("folder", "name", "rows", "columns"), FILES)
def test_real_files_are_what_scipy_reads_of_them(folder, name, rows, columns):
    if not (REAL / folder).is_dir():
        pytest.skip("../shared/data not present")
    expected = oracle(REAL / folder / name)
    asked = Asked(folder=REAL / folder, path=name, columns=frozenset(expected))
    found = read_arff(asked)
    assert found.shape == (rows, columns)
    assert list(found.columns) == list(expected)
    for column, own in expected.items():
        if isinstance(own[0], str):
            assert list(found[column].replace("", "?")) == own
        else:
            numbers = found[column].replace("", "nan").astype(np.float64)
            np.testing.assert_array_equal(numbers, own)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)),
            st.sampled_from(["a", "b c", "d,e", "?q", None]),
        ),
        min_size=1,
        max_size=20,
    )
)
def test_rows_written_by_the_rules_are_read_back(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("arff", numbered=True)
    text = "@relation r\n@attribute age real\n@attribute stage {a,'b c','d,e',?q}\n@data\n"
    for number, stage in rows:
        text += "?" if number is None else repr(number)
        text += ", ?\n" if stage is None else f", '{stage}'\n"
    found = read(folder, text)
    assert list(found["age"]) == ["" if n is None else repr(n) for n, _ in rows]
    assert list(found["stage"]) == [s or "" for _, s in rows]


def test_names_quotes_comments_missing_values_and_kinds_are_read_as_the_manual_says(tmp_path):
    text = (
        "\ufeff% a comment\n\n@RELATION 'a ward, of one'\r\n"
        "@Attribute 'patient\\'s id' STRING\n@attribute \"the age\" Real\n"
        "@attribute stage {'stage I', \"II, late\" ,well differentiated}\n"
        "@attribute days integer\n\n@DATA\n% between\n"
        "'p 1, x', +4.5e1 ,'stage I',-3\n\n"
        '"say \\"?\\"\\t1",?,"II, late",4.0\n'
        "'?',.5,well differentiated,?\n?,1.,?,0"
    )
    found = read(tmp_path, text, "patient's id", "the age", "stage", "days")
    assert found.to_dict("list") == {
        "patient's id": ["p 1, x", 'say "?"\t1', "?", ""],
        "the age": ["+4.5e1", "", ".5", "1."],
        "stage": ["stage I", "II, late", "well differentiated", ""],
        "days": ["-3", "4.0", "", "0"],
    }


def test_a_packed_file_is_unpacked_and_only_asked_columns_are_kept(tmp_path):
    (tmp_path / "main.arff.gz").write_bytes(gzip.compress((HEADER + "@data\n" + ROWS).encode()))
    asked = Asked(folder=tmp_path, path="main.arff.gz", columns=frozenset({"er", "elsewhere"}))
    assert read_arff(asked).to_dict("list") == {"er": ["no", "yes", ""]}
    (tmp_path / "main.arff.gz").write_bytes(gzip.compress(HEADER.encode())[:-9])
    with pytest.raises(BadInput, match="cannot be read"):
        read_arff(asked)


BAD_HEADERS = (
    ("@relation r\n@attribute id date 'yyyy-MM-dd'\n@data\n", "column 'id' is date"),
    ("@relation r\n@attribute id relational\n@end id\n@data\n", "column 'id' is relational"),
    ("@relation r\n@attribute id integerish\n@data\n", "column 'id' is of no known kind"),
    ("@relation r\n@attribute id numeric [0,9]\n@data\n", "of no known kind"),
    ("@relation r\n@attribute id\n@data\n", "line 2: a name of 1 to 200 characters"),
    ("@relation r\n@attribute the id string\n@data\n", "'the' is of no known kind"),
    ("@relation r\n@attribute 'id string\n@data\n", "line 2: a name"),
    (f"@relation r\n@attribute {'x' * 201} string\n@data\n", "line 2: a name"),
    ("@relation r\n@attribute '  ' string\n@data\n", "line 2: a name"),
    ("@relation r\n@attribute id {a,b,a}\n@data\n", "none twice"),
    ("@relation r\n@attribute id {a,}\n@data\n", "none empty"),
    ("@relation r\n@attribute id {}\n@data\n", "none empty"),
    ("@relation r\n@attribute id {a,?}\n@data\n", "none empty or ?"),
    ("@relation r\n@attribute id {a b\n@data\n", "of no known kind"),
    ("@attribute id string\n@data\n", "line 1: @relation once"),
    ("@relation r\n@relation s\n@attribute id string\n@data\n", "line 2: @relation once"),
    ("@relation r\n@data\np1\n", "line 2: @relation once"),
    ("@relation r\n@attribute id string\n@data p1\n", "line 3: @relation once"),
    ("@relation r\n@attribute id string\n@attribute id string\n@data\n", "names a column twice"),
    ("id,age\np1,40\n", "line 1: @relation once"),
    (f"{SECRET},40\n", "line 1: @relation once"),
    ("@relation r\n@attribute id string\n", "no line @data"),
    ("", "no line @data"),
    ("@relation r\n@attribute other string\n@data\np1\n", "none of the columns"),
)


@pytest.mark.parametrize(("text", "due"), BAD_HEADERS)
def test_a_header_that_says_something_else_is_refused(tmp_path, text, due):
    assert due in why(tmp_path, text)


BAD_ROWS = (
    ("", "a header and no rows"),
    ("% p1,40,no\n", "a header and no rows"),
    (f"p1,40,no,{SECRET}\np2,1,no\n", "1 of 2 rows do not have the 3 values"),
    (f"'{SECRET}',40\n", "1 of 1 rows do not have the 3 values"),
    (f"{SECRET},,no\n", "1 of 1 rows are not values with commas between"),
    (f"{SECRET},1,\n", "not values with commas between"),
    (f"'{SECRET},1,no\n", "a quote is open"),
    (f"'{SECRET}'x,1,no\n", "not values with commas between"),
    (f"{SECRET}'s,1,no\n", "outside quotes"),
    (f"'{SECRET}\\q',1,no\n", "not values with commas between"),
    (f"{SECRET},1,no % seen\n", "outside quotes"),
    (f"{SECRET},1,no,{{2}}\n", "outside quotes"),
    (f"{{0 {SECRET}, 1 40}}\n", "sparse rows"),
    (f"p1,{SECRET},no\n", "column 'age': 1 of 1 values are not numbers"),
    ("p1,1?3,no\n", "column 'age': 1 of 1 values are not numbers"),
    ("p1,nan,no\np1,inf,no\np1,1_0,no\n", "column 'age': 3 of 3 values are not numbers"),
    (f"p1,1,{SECRET}\np2,1,No\np3,1,no\n", "column 'er': 2 of 3 values are not one of its names"),
)


@pytest.mark.parametrize(("rows", "due"), BAD_ROWS)
def test_rows_that_the_header_does_not_allow_are_refused_in_counts(tmp_path, rows, due):
    assert due in why(tmp_path, f"{HEADER}@data\n{rows}")


def test_a_whole_number_has_no_fraction(tmp_path):
    text = f"@relation r\n@attribute age integer\n@data\n4\n{4.5}\n"
    assert "column 'age': 1 of 2 values are not whole numbers" in why(tmp_path, text)


def test_a_file_that_is_no_text_is_refused(tmp_path):
    (tmp_path / "main.arff").write_bytes(f"{HEADER}@data\np1,40,".encode() + b"\xff\n")
    with pytest.raises(BadInput, match="not UTF-8 text"):
        read_arff(Asked(folder=tmp_path, path="main.arff", columns=frozenset({"id"})))


def test_lines_headers_and_rows_have_their_limits_before_they_fill_the_memory(
    tmp_path, monkeypatch
):
    tracemalloc.start()
    assert "a line of over" in why(tmp_path, f"{HEADER}@data\n{'x' * (LINE_LIMIT_CHARS + 1)}")
    full = f"{HEADER}@data\n" + "," * (LINE_LIMIT_CHARS - 1)
    assert "1 of 1 rows" in why(tmp_path, full)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 12 * LINE_LIMIT_CHARS  # a list of the fields alone would take 70
    monkeypatch.setattr(arff_table, "MOST_ATTRIBUTES", 100)
    many = "".join(f"@attribute a{n} real\n" for n in range(101))
    assert "over 100 attributes" in why(tmp_path, f"@relation r\n{many}@data\n")
    monkeypatch.setattr(arff_table, "HEADER_LIMIT_CHARS", 60)
    assert "a header of over 60 characters" in why(tmp_path, f"{HEADER}@data\n{ROWS}")
    monkeypatch.setattr(arff_table, "HEADER_LIMIT_CHARS", 1000)
    monkeypatch.setattr(arff_table, "TABLE_LIMIT_BYTES", 90)
    assert "over 90 characters" in why(tmp_path, f"{HEADER}@data\n{ROWS}")


@pytest.mark.parametrize(
    "row",
    [" " * 500_000 + "'", "'" + "x" * 500_000, "\\" * 500_000, "'" * 500_000, "a " * 250_000 + "%"],
)
def test_no_row_takes_longer_than_its_length(tmp_path, row):
    started_s = time.process_time()
    assert "1 of 1 rows" in why(tmp_path, f"{HEADER}@data\nx{row}\n")
    assert "1 of 1 rows" in why(tmp_path, f"{HEADER}@data\n{row},x\n")
    assert time.process_time() - started_s < 2.0


LABEL = {"name": "sick", "description": "x", "positive": "er is yes"}
RULE = {"source": "er", "positive_values": ["yes"], "negative_values": ["no"]}
SOURCES = ({"column": "age", "source": "age", "unit": "a"},)


def test_a_study_sees_the_same_records_and_says_the_same_as_of_csv(tmp_path):
    rows = "".join(f"p{n},{40 + n},{'yes' if n % 3 else 'no'}\n" for n in range(12))
    (tmp_path / "main.csv").write_text("id,age,er\n" + rows)
    (tmp_path / "main.arff").write_text(f"{HEADER}@data\n{rows}")
    agreed = contract(LABEL, (AGE,))
    plain = description(RULE, SOURCES)
    declared = description(RULE, SOURCES, format="arff", path="main.arff")
    one, other = encoded(plain, agreed, tmp_path), encoded(declared, agreed, tmp_path)
    np.testing.assert_array_equal(one.features, other.features)
    np.testing.assert_array_equal(one.labels, other.labels)
    assert one.patients == other.patients
    assert check(plain, agreed, tmp_path).to_fix == check(declared, agreed, tmp_path).to_fix == ()


def test_what_is_missing_for_a_study_is_told_of_arff_as_of_csv(tmp_path):
    (tmp_path / "main.arff").write_text(f"{HEADER}@data\n{ROWS}")
    declared = description(RULE, SOURCES, format="arff", path="main.arff")
    told = refusal(declared, contract(LABEL, (AGE,)), tmp_path)
    assert "label: 1 of 3 values are missing" in told
    assert "column age: 1 of 3 values are missing" in told


def test_an_arff_file_is_joined_and_can_be_the_lines_of_a_series(tmp_path):
    (tmp_path / "main.csv").write_text("id,er\np1,no\np2,yes\n")
    lines = "@relation r\n@attribute id string\n@attribute {0} string\n@attribute {1} real\n"
    (tmp_path / "ages.arff").write_text(f"{HEADER}@data\n{ROWS}")
    join = {"path": "ages.arff", "format": "arff", "key": "id", "prefix": "at birth "}
    source = {"column": "age", "source": "at birth age", "unit": "a"}
    joined = read_table(description(RULE, (source,), join=[join]), tmp_path)
    assert list(joined["at birth age"]) == ["40", "50.5"]
    text = lines.format("what", "age") + "@attribute h real\n@data\np1,hr,80,0.5\np2,hr,90,1.5\n"
    (tmp_path / "lines.arff").write_text(text)
    long = {"path": "lines.arff", "format": "arff", "key": "id", "record": "id"}
    long |= {"time": "h", "variable": "what", "value": "age"}
    rate = {"name": "rate", "kind": "series", "description": "x", "range": [0, 200]}
    agreed = contract(LABEL, (rate,), grid={"steps": 2, "step": 1.0, "unit": "h"})
    described = description(RULE, ({"column": "rate", "source": "hr"},), series=long)
    found = encoded(described, agreed, tmp_path)
    assert found.features.shape[0] == 2
