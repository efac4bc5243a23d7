"""Enhanced CT and MR: their frames are the slices that a classic series has, and lies are told."""

import io
import zipfile

import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.uid import (
    EnhancedMRImageStorage,
    LegacyConvertedEnhancedCTImageStorage,
    SecondaryCaptureImageStorage,
    UltrasoundMultiFrameImageStorage,
)
from tests.support.described_data import description, encoded, refusal, write
from tests.support.dicom_files import content, ct_slice
from tests.support.enhanced_dicom import MEASURES, PLACE, VALUES, enhanced, shuffled, with_elements
from tests.unit.test_data_dicom_folder import LIDC, at, described, folder, put, scan, table

from wardround.errors import BadInput
from wardround_client.data.check import check
from wardround_client.data.dicom_header import HEADER_LIMIT_BYTES, MOST_ITEMS, parse_dicom
from wardround_client.data.table import read_table

__all__ = ["folder"]  # a fixture
RANDOM = np.random.default_rng(8)
PLACES = [30, -10, 20, 0, 10]


def slices(places=PLACES, **elements):
    more = {"PixelSpacing": [0.5, 0.5], "SliceThickness": 10} | elements
    return [at(z, stored=RANDOM.integers(0, 2000, (4, 4)).astype(np.int16), **more) for z in places]


def both(folder, series, one):
    """The rows and tensors of a series in files, then of the same in one file."""
    for number, file in enumerate(series):
        put(folder, f"IM{number}", file)
    told = [(table(folder), encoded(described(), scan(), folder))]
    for number in range(len(series)):
        (folder / "scans" / f"IM{number}").unlink()
    put(folder, "IM0", one)
    return [*told, (table(folder), encoded(described(), scan(), folder))]


def test_frames_become_the_slices_that_the_series_has(folder):
    series = slices()
    (rows, plain), (framed, packed) = both(folder, series, enhanced(shuffled(series)))
    own = ["patient", "study", "series", "position", "nodule"]
    assert framed[own].equals(rows[own])
    assert framed["position"].tolist() == ["-10", "0", "10", "20", "30"]
    assert set(framed["file"]) == {f"scans/IM0#{number}" for number in range(1, 6)}
    assert len(plain.features) == 5
    assert len(np.unique(plain.features)) > 50
    np.testing.assert_array_equal(packed.features, plain.features)


@pytest.mark.parametrize(
    "elements",
    [{"SOPClassUID": LegacyConvertedEnhancedCTImageStorage}, {"RescaleSlope": 7}],
    ids=["converted", "what stands outside the groups says nothing"],
)
def test_an_object_that_an_archive_has_converted_gives_the_same(folder, elements):
    series = slices()
    (_, plain), (_, framed) = both(folder, series, enhanced(series, **elements))
    np.testing.assert_array_equal(framed.features, plain.features)


def test_each_frame_is_scaled_by_its_own_numbers(folder):
    series = [at(z, RescaleSlope=z + 1, RescaleIntercept=-z) for z in (0, 1, 2)]
    for one in series:
        one.PixelData = np.full((4, 4), 100, dtype=np.int16).tobytes()
    (_, plain), (_, framed) = both(folder, series, enhanced(series))
    due = (np.array([100, 199, 298]) + 1000) / 700 - 1
    np.testing.assert_allclose(framed.features[:, 0, 0, 0], due, atol=1e-6)
    np.testing.assert_array_equal(framed.features, plain.features)


def test_an_object_of_one_frame_is_scaled_by_its_groups_too(folder):
    series = slices([7], RescaleSlope=2, RescaleIntercept=-900)
    (_, plain), (rows, framed) = both(folder, series, enhanced(series))
    assert rows["file"].tolist() == ["scans/IM0"]
    np.testing.assert_array_equal(framed.features, plain.features)


def test_magnetic_resonance_may_have_no_scale(folder):
    series = slices(SOPClassUID="1.2.840.10008.5.1.4.1.1.4")
    for one in series:
        del one.RescaleSlope, one.RescaleIntercept
        put(folder, f"IM{one.ImagePositionPatient[2]}", one)
    mr = {"modality": "MR"}
    plain = encoded(described(mr), scan(), folder).features
    for path in (folder / "scans").glob("IM*"):
        path.unlink()
    put(folder, "IM0", enhanced(shuffled(series), SOPClassUID=EnhancedMRImageStorage))
    np.testing.assert_array_equal(encoded(described(mr), scan(), folder).features, plain)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_frames_in_an_archive_are_read_as_in_a_folder(folder, method):
    put(folder, "IM0", enhanced(shuffled(slices())))
    plain = encoded(described(), scan(), folder).features
    with zipfile.ZipFile(folder / "scans.zip", "w", method) as archive:
        archive.write(folder / "scans" / "IM0", "deep/IM0")
    packed = described(path="scans.zip", images={"folder": "scans.zip"})
    np.testing.assert_array_equal(encoded(packed, scan(), folder).features, plain)
    assert sorted(read_table(packed, folder)["file"]) == [f"deep/IM0#{n}" for n in range(1, 6)]


