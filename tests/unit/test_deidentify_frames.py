"""An enhanced object without its patient: every nested place looked into, every frame kept."""

import io

import numpy as np
import pydicom
import pytest
from pydicom import Dataset
from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.sequence import Sequence
from pydicom.uid import (
    JPEG2000,
    EnhancedMRImageStorage,
    JPEGLSNearLossless,
    RLELossless,
    UltrasoundMultiFrameImageStorage,
)
from tests.support.dicom_files import CANARIES, CANARY, content, ct_slice, put_canary
from tests.support.dicom_files import with_canaries as planted
from tests.support.enhanced_dicom import PLACE, enhanced, shuffled, with_elements
from tests.unit.test_data_dicom_frames import slices
from tests.unit.test_deidentify import ASKED, every_keyword, read, without_patient
from tests.unit.test_deidentify_folder import KEY, looked_at, put, source

from wardround.errors import BadInput
from wardround_client.data.deidentify_folder import deidentify_folder
from wardround_client.data.deidentify_sheet import write_contact_sheet
from wardround_client.data.deidentify_table import profile
from wardround_client.data.deidentify_words import OF_A_FRAME
from wardround_client.data.dicom import open_dicom
from wardround_client.data.dicom_frames import EACH, GROUPS, SHARED

__all__ = ["source"]  # a fixture
KEPT = {keyword for keywords in GROUPS.values() for keyword in keywords}


def opened(data):
    """The file, and what is said of each frame."""
    return open_dicom(io.BytesIO(data), len(data))


def said(data):
    """By frame: all that a reader of the pixels needs."""
    due = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "RescaleSlope")
    frames = opened(data).frames
    return [[str(frame.get(keyword, None)) for keyword in due] for frame in frames]


def test_every_frame_keeps_its_pixels_place_and_scale():
    before = content(enhanced(shuffled(slices(BurnedInAnnotation="NO"))))
    after = without_patient(before)
    assert read(after).PixelData == read(before).PixelData
    assert said(after) == said(before)
    assert len({frame[0] for frame in said(after)}) == 5
    assert b"DimensionIndexValues" not in after
    again = without_patient(after)
    assert said(again) == said(before)


def test_what_differs_from_frame_to_frame_stays_different():
    own = slices(BurnedInAnnotation="NO")
    for number, one in enumerate(own):
        one.RescaleSlope, one.WindowCenter, one.WindowWidth = number + 1, 40, 400
    after = read(without_patient(content(enhanced(own))))
    values = [
        float(item.PixelValueTransformationSequence[0].RescaleSlope) for item in after[EACH].value
    ]
    assert values == [1, 2, 3, 4, 5]
    (shared,) = after[SHARED].value
    assert shared.FrameVOILUTSequence[0].WindowWidth == 400
    assert "FrameVOILUTSequence" not in after[EACH].value[0]


def everywhere(file):
    """A canary in every attribute, on every level of the functional groups, and beside them.

    Each place has a quarter of them, so that four places have them all.
    """
    tags = [tag for tag in every_keyword() if keyword_for_tag(tag) not in {*ASKED, *GROUPS, *KEPT}]
    holders: list[Dataset] = [*file[SHARED].value, *file[EACH].value]
    for holder in list(holders):
        for group in GROUPS:
            if group in holder:
                holders += holder[group].value
    for number, holder in enumerate(holders):
        for tag in tags[number % 4 :: 4]:
            put_canary(holder, tag)
        holder.add_new(0x00091001, "UN", b"CANARY")
        deep = with_elements(PatientName=CANARY, ContributingEquipmentSequence=[Dataset()])
        deep.ContributingEquipmentSequence[0].OperatorsName = CANARY
        holder.add_new(0x00081140, "SQ", Sequence([deep]))
    for tag in tags:
        if tag not in file and dictionary_VR(tag) == "SQ":
            put_canary(file, tag)


