"""One DICOM file without its patient: nothing of a name comes through, the picture whole."""

import csv
import io
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.datadict import keyword_for_tag
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    RLELossless,
    SecondaryCaptureImageStorage,
)
from tests.support.dicom_files import (
    CANARIES,
    CANARY,
    CANARY_UID,
    content,
    ct_slice,
    put_canary,
    with_canaries,
)

from wardround.errors import BadInput
from wardround_client.data.deidentify import UIDS, deidentified, parsed_image, pixel_bytes
from wardround_client.data.deidentify_keys import Pseudonyms, pseudonyms_of
from wardround_client.data.deidentify_table import profile
from wardround_client.data.deidentify_words import NUMBERS, WORDS, kept_value, shows_a_face
from wardround_client.data.dicom import read_dicom

KEY = Pseudonyms(b"k" * 32)
LIDC = Path(__file__).parents[3] / "shared" / "data" / "lidc_dicom_sample" / "dicom.zip"
PICTURE = frozenset(NUMBERS) | {"PhotometricInterpretation", "PixelData", "SOPClassUID"}
ASKED = PICTURE | {"BurnedInAnnotation", "ModalityLUTSequence", "NumberOfFrames"}
ASKED |= {"PatientID", "SpecificCharacterSet"}


def without_patient(file_bytes, *, shift_dates=False, key=KEY):
    parsed = parsed_image(io.BytesIO(file_bytes), len(file_bytes))
    return content(deidentified(parsed, pixel_bytes(parsed), key, shift_dates=shift_dates))


def read(file_bytes):
    return pydicom.dcmread(io.BytesIO(file_bytes))


def every_keyword():
    """All that the profile names and all that the standard's dictionary has for images besides."""
    groups = (0x0008, 0x0010, 0x0012, 0x0018, 0x0020, 0x0028, 0x0032, 0x0038, 0x0040)
    named = {attribute.tag for attribute in profile().values() if attribute.tag >> 16 > 2}
    known = {tag for tag in pydicom.datadict.DicomDictionary if tag >> 16 in groups}
    return sorted(named | known)


def test_the_table_has_the_standards_tags_under_their_keywords():
    table = profile()
    assert len(table) == 604  # 607 rows of edition 2023b, three of which stand there twice
    assert {a.action for a in table.values()} == set(
        "X Z D U X/Z X/D Z/D X/Z/D X/Z/U*".split()  # noqa: SIM905 (as the standard writes them)
    )
    for attribute in table.values():
        assert keyword_for_tag(attribute.tag) == attribute.keyword


@pytest.mark.parametrize(
    ("keyword", "action"),
    [
        ("PatientName", "Z"),
        ("PatientID", "Z"),
        ("PatientBirthDate", "Z"),
        ("AccessionNumber", "Z"),
        ("StudyDate", "Z"),
        ("ContentDate", "Z/D"),
        ("SeriesDate", "X/D"),
        ("SeriesDescription", "X"),
        ("PatientComments", "X"),
        ("StudyInstanceUID", "U"),
        ("SOPInstanceUID", "U"),
        ("InstitutionName", "X/Z/D"),
        ("DeviceSerialNumber", "X/Z/D"),
        ("SourceImageSequence", "X/Z/U*"),
    ],
)
def test_the_table_says_what_the_standard_says(keyword, action):
    assert profile()[keyword].action == action


def test_nothing_is_kept_as_it_is_that_the_profile_protects():
    assert (set(WORDS) | set(NUMBERS)) & set(profile()) == set()


def test_every_attribute_of_the_table_is_gone_or_another_one():
    before = with_canaries(every_keyword(), ASKED)
    after = read(without_patient(content(before)))
    assert len(before) > 1500
    for attribute in profile().values():
        if attribute.tag >> 16 <= 2:
            continue
        assert attribute.keyword in before
        if attribute.action == "X":
            assert attribute.keyword not in after
        elif attribute.keyword in after and after[attribute.keyword].value:
            assert after[attribute.keyword].value != before[attribute.keyword].value


