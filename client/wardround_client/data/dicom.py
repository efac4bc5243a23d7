"""One DICOM image: a single frame of grey values, rescaled to its modality's unit.

Only the elements named here are parsed, so a patient's name is never read. pydicom (extra `dicom`)
is imported when a study has such files. (DICOM PS3.3 C.7.6.3, C.11.1; PS3.10 7.1)
"""

import logging
import struct
import warnings
from collections.abc import Sequence
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
_PREAMBLE_BYTES = 128
_META_LIMIT_BYTES = 1 << 16
_LONG_LENGTHS = {b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"UC", b"UN", b"UR", b"UT"}
_TRANSFER_SYNTAX = (0x0002, 0x0010)
# The whole file is packed, and how large it gets is not said anywhere.
_DEFLATED = "1.2.840.10008.1.2.1.99"
# All that pydicom raises for files that are broken or packed in a way that it cannot unpack
# (NotImplementedError): a hospital's file is bad input, whatever the library calls it.
DICOM_FAULTS = (
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
    _check(parse_dicom(file, _NEEDED, pixels=False))


def read_dicom(file: BinaryIO, _shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """[1, rows, columns] in the unit of the modality: stored value * slope + intercept.

    In MONOCHROME1, where small values are white, the stored values are turned over first. Raises
    BadInput for a compressed file that needs a decoder which is not installed.
    """
    parsed = parse_dicom(file, _NEEDED, pixels=True)
    _check(parsed)
    try:
        stored = parsed.pixel_array.astype(np.float64)
        slope = float(parsed.get("RescaleSlope", None) or 1.0)
        intercept = float(parsed.get("RescaleIntercept", None) or 0.0)
        if parsed.PhotometricInterpretation == "MONOCHROME1":
            stored = float(2 ** int(parsed.BitsStored) - 1) - stored
    except DICOM_FAULTS:
        raise BadInput("has pixels that cannot be decoded here") from None
    if stored.shape != (parsed.Rows, parsed.Columns):
        raise BadInput("has another number of pixels than its header says")
    values = stored * slope + intercept
    return values[None].astype(np.float32)


def parse_dicom(file: BinaryIO, elements: Sequence[str], *, pixels: bool) -> "Dataset":
    """The named elements of a file; others are passed over. Raises BadInput for no DICOM file.

    A file that is packed as a whole is refused before it is unpacked.
    """
    try:
        import pydicom  # noqa: PLC0415  # an extra
        from pydicom.errors import BytesLengthException, InvalidDicomError  # noqa: PLC0415  # same
    except ImportError:
        raise BadInput('needs pydicom: install "wardround[client,dicom]"') from None
    _silence()
    if transfer_syntax(file) == _DEFLATED:
        raise BadInput("is a DICOM file that is packed as a whole (deflated)")
    wanted = list(elements)
    try:
        parsed = pydicom.dcmread(file, stop_before_pixels=not pixels, specific_tags=wanted)
    except InvalidDicomError:
        raise BadInput("is not a DICOM file") from None
    except (BytesLengthException, *DICOM_FAULTS):
        raise BadInput("is a DICOM file that cannot be read") from None
    for keyword in wanted:
        # pydicom turns bytes into values when they are first asked for.
        try:
            parsed.get(keyword, None)
        except (BytesLengthException, *DICOM_FAULTS):
            raise BadInput(f"has a {keyword} that cannot be read") from None
    return parsed


def _silence() -> None:
    """Keep pydicom from warning and logging, which it does with the values that it warns of."""
    logging.getLogger("pydicom").disabled = True
    warnings.filterwarnings("ignore", module="pydicom")


def transfer_syntax(file: BinaryIO) -> str:
    """How a file's data set is written, from its first bytes; the file is then at its start again.

    Raises BadInput when it is no DICOM file, or does not say it.
    """
    head = file.read(_PREAMBLE_BYTES + 4 + _META_LIMIT_BYTES)
    file.seek(0)
    if head[_PREAMBLE_BYTES : _PREAMBLE_BYTES + 4] != b"DICM":
        raise BadInput("is not a DICOM file")
    place = _PREAMBLE_BYTES + 4
    while place + 8 <= len(head):
        group, element, kind, size = struct.unpack_from("<HH2sH", head, place)
        place += 8
        if group != _TRANSFER_SYNTAX[0]:
            break
        if kind in _LONG_LENGTHS and place + 4 <= len(head):
            (size,) = struct.unpack_from("<I", head, place)
            place += 4
        if (group, element) == _TRANSFER_SYNTAX:
            return head[place : place + size].decode("ascii", "replace").strip("\0 ")
        place += size
    raise BadInput("is a DICOM file that does not say how it is written")


def _check(parsed: "Dataset") -> None:
    try:
        frames = int(parsed.get("NumberOfFrames", None) or 1)
        size = int(parsed.Rows) * int(parsed.Columns)
        kind, samples = str(parsed.PhotometricInterpretation), int(parsed.SamplesPerPixel)
        signed = int(parsed.PixelRepresentation) == 1
    except DICOM_FAULTS:
        raise BadInput("is a DICOM file without an image") from None
    if frames != 1:
        raise BadInput(f"has {frames} frames, 1 is due")
    if samples != 1 or kind not in {"MONOCHROME1", "MONOCHROME2"}:
        raise BadInput("has colours, grey values are due")
    if kind == "MONOCHROME1" and signed:
        raise BadInput("is MONOCHROME1 with signed values, which have no largest one to turn over")
    if not 0 < size <= MOST_PIXELS:
        raise BadInput(f"has {size} pixels, 1 to {MOST_PIXELS} are due")
