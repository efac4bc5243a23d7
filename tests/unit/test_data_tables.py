"""Tables of a hospital that lie in several files, packed, or together with other hospitals'."""

import gzip
import io
import tracemalloc
import zipfile

import numpy as np
import pytest
from PIL import Image
from tests.support.described_data import (
    AGE_SOURCE,
    contract,
    description,
    encoded,
    refusal,
    write,
)
from tests.support.study_plans import BINARY

from wardround.errors import BadInput
from wardround_client.data import text as texts

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
        ("id,site\np1,west\n", {"rows": [NORTH]}, "no row is what `rows` wants in 'site'"),
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
    (tmp_path / "main.csv.gz").write_bytes(gzip.compress(MAIN.encode(), mtime=0))
    write(tmp_path, main_csv=MAIN)
    packed, plain = read(tmp_path, path="main.csv.gz"), read(tmp_path)
    assert packed.features.tolist() == plain.features.tolist()
    assert packed.patients == plain.patients


@pytest.mark.parametrize("content", [b"plain", gzip.compress(MAIN.encode(), mtime=0)[:-12], b""])
def test_a_broken_packed_table_is_refused(tmp_path, content):
    (tmp_path / "main.csv.gz").write_bytes(content)
    said = refused(tmp_path, path="main.csv.gz")
    assert "not a table" in said or "the file is empty" in said


def test_a_packed_table_cannot_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(texts, "TABLE_LIMIT_BYTES", 10_000)
    (tmp_path / "main.csv.gz").write_bytes(gzip.compress(b"a" * 10_000_000))
    assert "over 10000 characters" in refused(tmp_path, path="main.csv.gz")


def test_rows_that_belong_to_nobody_are_left_out(tmp_path):
    write(tmp_path, main_csv=MAIN)
    rows = [{"source": "id", "except_values": ["p1", "p9"]}]
    assert read(tmp_path, rows=rows).patients == ("p2", "p3")


def test_public_data_is_cut_into_parts_that_keep_a_value_together_and_leave_nothing_out(tmp_path):
    lines = [f"p{patient},50,{patient % 2}" for patient in range(300) for _ in range(2)]
    write(tmp_path, main_csv="id,age,y\n" + "\n".join(lines) + "\n")
    own = [
        read(tmp_path, rows=[{"source": "id", "parts": {"of": 3, "own": [part]}}]).patients
        for part in range(3)
    ]
    assert sum(map(len, own)) == 300
    assert len(set().union(*own)) == 300
    assert min(map(len, own)) > 70  # 100 expected, 8 is one standard deviation
    two = read(tmp_path, rows=[{"source": "id", "parts": {"of": 3, "own": [0, 2]}}])
    assert set(two.patients) == {*own[0], *own[2]}


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ({"source": "id"}, "one of `values`"),
        ({"source": "id", "values": ["a"], "except_values": ["b"]}, "one of `values`"),
        ({"source": "id", "parts": {"of": 3, "own": [3]}}, "from 0 to 2"),
        ({"source": "id", "parts": {"of": 3, "own": [1, 1]}}, "different parts"),
    ],
)
def test_a_condition_on_rows_that_is_not_one_is_refused(rows, why):
    with pytest.raises(BadInput, match=why):
        description(RULE, rows=[rows])


def test_a_code_among_numbers_stands_for_a_number(tmp_path):
    write(tmp_path, main_csv="id,age,y\np1,> 89,1\np2,0,0\n")
    old = {"column": "age", "source": "age", "unit": "a", "values": {"> 89": "90"}}
    found = encoded(description(RULE, [old]), contract(BINARY), tmp_path)
    np.testing.assert_allclose(found.features.ravel(), [0.8, -1])
    assert "1 of 2 values are not numbers" in refused(tmp_path)
    words = description(RULE, [old | {"values": {"> 89": "old"}}])
    assert "lead to numbers" in refusal(words, contract(BINARY), tmp_path)


SCAN = {
    "name": "scan",
    "kind": "image",
    "description": "x",
    "range": [0, 255],
    "shape": [1, 2, 2],
}
SCAN_SOURCE = {"column": "scan", "source": "file", "unit": "1"}
SICK = {"format": "npz", "path": "all.npz", "arrays": ["sick"], "patient": {"source": "row"}}
FILES = {"format": "files", "path": "all.zip", "pattern": "{patient}/{finding}_{slice}.png"}


def scans(folder, archived):
    """Two slices of each of two patients, and a file that is none."""
    names = ["b/sick_1.png", "b/sick_2.png", "a/well_1.png", "a/well_2.png", "about.txt"]
    buffer = io.BytesIO()
    Image.fromarray(np.full((2, 2), 255, dtype=np.uint8)).save(buffer, "PNG")
    if archived:
        with zipfile.ZipFile(folder / "all.zip", "w") as archive:
            for name in names:
                archive.writestr(name, buffer.getvalue())
        return FILES | {"images": {"folder": "all.zip"}}
    for name in names:
        (folder / "all" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "all" / name).write_bytes(buffer.getvalue())
    return FILES | {"path": "all", "images": {"folder": "all"}}


