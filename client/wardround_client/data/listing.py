"""Tables that are no text file: the files of a folder or archive, and the arrays of a .npz."""

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from wardround.errors import BadInput
from wardround_client.data.pixels import whole_array
from wardround_client.data.sources import NOT_UNPACKED, file_inside

MOST_FILES = 2_000_000
ARRAY_LIMIT_BYTES = 1 << 28
FILE = "file"
ROW = "row"
_WHOLE_NUMBERS = tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
_PART = re.compile(r"\{([A-Za-z][A-Za-z0-9_]{0,62})\}")


def parts_of(pattern: str) -> tuple[str, ...]:
    """The columns that a pattern names.

    >>> parts_of("{split}/{class}/{number}.jpg")
    ('split', 'class', 'number')
    """
    return tuple(_PART.findall(pattern))


def files_table(folder: Path, path: str, pattern: str) -> pd.DataFrame:
    """One row for each file whose name fits, sorted: the name's parts, and itself as `file`.

    `path` is a folder or a .zip; the names are relative to it. A part of a name has no slash.
    Raises BadInput when there is no such folder, or no file fits; others are left out.
    """
    fits = re.compile(
        "".join(
            f"(?P<{part}>[^/]+)" if place % 2 else re.escape(part)
            for place, part in enumerate(_PART.split(pattern))
        )
    )
    rows = []
    for name in sorted(file_names(folder, path)):
        found = fits.fullmatch(name)
        if found is not None:
            rows.append({**found.groupdict(), FILE: name})
    if not rows:
        raise BadInput(f"{path}: no file fits the pattern {pattern}")
    return pd.DataFrame(rows, dtype=str)


def arrays_table(folder: Path, path: str, arrays: tuple[str, ...]) -> pd.DataFrame:
    """One row for each place of the arrays of a .npz, and its number as `row`.

    Arrays are of whole numbers, [rows] or [rows, 1], all of one length.
    """
    found = file_inside(folder, path)
    try:
        with zipfile.ZipFile(found) as archive:
            columns = {name: _array(archive, name, path) for name in arrays}
    except (OSError, zipfile.BadZipFile):
        raise BadInput(f"{path}: not a .npz file") from None
    if len({len(column) for column in columns.values()}) > 1:
        raise BadInput(f"{path}: the arrays {', '.join(arrays)} differ in length")
    table = pd.DataFrame({name: column.astype(str) for name, column in columns.items()}, dtype=str)
    table[ROW] = [str(row) for row in range(len(table))]
    return table


def file_names(folder: Path, path: str) -> Iterator[str]:
    """The names of all files of a folder or .zip, relative to it; BadInput when there is none."""
    if path.endswith(".zip"):
        try:
            with zipfile.ZipFile(file_inside(folder, path)) as archive:
                names = archive.namelist()
        except (OSError, zipfile.BadZipFile):
            raise BadInput(f"{path}: not a zip archive") from None
    else:
        root, own = folder.resolve(), (folder / path).resolve()
        if not own.is_relative_to(root) or not own.is_dir():
            raise BadInput(f"{path}: no such folder in the data folder")
        found = (entry for entry in own.rglob("*") if entry.is_file())
        names = [entry.relative_to(own).as_posix() for entry in found]
    if len(names) > MOST_FILES:
        raise BadInput(f"{path}: {len(names)} files, over {MOST_FILES}")
    yield from names


def _array(archive: zipfile.ZipFile, name: str, path: str) -> npt.NDArray[np.generic]:
    what = f"{path}: array {name}"
    try:
        entry = archive.getinfo(f"{name}.npy")
    except KeyError:
        raise BadInput(f"{what}: not in the archive") from None
    if entry.file_size > ARRAY_LIMIT_BYTES:
        raise BadInput(f"{what}: over {ARRAY_LIMIT_BYTES} bytes")
    try:
        with archive.open(entry) as file:
            values = whole_array(cast("BinaryIO", file), entry.file_size, _WHOLE_NUMBERS)
    except BadInput as error:
        raise BadInput(f"{what}: {error}") from None
    except NOT_UNPACKED:
        raise BadInput(f"{what}: cannot be unpacked") from None
    if not 1 <= values.ndim <= 2 or values.size != len(values):
        raise BadInput(f"{what}: whole numbers of the shape [rows] are due")
    flat: npt.NDArray[np.generic] = values.reshape(-1)
    return flat
