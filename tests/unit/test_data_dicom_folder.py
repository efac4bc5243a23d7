"""A folder of DICOM files as a data set: slices by headers, faults by name, real slices whole."""

import csv
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import SecondaryCaptureImageStorage
from tests.support.described_data import contract, description, encoded, refusal, write
from tests.support.dicom_files import CANARY, content, ct_slice
from tests.support.study_plans import BINARY

from wardround.errors import BadInput
from wardround_client.data.check import check
from wardround_client.data.deidentify_folder import Attestation, deidentify_folder
from wardround_client.data.deidentify_keys import Pseudonyms
from wardround_client.data.deidentify_sheet import write_contact_sheet
from wardround_client.data.table import read_table

LIDC = Path(__file__).parents[3] / "shared" / "data" / "lidc_dicom_sample"
LABEL = {"source": "nodule", "positive_when": ">2"}
AXIAL = [1, 0, 0, 0, 1, 0]


def scan(side=4, low=-1000, high=400):
    column = {"name": "scan", "kind": "image", "description": "x", "unit": "[hnsf'U]"}
    return contract(BINARY, [column | {"range": [low, high], "shape": [1, side, side]}])


def described(rule=None, **more):
    source = {"column": "scan", "source": "file", "unit": "[hnsf'U]"}
    return description(
        LABEL,
        [source],
        **{
            "format": "dicom",
            "path": "scans",
            "dicom": {"modality": "CT"} | (rule or {}),
            "patient": {"source": "patient"},
            "join": [{"path": "labels.csv", "key": "patient"}],
        }
        | more,
    )


def table(folder, rule=None):
    return read_table(described(rule), folder)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "scans" / "deep").mkdir(parents=True)
    write(tmp_path, labels_csv="patient,nodule\nP1,1\nP2,4\n")
    return tmp_path


def put(folder, name, file):
    (folder / "scans" / name).write_bytes(file if isinstance(file, bytes) else content(file))


def at(place, series="1.2.1", patient="P1", **elements):
    ways = {"ImagePositionPatient": [0, 0, place], "ImageOrientationPatient": AXIAL}
    return ct_slice(SeriesInstanceUID=series, PatientID=patient, **ways | elements)


def stack(folder, places, **elements):
    """Slices in an order that is not theirs, with names and folders that say nothing."""
    for number, place in enumerate(places):
        put(folder, f"deep/{place * 7919 % 101:.0f}-{number}", at(place, **elements))


def test_slices_are_ordered_by_their_places_whatever_the_files_are_called(folder):
    stack(folder, [30, -10, 20, 0, 10])
    found = table(folder)
    assert found["position"].tolist() == ["-10", "0", "10", "20", "30"]
    assert found["patient"].tolist() == ["P1"] * 5
    assert found["nodule"].tolist() == ["1"] * 5


@pytest.mark.parametrize(
    ("rule", "due"),
    [
        ({"slices": 1}, ["20"]),
        ({"slices": 2}, ["10", "30"]),
        ({"slices": 9}, ["0", "10", "20", "30", "40"]),
        ({"between_mm": [5, 30]}, ["10", "20", "30"]),
        ({"between_mm": [5, 45], "slices": 1}, ["20"]),
    ],
)
def test_some_slices_are_taken_evenly_over_the_length_of_the_series(folder, rule, due):
    stack(folder, [0, 10, 20, 30, 40])
    assert table(folder, rule)["position"].tolist() == due


@pytest.mark.parametrize("name", ["IM0001", "1.2.840.99.12", "scan.IMA", "scan.dcm"])
def test_pixels_are_read_whatever_an_archive_calls_the_file(folder, name):
    put(folder, name, at(0, stored=np.full((4, 4), 1424, dtype=np.int16)))
    assert encoded(described(), scan(), folder).features.tolist() == [[[[1.0] * 4] * 4]]


def test_places_are_along_the_axis_of_the_series(folder):
    sagittal = [0, 1, 0, 0, 0, -1]
    for place in (5, -5):
        file = at(0, ImageOrientationPatient=sagittal, ImagePositionPatient=[place, 7, 7])
        put(folder, f"{place}", file)
    assert sorted(map(float, table(folder)["position"])) == [-5.0, 5.0]
    assert [float(p) for p in table(folder)["position"]] == [-5.0, 5.0]


