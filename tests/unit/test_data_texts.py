"""Tables that are many files, one a record, in a folder or packed: read as one, strictly."""

import zipfile

import pytest
from tests.support.described_data import contract, description, encoded, refusal, write
from tests.support.study_plans import BINARY

from wardround.errors import BadInput
from wardround_client.data import text as texts
from wardround_client.data.check import check
from wardround_client.data.sources import CsvFormat
from wardround_client.data.text import read_texts

RULE = {"source": "y", "positive_when": ">0"}
AGE = {"name": "age", "kind": "continuous", "description": "x", "unit": "a", "range": [0, 100]}
PULSE = {"name": "pulse", "kind": "series", "description": "x", "unit": "/min", "range": [0, 200]}
SOURCES = [
    {"column": "age", "source": "Age", "unit": "a"},
    {"column": "pulse", "source": "HR", "unit": "/min"},
]
GRID = {"steps": 3, "step": 1.0, "unit": "h"}
AGREED = contract(BINARY, [AGE, PULSE], grid=GRID)
MAIN = "id,Stay,y\na,s1,0\nb,s2,1\nc,s3,0\n"
HEAD = "Time,Parameter,Value\n"
FILES = {
    "s1.txt": HEAD + "00:00,Age,50\n00:00,Ward,north\n00:00,HR,100\n01:30,HR,200\n",
    "s2.txt": HEAD + "00:00,Age,100\n00:00,Ward,north\n02:59,HR,0\n00:01,Age,0\n",
    "s3.txt": HEAD + "00:00,Age,0\n00:00,Ward,south\n00:00,HR,fast\n",
    "notes.md": "not, a, table",
}
WHERE = {"path": "all.zip", "pattern": "set/{Stay}.txt"}
PIVOT = {"variable": "Parameter", "value": "Value", "names": ["Age", "Ward"]}
JOIN = WHERE | {"key": "Stay", "pivot": PIVOT}
LONG = WHERE | {
    "key": "Stay",
    "record": "Stay",
    "time": "Time",
    "variable": "Parameter",
    "value": "Value",
    "clock": "hh:mm",
}
NORTH = {"source": "Ward", "values": ["north"]}


def packed(folder, files=FILES, **more):
    """main.csv and all.zip, with the files in its folder `set`."""
    write(folder, main_csv=MAIN)
    with zipfile.ZipFile(folder / "all.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in (files | more).items():
            archive.writestr(f"set/{name}", content)


def described(**more):
    return description(RULE, SOURCES, **({"join": [JOIN], "series": LONG, "rows": [NORTH]} | more))


def table(folder, only=None, **more):
    csv = CsvFormat.model_validate(more)
    return read_texts(folder, "all.zip", "set/{Stay}.txt", csv, only or {})


def test_a_record_a_file_gives_its_row_its_columns_and_its_series(tmp_path):
    packed(tmp_path)
    found = encoded(described(), AGREED, tmp_path)
    assert found.patients == ("a", "b")
    assert found.labels.tolist() == [0, 1]
    assert AGREED.features() == ("age", "pulse", "pulse is missing")
    assert found.features[0].tolist() == [[0, 0, 0], [0, 1, 0], [0, 1, 1]]
    # the first age counts; before the first pulse it is 0 and said to be missing
    assert found.features[1].tolist() == [[1, 0, 1], [1, 0, 1], [1, -1, 0]]


def test_a_folder_is_read_as_the_archive_of_it(tmp_path):
    packed(tmp_path)
    (tmp_path / "all" / "set").mkdir(parents=True)
    for name, content in FILES.items():
        (tmp_path / "all" / "set" / name).write_text(content)
    folder = {"path": "all"}
    plain = described(join=[JOIN | folder], series=LONG | folder)
    due = encoded(described(), AGREED, tmp_path)
    assert encoded(plain, AGREED, tmp_path).features.tolist() == due.features.tolist()


def test_the_file_of_another_hospitals_record_is_no_matter_of_this_one(tmp_path):
    packed(tmp_path)
    assert "1 of 1 measurements are not numbers" in refusal(
        described(rows=[NORTH | {"values": ["south"]}]), AGREED, tmp_path
    )
    assert encoded(described(), AGREED, tmp_path).patients == ("a", "b")


def test_a_record_without_a_file_has_no_measurements(tmp_path):
    packed(tmp_path, {name: text for name, text in FILES.items() if name != "s2.txt"})
    write(tmp_path, ages_csv="Stay,Age\ns1,50\ns2,60\ns3,70\n")
    joined = {"path": "ages.csv", "key": "Stay"}
    own = [{"source": "Stay", "values": ["s1", "s2"]}]
    found = encoded(described(join=[joined], rows=own), AGREED, tmp_path)
    assert found.features[1][:, 2].tolist() == [1, 1, 1]
    nobody = described(join=[joined], rows=[{"source": "Stay", "values": ["s2"]}])
    assert "no file of a record of this hospital" in refusal(nobody, AGREED, tmp_path)


def test_only_rows_with_the_wanted_values_are_kept_and_the_other_files_stay_closed(tmp_path):
    packed(tmp_path, **{"s9.txt": b"\xff"})
    found = table(tmp_path, {"Stay": {"s1", "s2"}, "Parameter": {"HR"}})
    assert list(found.columns) == ["Stay", "Time", "Parameter", "Value"]
    assert found.to_numpy().tolist() == [
        ["s1", "00:00", "HR", "100"],
        ["s1", "01:30", "HR", "200"],
        ["s2", "02:59", "HR", "0"],
    ]
    with pytest.raises(BadInput, match="a file is not UTF-8 text"):
        table(tmp_path)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("Time,Parameter,Number\n00:00,HR,1\n", "the files differ in their header"),
        (HEAD + "00:00,HR\n", r"1 of 12 rows do not have the 3 fields"),
        (HEAD + '00:00,HR,"1\n', "not a table with separator"),
        ("", "a file without a header"),
        ("Time,Time,Value\n", "names a column twice"),
    ],
)
def test_one_faulty_file_is_enough_to_refuse_and_no_field_is_told(tmp_path, content, why):
    packed(tmp_path, **{"s4.txt": content})
    with pytest.raises(BadInput, match=why) as caught:
        table(tmp_path)
    assert "HR" not in str(caught.value)


