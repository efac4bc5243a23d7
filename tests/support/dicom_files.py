"""DICOM files for tests: a plain CT slice, and one with a canary wherever a name could stand."""

import io
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.datadict import dictionary_VM, dictionary_VR, keyword_for_tag
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

CANARY = "CANARY"
CANARY_DAY = "19770314"
CANARY_UID = "1.2.3.987654321.77"
CANARIES = (CANARY, "canary", CANARY_DAY, "987654321", "031415.926")
_BY_VR: dict[str, Any] = {
    **dict.fromkeys(("AE", "CS", "LO", "LT", "SH", "ST", "UC", "UR", "UT", "PN"), CANARY),
    **dict.fromkeys(("OB", "OW", "UN"), b"CANARY"),
    "AS": "033Y",
    "DA": CANARY_DAY,
    "DT": CANARY_DAY,
    "TM": "031415.926",
    "UI": CANARY_UID,
    "DS": "987654321",
    "IS": "987654321",
    "FL": 9.5,
    "FD": 9.5,
    **dict.fromkeys(("OD", "OF", "OL", "OV"), b"CANARY\0\0"),
    "SV": 987654,
    "UV": 987654,
    "SL": 987654,
    "SS": 9876,
    "UL": 987654,
    "US": 9876,
    "AT": 0x00100010,
}


def ct_slice(stored: Any = None, **elements: Any) -> FileDataset:
    """A CT slice that says nothing of text in its pixels; `elements` replace what it has."""
    stored = np.zeros((4, 4), dtype=np.int16) if stored is None else np.asarray(stored)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = elements.pop("syntax", ExplicitVRLittleEndian)
    file = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    file.SOPClassUID, file.SOPInstanceUID = CTImageStorage, generate_uid()
    file.StudyInstanceUID, file.SeriesInstanceUID = "1.2.3.1", "1.2.3.1.1"
    file.PatientID, file.Modality = "P1", "CT"
    file.Rows, file.Columns = stored.shape
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
    file.BitsAllocated = file.BitsStored = 8 * stored.itemsize
    file.HighBit = file.BitsStored - 1
    file.PixelRepresentation = int(stored.dtype.kind == "i")
    file.RescaleSlope, file.RescaleIntercept = 1, -1024
    file.add_new("PixelData", "OW" if stored.itemsize == 2 else "OB", stored.tobytes())
    for name, value in elements.items():
        setattr(file, name, value)
    meta.MediaStorageSOPClassUID = file.SOPClassUID
    meta.MediaStorageSOPInstanceUID = file.SOPInstanceUID
    return file


def content(file: FileDataset) -> bytes:
    """The file as bytes."""
    buffer = io.BytesIO()
    file.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def put_canary(into: Dataset, tag: int) -> None:
    """Put a canary of the attribute's own kind there; numbers where it holds numbers."""
    kind = dictionary_VR(tag).split(" or ")[-1]
    if kind == "SQ":
        item = Dataset()
        item.PatientName, item.PatientComments = CANARY, CANARY
        item.ReferencedSOPInstanceUID = CANARY_UID
        into.add_new(tag, kind, [item])
        return
    value, count = _BY_VR[kind], dictionary_VM(tag).partition("-")[0]
    many = count.isdigit() and int(count) > 1
    into.add_new(tag, kind, [value] * int(count) if many else value)


def with_canaries(tags: list[int], spare: frozenset[str]) -> FileDataset:
    """A CT slice with a canary in each of `tags`, in private and nested places, meta and preamble.

    Attributes in `spare` keep what makes the file a picture.
    """
    file = ct_slice(BurnedInAnnotation="NO", PatientID=CANARY)
    for tag in tags:
        if keyword_for_tag(tag) not in spare:
            put_canary(file, tag)
    file.add_new(0x00090010, "LO", CANARY)
    file.add_new(0x00091001, "UN", b"CANARY")
    file.add_new(0x60003000, "OW", b"CANARY")
    file.add_new(0x60004000, "LT", CANARY)
    file.add_new(0x50002500, "LO", CANARY)
    file.add_new(0xFFFCFFFC, "OB", b"CANARY")
    file.preamble = b"CANARY" * 21 + b"\0\0"
    file.file_meta.SourceApplicationEntityTitle = CANARY
    file.file_meta.PrivateInformationCreatorUID = CANARY_UID
    file.file_meta.PrivateInformation = b"CANARY"
    return file