def test_a_series_of_a_patient_is_chosen_by_rule(folder):
    stack(folder, [0, 1], series="1.2.1", SeriesDescription="lung 3.0")
    for place in (0, 1, 2):
        put(folder, f"other{place}", at(place, "1.2.2", SeriesDescription="scout and bone"))
    put(folder, "second", at(0, "1.2.3", patient="P2", SeriesDescription="lung 3.0"))
    assert "of 6 files 1 patients have several series that fit" in refusal(
        described(), scan(), folder
    )
    assert len(table(folder, {"series": "all"})) == 6
    assert set(table(folder, {"series": "longest"})["series"]) == {"1.2.2", "1.2.3"}
    named = table(folder, {"series_description": ["lung 3.0"]})
    assert named["series"].tolist() == ["1.2.1", "1.2.1", "1.2.3"]
    assert set(table(folder, {"leave_out": ["several-series"]})["patient"]) == {"P2"}


def test_what_is_another_object_or_a_localizer_is_passed_over(folder):
    stack(folder, [0])
    put(folder, "capture", ct_slice(SOPClassUID=SecondaryCaptureImageStorage))
    put(folder, "magnet", ct_slice(SOPClassUID="1.2.840.10008.5.1.4.1.1.4"))
    put(folder, "scout", at(9, "1.2.9", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]))
    assert len(table(folder)) == 1
    assert "no slice of 4 files is what `[dicom]` wants" in refusal(
        described({"modality": "DX"}), scan(), folder
    )


def test_faults_are_counted_by_name_and_name_nobody(folder):
    one = at(0, patient=CANARY, SOPInstanceUID="1.2.3.77")
    put(folder, f"{CANARY}1", one)
    put(folder, f"{CANARY}2", one)
    put(folder, f"{CANARY}3", b"CANARY is no DICOM")
    put(folder, f"{CANARY}4", at(0, patient=""))
    put(folder, f"{CANARY}5", at(0, patient="P2"))
    put(folder, f"{CANARY}6", at(1, patient="P2", ImageOrientationPatient=[1, 0, 0, 0, 0, 1]))
    said = refusal(described(), scan(), folder)
    assert "1 files are no DICOM files that can be read (unreadable)" in said
    assert "1 files have the SOPInstanceUID of another file (duplicate)" in said
    assert "1 files have no PatientID, or no SeriesInstanceUID (no-patient)" in said
    assert "1 series have slices of different orientations or pixel spacings (mixed)" in said
    assert CANARY not in said
    assert "1.2.3.77" not in said
    rule = {"leave_out": ["unreadable", "duplicate", "no-patient", "mixed"]}
    assert table(folder, rule)["patient"].tolist() == [CANARY]
    write(folder, labels_csv=f"patient,nodule\n{CANARY},1\n")
    seen = check(described(rule), scan(), folder)
    assert seen.to_fix == ()
    left = "left out, as declared: 1 files are no DICOM files that can be read (unreadable)"
    assert left in seen.remarks


def test_slices_in_one_place_cannot_be_chosen_by_place(folder):
    stack(folder, [0, 0, 10])
    assert len(table(folder)) == 3
    for rule in ({"slices": 1}, {"between_mm": [0, 5]}):
        assert "1 series have slices without a place of their own (unplaced)" in refusal(
            described(rule), scan(), folder
        )


def test_an_archive_is_read_as_a_folder_is(folder):
    stack(folder, [0, 10, 20])
    with zipfile.ZipFile(folder / "scans.zip", "w") as archive:
        for path in (folder / "scans" / "deep").iterdir():
            archive.write(path, f"deep/{path.name}")
    plain = encoded(described(), scan(), folder)
    packed = described(path="scans.zip", images={"folder": "scans.zip"})
    np.testing.assert_array_equal(encoded(packed, scan(), folder).features, plain.features)
    names = read_table(packed, folder)["file"]
    assert [name for name in names if not name.startswith("deep/")] == []


def test_an_archive_has_to_be_named_where_the_pixels_are_read():
    with pytest.raises(BadInput, match=r'`folder = "scans.zip"` is due'):
        described(path="scans.zip")