def test_no_canary_comes_through_from_any_place():
    before = content(with_canaries(every_keyword(), ASKED))
    assert all(before.count(canary.encode()) for canary in CANARIES if canary != "canary")
    for shift in (False, True):
        after = without_patient(before, shift_dates=shift)
        assert [canary for canary in CANARIES if canary.encode() in after] == []
        assert len(after) < 2500
        assert after[:132] == b"\0" * 128 + b"DICM"


def test_the_canaries_would_be_found():
    """The same file through a de-identifier that forgets one attribute."""
    before = with_canaries(every_keyword(), ASKED)
    after = read(without_patient(content(before)))
    after.SeriesDescription = before.SeriesDescription
    assert CANARY.encode() in content(after)


def test_only_known_attributes_come_out_and_none_is_nested_but_the_method():
    after = read(without_patient(content(with_canaries(every_keyword(), ASKED))))
    said = {"PatientIdentityRemoved", "DeidentificationMethod", "BurnedInAnnotation"}
    said |= {"DeidentificationMethodCodeSequence", "LongitudinalTemporalInformationModified"}
    empty = {"PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate"}
    empty |= {"StudyTime", "AccessionNumber", "ReferringPhysicianName", "SeriesNumber"}
    own = {"SOPClassUID", "Modality", "PixelData", *UIDS, *WORDS, *NUMBERS}
    assert {element.keyword for element in after} <= said | empty | own
    assert after.PatientIdentityRemoved == "YES"
    assert [code.CodeValue for code in after.DeidentificationMethodCodeSequence] == ["113100"]
    assert after.LongitudinalTemporalInformationModified == "REMOVED"
    assert after.file_meta.MediaStorageSOPInstanceUID == after.SOPInstanceUID
    assert "SourceApplicationEntityTitle" not in after.file_meta


def test_real_slices_of_two_makers_keep_every_byte_of_their_pixels():
    makers, patients = set(), set()
    with zipfile.ZipFile(LIDC) as archive:
        for name in archive.namelist()[::6]:
            before = archive.read(name)
            after = without_patient(before)
            theirs, own = read(before), read(after)
            assert own.PixelData == theirs.PixelData
            hu = theirs.pixel_array * float(theirs.RescaleSlope) + float(theirs.RescaleIntercept)
            np.testing.assert_array_equal(read_dicom(io.BytesIO(after), (1,))[0], hu)
            for kept in ("PixelSpacing", "ImagePositionPatient", "SliceThickness", "WindowCenter"):
                assert own[kept].value == theirs[kept].value
            for uid in UIDS:
                assert str(theirs[uid].value).encode() not in after
            assert theirs.PatientID.encode() not in after
            makers.add(own.Manufacturer)
            patients.add(own.PatientID)
    assert makers == {"GE MEDICAL SYSTEMS", "SIEMENS"}
    assert len(patients) == 3


def test_uids_stay_consistent_and_another_key_gives_others():
    one, two = content(ct_slice(BurnedInAnnotation="NO")), content(ct_slice())
    first, second = read(without_patient(one)), read(without_patient(two))
    assert first.SeriesInstanceUID == second.SeriesInstanceUID
    assert first.SOPInstanceUID != second.SOPInstanceUID
    other = read(without_patient(one, key=Pseudonyms(b"j" * 32)))
    for keyword in ("SeriesInstanceUID", "StudyInstanceUID", "SOPInstanceUID", "PatientID"):
        assert other[keyword].value != first[keyword].value
    assert first.SOPInstanceUID.is_valid
    number = f"{int(first.SOPInstanceUID.removeprefix('2.25.')):032x}"
    assert (number[12], number[16] in "89ab") == ("8", True)  # a UUID of version 8


def test_shifted_dates_keep_their_distances_within_a_patient_and_no_time_of_day():
    def days(patient, key=KEY):
        file = ct_slice(PatientID=patient, StudyDate="20200301", ContentDate="20200229")
        file.StudyTime = "101112"
        after = read(without_patient(content(file), shift_dates=True, key=key))
        assert [c.CodeValue for c in after.DeidentificationMethodCodeSequence][1] == "113107"
        assert not after.StudyTime
        return after.StudyDate, after.ContentDate

    study, image = (np.datetime64(f"{d[:4]}-{d[4:6]}-{d[6:]}") for d in days("P1"))
    assert int((study - image).astype(int)) == 1
    assert 1 <= int((np.datetime64("2020-03-01") - study).astype(int)) <= 3652
    assert len({days("P1"), days("P2"), days("P1", Pseudonyms(b"j" * 32))}) == 3


