"""What a packed frame says of itself, before anything unpacks it.

A decoder makes room for what the frame says, and it was written in C: so the frame has to say what
the DICOM header says, which is bounded. (ISO/IEC 10918-1 B.2, 14495-1 C.2, 15444-1 A.5.1; DICOM
PS3.5 A.4, Annex G)
"""

import itertools
import struct
from collections.abc import Callable, Mapping
from typing import NamedTuple

from wardround.errors import BadInput

Marker = int
_BASELINE, _EXTENDED, _LOSSLESS, _JPEG_LS = 0xC0, 0xC1, 0xC3, 0xF7
# All starts of frame, DHP and EXP of a hierarchy, and DNL, which says the height later.
_FRAMES = {*range(0xC0, 0xD0), _JPEG_LS} - {0xC4, 0xC8, 0xCC} | {0xDC, 0xDE, 0xDF}
_START_OF_SCAN = 0xDA
_TILE_PART, _MARKERS, _END_OF_CODESTREAM = 0xFF90, 0xFF00, b"\xff\xd9"
_MOST_TILES = 65_535
_RLE_HEADER = struct.Struct("<16I")
_J2K_SIZE = struct.Struct(">HH8IHBBB")
NOT_PACKED_SO = "has packed pixels that are not what its syntax says"


class Stored(NamedTuple):
    """One frame, as a header says it is stored: grey values of `bits` each."""

    rows: int
    columns: int
    bits: int


Check = Callable[[bytes, Stored], None]


class Packing(NamedTuple):
    """How a transfer syntax packs pixels: its name, who unpacks it, and what is looked at before.

    `plugin` is pydicom's name of the decoder; one only, so that all hospitals get the same pixels.
    """

    name: str
    plugin: str
    package: str
    check: Check
    is_lossy: bool = False


def _jpeg(*kinds: Marker) -> Check:
    def check(frame: bytes, due: Stored) -> None:
        kind, precision, rows, columns, channels = _start_of_frame(frame)
        if kind not in kinds or not 2 <= precision <= 16:
            raise BadInput(NOT_PACKED_SO)
        _agree(Stored(rows, columns, 8 if precision <= 8 else 16), channels, due)

    return check


def _extended(frame: bytes, due: Stored) -> None:
    if due.bits != 8:
        raise BadInput("is packed as JPEG Extended of 12 bits, which nothing here unpacks")
    _jpeg(_BASELINE, _EXTENDED)(frame, due)


def _start_of_frame(frame: bytes) -> tuple[Marker, int, int, int, int]:
    """Marker, precision, rows, columns and channels: what stands before the first scan."""
    if frame[:2] != b"\xff\xd8":
        raise BadInput(NOT_PACKED_SO)
    found, place, marker = [], 2, 0
    while place + 4 <= len(frame) and frame[place] == 0xFF:
        marker = frame[place + 1]
        if marker == 0xFF:  # a byte to fill with
            place += 1
            continue
        (length,) = struct.unpack_from(">H", frame, place + 2)
        if marker == _START_OF_SCAN:
            break
        if marker in _FRAMES:
            found.append((marker, place + 4))
        place += 2 + length
    if marker != _START_OF_SCAN or len(found) != 1 or found[0][1] + 6 > len(frame):
        raise BadInput(NOT_PACKED_SO)
    marker, start = found[0]
    precision, rows, columns, channels = struct.unpack_from(">BHHB", frame, start)
    return marker, precision, rows, columns, channels


