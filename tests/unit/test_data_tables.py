"""Tables of a hospital that lie in several files, packed, or together with other hospitals'."""

import gzip

import pytest
from tests.support.described_data import contract, description, encoded, refusal, write
from tests.support.study_plans import BINARY

from wardround.errors import BadInput
from wardround_client.data import table as tables

RULE = {"source": "y", "positive_when": ">0"}
MAIN = "id,age,y\np1,50,1\np2,60,0\np3,70,1\n"
JOIN = {"path": "sites.csv", "key": "id"}
NORTH = {"source": "site", "values": ["north", "far north"]}


def read(folder, **more):
    return encoded(description(RULE, **more), contract(BINARY), folder)


def refused(folder, **more):
    return refusal(description(RULE, **more), contract(BINARY), folder)


def test_only_the_rows_that_another_file_gives_this_hospital_are_read(tmp_path):
    write(tmp_path, main_csv=MAIN, sites_csv="id,site\np3,far north\np2,south\np1,north\n")
    found = read(tmp_path, join=[JOIN], rows=[NORTH])
    assert found.patients == ("p1", "p3")
    assert found.labels.tolist() == [1, 1]


def test_a_joined_column_is_a_source_and_a_row_without_partner_has_it_missing(tmp_path):
    write(tmp_path, main_csv=MAIN.replace("age", "old"), sites_csv="id,age\np1,20\np2,40\n")
    assert "1 of 3 values are missing" in refused(tmp_path, join=[JOIN])
    write(tmp_path, sites_csv="id,age\np3,100\np1,0\np2,50\n")
    assert read(tmp_path, join=[JOIN]).features.ravel().tolist() == [-1, 0, 1]


def test_all_conditions_on_rows_hold_together(tmp_path):
    write(tmp_path, main_csv=MAIN, sites_csv="id,site\np1,north\np2,north\np3,south\n")
    sick = {"source": "y", "values": ["1"]}
    assert read(tmp_path, join=[JOIN], rows=[NORTH, sick]).patients == ("p1",)


def test_row_numbers_stay_those_of_the_whole_file(tmp_path):
    """A patient keeps its place in the split when another hospital's rows are left out."""
    write(tmp_path, main_csv=MAIN)
    rows = [{"source": "y", "values": ["1"]}]
    found = read(tmp_path, rows=rows, patient={"row_number_as_patient": True})
    assert found.patients == ("1", "3")


@pytest.mark.parametrize(
    ("sites", "more", "why"),
    [
        ("id,site\np1,north\np1,south\n", {}, "1 of 2 rows repeat a key in 'id'"),
        ("id,age\np1,5\n", {}, "age is a column of both files"),
        ("key,site\np1,north\n", {}, "no column 'id' in sites.csv"),
        (
            "id,site\np1,north\n",
            {"rows": [{"source": "zone", "values": ["a"]}]},
            "no column 'zone'",
        ),
        ("id,site\np1,west\n", {"rows": [NORTH]}, "no row has one of the 2 values"),
        ("id,site\np1\n", {}, "1 of 1 rows do not have the 2 fields"),
    ],
)
def test_a_join_that_is_not_one_row_to_one_is_refused(tmp_path, sites, more, why):
    write(tmp_path, main_csv=MAIN, sites_csv=sites)
    said = refused(tmp_path, join=[JOIN], **more)
    assert why in said
    assert "west" not in said


def test_a_path_of_a_join_does_not_leave_the_folder(tmp_path):
    with pytest.raises(BadInput, match="inside the data folder"):
        description(RULE, join=[JOIN | {"path": "../sites.csv"}])


def test_a_packed_table_is_read_as_the_plain_one(tmp_path):
    (tmp_path / "main.csv.gz").write_bytes(gzip.compress(MAIN.encode()))
    write(tmp_path, main_csv=MAIN)
    packed, plain = read(tmp_path, path="main.csv.gz"), read(tmp_path)
    assert packed.features.tolist() == plain.features.tolist()
    assert packed.patients == plain.patients


@pytest.mark.parametrize("content", [b"plain", gzip.compress(MAIN.encode())[:-12], b""])
def test_a_broken_packed_table_is_refused(tmp_path, content):
    (tmp_path / "main.csv.gz").write_bytes(content)
    said = refused(tmp_path, path="main.csv.gz")
    assert "not a table" in said or "the file is empty" in said


def test_a_packed_table_cannot_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "TABLE_LIMIT_BYTES", 10_000)
    (tmp_path / "main.csv.gz").write_bytes(gzip.compress(b"a" * 10_000_000))
    assert "over 10000 characters" in refused(tmp_path, path="main.csv.gz")
