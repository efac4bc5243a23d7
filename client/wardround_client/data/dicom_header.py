"""The header of a DICOM file: only the elements that are named are parsed, so no patient's name is.

pydicom (extra `dicom`) is imported when a study has such files. (DICOM PS3.5 7.1; PS3.10 7.1)
"""

import logging
import struct
import warnings
from collections.abc import Sequence
from types import ModuleType
from typing import TYPE_CHECKING, BinaryIO, cast

from wardround.errors import BadInput

if TYPE_CHECKING:
    from pydicom import Dataset

# What is read of a file before its pixels, and how much may be nested in it. Thousands of frames
# say what they are in some megabytes; parsed, the 8 bytes of an empty item become 700, and those
# of an empty element 330.
HEADER_LIMIT_BYTES = 16 << 20
MOST_ITEMS = 1 << 18
_ITEM_TAGS = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")
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


class _Bounded:
    """A file of which only so much is read, whatever lengths it claims to have."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._left, self._items = file, HEADER_LIMIT_BYTES, 0

    def read(self, size: int = -1) -> bytes:
        """So many bytes. Raises BadInput beyond the limit."""
        if not 0 <= size <= self._left:
            raise BadInput(f"has a header of over {HEADER_LIMIT_BYTES} bytes")
        self._left -= size
        content = self._file.read(size)
        self._items += sum(map(content.count, _ITEM_TAGS))
        if self._items > MOST_ITEMS:
            raise BadInput(f"has a header with over {MOST_ITEMS} nested items")
        return content

    def seek(self, place: int, whence: int = 0) -> int:
        """Go there; what is passed over is not read."""
        return self._file.seek(place, whence)

    def tell(self) -> int:
        """Where the next byte is."""
        return self._file.tell()


def parse_dicom(file: BinaryIO, elements: Sequence[str]) -> "Dataset":
    """The named elements of a file; others are passed over. Raises BadInput for no DICOM file.

    Then the file is at its pixels, or at its end when it has none. One that is packed as a whole is
    refused before it is unpacked.
    """
    pydicom = imported()
    if transfer_syntax(file) == _DEFLATED:
        raise BadInput("is a DICOM file that is packed as a whole (deflated)")
    bounded = cast("BinaryIO", _Bounded(file))
    try:
        parsed = pydicom.dcmread(bounded, stop_before_pixels=True, specific_tags=list(elements))
    except pydicom.errors.InvalidDicomError:
        raise BadInput("is not a DICOM file") from None
    except unreadable():
        raise BadInput("is a DICOM file that cannot be read") from None
    for keyword in elements:
        # pydicom turns bytes into values when they are first asked for.
        try:
            parsed.get(keyword, None)
        except unreadable():
            raise BadInput(f"has a {keyword} that cannot be read") from None
    return cast("Dataset", parsed)


def imported() -> ModuleType:
    """pydicom, silenced: it would warn and log with the values that it warns of."""
    try:
        import pydicom  # noqa: PLC0415  # an extra
    except ImportError:
        raise BadInput('needs pydicom: install "wardround[client,dicom]"') from None
    logging.getLogger("pydicom").disabled = True
    warnings.filterwarnings("ignore", module="pydicom")
    return pydicom


def unreadable() -> tuple[type[Exception], ...]:
    """All that pydicom raises for a value that is none."""
    return (imported().errors.BytesLengthException, *DICOM_FAULTS)


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
