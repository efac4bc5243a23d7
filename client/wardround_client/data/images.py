"""Images at the hospital: found, checked by their headers, resampled by area, windowed.

A file's suffix says how it is read: .npy, .png, .jpg or .jpeg; .dcm, .ima or none is DICOM, where
`FILE#3` is the third frame. Files lie in a folder or in a .zip; or all images are one array in a
.npz. Nothing is learned from the pixels: window and size are the contract's.
"""

import io
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import IO, BinaryIO, Self, cast

import numpy as np
import numpy.typing as npt

from wardround.errors import BadInput
from wardround.study.contract import Column
from wardround_client.data.description import ImageFiles, is_inside
from wardround_client.data.dicom import DICOM_LIMIT_BYTES, DicomImage, open_dicom
from wardround_client.data.pixels import (
    Pixels,
    check_npy,
    check_picture,
    read_npy,
    read_picture,
    whole_array,
)
from wardround_client.data.sources import NOT_UNPACKED, file_inside

IMAGES_LIMIT_BYTES = 8 << 30
FILE_LIMIT_BYTES = 1 << 28
Check = Callable[[BinaryIO, int, tuple[int, ...]], None]
Read = Callable[[BinaryIO, tuple[int, ...]], Pixels]
# None is DICOM.
_READERS: dict[str, tuple[Check, Read] | None] = {
    ".npy": (check_npy, read_npy),
    ".png": (check_picture, read_picture),
    ".jpg": (check_picture, read_picture),
    ".jpeg": (check_picture, read_picture),
    ".dcm": None,
    ".ima": None,
    "": None,  # what an archive exports often has no suffix
}
_FRAME = re.compile(r"(.+)#([1-9][0-9]{0,5})", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Opened:
    """A DICOM file whose header was read: its frames are asked for one after the other.

    `content` is all of it, where it has frames and lies in an archive: that has no way to the
    middle of a packed file but from its start.
    """

    name: str = field(repr=False)
    image: DicomImage = field(repr=False)
    content: bytes | None = field(repr=False)


class Images:
    """The image files of one column, while they are open. A context manager.

    What is wrong with one image is a BadInput that names no file. Raises BadInput on the way in
    when the folder, archive or array is not there.
    """

    def __init__(self, folder: Path, files: ImageFiles, column: Column) -> None:
        if column.shape is None:
            raise BadInput(f"column {column.name}: it is no image")
        self._folder, self._files, self._column = folder, files, column
        self._shape = column.shape
        self._archive: zipfile.ZipFile | None = None
        self._array: npt.NDArray[np.generic] | None = None
        self._dicom: _Opened | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        if self._files.folder.endswith((".zip", ".npz")):
            found = file_inside(self._folder, self._files.folder)
            try:
                self._archive = self._stack.enter_context(zipfile.ZipFile(found))
            except (OSError, zipfile.BadZipFile):
                raise BadInput(f"{self._files.folder}: not a zip archive") from None
        if self._files.array is not None:
            self._array = self._read_array(f"{self._files.array}.npy")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def check(self, name: str) -> None:
        """Look at one image's header. Raises BadInput; the pixels are not read."""
        if self._array is not None:
            self._row(name)
            return
        file_name, number = self._frame_of(name)
        reader = _reader(file_name)
        if reader is None:
            if self._files.restates_a_header:
                raise BadInput("is DICOM, whose header says what `[images]` says again")
            if self._shape[0] != 1:
                raise BadInput(f"has 1 channel, {self._shape[0]} are due")
            with self._opened_dicom(file_name) as (file, image):
                image.check(file, number)
            return
        with self._opened(name) as (file, size):
            reader[0](file, size, self._shape)

    def is_lossy(self, name: str) -> bool:
        """Whether the DICOM header of an image that passed `check` says that it lost something."""
        if self._array is not None:
            return False
        file_name, _ = self._frame_of(name)
        if _reader(file_name) is not None:
            return False
        with self._opened_dicom(file_name) as (_, image):
            return image.is_lossy

    def read(self, name: str) -> Pixels:
        """One image [channels, height, width], resampled, windowed and scaled to [-1, 1].

        Raises BadInput also for a pixel beyond `stored_range`, unless the nearest end was declared.
        """
        pixels, low, high = self.in_unit(name), *self.limits
        window = np.clip(resampled(pixels, self._shape[1:]), low, high)
        return (window - low) * np.float32(2.0 / (high - low)) - np.float32(1)

    def in_unit(self, name: str) -> Pixels:
        """One image in the contract's unit, before it is resampled and windowed."""
        pixels = self.stored(name)
        stored = self._files.stored_range
        if stored is not None and self._files.beyond == "refuse" and outside(pixels, stored) > 0:
            raise BadInput("has pixels beyond `stored_range`")
        return in_unit(pixels, self._files, self.limits)

    def stored(self, name: str) -> Pixels:
        """One image as its file has it (DICOM in the unit of its modality)."""
        if self._array is not None:
            pixels = self._planes(self._row(name))
        else:
            self.check(name)
            pixels = self._pixels(name)
        if not np.isfinite(pixels).all():
            raise BadInput("has a pixel that is not a finite number")
        return pixels

    @property
    def limits(self) -> tuple[float, float]:
        """The contract's range."""
        return self._column.range or (0.0, 1.0)

    def _pixels(self, name: str) -> Pixels:
        file_name, number = self._frame_of(name)
        reader = _reader(file_name)
        if reader is None:
            with self._opened_dicom(file_name) as (file, image):
                return image.pixels(file, number)
        with self._opened(name) as (file, _):
            return reader[1](file, self._shape)

    def _frame_of(self, name: str) -> tuple[str, int | None]:
        """A file's name and the number of a frame in it; a file of just this name comes first."""
        found = _FRAME.fullmatch(name)
        if found is None or self._is_there(name):
            return name, None
        return found[1], int(found[2])

    def _is_there(self, name: str) -> bool:
        if self._archive is not None:
            return name in self._archive.NameToInfo
        return is_inside(name) and (self._folder / self._files.folder / name).is_file()

    @contextmanager
    def _opened_dicom(self, name: str) -> Iterator[tuple[BinaryIO, DicomImage]]:
        """A DICOM file, its header read; when it is the last one again, as it was read then."""
        kept = self._dicom
        if kept is not None and kept.name == name and kept.content is not None:
            yield cast("BinaryIO", io.BytesIO(kept.content)), kept.image
            return
        with self._opened(name, DICOM_LIMIT_BYTES) as (file, size):
            if kept is None or kept.name != name:
                self._dicom = None  # one at a time
                image, content = open_dicom(file, size), None
                if self._archive is not None and len(image.frames) > 1:
                    file.seek(0)
                    content = file.read(size)
                self._dicom = kept = _Opened(name, image, content)
            yield file, kept.image

    @contextmanager
    def _opened(self, name: str, limit_bytes: int | None = None) -> Iterator[tuple[BinaryIO, int]]:
        path = str(PurePosixPath(self._files.folder) / name)
        if not is_inside(name) or not is_inside(path):
            raise BadInput("leads out of the data folder")
        if self._archive is not None:
            with self._member(name, limit_bytes) as opened:
                yield opened
            return
        try:
            found = file_inside(self._folder, path)
        except BadInput:
            raise BadInput("is not a file inside the data folder") from None
        size = _small(found.stat().st_size, limit_bytes)
        with found.open("rb") as file:
            yield file, size

    @contextmanager
    def _member(self, name: str, limit_bytes: int | None = None) -> Iterator[tuple[BinaryIO, int]]:
        if self._archive is None:
            raise BadInput("is not in an archive")
        try:
            entry = self._archive.getinfo(name)
            opened: IO[bytes] = self._archive.open(entry)
        except (KeyError, *NOT_UNPACKED):
            raise BadInput("is not a file inside the archive") from None
        with opened:
            yield cast("BinaryIO", opened), _small(entry.file_size, limit_bytes)

    def _read_array(self, member: str) -> npt.NDArray[np.generic]:
        what = f"{self._files.folder}: array {self._files.array}"
        try:
            with self._member(member) as (file, size):
                return _stack(file, size)
        except BadInput as error:
            raise BadInput(f"{what}: {error}") from None
        except (OSError, EOFError, zipfile.BadZipFile, zlib.error):
            raise BadInput(f"{what}: cannot be unpacked") from None

    def _row(self, name: str) -> npt.NDArray[np.generic]:
        if self._array is None or not (name.isascii() and name.isdigit() and len(name) < 10):
            raise BadInput("is not a row number of the array")
        if int(name) >= len(self._array):
            raise BadInput("is a row number beyond the array")
        row: npt.NDArray[np.generic] = self._array[int(name)]
        return row

    def _planes(self, row: npt.NDArray[np.generic]) -> Pixels:
        planes = row[None] if row.ndim == 2 else row.transpose(2, 0, 1)
        if len(planes) != self._shape[0]:
            raise BadInput(f"has {len(planes)} channels, {self._shape[0]} are due")
        return planes.astype(np.float32)


def in_unit(pixels: Pixels, files: ImageFiles, limits: tuple[float, float]) -> Pixels:
    """A file's pixels in the contract's unit, whose range is `limits`.

    `stored_range` becomes the contract's range, end to end; else each pixel is slope times itself
    plus intercept. Where small values are white, they are turned over about the range's middle.
    """
    low, high = limits
    scale, offset = files.slope, files.intercept
    if files.stored_range is not None:
        least, most = files.stored_range
        pixels = np.clip(pixels, least, most)
        scale = (high - low) / (most - least)
        offset = low - least * scale
    if files.photometric == "inverted":
        scale, offset = -scale, low + high - offset
    if (scale, offset) == (1.0, 0.0):
        return pixels
    # In double precision: 16 bits times a slope must not lose the last one.
    moved: Pixels = (pixels.astype(np.float64) * scale + offset).astype(np.float32)
    return moved


def outside(pixels: Pixels, limits: tuple[float, float]) -> float:
    """The share of the pixels beyond `limits`."""
    return float(np.mean((pixels < limits[0]) | (pixels > limits[1])))


def resampled(pixels: Pixels, size: tuple[int, ...]) -> Pixels:
    """[channels, rows, columns] -> [channels, *size]: each new pixel is the mean over its area.

    A constant image stays what it is, and the mean over all pixels does, too.
    """
    if pixels.shape[1:] == size:
        return pixels
    down = _overlaps(pixels.shape[1], size[0])
    across = _overlaps(pixels.shape[2], size[1])
    mixed: Pixels = (down @ pixels.astype(np.float64) @ across.T).astype(np.float32)
    return mixed


def _overlaps(before: int, after: int) -> npt.NDArray[np.float64]:
    """[after, before]: which share of a new pixel's length each old pixel makes up."""
    edges = np.arange(after + 1) * (before / after)
    old = np.arange(before)
    starts = np.maximum(edges[:-1, None], old[None, :])
    ends = np.minimum(edges[1:, None], old[None, :] + 1)
    shares: npt.NDArray[np.float64] = np.maximum(ends - starts, 0.0) * (after / before)
    return shares


def _stack(file: BinaryIO, size: int) -> npt.NDArray[np.generic]:
    stack = whole_array(file, size)
    if stack.ndim not in {3, 4}:
        raise BadInput("is no stack of images")
    return stack


def _reader(name: str) -> tuple[Check, Read] | None:
    suffix = PurePosixPath(name).suffix.lower()
    # Archives name files by their UIDs: what follows its last dot is a number and no suffix.
    kind = "" if suffix[1:].isdigit() else suffix
    if kind not in _READERS:
        raise BadInput(f"has another suffix than {', '.join(filter(None, _READERS))}")
    return _READERS[kind]


def _small(size: int, limit_bytes: int | None) -> int:
    limit = FILE_LIMIT_BYTES if limit_bytes is None else limit_bytes
    if size > limit:
        raise BadInput(f"has over {limit} bytes")
    return size