def test_pixels_are_not_read_for_the_index(folder, monkeypatch):
    stack(folder, [0, 10])
    seen = []
    whole = pydicom.dcmread

    def watched(*args, **options):
        seen.append(whole(*args, **options))
        return seen[-1]

    monkeypatch.setattr("pydicom.dcmread", watched)
    table(folder)
    assert len(seen) == 2
    assert not any("PixelData" in file or "PatientName" in file for file in seen)


def truth():
    """The sample's own index, and each file's pixels taken off its end by hand."""
    with (LIDC / "index.csv").open() as file:
        rows = list(csv.DictReader(file))
    with zipfile.ZipFile(LIDC / "dicom.zip") as archive:
        return [(row, archive.read(row["file"])[-2 * 512 * 512 :]) for row in rows]


def by_hand(row, raw, side, low, high):
    """Hounsfield units, mean of blocks, window: without the code under test, or pydicom."""
    kind = "<i2" if row["manufacturer"].startswith("GE") else "<u2"
    units = np.frombuffer(raw, kind).reshape(512, 512).astype(np.float64) - 1024
    block = 512 // side
    means = units.reshape(side, block, side, block).mean(axis=(1, 3))
    return (np.clip(means, low, high) - low) / (high - low) * 2 - 1


@pytest.fixture
def lidc(tmp_path):
    (tmp_path / "scans.zip").write_bytes((LIDC / "dicom.zip").read_bytes())
    lines = ["LIDC-IDRI-0001,5", "LIDC-IDRI-0002,2", "LIDC-IDRI-0132,3"]
    write(tmp_path, labels_csv="\n".join(["patient,nodule", *lines]) + "\n")
    return tmp_path


def lidc_description(rule):
    return described(rule, path="scans.zip", images={"folder": "scans.zip"})


def test_the_middle_slices_of_two_makers_are_what_a_plain_decoding_gives(lidc):
    found = encoded(lidc_description({"slices": 1}), scan(64), lidc)
    assert found.patients == ("LIDC-IDRI-0001", "LIDC-IDRI-0002", "LIDC-IDRI-0132")
    assert found.labels.tolist() == [1, 0, 1]
    makers = set()
    for patient, features in zip(found.patients, found.features, strict=True):
        own = [(row, raw) for row, raw in truth() if row["patient_id"] == patient]
        heights = [float(row["z_mm"]) for row, _ in own]
        middle = (min(heights) + max(heights)) / 2
        row, raw = own[int(np.argmin([abs(height - middle) for height in heights]))]
        np.testing.assert_allclose(features[0], by_hand(row, raw, 64, -1000, 400), atol=1e-5)
        makers.add(row["manufacturer"])
    assert makers == {"GE MEDICAL SYSTEMS", "SIEMENS"}


def test_the_check_of_real_slices_says_ready_and_names_nobody(lidc):
    seen = check(lidc_description({}), scan(64), lidc)
    assert seen.to_fix == ()
    assert (seen.rows, seen.patients, seen.records_per_patient) == (38, 3, 16)
    assert "LIDC-IDRI-0001" not in str(seen.to_json())


@pytest.mark.slow
def test_slices_without_their_patients_train_as_the_ones_with_them(lidc):
    """De-identified, the folder is a data set of the same pictures, by other names."""
    source = lidc / "plain"
    with zipfile.ZipFile(LIDC / "dicom.zip") as archive:
        archive.extractall(source)
    sheet, _ = write_contact_sheet(source, lidc / "sheet")
    seen = Attestation(by="Ada", at="now", looked_at=len(sheet.numbers), sheet=sheet)
    key = Pseudonyms(b"k" * 32)
    deidentify_folder(source, lidc / "scans", pseudonyms=key, attestation=seen)
    plain = encoded(lidc_description({}), scan(64), lidc)
    names = {key.patient(name): name for name in plain.patients}
    lines = [f"{other},{n}" for other, n in zip(names, (5, 2, 3), strict=True)]
    write(lidc, labels_csv="\n".join(["patient,nodule", *lines]) + "\n")
    other = encoded(described(), scan(64), lidc)
    for own, name in enumerate(other.patients):
        theirs = plain.patients.index(names[name])
        np.testing.assert_array_equal(
            other.of_patients([own]).features, plain.of_patients([theirs]).features
        )
