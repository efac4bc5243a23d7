"""Pixels of one image file: its header is checked before its pixels are read; never a pickle.

Each reader gives [channels, height, width] as the file has them. A message says what is wrong,
never a file's name or a value: either may be a patient's.
"""

import math
from collections.abc import Collection
from typing import TYPE_CHECKING, BinaryIO, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from wardround.errors import BadInput

if TYPE_CHECKING:
    from PIL import Image

Pixels = npt.NDArray[np.float32]
PIXEL_TYPES = ("int16", "uint16", "uint8", "int32", "float32")
HEADER_LIMIT_BYTES = 4096
MOST_PIXELS = 1 << 26
_PICTURE_MODES = {"L": 1, "I;16": 1, "RGB": 3}


class Header(NamedTuple):
    """What a file says of its array: its shape, its pixels' type, start and order."""

    shape: tuple[int, ...]
    pixel: np.dtype[np.generic]
    start: int
    order: Literal["C", "F"]


def npy_header(file: BinaryIO, types: Collection[str] = PIXEL_TYPES) -> Header:
    """The header of a .npy file of one of `types`. Raises BadInput for anything else."""
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    try:
        version = np.lib.format.read_magic(file)
        shape, column_major, pixel = readers[version](file, max_header_size=HEADER_LIMIT_BYTES)
        start = file.tell()
    except (ValueError, KeyError, OSError, EOFError):
        raise BadInput("is not a .npy file") from None
    if pixel.name not in types:
        raise BadInput(f"has values of type {pixel.name}, one of {', '.join(types)} is due")
    return Header(shape, pixel, start, "F" if column_major else "C")


def whole_array(
    file: BinaryIO, size: int, types: Collection[str] = PIXEL_TYPES
) -> npt.NDArray[np.generic]:
    """The array of a .npy of `size` bytes; nothing is allocated unless they are just its own."""
    header = npy_header(file, types)
    due = math.prod(header.shape) * header.pixel.itemsize
    content = file.read(due) if size == header.start + due else b""
    if len(content) != due:
        raise BadInput("is cut off or has bytes behind the array")
    flat: npt.NDArray[np.generic] = np.frombuffer(content, dtype=header.pixel)
    return flat.reshape(header.shape, order=header.order)


def check_npy(file: BinaryIO, size: int, shape: tuple[int, ...]) -> None:
    """Raise BadInput unless the file holds one array of `shape`; one channel may be left out."""
    header = npy_header(file)
    # a grey image is often stored without its one channel
    if header.shape not in ((shape, shape[1:]) if shape[:1] == (1,) else (shape,)):
        raise BadInput(f"has shape {header.shape}, {shape} is due")
    if size != header.start + int(np.prod(header.shape)) * header.pixel.itemsize:
        raise BadInput("is cut off or has bytes behind the array")


def read_npy(file: BinaryIO, shape: tuple[int, ...]) -> Pixels:
    """The pixels of a checked .npy file."""
    header = npy_header(file)
    count = int(np.prod(header.shape))
    pixels = np.frombuffer(file.read(count * header.pixel.itemsize), dtype=header.pixel)
    if len(pixels) != count:
        raise BadInput("is cut off or has bytes behind the array")
    # by the file's own shape first: one left-out channel must not turn a Fortran array over
    return pixels.astype(np.float32).reshape(header.shape, order=header.order).reshape(shape)


def check_picture(file: BinaryIO, _size: int, shape: tuple[int, ...]) -> None:
    """Raise BadInput unless this is a PNG or JPEG with grey or RGB pixels that fit `shape`."""
    _open_picture(file, shape)


def read_picture(file: BinaryIO, shape: tuple[int, ...]) -> Pixels:
    """The pixels of a PNG or JPEG: RGB becomes grey where one channel is due (ITU-R BT.601)."""
    picture = _open_picture(file, shape)
    try:
        pixels = np.asarray(picture.convert("L") if _too_many(picture.mode, shape) else picture)
    except (OSError, ValueError, SyntaxError):
        raise BadInput("is cut off or has pixels that cannot be read") from None
    planes = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    return planes.astype(np.float32)


def _open_picture(file: BinaryIO, shape: tuple[int, ...]) -> "Image.Image":
    from PIL import Image  # noqa: PLC0415  # only studies of pictures need it

    try:
        picture = Image.open(file, formats=("PNG", "JPEG"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        raise BadInput("is neither PNG nor JPEG") from None
    if picture.width * picture.height > MOST_PIXELS:
        raise BadInput(f"has {picture.width} x {picture.height} pixels, over {MOST_PIXELS}")
    channels = _PICTURE_MODES.get(picture.mode)
    if channels is None:
        raise BadInput(f"has pixels of mode {picture.mode}, grey or RGB is due")
    if channels != shape[0] and not _too_many(picture.mode, shape):
        raise BadInput(f"has {channels} channels, {shape[0]} are due")
    return picture


def _too_many(mode: str, shape: tuple[int, ...]) -> bool:
    return mode == "RGB" and shape[0] == 1
