"""One DICOM image without its patient: the Basic Application Level Confidentiality Profile.

Stricter than the profile: a new object is made, and of the old one comes in only what image
learning needs, each attribute by a rule of its own. So there is no private attribute, overlay,
curve, comment or free text in what comes out, whatever the standard adds next; and nothing nested
but the functional groups of an enhanced object, which are made anew in the same manner.
(DICOM PS3.15 Annex E, Table E.1-1)
"""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy.typing as npt

from wardround.errors import BadInput
from wardround_client.data.deidentify_frames import put_frames
from wardround_client.data.deidentify_keys import Pseudonyms
from wardround_client.data.deidentify_table import EDITION
from wardround_client.data.deidentify_words import NUMBERS, WORDS, kept_value
from wardround_client.data.dicom import DICOM_LIMIT_BYTES, DicomImage, open_dicom
from wardround_client.data.dicom_frames import ENHANCED

if TYPE_CHECKING:
    from pydicom import Dataset
    from pydicom.dataset import FileDataset

# Those image objects whose pixels are as a machine took them. Secondary captures and ultrasound
# have text in the pixels as a rule; reports, documents, presentations and plans are text.
MODALITIES = {
    "1.2.840.10008.5.1.4.1.1.1": "CR",
    "1.2.840.10008.5.1.4.1.1.1.1": "DX",
    "1.2.840.10008.5.1.4.1.1.1.1.1": "DX",
    "1.2.840.10008.5.1.4.1.1.1.2": "MG",
    "1.2.840.10008.5.1.4.1.1.1.2.1": "MG",
    "1.2.840.10008.5.1.4.1.1.2": "CT",
    "1.2.840.10008.5.1.4.1.1.4": "MR",
    **ENHANCED,
}
DATES = ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate")
UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID", "SOPInstanceUID")
# Type 2 in the image objects: present, with nothing in it.
_EMPTY = (
    "AccessionNumber",
    "InstanceNumber",
    "Manufacturer",
    "PatientBirthDate",
    "PatientSex",
    "ReferringPhysicianName",
    "SeriesNumber",
    "StudyDate",
    "StudyID",
    "StudyTime",
)
_ASKED = ("PatientID", "BurnedInAnnotation", "ModalityLUTSequence")
WANTED = (*_ASKED, *UIDS, *DATES, *WORDS, *NUMBERS)
_BASIC = ("113100", "Basic Application Confidentiality Profile")
_SHIFTED = ("113107", "Retain Longitudinal Temporal Information Modified Dates Option")
_FIRST_YEAR = 1895
IMPLEMENTATION_UID = "2.25.237406531982457019836275043181657129"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceImage:
    """An image that can be made anonymous: its header, and the stored values of each frame."""

    image: DicomImage
    stored: tuple[npt.NDArray[Any], ...] = field(repr=False)

    @property
    def elements(self) -> "Dataset":
        """What was asked for of its header."""
        return self.image.elements


def parsed_image(file: BinaryIO, size: int) -> SourceImage:
    """What is needed of a file, its pixels too, when it is an image that can be made anonymous.

    Raises BadInput, which names no value, when it is none. An image that says of itself that
    something is written into its pixels is refused here, before they are unpacked.
    """
    image = open_dicom(file, size, WANTED, kinds=MODALITIES, exact=True)
    parsed = image.elements
    if _text(parsed, "BurnedInAnnotation") == "YES":
        raise BadInput("says that something is written into its pixels")
    for due in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        if not _text(parsed, due):
            raise BadInput(f"has no {due}")
    if "ModalityLUTSequence" in parsed:
        raise BadInput("has a table of grey values (Modality LUT), which is a nested sequence")
    if image.layout.frame_bytes * len(image.frames) > DICOM_LIMIT_BYTES:
        raise BadInput(f"has pixels that unpack to over {DICOM_LIMIT_BYTES} bytes")
    stored = tuple(image.unchanged(file, place) for place in range(len(image.frames)))
    return SourceImage(image=image, stored=stored)


def is_declared_clean(source: SourceImage) -> bool:
    """Whether the image says that nothing is written into its pixels."""
    return _text(source.elements, "BurnedInAnnotation") == "NO"


def pixel_bytes(source: SourceImage) -> bytes:
    """The stored values, uncompressed, little-endian; those of an uncompressed file as they are.

    Raises BadInput when they have something in the bits beside them, as overlays once were.
    """
    content = b"".join(_frame_bytes(source, stored) for stored in source.stored)
    return content + b"\0" * (len(content) % 2)


def pictures(source: SourceImage) -> Iterator[bytes]:
    """The bytes of each frame, as those of a file that has just this one."""
    for stored in source.stored:
        content = _frame_bytes(source, stored)
        yield content + b"\0" * (len(content) % 2)


