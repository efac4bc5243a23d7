"""Image files (.npy): the header is checked before a byte of the array is read, no pickle."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from wardround.errors import BadInput
from wardround.study.contract import Column
from wardround_client.data.description import is_inside
from wardround_client.data.table import file_inside

PIXEL_TYPES = ("int16", "uint16", "uint8", "int32", "float32")
HEADER_LIMIT_BYTES = 4096
IMAGES_LIMIT_BYTES = 8 << 30


def check_image(folder: Path, path: str, column: Column) -> Path:
    """The file of one image. Raises BadInput when path, header, shape, type or size is wrong.

    The array is not read. Messages name what is wrong, never the file: its name may be a patient's.
    """
    if not is_inside(path):
        raise BadInput("leads out of the data folder")
    try:
        found = file_inside(folder, path)
    except BadInput:
        raise BadInput("is not a file inside the data folder") from None
    shape, pixel, start = _header(found)
    if pixel.name not in PIXEL_TYPES:
        raise BadInput(f"has pixels of type {pixel.name}, one of {', '.join(PIXEL_TYPES)} is due")
    if shape not in _shapes(column):
        raise BadInput(f"has shape {shape}, {column.shape} is due")
    if found.stat().st_size != start + int(np.prod(shape)) * pixel.itemsize:
        raise BadInput("is cut off or has bytes behind the array")
    return found


def read_image(path: Path, column: Column) -> npt.NDArray[np.float32]:
    """One checked image, windowed to the column's range and scaled to [-1, 1].

    Raises BadInput for a pixel that is not a number.
    """
    low, high = column.range or (0.0, 1.0)
    pixels = np.load(path, allow_pickle=False).astype(np.float32)
    if not np.isfinite(pixels).all():
        raise BadInput("has a pixel that is not a finite number")
    window = np.clip(pixels, low, high)
    scaled: npt.NDArray[np.float32] = (window - low) * np.float32(2.0 / (high - low)) - 1
    return scaled.reshape(column.shape or pixels.shape)


def _shapes(column: Column) -> tuple[tuple[int, ...], ...]:
    shape = column.shape or ()
    # a grey image is often stored without its one channel
    return (shape, shape[1:]) if shape[:1] == (1,) else (shape,)


def _header(path: Path) -> tuple[tuple[int, ...], np.dtype[np.generic], int]:
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    try:
        with path.open("rb") as file:
            version = np.lib.format.read_magic(file)
            shape, _, pixel = readers[version](file, max_header_size=HEADER_LIMIT_BYTES)
            return shape, pixel, file.tell()
    except (ValueError, KeyError, OSError, EOFError):
        raise BadInput("is not a .npy file") from None