def _jpeg_2000(frame: bytes, due: Stored) -> None:
    if frame[:4] != b"\xff\x4f\xff\x51" or len(frame) < 4 + _J2K_SIZE.size:
        raise BadInput(NOT_PACKED_SO)
    said = _J2K_SIZE.unpack_from(frame, 4)
    right, bottom, left, top, across, down, tiles_left, tiles_top = said[2:10]
    channels, depth, *steps = said[10:]
    if not across or not down or left or top or tiles_left or tiles_top or steps != [1, 1]:
        raise BadInput(NOT_PACKED_SO)
    bits = (depth & 0x7F) + 1
    _agree(Stored(bottom, right, max(due.bits, bits)), channels, due)
    tiles = -(-right // across) * -(-bottom // down)
    if tiles > _MOST_TILES:
        raise BadInput(f"has packed pixels in over {_MOST_TILES} tiles")
    if _tiles_there(frame) != set(range(tiles)):
        raise BadInput("has packed pixels that are cut off, or tiles that are not there")


def _tiles_there(frame: bytes) -> set[int]:
    """The numbers of all tiles that come before the end; none when the parts do not join.

    Of a tile that is missing OpenJPEG makes zeros, and says nothing.
    """
    found, place, header = set[int](), 2, True
    while place + 12 <= len(frame):
        marker, length, tile, part = struct.unpack_from(">HHHI", frame, place)
        if marker == _TILE_PART:
            found.add(tile)
            header = False
            # A part of length 0 is the last one, and goes on to the end.
            place = place + part if part else len(frame.rstrip(b"\0")) - 2
        elif header and marker > _MARKERS:
            place += 2 + length
        else:
            break
    ended = frame[place : place + 2] == _END_OF_CODESTREAM
    return found if ended else set()


def _run_length(frame: bytes, due: Stored) -> None:
    """Count what each segment unpacks to: a byte can stand for 64."""
    if len(frame) < _RLE_HEADER.size:
        raise BadInput(NOT_PACKED_SO)
    count, *starts = _RLE_HEADER.unpack_from(frame)
    edges = [*starts[: min(count, 15)], len(frame)]
    if count != due.bits // 8 or edges != sorted(edges) or edges[0] != _RLE_HEADER.size:
        raise BadInput(NOT_PACKED_SO)
    size = due.rows * due.columns
    for start, end in itertools.pairwise(edges):
        if not size <= _unpacked(frame[start:end], size) <= size + 1:
            raise BadInput("has packed pixels of another number than its header says")


def _unpacked(segment: bytes, enough: int) -> int:
    """How many bytes a segment becomes; beyond `enough` it is not counted to the end."""
    found, place, end = 0, 0, len(segment)
    while place < end and found <= enough:
        run = segment[place]
        if run < 128:
            found += min(run + 1, end - place - 1)
            place += run + 2
        else:
            found += 257 - run if run > 128 and place + 1 < end else 0
            place += 1 + (run > 128)
    return found


def _agree(said: Stored, channels: int, due: Stored) -> None:
    if channels != 1:
        raise BadInput("has packed pixels in colours, grey values are due")
    if said != due:
        raise BadInput(
            f"has packed pixels of {said.rows} x {said.columns} and {said.bits} bits, its header "
            f"says {due.rows} x {due.columns} and {due.bits}"
        )


_GDCM, _OPENJPEG, _CHARLS = "python-gdcm", "pylibjpeg-openjpeg", "pyjpegls"
_JPEG_LOSSLESS = Packing("JPEG Lossless", "gdcm", _GDCM, _jpeg(_LOSSLESS))
PACKINGS: Mapping[str, Packing] = {
    "1.2.840.10008.1.2.5": Packing("RLE Lossless", "pydicom", "pydicom", _run_length),
    "1.2.840.10008.1.2.4.50": Packing(
        "JPEG Baseline", "pillow", "pillow", _jpeg(_BASELINE), is_lossy=True
    ),
    "1.2.840.10008.1.2.4.51": Packing(
        "JPEG Extended", "pillow", "pillow", _extended, is_lossy=True
    ),
    "1.2.840.10008.1.2.4.57": _JPEG_LOSSLESS,
    "1.2.840.10008.1.2.4.70": _JPEG_LOSSLESS,
    "1.2.840.10008.1.2.4.80": Packing("JPEG-LS Lossless", "pyjpegls", _CHARLS, _jpeg(_JPEG_LS)),
    "1.2.840.10008.1.2.4.81": Packing(
        "JPEG-LS Near-Lossless", "pyjpegls", _CHARLS, _jpeg(_JPEG_LS), is_lossy=True
    ),
    "1.2.840.10008.1.2.4.90": Packing("JPEG 2000 Lossless", "pylibjpeg", _OPENJPEG, _jpeg_2000),
    "1.2.840.10008.1.2.4.91": Packing(
        "JPEG 2000", "pylibjpeg", _OPENJPEG, _jpeg_2000, is_lossy=True
    ),
}
