"""The page about sources is followed: images without their patients become a data set."""

import tomllib
from pathlib import Path

import numpy as np
import pytest
from tests.docs.pages import FOLDER, blocks
from tests.docs.test_walkthrough import DATA_SOURCES, Story, story
from tests.support.dicom_files import content, ct_slice
from tests.support.fhir_exports import condition, encounter, observation, patient, put

from wardround.study.files import checked
from wardround_client.data.description import DatasetDescription
from wardround_client.data.table import read_table

__all__ = ["story"]  # a fixture


def archive_exports(told: Story) -> None:
    """Nine slices of four patients; one says that there is no text in it."""
    random, folder = np.random.default_rng(0), told.folder / "archive-export"
    folder.mkdir()
    for number in range(9):
        place = {"ImagePositionPatient": [0, 0, 5 * number]}
        place |= {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
        said = {"BurnedInAnnotation": "NO"} if number == 8 else {}
        patient = f"P{number % 4}"
        file = ct_slice(
            random.integers(-1000, 400, (16, 16)).astype(np.int16),
            PatientID=patient,
            PatientName="Doe^Jane",
            SeriesInstanceUID=f"1.2.3.{number % 4}",
            **place,
            **said,
        )
        (folder / f"IM{number:04}").write_bytes(content(file))
    rows = "".join(f"P{n},Doe^Jane,{n}\n" for n in range(4))
    (told.folder / "labels-of-the-ward.csv").write_text("id,name,nodule\n" + rows)
    (told.folder / "lakeside").mkdir()


@pytest.mark.slow
def test_images_lose_their_patients_and_are_read_with_their_labels(story: Story) -> None:
    archive_exports(story)
    for page, section in DATA_SOURCES:
        story.tell(page, section)
    written = [path for path in (story.folder / "scans").rglob("*") if path.is_file()]
    assert len(written) == 8
    assert not any(b"Doe" in path.read_bytes() for path in written)
    table = read_table(described(), story.folder)
    assert sorted(table["nodule"]) == ["0", "1", "2", "3"]


def described() -> DatasetDescription:
    """The page's own description of a folder, of slices that no scanner described."""
    text = next(b.text for b in blocks(FOLDER / "data-sources.md") if "[dicom]" in b.text)
    plain = text.replace('series_description = ["LUNG 3.0"]\n', "")
    assert plain != text
    return checked(DatasetDescription, tomllib.loads(plain), what="page")


def test_the_form_of_a_bulk_export_on_the_page_reads_one(tmp_path: Path) -> None:
    """Who had a visit in 2024 and no diabetes by then, the last pressure before, and what came."""
    text = next(b.text for b in blocks(FOLDER / "data-sources.md") if "[fhir.cohort]" in b.text)
    own = checked(DatasetDescription, tomllib.loads(text), what="page")
    put(tmp_path, *(patient(f"p{n}") for n in range(4)))
    put(tmp_path, *(encounter(f"e{n}", "2024-02-01", of=f"p{n}") for n in range(3)))
    put(tmp_path, encounter("e3", "2023-02-01", of="p3"))
    put(tmp_path, condition("c0", "2023-01-01", of="p0"), condition("c1", "2024-02-02", of="p1"))
    put(tmp_path, observation("o1", 16, "2024-01-31", of="p1", unit="kPa"))
    (tmp_path / "bulk").rename(tmp_path / "bulk-export")
    table = read_table(own, tmp_path)
    assert table["patient"].tolist() == ["p1", "p2"]
    assert table["age"].tolist() == ["53", "53"]
    assert [float(value) if value else None for value in table["systolic"]] == [16 * 7.50062, None]
    assert table["diabetes"].tolist() == ["1", "0"]
