"""Where in a DICOM file each frame's pixels lie, and what they are: one frame at a time.

Nothing is allocated that the header does not account for: a frame's size is that of its rows and
columns, which are bounded, and the file has to have as many frames as it says.
(DICOM PS3.5 8, A.4; PS3.3 C.7.6.3)
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from wardround.errors import BadInput
from wardround_client.data.dicom_codestream import PACKINGS, Packing, Stored
from wardround_client.data.dicom_decoder import CANNOT, DECODER
from wardround_client.data.dicom_header import imported, unreadable
from wardround_client.data.pixels import MOST_PIXELS

if TYPE_CHECKING:
    from pydicom import Dataset

LAYOUT_ELEMENTS = (
    "Rows",
    "Columns",
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "BitsAllocated",
    "BitsStored",
    "PixelRepresentation",
    "ExtendedOffsetTable",
)
ANOTHER_NUMBER = "has another number of pixels than its header says"
NO_IMAGE = "is a DICOM file without an image"
_PIXEL_DATA = (0x7FE0, 0x0010)
_ITEM, _END = (0xFFFE, 0xE000), (0xFFFE, 0xE0DD)
_UNKNOWN_LENGTH = 0xFFFFFFFF
_MOST_PIECES = 1 << 20
# Pillow reads PNG and JPEG files here in any case; these nothing else needs.
_WRITTEN_IN_C = {"gdcm", "pyjpegls", "pylibjpeg"}
# A packing can make noise larger than it was, and has headers of its own.
_MOST_GROWTH, _MOST_AROUND_BYTES = 2, 1 << 20


class Span(NamedTuple):
    """So many bytes of the file."""

    start: int
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How pixels are stored, by the header: of bounded size. `packing` is None where they are not.

    Raises BadInput for anything but grey values of 8, 16 or 32 bits.
    """

    syntax: str
    rows: int
    columns: int
    bits_allocated: int
    bits_stored: int
    signed: bool
    photometric: str
    samples: int = field(default=1, repr=False)

    def __post_init__(self) -> None:
        """Check what a reader has to rely on."""
        size = self.rows * self.columns
        if self.samples != 1 or self.photometric not in {"MONOCHROME1", "MONOCHROME2"}:
            raise BadInput("has colours, grey values are due")
        if self.photometric == "MONOCHROME1" and self.signed:
            raise BadInput(
                "is MONOCHROME1 with signed values, which have no largest one to turn over"
            )
        if not 0 < size <= MOST_PIXELS or self.rows < 0:
            raise BadInput(f"has {size} pixels, 1 to {MOST_PIXELS} are due")
        if (
            self.bits_allocated not in {8, 16, 32}
            or not 0 < self.bits_stored <= self.bits_allocated
        ):
            raise BadInput(
                f"has {self.bits_stored} bits a pixel in {self.bits_allocated}: 8, 16 or 32 are due"
            )

    @property
    def packing(self) -> Packing | None:
        """How the pixels are packed, None when they are plain. Raises BadInput, by the name."""
        uid = imported().uid.UID(self.syntax)
        if not uid.is_private and uid.is_transfer_syntax and not uid.is_compressed:
            return None
        packing = PACKINGS.get(self.syntax)
        if packing is None:
            name = uid.name if uid.is_transfer_syntax else "a way that has no name"
            raise BadInput(f"has pixels packed as {name}, which nothing here unpacks")
        return packing

    @property
    def frame_bytes(self) -> int:
        """The bytes of one frame, unpacked."""
        return self.rows * self.columns * self.bits_allocated // 8


def layout_of(elements: "Dataset") -> Layout:
    """What a header says of its pixels. Raises BadInput when they are no grey values."""
    try:
        return Layout(
            syntax=str(elements.file_meta.TransferSyntaxUID),
            rows=int(elements.Rows),
            columns=int(elements.Columns),
            bits_allocated=int(elements.BitsAllocated),
            bits_stored=int(elements.BitsStored),
            signed=int(elements.PixelRepresentation) == 1,
            photometric=str(elements.PhotometricInterpretation),
            samples=int(elements.SamplesPerPixel),
        )
    except unreadable():
        raise BadInput(NO_IMAGE) from None


def frame_spans(
    file: BinaryIO, size: int, elements: "Dataset", layout: Layout, *, count: int, exact: bool
) -> tuple[tuple[Span, ...], ...]:
    """The pieces of each frame, of a file of `size` bytes that is at its pixels.

    Raises BadInput when it has another number of frames than `count`. One frame of plain pixels may
    have bytes behind it, unless `exact` is asked.
    """
    start, length = _value(file, elements)
    if layout.packing is None:
        due = layout.frame_bytes * count
        excess = length - due if exact or count > 1 else 0
        if length == _UNKNOWN_LENGTH or length < due or start + due > size or excess > due % 2:
            raise BadInput(ANOTHER_NUMBER)
        own = range(start, start + due, layout.frame_bytes)
        return tuple((Span(place, layout.frame_bytes),) for place in own)
    if length != _UNKNOWN_LENGTH:
        raise BadInput("has packed pixels that are not in pieces")
    table, pieces = _pieces(file, start, size)
    frames = _by_frame(pieces, _offsets(file, table, elements, count), count)
    most = _MOST_GROWTH * layout.frame_bytes + _MOST_AROUND_BYTES
    if any(sum(piece.length for piece in frame) > most for frame in frames):
        raise BadInput(f"has a packed frame of over {most} bytes, beyond what it unpacks to")
    return frames


