"""Enhanced objects made of classic slices, as an archive converts them (PS3.3 A.36, A.38, A.70)."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid

MEASURES, PLACE = "PixelMeasuresSequence", "PlanePositionSequence"
WAY, VALUES = "PlaneOrientationSequence", "PixelValueTransformationSequence"
_GROUPS = {
    MEASURES: ("PixelSpacing", "SliceThickness"),
    PLACE: ("ImagePositionPatient",),
    WAY: ("ImageOrientationPatient",),
    VALUES: ("RescaleIntercept", "RescaleSlope"),
    "FrameVOILUTSequence": ("WindowCenter", "WindowWidth"),
}
_TAKEN = (
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SeriesDescription",
    "PatientID",
    "PatientName",
    "Modality",
    "Manufacturer",
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "BurnedInAnnotation",
)


def enhanced(slices: Sequence[Dataset], **elements: Any) -> FileDataset:
    """One object with a frame for each slice, in their order; `elements` replace what it has.

    What all slices say alike stands in the shared groups, the rest frame by frame. The dimension
    index counts backwards, and is not to be believed.
    """
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    file.SOPClassUID, file.SOPInstanceUID = EnhancedCTImageStorage, generate_uid()
    for keyword in _TAKEN:
        if keyword in slices[0]:
            setattr(file, keyword, slices[0][keyword].value)
    file.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    file.NumberOfFrames = len(slices)
    shared, each = Dataset(), [Dataset() for _ in slices]
    for group, keywords in _GROUPS.items():
        said = [{k: one[k].value for k in keywords if k in one} for one in slices]
        alike = all(own == said[0] for own in said)
        for item, own in [(shared, said[0])] if alike else zip(each, said, strict=True):
            if own:
                setattr(item, group, [with_elements(**own)])
    for number, item in enumerate(each):
        index = {"StackID": "1", "InStackPositionNumber": len(slices) - number}
        index["DimensionIndexValues"] = [1, len(slices) - number]
        item.FrameContentSequence = [with_elements(**index)]
    file.SharedFunctionalGroupsSequence, file.PerFrameFunctionalGroupsSequence = [shared], each
    file.add_new("PixelData", "OW", b"".join(one.PixelData for one in slices))
    for keyword, value in elements.items():
        setattr(file, keyword, value)
    meta.MediaStorageSOPClassUID = file.SOPClassUID
    meta.MediaStorageSOPInstanceUID = file.SOPInstanceUID
    return file


def with_elements(**elements: Any) -> Dataset:
    """A nested data set of these elements."""
    made = Dataset()
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    return made


def shuffled(slices: Sequence[Dataset], seed: int = 1) -> list[Dataset]:
    """In an order that is not theirs."""
    order = np.random.default_rng(seed).permutation(len(slices))
    return [slices[at] for at in order]
