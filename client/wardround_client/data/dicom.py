"""DICOM images: frames of grey values, rescaled to their modality's unit, one at a time.

A classic image is one frame, an enhanced object has many and says of each how it is scaled.
(DICOM PS3.3 C.7.6.3, C.7.6.16, C.11.1)
"""

import os
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
import numpy.typing as npt

from wardround.errors import BadInput
from wardround_client.data.dicom_frames import FRAME_ELEMENTS, Said, frames_of
from wardround_client.data.dicom_header import parse_dicom, unreadable
from wardround_client.data.dicom_stored import (
    LAYOUT_ELEMENTS,
    NO_IMAGE,
    Layout,
    Span,
    check_frame,
    frame_spans,
    layout_of,
    stored_frame,
)
from wardround_client.data.pixels import Pixels

if TYPE_CHECKING:
    from pydicom import Dataset

DICOM_LIMIT_BYTES = 1 << 30
_NEEDED = (
    *FRAME_ELEMENTS,
    *LAYOUT_ELEMENTS,
    "RescaleSlope",
    "RescaleIntercept",
    "LossyImageCompression",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DicomImage:
    """The header of one file, checked: what is said of each frame, and where its pixels lie."""

    elements: "Dataset" = field(repr=False)
    layout: Layout
    frames: tuple[Said, ...] = field(repr=False)
    spans: tuple[tuple[Span, ...], ...] = field(repr=False)

    @property
    def has_groups(self) -> bool:
        """Whether it is an enhanced object, which says things frame by frame."""
        return self.frames[0] is not self.elements

    @property
    def is_lossy(self) -> bool:
        """Whether they were packed with loss once, by the header or by how they are packed."""
        said = str(self.elements.get("LossyImageCompression", None) or "").strip()
        packing = self.layout.packing
        # JPEG 2000 of the one syntax can be either; the header says which.
        return said == "01" or (said != "00" and packing is not None and packing.is_lossy)

    def place(self, number: int | None) -> int:
        """Where the frame of a number (from 1 on) is; without one, the only frame."""
        if number is None and len(self.frames) > 1:
            raise BadInput(f"has {len(self.frames)} frames: FILE#1 names the first one")
        if not 1 <= (number or 1) <= len(self.frames):
            raise BadInput(f"has {len(self.frames)} frames, another one is named")
        return (number or 1) - 1

    def check(self, file: BinaryIO, number: int | None) -> None:
        """Raise BadInput unless the frame can be unpacked; it is not, and plain ones not read."""
        pieces = self.spans[self.place(number)]
        if self.layout.packing is not None:
            check_frame(file, self.layout, pieces)

    def stored(self, file: BinaryIO, place: int) -> npt.NDArray[np.generic]:
        """[rows, columns]: the values of a frame as they are stored."""
        return stored_frame(file, self.layout, self.spans[place])

    def unchanged(self, file: BinaryIO, place: int) -> npt.NDArray[np.generic]:
        """[rows, columns]: the same, but of plain pixels the file's own bytes, all bits of them."""
        if self.layout.packing is not None or not self.elements.original_encoding[1]:
            return self.stored(file, place)
        content = check_frame(file, self.layout, self.spans[place])
        plain = np.frombuffer(content, f"<u{self.layout.bits_allocated // 8}")
        return plain.reshape(self.layout.rows, self.layout.columns)

    def pixels(self, file: BinaryIO, number: int | None) -> Pixels:
        """[1, rows, columns] in the unit of the modality: stored value * slope + intercept.

        In MONOCHROME1, where small values are white, the stored values are turned over first.
        """
        place = self.place(number)
        stored = self.stored(file, place).astype(np.float64)
        said = self.frames[place]
        try:
            slope = float(said.get("RescaleSlope", None) or 1.0)
            intercept = float(said.get("RescaleIntercept", None) or 0.0)
        except unreadable():
            raise BadInput("has a RescaleSlope or RescaleIntercept that is no number") from None
        if self.layout.photometric == "MONOCHROME1":
            stored = float(2**self.layout.bits_stored - 1) - stored
        return (stored * slope + intercept)[None].astype(np.float32)


def open_dicom(
    file: BinaryIO,
    size: int,
    more: Sequence[str] = (),
    *,
    kinds: Container[str] | None = None,
    exact: bool = False,
) -> DicomImage:
    """The header of a file of `size` bytes, with `more` elements than its pixels need.

    Raises BadInput unless it is a DICOM file with frames of grey values, as many as it says, each
    of whose pixels are there; with `exact` nothing may stand behind them, and of `kinds` (SOP
    classes) it has to be one.
    """
    elements = parse_dicom(file, [*_NEEDED, *more])
    kind = str(elements.get("SOPClassUID", None) or "")
    if kinds is not None and kind not in kinds:
        raise BadInput("is of another kind than CT, CR, DX, MG and MR images" if kind else NO_IMAGE)
    layout = layout_of(elements)
    frames = frames_of(elements)
    spans = frame_spans(file, size, elements, layout, count=len(frames), exact=exact)
    return DicomImage(elements=elements, layout=layout, frames=frames, spans=spans)


def check_dicom(file: BinaryIO, size: int, shape: tuple[int, ...]) -> None:
    """Raise BadInput unless this is a DICOM file with one frame of grey values."""
    if shape[0] != 1:
        raise BadInput(f"has 1 channel, {shape[0]} are due")
    open_dicom(file, size).check(file, None)


def read_dicom(file: BinaryIO, _shape: tuple[int, ...]) -> Pixels:
    """The pixels of a DICOM file with one frame, as `DicomImage.pixels` gives them."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    return open_dicom(file, size).pixels(file, None)