def nested(data, depth=0):
    """Each keyword that stands in it, with how deep."""
    for element in data:
        yield element.keyword, depth
        for item in element.value if element.VR == "SQ" else []:
            yield from nested(item, depth + 1)


def test_no_canary_comes_through_from_any_level_of_the_groups():
    file = enhanced(slices(BurnedInAnnotation="NO", patient=CANARY))
    everywhere(file)
    before = content(file)
    assert before.count(CANARY.encode()) > 5000
    code = {"CodeValue", "CodingSchemeDesignator", "CodeMeaning"}
    for shift in (False, True):
        after = without_patient(before, shift_dates=shift)
        assert [canary for canary in CANARIES if canary.encode() in after] == []
        assert len(after) < 5000
        assert {name for name, depth in nested(read(after)) if depth} <= {*GROUPS, *KEPT, *code}


def test_nothing_of_a_frame_is_kept_that_the_profile_protects():
    assert (KEPT | set(OF_A_FRAME) | set(GROUPS)) & set(profile()) == set()


def test_what_a_classic_image_holds_in_groups_is_left_behind():
    file = planted(every_keyword(), ASKED | {SHARED, EACH})
    assert SHARED not in read(without_patient(content(file)))


@pytest.mark.parametrize(
    ("keyword", "value", "kept"),
    [
        ("FrameType", ["ORIGINAL", "PRIMARY", "AXIAL", CANARY], ["ORIGINAL", "PRIMARY", "AXIAL"]),
        ("FrameType", ["ORIGINAL", CANARY], None),
        ("EffectiveEchoTime", 30.5, 30.5),
        ("EffectiveEchoTime", 9e9, None),
        ("InStackPositionNumber", 3, 3),
        ("InStackPositionNumber", 987654321, None),
        ("TemporalPositionIndex", 2, 2),
    ],
)
def test_a_value_of_a_frame_is_a_known_word_or_a_number_within_bounds(keyword, value, kept):
    (group,) = [g for g, own in GROUPS.items() if keyword in own and not g.startswith("CT")]
    file = enhanced(slices(BurnedInAnnotation="NO"), SOPClassUID=EnhancedMRImageStorage)
    setattr(file[EACH].value[1], group, [with_elements(**{keyword: value})])
    item = read(without_patient(content(file)))[EACH].value[1]
    came = getattr(item, group)[0].get(keyword) if group in item else None
    assert (list(came) if isinstance(kept, list) else came) == kept


def test_a_place_that_is_none_is_refused_and_not_quoted():
    file = enhanced(slices(BurnedInAnnotation="NO"))
    getattr(file[EACH].value[1], PLACE)[0].ImagePositionPatient = [0, 0, 987654321]
    with pytest.raises(BadInput, match="has a ImagePositionPatient that cannot be kept") as caught:
        without_patient(content(file))
    assert "987654321" not in str(caught.value)


def test_a_clip_is_left_out_by_its_kind(source, tmp_path):
    clip = ct_slice(PixelData=bytes(160), NumberOfFrames=5, BurnedInAnnotation="NO")
    clip.SOPClassUID, clip.SamplesPerPixel = UltrasoundMultiFrameImageStorage, 3
    frames = ct_slice(PixelData=bytes(160), NumberOfFrames=5, BurnedInAnnotation="NO")
    put(source, a=clip, b=frames, c=slices(BurnedInAnnotation="NO")[0])
    report = deidentify_folder(source, tmp_path / "out", pseudonyms=KEY)
    assert report.left_out == {
        "is of another kind than CT, CR, DX, MG and MR images": 1,
        "has 5 frames, and says of none where it lies": 1,
    }


