"""The page about sources is followed: images without their patients become a data set."""

import tomllib

import numpy as np
import pytest
from tests.docs.pages import FOLDER, blocks
from tests.docs.test_walkthrough import DATA_SOURCES, Story, story
from tests.support.dicom_files import content, ct_slice

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
