"""Contact sheets: pictures to be looked at, since only eyes find a name burned into the pixels."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from wardround.canonical import canonical_bytes, parse_canonical
from wardround.errors import BadInput, why
from wardround_client.data.deidentify import (
    SourceImage,
    is_declared_clean,
    parsed_image,
    pictures,
    pixel_bytes,
)
from wardround_client.data.dicom import DICOM_LIMIT_BYTES
from wardround_client.data.listing import MOST_FILES

SHEET_FILE = "sheet.json"
_SCHEMA = "wardround.contact-sheet/1"
_TILE, _ACROSS, _DOWN, _LINE = 512, 3, 2, 16
_PAGE = _ACROSS * _DOWN
_SHEET_LIMIT_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Sheet:
    """The pictures on a contact sheet: a number from 1 on for each one's SHA-256."""

    numbers: Mapping[str, int]


def each_image(source: Path, faults: Counter[str]) -> Iterator[tuple[SourceImage, bytes]]:
    """The images of a folder and their pixels, one at a time; what is none is counted by reason.

    Links are not followed. Raises BadInput when there is no such folder, or it has too many files.
    """
    if not source.is_dir():
        raise BadInput(f"{source.name}: no such folder")
    seen: set[str] = set()
    for path in _files(source):
        try:
            parsed, pixels = _opened(path)
        except BadInput as error:
            faults[str(error)] += 1
            continue
        uid = str(parsed.elements.SOPInstanceUID)
        if uid in seen:
            faults["has the SOPInstanceUID of another file"] += 1
            continue
        seen.add(uid)
        yield parsed, pixels


def picture_digest(pixels: bytes) -> str:
    """What tells one picture from another."""
    return hashlib.sha256(pixels).hexdigest()


def write_contact_sheet(source: Path, out: Path) -> tuple[Sheet, Counter[str]]:
    """Draw every image that does not say that nothing is written into it; and what was no image.

    Writes pages of 6 numbered pictures into `out`, which must not be there yet and which only its
    owner can read. Each is drawn whole, from its darkest to its brightest value; of the pixels that
    become one, the one furthest from the picture's median is drawn, so that thin letters stay.
    """
    try:
        out.mkdir(mode=0o700)
    except OSError as error:
        raise BadInput(f"{out.name}: cannot be made ({why(error)})") from None
    faults, numbers = Counter[str](), dict[str, int]()
    tiles: list[npt.NDArray[np.uint8]] = []
    for parsed, _ in each_image(source, faults):
        for picture in () if is_declared_clean(parsed) else pictures(parsed):
            digest = picture_digest(picture)
            if digest in numbers:
                continue
            numbers[digest] = len(numbers) + 1
            tiles.append(_tile(parsed, picture))
            if len(tiles) == _PAGE:
                _write_page(out, tiles, len(numbers))
                tiles = []
    if tiles:
        _write_page(out, tiles, len(numbers))
    write_private(out / SHEET_FILE, canonical_bytes({"schema": _SCHEMA, "pictures": list(numbers)}))
    return Sheet(numbers), faults


def read_sheet(folder: Path) -> Sheet:
    """What `write_contact_sheet` left in a folder. Raises BadInput for anything else."""
    try:
        content = (folder / SHEET_FILE).read_bytes()
    except OSError as error:
        raise BadInput(f"{folder.name}: no contact sheet ({why(error)})") from None
    value = parse_canonical(content, what=SHEET_FILE, limit_bytes=_SHEET_LIMIT_BYTES)
    pictures = value.get("pictures")
    if value.get("schema") != _SCHEMA or not isinstance(pictures, list):
        raise BadInput(f"{SHEET_FILE}: not a contact sheet of this version")
    return Sheet({str(digest): number for number, digest in enumerate(pictures, start=1)})


def write_private(path: Path, content: bytes) -> None:
    """A new file that only its owner can read."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)


def _files(source: Path) -> Iterator[Path]:
    count = 0
    for folder, folders, names in os.walk(source):
        folders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            if path.is_symlink() or not path.is_file():
                continue
            count += 1
            if count > MOST_FILES:
                raise BadInput(f"{source.name}: over {MOST_FILES} files")
            yield path


def _opened(path: Path) -> tuple[SourceImage, bytes]:
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > DICOM_LIMIT_BYTES:
                raise BadInput(f"has over {DICOM_LIMIT_BYTES} bytes")
            parsed = parsed_image(file, size)
    except OSError:
        raise BadInput("cannot be opened") from None
    return parsed, pixel_bytes(parsed)


def _tile(parsed: SourceImage, pixels: bytes) -> npt.NDArray[np.uint8]:
    layout = parsed.image.layout
    kind = ("i" if layout.signed else "u") + str(layout.bits_allocated // 8)
    rows, columns = layout.rows, layout.columns
    values = np.frombuffer(pixels, f"<{kind}", rows * columns).reshape(rows, columns)
    small = _shrunk(values.astype(np.float32))
    low, high = float(small.min()), float(small.max())
    grey = (small - low) / max(high - low, 1.0) * 255
    tile = np.full((_TILE, _TILE), 128, dtype=np.uint8)
    tile[: grey.shape[0], : grey.shape[1]] = grey
    return tile


def _shrunk(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """[at most 512, at most 512]: of each block the value that stands out most."""
    step = -(-max(values.shape) // _TILE)
    room = [(0, -length % step) for length in values.shape]
    padded = np.pad(values, room, mode="edge")
    rows, columns = (length // step for length in padded.shape)
    blocks = padded.reshape(rows, step, columns, step).swapaxes(1, 2).reshape(rows, columns, -1)
    strangest = np.abs(blocks - np.median(values)).argmax(axis=2)
    return np.take_along_axis(blocks, strangest[..., None], axis=2)[..., 0]


def _write_page(out: Path, tiles: list[npt.NDArray[np.uint8]], last: int) -> None:
    from PIL import Image, ImageDraw  # noqa: PLC0415  # not for `wardround --help`

    first = last - len(tiles) + 1
    page = Image.new("L", (_ACROSS * _TILE, _DOWN * (_TILE + _LINE)), 128)
    draw = ImageDraw.Draw(page)
    for place, tile in enumerate(tiles):
        left, top = place % _ACROSS * _TILE, place // _ACROSS * (_TILE + _LINE)
        draw.text((left + 4, top + 2), str(first + place), fill=255)
        page.paste(Image.fromarray(tile), (left, top + _LINE))
    with os.fdopen(
        os.open(out / f"page-{first:06}.png", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb"
    ) as file:
        page.save(file, "PNG")