def test_an_archive_cannot_fill_the_memory_nor_name_a_file_twice(tmp_path, monkeypatch):
    packed(tmp_path, **{"s4.txt": b"a" * 100_000})
    monkeypatch.setattr(texts, "TABLE_LIMIT_BYTES", 50_000)
    with pytest.raises(BadInput, match="over 50000 bytes"):
        table(tmp_path)
    assert len(table(tmp_path, {"Stay": {"s1"}})) == 4
    with (
        pytest.warns(UserWarning, match="Duplicate"),
        zipfile.ZipFile(tmp_path / "all.zip", "a") as archive,
    ):
        archive.writestr("set/s1.txt", "again")
    with pytest.raises(BadInput, match="1 of 5 files have the name of another one"):
        table(tmp_path)


def test_a_damaged_member_is_refused(tmp_path):
    packed(tmp_path)
    content = bytearray((tmp_path / "all.zip").read_bytes())
    start = content.index(b"set/s1.txt") + len(b"set/s1.txt")
    content[start + 4 : start + 12] = b"\xff" * 8
    (tmp_path / "all.zip").write_bytes(content)
    with pytest.raises(BadInput, match="cannot be read or unpacked"):
        table(tmp_path)


def test_a_part_of_the_name_that_is_a_column_too_is_refused(tmp_path):
    packed(tmp_path)
    with pytest.raises(BadInput, match="Time is a part of the name and a column"):
        read_texts(tmp_path, "all.zip", "set/{Time}.txt", CsvFormat(), {})


@pytest.mark.parametrize(
    ("join", "why"),
    [
        ({"pattern": "set/s1.txt"}, "names different parts of a path"),
        ({"pattern": "set/{file}.txt"}, "names different parts of a path"),
        ({"pivot": PIVOT | {"names": ["Age", "Age"]}}, "a name is listed twice"),
        ({"pivot": PIVOT | {"names": ["Stay"]}}, "Stay is the key and one of"),
    ],
)
def test_a_join_of_many_files_that_is_unclear_is_refused(join, why):
    with pytest.raises(BadInput, match=why):
        described(join=[JOIN | join])


def test_a_pivot_needs_its_columns_and_without_one_a_key_may_not_repeat(tmp_path):
    packed(tmp_path)
    strange = described(join=[JOIN | {"pivot": PIVOT | {"value": "Number"}}])
    assert "no column 'Number'" in refusal(strange, AGREED, tmp_path)
    plain = described(join=[WHERE | {"key": "Stay"}])
    assert "8 of 11 rows repeat a key in 'Stay'" in refusal(plain, AGREED, tmp_path)


def test_measurements_out_of_range_are_taken_as_its_end_and_counted_as_measurements(tmp_path):
    packed(tmp_path, **{"s2.txt": FILES["s2.txt"] + "02:00,HR,250\n01:00,HR,300\n"})
    sources = [SOURCES[0], SOURCES[1] | {"out_of_range": "nearest"}]
    near = description(RULE, sources, join=[JOIN], series=LONG, rows=[NORTH])
    assert encoded(near, AGREED, tmp_path).features[1][:, 1].tolist() == [0, 1, -1]
    remarks = check(near, AGREED, tmp_path).remarks
    said = "column pulse: 2 of 5 values out of range, taken as the range's nearest end"
    assert [remark for remark in remarks if remark.startswith(said)]


def test_fields_that_blanks_part_are_as_many_as_there_are_words(tmp_path):
    write(tmp_path, main_csv=" a   50\t0\n\n  b 100 1 \n")
    blank = {"header": False, "separator": " ", "columns": ["id", "Age", "y"]}
    spaced = description(RULE, SOURCES[:1], csv=blank)
    found = encoded(spaced, contract(BINARY, [AGE]), tmp_path)
    assert found.patients == ("a", "b")
    assert found.features.ravel().tolist() == [0, 1]
    write(tmp_path, main_csv="a 50 0\nb 1\n")
    assert "1 of 2 rows do not have the 3 fields" in refusal(
        spaced, contract(BINARY, [AGE]), tmp_path
    )