@pytest.mark.parametrize("archived", [True, False])
def test_the_files_of_a_folder_or_archive_are_the_rows(tmp_path, archived):
    more = scans(tmp_path, archived) | {"patient": {"source": "patient"}}
    rule = {"source": "finding", "positive_values": ["sick"], "negative_values": ["well"]}
    described = description(rule, [SCAN_SOURCE], **more)
    found = encoded(described, contract(BINARY, [SCAN]), tmp_path)
    assert found.patients == ("a", "b")
    assert found.labels.tolist() == [0, 0, 1, 1]
    assert found.features.shape == (4, 1, 2, 2)
    nowhere = description(rule, [SCAN_SOURCE], **more | {"pattern": "{patient}-{finding}.png"})
    assert "no file fits" in refusal(nowhere, contract(BINARY, [SCAN]), tmp_path)


@pytest.mark.parametrize("pattern", ["all.png", "{a}/{a}.png", "{file}.png", None])
def test_a_pattern_that_names_no_part_or_one_twice_is_refused(pattern):
    with pytest.raises(BadInput, match="pattern"):
        description(RULE, [SCAN_SOURCE], **FILES | {"pattern": pattern})


def test_arrays_of_a_npz_are_columns_beside_the_rows_number(tmp_path):
    stack = np.stack([np.full((2, 2), value, dtype=np.uint8) for value in (0, 255, 0)])
    np.savez(tmp_path / "all.npz", scans=stack, sick=np.array([[0], [1], [0]], dtype=np.uint8))
    more = {
        "format": "npz",
        "path": "all.npz",
        "arrays": ["sick"],
        "patient": {"source": "row"},
        "images": {"folder": "all.npz", "array": "scans"},
    }
    rule = {"source": "sick", "positive_when": "==1"}
    source = SCAN_SOURCE | {"source": "row"}
    found = encoded(description(rule, [source], **more), contract(BINARY, [SCAN]), tmp_path)
    assert found.labels.tolist() == [0, 1, 0]
    assert found.features[:, 0, 0, 0].tolist() == [-1, 1, -1]


@pytest.mark.parametrize(
    ("arrays", "why"),
    [
        ({"sick": np.zeros((3, 2), dtype=np.int64)}, "whole numbers of the shape"),
        ({"sick": np.array(3)}, "whole numbers of the shape"),
        ({"sick": np.zeros(3)}, "array sick: has values of type float64, one of int8,"),
        ({"sick": np.array([{}, {}], dtype=object)}, "array sick: has values of type object"),
        ({"well": np.zeros(3, dtype=np.int64)}, "array sick: not in the archive"),
    ],
)
def test_an_array_that_is_no_column_is_refused(tmp_path, arrays, why):
    np.savez(tmp_path / "all.npz", **arrays)
    described = description({"source": "sick", "positive_when": "==1"}, [AGE_SOURCE], **SICK)
    assert why in refusal(described, contract(BINARY), tmp_path)


def packed(path, name, content):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, content)


@pytest.mark.parametrize("shape", ["(99999999999,)", f"({1 << 32},{1 << 32})", f"({1 << 61},)"])
def test_an_array_whose_header_claims_more_than_its_member_holds_allocates_nothing(tmp_path, shape):
    file = io.BytesIO()
    np.save(file, np.zeros(3, dtype=np.int64))
    header = file.getvalue()[:128]
    claimed = header.replace(b"(3,), }" + b" " * (len(shape) - 4), f"{shape}, }}".encode())
    assert len(claimed) == len(header)
    assert shape.encode() in claimed
    packed(tmp_path / "all.npz", "sick.npy", claimed + bytes(24))
    described = description({"source": "sick", "positive_when": "==1"}, [AGE_SOURCE], **SICK)
    tracemalloc.start()
    assert "array sick: is cut off" in refusal(described, contract(BINARY), tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()


def test_an_array_whose_packing_is_broken_is_refused(tmp_path):
    np.savez_compressed(tmp_path / "all.npz", sick=np.arange(3000))
    content = bytearray((tmp_path / "all.npz").read_bytes())
    content[200:1200] = b"\xff" * 1000
    (tmp_path / "all.npz").write_bytes(content)
    described = description({"source": "sick", "positive_when": "==1"}, [AGE_SOURCE], **SICK)
    assert "array sick: " in refusal(described, contract(BINARY), tmp_path)


def test_of_a_patient_with_several_rows_only_the_first_own_one_is_read(tmp_path):
    """First among the hospital's rows, and a row that is left out does not count as the first."""
    main = "id,age,y,site\np1,100,1,south\np1,0,0,north\np2,50,1,north\np1,100,1,north\n"
    write(tmp_path, main_csv=main)
    patient = {"source": "id", "first_row_only": True}
    found = read(tmp_path, patient=patient, rows=[{"source": "site", "values": ["north"]}])
    assert found.patients == ("p1", "p2")
    assert found.features.ravel().tolist() == [-1, 0]
    assert found.labels.tolist() == [0, 1]


def test_rows_without_a_patient_are_a_fault_even_where_only_first_rows_count(tmp_path):
    write(tmp_path, main_csv="id,age,y\np1,50,1\n,60,0\n,70,0\n")
    said = refused(tmp_path, patient={"source": "id", "first_row_only": True})
    assert "patient key: 2 of 3 rows have none" in said


def test_the_first_row_of_a_patient_needs_a_key(tmp_path):
    write(tmp_path, main_csv=MAIN)
    with pytest.raises(BadInput, match="first_row_only"):
        read(tmp_path, patient={"row_number_as_patient": True, "first_row_only": True})
