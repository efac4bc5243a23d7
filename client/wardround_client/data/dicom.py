"""One DICOM image: a single frame of grey values, rescaled to its modality's unit.

Only the elements named here are parsed, so a patient's name is never read. pydicom (extra `dicom`)
is imported when a study has such files. (DICOM PS3.3 C.7.6.3, C.11.1)
"""

import struct
import warnings
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import numpy.typing as npt

from wardround.errors import BadInput
from wardround_client.data.pixels import MOST_PIXELS

if TYPE_CHECKING:
    from pydicom import Dataset

_NEEDED = [
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "NumberOfFrames",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
    "RescaleSlope",
    "RescaleIntercept",
    "PixelData",
]
# All that pydicom raises for files that are broken or packed in a way that it cannot unpack
# (NotImplementedError): a hospital's file is bad input, whatever the library calls it.
_FAULTS = (
    AttributeError,
    EOFError,
    KeyError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
)


def check_dicom(file: BinaryIO, _size: int, shape: tuple[int, ...]) -> None:
    """Raise BadInput unless this is a DICOM file with one frame of grey values."""
    if shape[0] != 1:
        raise BadInput(f"has 1 channel, {shape[0]} are due")
    _check(_parsed(file, pixels=False))


def read_dicom(file: BinaryIO, _shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """[1, rows, columns] in the unit of the modality: stored value * slope + intercept.

    In MONOCHROME1, where small values are white, the stored values are turned over first. Raises
    BadInput for a compressed file that needs a decoder which is not installed.
    """
    parsed = _parsed(file, pixels=True)
    _check(parsed)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they quote the file's values
            stored = parsed.pixel_array.astype(np.float64)
        slope = float(parsed.get("RescaleSlope", None) or 1.0)
        intercept = float(parsed.get("RescaleIntercept", None) or 0.0)
        if parsed.PhotometricInterpretation == "MONOCHROME1":
            stored = float(2 ** int(parsed.BitsStored) - 1) - stored
    except _FAULTS:
        raise BadInput("has pixels that cannot be decoded here") from None
    if stored.shape != (parsed.Rows, parsed.Columns):
        raise BadInput("has another number of pixels than its header says")
    values = stored * slope + intercept
    return values[None].astype(np.float32)


def _parsed(file: BinaryIO, *, pixels: bool) -> "Dataset":
    try:
        import pydicom  # noqa: PLC0415  # an extra
        from pydicom.errors import InvalidDicomError  # noqa: PLC0415  # an extra  # an extra
    except ImportError:
        raise BadInput('needs pydicom: install "wardround[client,dicom]"') from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they quote the file's values
            return pydicom.dcmread(file, stop_before_pixels=not pixels, specific_tags=_NEEDED)
    except InvalidDicomError:
        raise BadInput("is not a DICOM file") from None
    except _FAULTS:
        raise BadInput("is a DICOM file that cannot be read") from None


def _check(parsed: "Dataset") -> None:
    try:
        frames = int(parsed.get("NumberOfFrames", None) or 1)
        size = int(parsed.Rows) * int(parsed.Columns)
        kind, samples = str(parsed.PhotometricInterpretation), int(parsed.SamplesPerPixel)
        signed = int(parsed.PixelRepresentation) == 1
    except _FAULTS:
        raise BadInput("is a DICOM file without an image") from None
    if frames != 1:
        raise BadInput(f"has {frames} frames, 1 is due")
    if samples != 1 or kind not in {"MONOCHROME1", "MONOCHROME2"}:
        raise BadInput("has colours, grey values are due")
    if kind == "MONOCHROME1" and signed:
        raise BadInput("is MONOCHROME1 with signed values, which have no largest one to turn over")
    if not 0 < size <= MOST_PIXELS:
        raise BadInput(f"has {size} pixels, 1 to {MOST_PIXELS} are due")