def test_real_slices_are_the_same_in_one_object(folder):
    if not LIDC.exists():
        pytest.skip("skipped: ../shared/data not present")
    by_patient: dict[str, list[Dataset]] = {}
    with zipfile.ZipFile(LIDC / "dicom.zip") as archive:
        for name in archive.namelist():
            one = pydicom.dcmread(io.BytesIO(archive.read(name)))
            by_patient.setdefault(one.PatientID, []).append(one)
            if len(by_patient[one.PatientID]) > 3:
                by_patient[one.PatientID].pop()
            else:
                put(folder, f"{len(by_patient)}-{one.InstanceNumber}", one)
    write(folder, labels_csv="patient,nodule\n" + "".join(f"{p},4\n" for p in by_patient))
    rows, plain = table(folder), encoded(described(), scan(64), folder)
    for path in (folder / "scans").glob("?-*"):
        path.unlink()
    for patient, own in by_patient.items():
        put(folder, patient, enhanced(shuffled(own)))
    framed = table(folder)
    assert len(framed) == 9
    for column in ("patient", "series", "position", "manufacturer"):
        assert framed[column].tolist() == rows[column].tolist()
    again = encoded(described(), scan(64), folder)
    np.testing.assert_array_equal(again.features, plain.features)


def item(file, number=0):
    return file.PerFrameFunctionalGroupsSequence[number]


def without_groups(file):
    del file.PerFrameFunctionalGroupsSequence


def without_scale(file):
    del file.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence


def scaled_twice(file):
    setattr(item(file), VALUES, [with_elements(RescaleSlope=1, RescaleIntercept=0)])


def placed_twice(file):
    getattr(item(file), PLACE).append(with_elements(ImagePositionPatient=[0, 0, 99]))


def one_group_less(file):
    file.PerFrameFunctionalGroupsSequence.pop()


def more_frames(file):
    file.NumberOfFrames = 6


def two_shared(file):
    file.SharedFunctionalGroupsSequence.append(Dataset())


@pytest.mark.parametrize(
    "lie",
    [
        without_groups,
        without_scale,
        scaled_twice,
        placed_twice,
        one_group_less,
        more_frames,
        two_shared,
    ],
)
def test_a_file_whose_groups_lie_is_counted_by_name(folder, lie):
    file = enhanced(slices())
    lie(file)
    put(folder, "IM0", file)
    said = refusal(described(), scan(), folder)
    told = (
        "1 files of several frames do not say of each where it lies and how it is scaled (frames)"
    )
    assert said == f"scans: of 1 files {told}"
    put(folder, "IM1", at(0, "1.2.9", patient="P2"))
    rows = table(folder, {"leave_out": ["frames"]})
    assert rows["patient"].tolist() == ["P2"]


def test_frames_of_two_spacings_or_ways_are_mixed(folder):
    told = "1 series have slices of different orientations or pixel spacings (mixed)"
    file = enhanced(slices())
    shared = file.SharedFunctionalGroupsSequence[0]
    measures = getattr(shared, MEASURES)
    delattr(shared, MEASURES)
    for number, own in enumerate(file.PerFrameFunctionalGroupsSequence):
        setattr(own, MEASURES, measures if number else [with_elements(PixelSpacing=[0.7, 0.7])])
    put(folder, "IM0", file)
    assert told in refusal(described(), scan(), folder)
    put(folder, "IM0", enhanced([*slices(), *slices(ImageOrientationPatient=[0, 1, 0, 0, 0, -1])]))
    assert told in refusal(described(), scan(), folder)
    put(folder, "IM0", enhanced([*slices(), *slices([40], PixelSpacing=[0.7, 0.7])]))
    assert told in refusal(described(), scan(), folder)


def test_frames_in_one_place_cannot_be_chosen_by_place(folder):
    """Several contrasts or times of one stack."""
    put(folder, "IM0", enhanced(slices([0, 5, 0, 5])))
    assert table(folder)["instance"].tolist() == ["1", "2", "3", "4"]
    told = refusal(described({"slices": 1}), scan(), folder)
    assert "1 series have slices without a place of their own (unplaced)" in told


def test_frames_of_a_localizer_are_passed_over(folder):
    file = enhanced(slices())
    for number, own in enumerate(file.PerFrameFunctionalGroupsSequence):
        kind = "AXIAL" if number < 3 else "LOCALIZER"
        own.CTImageFrameTypeSequence = [with_elements(FrameType=["ORIGINAL", "PRIMARY", kind])]
    put(folder, "IM0", file)
    assert table(folder)["position"].tolist() == ["-10", "20", "30"]


