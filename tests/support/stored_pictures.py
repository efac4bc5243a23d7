"""A hospital's pictures in a folder: PNG, JPEG and DICOM of a few pixels, read as a study does."""

import io

import numpy as np
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from tests.support.described_data import contract, description, encoded, refusal, write
from tests.support.study_plans import BINARY

RULE = {"source": "y", "positive_when": ">0"}
SOURCE = {"column": "scan", "source": "file", "unit": "1"}


def scan(side=2, channels=1, low=0, high=255):
    column = {
        "name": "scan",
        "kind": "image",
        "description": "x",
        "range": [low, high],
        "shape": [channels, side, side],
    }
    return contract(BINARY, [column])


def picture(array, format_="PNG", **options):
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(array)).save(buffer, format_, **options)
    return buffer.getvalue()


def dicom(stored, *, slope=1.0, intercept=0.0, **elements):
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = elements.pop("syntax", ExplicitVRLittleEndian)
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    file = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    stored = np.asarray(stored)
    file.PatientName = "Doe^Jane"
    file.Rows, file.Columns = stored.shape[-2:]
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
    file.BitsAllocated = file.BitsStored = 16
    file.HighBit = 15
    file.PixelRepresentation = int(stored.dtype.kind == "i")
    file.RescaleSlope, file.RescaleIntercept = slope, intercept
    compressed = meta.TransferSyntaxUID.is_compressed
    file.PixelData = encapsulate([stored.tobytes()]) if compressed else stored.tobytes()
    for name, value in elements.items():
        setattr(file, name, value)
    buffer = io.BytesIO()
    file.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def folder_with(tmp_path, **files):
    """one_png=b"..." is one.png, one row of the table each."""
    names = [name.replace("_", ".") for name in files]
    for name, content in zip(names, files.values(), strict=True):
        (tmp_path / name).write_bytes(content)
    rows = [f"p{i},{name},{i % 2}" for i, name in enumerate(names)]
    write(tmp_path, main_csv="\n".join(["id,file,y", *rows]) + "\n")
    return tmp_path


def read(folder, agreed, **more):
    return encoded(description(RULE, [SOURCE], **more), agreed, folder).features


def refused(folder, agreed, **more):
    return refusal(description(RULE, [SOURCE], **more), agreed, folder)


GREY = np.array([[0, 255], [51, 204]], dtype=np.uint8)