def check_frame(file: BinaryIO, layout: Layout, pieces: tuple[Span, ...]) -> bytes:
    """The bytes of one frame as the file has them. Raises BadInput when they say something else."""
    content = b"".join(_read(file, piece) for piece in pieces)
    packing = layout.packing
    if packing is None:
        return content
    decoder = imported().pixels.get_decoder(layout.syntax)
    if packing.plugin not in decoder.available_plugins:
        raise BadInput(
            f"has pixels packed as {packing.name}: install {packing.package}, which "
            '"wardround[client,dicom]" brings'
        )
    packing.check(content, Stored(layout.rows, layout.columns, layout.bits_allocated))
    return content


def stored_frame(file: BinaryIO, layout: Layout, pieces: tuple[Span, ...]) -> npt.NDArray[Any]:
    """[rows, columns] of stored values. Raises BadInput when they do not come out."""
    content = check_frame(file, layout, pieces)
    packing = layout.packing
    pydicom = imported()
    options = _options(layout)
    if packing is not None:
        options["decoding_plugin"] = packing.plugin
    if packing is not None and packing.plugin in _WRITTEN_IN_C:
        options["syntax"] = layout.syntax
        values = DECODER.decoded(content, options, size=layout.frame_bytes)
        kind = f"{'i' if layout.signed else 'u'}{layout.bits_allocated // 8}"
        return np.frombuffer(values, kind).reshape(layout.rows, layout.columns)
    if packing is not None:
        content = pydicom.encaps.encapsulate([content])
    try:
        decoder = pydicom.pixels.get_decoder(layout.syntax)
        values, _ = decoder.as_array(content + b"\0" * (len(content) % 2), index=0, **options)
        found: npt.NDArray[Any] = np.asarray(values)
    except unreadable():
        raise BadInput(CANNOT) from None
    if found.shape != (layout.rows, layout.columns):
        raise BadInput(ANOTHER_NUMBER)
    return found


def _options(layout: Layout) -> dict[str, str | int]:
    return {
        "rows": layout.rows,
        "columns": layout.columns,
        "bits_allocated": layout.bits_allocated,
        "bits_stored": layout.bits_stored,
        "pixel_representation": int(layout.signed),
        "photometric_interpretation": layout.photometric,
        "samples_per_pixel": 1,
        "number_of_frames": 1,
        "pixel_keyword": "PixelData",
        "pixel_vr": "OB" if layout.bits_allocated == 8 else "OW",
    }


def _value(file: BinaryIO, elements: "Dataset") -> tuple[int, int]:
    """Where the value of the pixel data starts, and the length that it claims."""
    place, head = file.tell(), file.read(12)
    implicit, little = elements.original_encoding
    order = "<" if little else ">"
    if len(head) < 12 or struct.unpack_from(f"{order}HH", head) != _PIXEL_DATA:
        raise BadInput(NO_IMAGE)
    (length,) = struct.unpack_from(f"{order}I", head, 4 if implicit else 8)
    return place + (8 if implicit else 12), length


def _pieces(file: BinaryIO, start: int, size: int) -> tuple[Span, list[Span]]:
    """The offset table, and the pieces that packed pixels come in."""
    found: list[Span] = []
    place = start
    while place < size and len(found) <= _MOST_PIECES:
        file.seek(place)
        head = file.read(8)
        group, element, length = struct.unpack("<HHI", head) if len(head) == 8 else (0, 0, 0)
        if (group, element) == _END:
            break
        if (group, element) != _ITEM or place + 8 + length > size:
            raise BadInput("has packed pixels that are cut off")
        found.append(Span(place + 8, length))
        place += 8 + length
    if not 2 <= len(found) <= _MOST_PIECES:
        raise BadInput(f"has packed pixels in {max(len(found) - 1, 0)} pieces")
    return found[0], found[1:]


def _offsets(file: BinaryIO, table: Span, elements: "Dataset", count: int) -> list[int]:
    """Where each frame begins, counted from the first piece; [] when that is not said."""
    if table.length == 4 * count:
        return list(struct.unpack(f"<{count}I", _read(file, table)))
    extended = elements.get("ExtendedOffsetTable", None) or b""
    if table.length == 0 and len(extended) == 8 * count:
        return list(struct.unpack(f"<{count}Q", extended))
    if table.length or extended:
        raise BadInput(f"has {count} frames, and places of another number")
    return []


def _by_frame(
    pieces: list[Span], offsets: Iterable[int], count: int
) -> tuple[tuple[Span, ...], ...]:
    """Each frame's pieces. Raises BadInput when it is not sure which is whose."""
    if count == 1:
        return (tuple(pieces),)
    first = pieces[0].start
    places = {piece.start - first: number for number, piece in enumerate(pieces)}
    begins = [places.get(offset, -1) for offset in offsets]
    if not begins and len(pieces) == count:
        begins = list(range(count))
    if len(begins) != count or begins[0] != 0 or begins != sorted(set(begins)):
        raise BadInput(f"has {count} frames, and does not say where each of them begins")
    ends = [*begins[1:], len(pieces)]
    return tuple(tuple(pieces[a:b]) for a, b in zip(begins, ends, strict=True))


def _read(file: BinaryIO, span: Span) -> bytes:
    file.seek(span.start)
    content = file.read(span.length)
    if len(content) != span.length:
        raise BadInput("is a DICOM file that is cut off")
    return content