@pytest.mark.parametrize("kind", [UltrasoundMultiFrameImageStorage, SecondaryCaptureImageStorage])
def test_a_clip_without_places_is_passed_over_or_refused_with_the_reason(folder, kind):
    clip = ct_slice(PixelData=bytes(5 * 32), NumberOfFrames=5, SOPClassUID=kind)
    put(folder, "clip", clip)
    assert "no slice of 1 files is what" in refusal(described(), scan(), folder)
    assert "has 5 frames, and says of none where it lies" in by_table(folder, "clip#2")


def test_a_file_that_is_called_as_a_frame_is_would_be_read_in_its_place(folder):
    put(folder, "IM0", enhanced(slices()))
    put(folder, "IM0#7", at(0, "1.2.9", patient="P2"))
    assert set(table(folder)["patient"]) == {"P1", "P2"}
    put(folder, "IM0#2", at(5, "1.2.9", patient="P2"))
    why = "scans: a file is called what a frame of another one is called"
    assert refusal(described(), scan(), folder) == why


def test_the_check_tells_of_what_was_compressed_with_loss(folder):
    series = slices()
    for number, one in enumerate(series):
        one.LossyImageCompression = "01"
        put(folder, f"IM{number}", one)
    put(folder, "IM9", enhanced(slices([0], patient="P2", series="1.2.9")))
    told = "images were compressed with loss"
    seen = check(described(), scan(), folder)
    assert (seen.to_fix, [remark for remark in seen.remarks if told in remark]) == (
        (),
        [
            f"column scan: >1 of 6 {told}: their pixels are near to what the scanner saw, and not "
            "the same"
        ],
    )
    for number in range(len(series)):
        (folder / "scans" / f"IM{number}").unlink()
    assert told not in str(check(described(), scan(), folder).remarks)


def by_table(folder, *names):
    """What a table that names these files is told."""
    lines = [f"p{number},scans/{name},{number % 2}" for number, name in enumerate(names)]
    write(folder, main_csv="\n".join(["id,file,y", *lines]) + "\n")
    source = {"column": "scan", "source": "file", "unit": "[hnsf'U]"}
    own = description({"source": "y", "positive_when": ">0"}, [source])
    try:
        return encoded(own, scan(), folder).features
    except BadInput as error:
        return str(error)


def test_a_table_can_name_a_frame(folder):
    series = slices()
    put(folder, "a.dcm", enhanced(series))
    put(folder, "b", series[2])
    three, two, same = by_table(folder, "a.dcm#3", "a.dcm#2", "b#1")
    np.testing.assert_array_equal(three, same)
    assert not np.array_equal(two, three)
    put(folder, "a.dcm#3", b"a file of just this name comes first")
    assert "another suffix than" in by_table(folder, "a.dcm#3")


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("a.dcm#6", "has 5 frames, another one is named"),
        ("a.dcm", "has 5 frames: FILE#1 names the first one"),
        ("a.dcm#0", "another suffix than"),
        ("a.dcm#1#1", "another suffix than"),
        ("../scans/a.dcm#1", "leads out of the data folder"),
        ("one.png#1", "is not a file inside the data folder"),
    ],
)
def test_another_frame_than_there_is_is_refused(folder, name, why):
    put(folder, "a.dcm", enhanced(slices()))
    put(folder, "one.png", b"")
    assert why in by_table(folder, name)


@pytest.mark.parametrize("more", [-1, 1, 2, 32])
def test_pixels_of_another_number_of_frames_are_refused(folder, more):
    file = enhanced(slices())
    pixels = file.PixelData
    file.PixelData = pixels[:more] if more < 0 else pixels + b"\0" * more
    put(folder, "IM0", content(file)[: more - 1 if more < 0 else None])
    why = "the file has another number of pixels than its header says"
    assert why in refusal(described(), scan(), folder)


def test_a_header_that_is_too_large_is_refused_before_it_is_parsed():
    file = enhanced(slices())
    place = file.SharedFunctionalGroupsSequence[0]
    place.add_new(0x00091001, "OB", bytes(HEADER_LIMIT_BYTES))
    named = ("Rows", "SharedFunctionalGroupsSequence")
    with pytest.raises(BadInput, match=rf"has a header of over {HEADER_LIMIT_BYTES} bytes"):
        parse_dicom(io.BytesIO(content(file)), named)
    assert parse_dicom(io.BytesIO(content(file)), ("Rows",)).Rows == 4
    place.add_new(0x00091001, "OB", b"\xfe\xff\x00\xe0" * (MOST_ITEMS + 1))
    with pytest.raises(BadInput, match=rf"has a header with over {MOST_ITEMS} nested items"):
        parse_dicom(io.BytesIO(content(file)), named)
    lying = content(enhanced(slices()))
    at_length = lying.index(b"\x00\x52\x29\x92SQ\x00\x00") + 8
    lying = lying[:at_length] + b"\xf0\xff\xff\xff" + lying[at_length + 4 :]
    with pytest.raises(BadInput, match="has a header of over"):
        parse_dicom(io.BytesIO(lying), named)