def _frame_bytes(source: SourceImage, stored: npt.NDArray[Any]) -> bytes:
    layout, high = source.image.layout, source.elements.get("HighBit", None)
    bits = layout.bits_stored
    if high != bits - 1 or _beside(stored, bits, signed=layout.signed):
        raise BadInput("has something in the bits beside its pixels (an overlay?)")
    return stored.astype(stored.dtype.newbyteorder("<")).tobytes()


def deidentified(
    source: SourceImage, pixels: bytes, pseudonyms: Pseudonyms, *, shift_dates: bool
) -> "FileDataset":
    """A new file that holds `pixels` and of `source` only what may stay.

    With `shift_dates` the dates stay, moved by a number of days that is the patient's own; times
    of day never stay. Raises BadInput for a number of the picture that is out of its bounds.
    """
    parsed = source.elements
    made = _empty_file(parsed, pseudonyms)
    _keep_the_picture(made, source)
    for keyword in UIDS:
        if _text(parsed, keyword):
            setattr(made, keyword, pseudonyms.uid(_text(parsed, keyword)))
    patient = _text(parsed, "PatientID")
    made.PatientID = made.PatientName = pseudonyms.patient(patient)
    for keyword in DATES if shift_dates else ():
        day = _day(_text(parsed, keyword))
        if day:
            setattr(made, keyword, pseudonyms.earlier(patient, day).strftime("%Y%m%d"))
    _say_what_was_done(made, shift_dates=shift_dates)
    made.add_new("PixelData", "OW" if made.BitsAllocated > 8 else "OB", pixels)
    return made


def _empty_file(parsed: "Dataset", pseudonyms: Pseudonyms) -> "FileDataset":
    from pydicom.dataset import FileDataset, FileMetaDataset  # noqa: PLC0415  # an extra
    from pydicom.uid import UID, ExplicitVRLittleEndian  # noqa: PLC0415  # an extra

    kind = UID(str(parsed.SOPClassUID))
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = kind
    meta.MediaStorageSOPInstanceUID = UID(pseudonyms.uid(_text(parsed, "SOPInstanceUID")))
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = UID(IMPLEMENTATION_UID)
    meta.ImplementationVersionName = "WARDROUND"
    made = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    made.SOPClassUID = kind
    made.Modality = MODALITIES[kind]
    return made


def _keep_the_picture(made: "FileDataset", source: SourceImage) -> None:
    for keyword in (*WORDS, *NUMBERS):
        value = kept_value(keyword, source.elements.get(keyword, None))
        if value is not None:
            setattr(made, keyword, value)
    for keyword in _EMPTY:
        if keyword not in made:
            setattr(made, keyword, None)
    if source.image.has_groups:
        put_frames(made, source.image.frames)
    if source.image.is_lossy:
        made.LossyImageCompression = "01"
    # Some scanners write the bits of a signed number as if it had no sign.
    if "PixelPaddingValue" in made:
        bits = int(made.PixelPaddingValue) & 0xFFFF
        negative = made.PixelRepresentation == 1 and bits > 0x7FFF
        made.PixelPaddingValue = bits - 0x10000 if negative else bits


def _say_what_was_done(made: "FileDataset", *, shift_dates: bool) -> None:
    from pydicom import Dataset  # noqa: PLC0415  # an extra

    made.BurnedInAnnotation = "NO"
    made.PatientIdentityRemoved = "YES"
    made.DeidentificationMethod = f"wardround: PS3.15 {EDITION} Basic Profile, allow-list"
    made.LongitudinalTemporalInformationModified = "MODIFIED" if shift_dates else "REMOVED"
    codes = []
    for value, meaning in (_BASIC, _SHIFTED) if shift_dates else (_BASIC,):
        code = Dataset()
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "DCM", meaning
        codes.append(code)
    made.DeidentificationMethodCodeSequence = codes


def _beside(stored: npt.NDArray[Any], bits: int, *, signed: bool) -> bool:
    """Whether a value has more than its sign in the bits above those that are used."""
    room = stored.itemsize * 8 - bits
    if room <= 0:
        return room < 0
    plain = stored.view(f"u{stored.itemsize}")
    above = plain >> bits
    if not signed:
        return bool(above.any())
    filled = (plain >> (bits - 1)) == (1 << (room + 1)) - 1
    return bool(((above != 0) & ~filled).any())


def _day(text: str) -> dt.date | None:
    """The day that a DA says; None for anything else, and for days before there were scanners."""
    try:
        day = dt.datetime.strptime(text, "%Y%m%d").replace(tzinfo=dt.UTC).date()
    except ValueError:
        return None
    return day if day.year >= _FIRST_YEAR else None


def _text(parsed: "Dataset", keyword: str) -> str:
    return str(parsed.get(keyword, None) or "").strip()