@pytest.mark.parametrize("day", ["CANARY", "00010101", "20201399", "2020"])
def test_a_date_that_is_none_is_left_out(day):
    file = content(ct_slice(StudyDate="20200301")).replace(b"20200301", day.ljust(8).encode())
    assert not read(without_patient(file, shift_dates=True)).StudyDate


SIGNED = np.array([[-5, 0], [5, 2047]], dtype=np.int16)


@pytest.mark.parametrize(
    ("file", "why"),
    [
        (ct_slice(BurnedInAnnotation="YES"), "says that something is written into its pixels"),
        (ct_slice(SOPClassUID=SecondaryCaptureImageStorage), "of another kind than CT"),
        (ct_slice(SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11"), "of another kind than CT"),
        (ct_slice(PatientID=""), "has no PatientID"),
        (ct_slice(SeriesInstanceUID=""), "has no SeriesInstanceUID"),
        (ct_slice(NumberOfFrames=2), "has 2 frames"),
        (ct_slice(Rows=5), "another number of pixels"),
        (ct_slice(PixelData=b"\0" * 32 + b"CANARY"), "another number of pixels"),
        (ct_slice(np.full((2, 2), 0xF001, np.uint16), BitsStored=12, HighBit=11), "bits beside"),
        (ct_slice(SIGNED ^ 0x4000, BitsStored=12, HighBit=11), "bits beside"),
        (ct_slice(BitsStored=12, HighBit=15), "bits beside"),
        (ct_slice(RescaleSlope=1e9), "has a RescaleSlope that cannot be kept"),
        (ct_slice(syntax=DeflatedExplicitVRLittleEndian), "packed as a whole"),
    ],
)
def test_what_cannot_be_made_anonymous_is_refused_by_name(file, why):
    with pytest.raises(BadInput, match=why) as caught:
        without_patient(content(file))
    assert CANARY not in str(caught.value)


def test_a_nested_table_of_grey_values_is_refused():
    file = ct_slice()
    put_canary(file, 0x00283000)
    with pytest.raises(BadInput, match="nested sequence"):
        without_patient(content(file))


def test_a_number_that_is_none_is_refused_and_not_quoted():
    file = content(ct_slice(SliceThickness="2.500000")).replace(b"2.500000", b"CANARY78")
    with pytest.raises(BadInput, match="SliceThickness") as caught:
        without_patient(file)
    assert CANARY not in str(caught.value)


def test_signed_values_of_fewer_bits_may_have_their_sign_above():
    for stored in (SIGNED, SIGNED & 0x0FFF):
        file = content(ct_slice(stored, BitsStored=12, HighBit=11))
        assert read(without_patient(file)).PixelData == stored.tobytes()


def test_packed_pixels_come_out_plain_and_the_same():
    stored = np.arange(64, dtype=np.int16).reshape(8, 8)
    file = ct_slice(stored)
    file.compress(RLELossless)
    after = read(without_patient(content(file)))
    assert after.file_meta.TransferSyntaxUID.is_implicit_VR is False
    assert after.PixelData == stored.tobytes()


def test_an_odd_number_of_bytes_is_padded_with_zero_whatever_stood_there():
    file = content(ct_slice(np.ones((3, 3), dtype=np.uint8), PixelData=b"\1" * 9 + b"C"))
    assert read(without_patient(file)).PixelData == b"\1" * 9 + b"\0"


@pytest.mark.parametrize(
    ("keyword", "value", "kept"),
    [
        ("Manufacturer", "Siemens Healthineers, Dr. CANARY", "SIEMENS"),
        ("Manufacturer", "CANARY scanners", None),
        ("ImageType", ["ORIGINAL", "PRIMARY", "AXIAL", "CANARY"], ["ORIGINAL", "PRIMARY", "AXIAL"]),
        ("ImageType", ["ORIGINAL", "CANARY"], None),
        ("BodyPartExamined", "CHEST", "CHEST"),
        ("BodyPartExamined", "CANARY", None),
        ("PatientOrientation", ["L", "PH"], ["L", "PH"]),
        ("PatientOrientation", ["L", "JANE"], None),
        ("InstanceNumber", 987654321, None),
        ("PixelSpacing", [0.703125, 0.5], ["0.703125", "0.5"]),
        ("SliceLocation", -1 / 3, "-0.3333333333333"),
    ],
)
def test_a_value_that_stays_is_a_known_word_or_a_number_within_bounds(keyword, value, kept):
    assert kept_value(keyword, value) == kept


def test_slices_of_a_head_are_counted_since_a_face_can_be_made_of_them():
    assert shows_a_face("HEAD")
    assert not shows_a_face("CHEST")


def test_the_key_is_made_once_for_its_owner_alone(tmp_path):
    made = pseudonyms_of(tmp_path)
    assert pseudonyms_of(tmp_path).key == made.key
    path = tmp_path / "deidentification.key"
    assert path.stat().st_mode & 0o777 == 0o600
    assert made.key.hex() not in repr(made)
    assert made.patient(CANARY_UID) != Pseudonyms(b"k" * 32).patient(CANARY_UID)
    path.chmod(0o640)
    with pytest.raises(BadInput, match="others can read it"):
        pseudonyms_of(tmp_path)
    path.chmod(0o600)
    path.write_bytes(b"short")
    with pytest.raises(BadInput, match="5 bytes came, 32 are due"):
        pseudonyms_of(tmp_path)
    with pytest.raises(BadInput, match="no such directory"):
        pseudonyms_of(tmp_path / "nowhere")


def test_the_table_file_has_no_more_than_tag_keyword_and_action():
    table = Path(__file__).parents[2] / "client/wardround_client/data/deidentify_table.csv"
    rows = list(csv.reader(table.read_text().splitlines()))
    assert rows[0] == ["tag", "keyword", "action"]
    assert rows[1:] == sorted(rows[1:])
    assert len({row[0] for row in rows[1:]}) == 604


def test_pydicom_warns_and_logs_nothing_since_it_quotes_the_values(recwarn, capfd, caplog):
    broken = content(ct_slice(StudyInstanceUID="1.2.3.1")).replace(b"1.2.3.1\0", b"CANARY.\xff")
    with pytest.raises(BadInput, match="has no") as caught:
        without_patient(broken.replace(b"P1", b"  "))
    without_patient(broken)
    assert CANARY not in str(caught.value)
    assert [w for w in recwarn if CANARY in str(w.message)] == []
    assert CANARY not in caplog.text
    said = capfd.readouterr()
    assert CANARY not in said.out + said.err


def test_an_element_of_a_wrong_length_is_refused_by_its_name():
    """pydicom's own error for it quotes the bytes, and is of none of Python's kinds."""
    file = content(ct_slice(np.zeros((4, 4), dtype=np.uint16)))
    place = file.index(b"\x28\x00\x10\x00US\x02\x00") + 6
    with pytest.raises(BadInput, match=r"^has a Rows that cannot be read$"):
        without_patient(file[:place] + b"\x03\x00" + file[place + 2 :])


def test_a_comment_in_a_packed_picture_is_gone_with_its_packing():
    """A JPEG stream has places for text; the pixels come out plain, and the same."""
    smooth = np.kron(np.arange(0, 160, 10, dtype=np.uint8).reshape(4, 4), np.ones((8, 8), np.uint8))
    buffer = io.BytesIO()
    Image.fromarray(smooth).save(buffer, "JPEG", quality=95, comment=CANARY)
    file = ct_slice(smooth, syntax=JPEGBaseline8Bit, PixelData=encapsulate([buffer.getvalue()]))
    file["PixelData"].is_undefined_length = True
    before = content(file)
    assert CANARY.encode() in before
    after = without_patient(before)
    assert CANARY.encode() not in after
    decoded = np.asarray(Image.open(buffer))
    assert read(after).PixelData == decoded.tobytes()