def test_each_frame_is_a_picture_to_look_at_and_one_with_text_leaves_out_the_file(source, tmp_path):
    first, other = enhanced(slices()), enhanced(slices([1, 2]), PatientID="P2")
    put(source, a=first, b=other, c=enhanced(slices([5], BurnedInAnnotation="NO")))
    put(source, d=slices([3])[0])
    sheet, faults = write_contact_sheet(source, tmp_path / "drawn")
    assert (len(sheet.numbers), faults) == (8, {})
    seen = looked_at(source, tmp_path, left_out=[7])
    report = deidentify_folder(source, tmp_path / "out", pseudonyms=KEY, attestation=seen)
    assert (report.written, report.attested) == (3, 2)
    assert report.left_out == {"has something written into its pixels, as a person saw": 1}
    written = [pydicom.dcmread(path) for path in (tmp_path / "out").rglob("*.dcm")]
    assert sorted(int(one.get("NumberOfFrames", 0)) for one in written) == [0, 1, 5]


def test_a_frame_is_the_picture_that_its_classic_slice_is(source, tmp_path):
    """Who has looked at a series has looked at the object that it was made into."""
    own = slices()
    put(source, **{f"s{number}": one for number, one in enumerate(own)})
    seen = looked_at(source, tmp_path)
    put(source, one=enhanced(own))
    report = deidentify_folder(source, tmp_path / "out", pseudonyms=KEY, attestation=seen)
    assert (report.written, report.left_out) == (6, {})


def test_slices_of_a_head_are_counted_frame_by_frame(source, tmp_path):
    """An enhanced object says in a group, and in a code, which part of the body it shows."""
    head, chest = enhanced(slices(BurnedInAnnotation="NO")), enhanced(slices([1, 2]))
    whole = enhanced(slices([7, 8, 9], BurnedInAnnotation="NO"), BodyPartExamined="BRAIN")
    for file, meaning in ((head, f"Head of {CANARY}"), (chest, "Chest")):
        file.BurnedInAnnotation = "NO"
        code = with_elements(CodeValue="69536005", CodeMeaning=meaning)
        region = with_elements(AnatomicRegionSequence=[code], FrameLaterality="U")
        file[SHARED].value[0].FrameAnatomySequence = [region]
    put(source, a=head, b=chest, c=whole)
    report = deidentify_folder(source, tmp_path / "out", pseudonyms=KEY)
    assert (report.written, report.faces) == (3, 8)
    for path in (tmp_path / "out").rglob("*.dcm"):
        assert CANARY.encode() not in path.read_bytes()
        assert b"69536005" not in path.read_bytes()


def test_packed_frames_come_out_plain():
    own = slices(BurnedInAnnotation="NO")
    file = enhanced(own)
    plain = file.PixelData
    file.compress(RLELossless, generate_instance_uid=False)
    after = read(without_patient(content(file)))
    assert after.PixelData == plain
    assert "LossyImageCompression" not in after


@pytest.mark.parametrize(
    ("syntax", "how"), [(JPEGLSNearLossless, {"jls_error": 2}), (JPEG2000, {"j2k_cr": [2]})]
)
def test_what_was_packed_with_loss_says_so_when_it_is_plain(syntax, how):
    stored = np.random.default_rng(3).integers(0, 900, (32, 32)).astype(np.int16)
    file = ct_slice(stored, BurnedInAnnotation="NO")
    file.compress(syntax, **how)
    for told in ({}, {"LossyImageCompression": "01", "LossyImageCompressionMethod": "ISO_15444_1"}):
        for keyword, value in told.items():
            setattr(file, keyword, value)
        after = read(without_patient(content(file)))
        assert after.LossyImageCompression == "01"
        assert after.get("LossyImageCompressionMethod") == told.get("LossyImageCompressionMethod")
        assert opened(without_patient(content(file))).is_lossy
    file.LossyImageCompressionRatio, file.LossyImageCompressionMethod = "8.5", CANARY
    after = read(without_patient(content(file)))
    assert (after.LossyImageCompressionRatio, after.get("LossyImageCompressionMethod")) == (
        8.5,
        None,
    )
