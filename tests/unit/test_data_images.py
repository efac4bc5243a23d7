"""Image files at the hospital: the header is checked before the array is read; no pickle."""

import io
from pathlib import Path

import numpy as np
import pytest

from wardround.errors import BadInput
from wardround.study.contract import Column, ColumnKind, Contract, Label
from wardround_client.data.check import Verdict, check
from wardround_client.data.description import DatasetDescription
from wardround_client.data.encoding import encode
from wardround_client.data.reading import read_records

COLUMN = Column(
    name="slice",
    kind=ColumnKind.IMAGE,
    description="slice",
    unit="[hnsf'U]",
    range=(-1000, 1000),
    shape=(1, 2, 2),
)
CONTRACT = Contract(
    patient_key="patient",
    label=Label(name="mass", description="mass", positive="yes"),
    columns=(COLUMN,),
)
DESCRIPTION = DatasetDescription.model_validate(
    {
        "schema": "wardround.dataset/1",
        "hospital": "north",
        "dataset": "north-ct",
        "title": "CT of the north",
        "path": "index.csv",
        "patient": {"source": "patient"},
        "label": {"source": "mass", "positive_values": ["yes"], "negative_values": ["no"]},
        "columns": [{"column": "slice", "source": "file", "unit": "[hnsf'U]"}],
    }
)
GOOD = np.array([[-2000, -1000], [0, 3000]], dtype=np.int16)


def npy(array: np.ndarray, *, allow_pickle: bool = False) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=allow_pickle)
    return buffer.getvalue()


def write(folder: Path, rows: list[tuple[str, str, str]], **files: bytes) -> None:
    lines = ["patient,file,mass", *(",".join(row) for row in rows)]
    (folder / "index.csv").write_text("\n".join(lines) + "\n")
    for name, content in files.items():
        (folder / f"{name}.npy").write_bytes(content)


def refusal(folder: Path) -> str:
    with pytest.raises(BadInput) as caught:
        read_records(DESCRIPTION, CONTRACT, folder)
    return str(caught.value)


def test_images_are_windowed_scaled_and_grouped_by_patient(tmp_path: Path) -> None:
    rows = [("b", "one.npy", "yes"), ("a", "two.npy", "no"), ("b", "three.npy", "yes")]
    other = npy(np.zeros((1, 2, 2), dtype=np.float32))
    write(tmp_path, rows, one=npy(GOOD), two=other, three=other)
    result = encode(read_records(DESCRIPTION, CONTRACT, tmp_path), CONTRACT)
    assert result.features.shape == (3, 1, 2, 2)
    assert result.features.dtype == np.float32
    assert result.patients == ("a", "b")
    assert result.offsets.tolist() == [0, 1, 3]
    assert result.labels.tolist() == [0, 1, 1]
    assert result.features[1].ravel().tolist() == [-1, -1, 0, 1]


@pytest.mark.parametrize(
    ("content", "due"),
    [
        (npy(np.zeros((3, 2), dtype=np.int16)), "has shape (3, 2), (1, 2, 2) is due"),
        (npy(np.zeros((2, 2), dtype=np.complex64)), "has values of type complex64"),
        (npy(np.array([[{}, {}], [{}, {}]], dtype=object), allow_pickle=True), "type object"),
        (npy(GOOD)[:-1], "cut off"),
        (npy(GOOD) + b"\0", "bytes behind the array"),
        (b"GIF89a", "is not a .npy file"),
        (b"", "is not a .npy file"),
        (npy(GOOD).replace(b"(2, 2), ", b"(10**9,)"), "is not a .npy file"),
    ],
)
def test_a_wrong_image_file_is_refused_before_its_array_is_read(
    content: bytes, due: str, tmp_path: Path
) -> None:
    write(tmp_path, [("a", "one.npy", "yes")], one=content)
    message = refusal(tmp_path)
    assert "column slice: 1 of 1 files" in message
    assert due in message


def test_a_header_that_claims_a_huge_array_allocates_nothing(tmp_path: Path) -> None:
    header = npy(GOOD).replace(b"(2, 2), }  ", b"(2, 1<<40)}")
    huge = npy(GOOD).replace(b"(2, 2), }" + b" " * 12, b"(2, 999999999999), }" + b" ")
    assert huge != npy(GOOD)
    write(tmp_path, [("a", "one.npy", "yes"), ("b", "two.npy", "no")], one=header, two=huge)
    assert "(2, 999999999999), (1, 2, 2) is due" in refusal(tmp_path)


@pytest.mark.parametrize("path", ["../one.npy", "/one.npy", "none.npy", "."])
def test_a_path_out_of_the_folder_or_to_nothing_is_counted_and_not_repeated(
    path: str, tmp_path: Path
) -> None:
    write(tmp_path, [("a", path, "yes")])
    message = refusal(tmp_path)
    assert "1 of 1 files" in message
    assert "inside the data folder" in message or "leads out of the data folder" in message
    assert "one.npy" not in message
    assert "none.npy" not in message


def test_pixels_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    write(
        tmp_path,
        [("a", "one.npy", "yes")],
        one=npy(np.array([[0, np.nan], [0, 0]], dtype=np.float32)),
    )
    records = read_records(DESCRIPTION, CONTRACT, tmp_path)
    with pytest.raises(BadInput, match="not a finite number"):
        encode(records, CONTRACT)


def test_slices_of_one_patient_with_different_labels_are_refused(tmp_path: Path) -> None:
    write(tmp_path, [("a", "one.npy", "yes"), ("a", "one.npy", "no")], one=npy(GOOD))
    assert "1 patients have images with different labels" in refusal(tmp_path)


def test_the_check_of_images_counts_patients_and_slices(tmp_path: Path) -> None:
    rows = [(f"p{i % 12}", "one.npy", "yes" if i % 2 else "no") for i in range(36)]
    write(tmp_path, rows, one=npy(GOOD))
    found = check(DESCRIPTION, CONTRACT, tmp_path)
    assert found.verdict is Verdict.READY_WITH_REMARKS  # each slice is listed three times
    assert (found.rows, found.patients, found.records_per_patient) == (36, 12, 3)
