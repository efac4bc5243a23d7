"""A folder of DICOM files as a table: which slices of whom, from the headers alone.

No DICOMDIR is needed, and no name of a file or folder means anything: patients, series and places
come from the headers, pixels are read later and only of the slices that are chosen. A frame of an
enhanced object is a slice as a file is. (DICOM PS3.3 C.7.3.1, C.7.6.2, C.7.6.16)
"""

import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from wardround.errors import BadInput
from wardround_client.data.deidentify import MODALITIES
from wardround_client.data.dicom import DICOM_LIMIT_BYTES
from wardround_client.data.dicom_folder_source import DicomFolder, Fault
from wardround_client.data.dicom_frames import FRAME_ELEMENTS, Said, frames_of
from wardround_client.data.dicom_header import DICOM_FAULTS, parse_dicom
from wardround_client.data.listing import FILE, file_names
from wardround_client.data.sources import NOT_UNPACKED, file_inside
from wardround_client.data.table_source import Asked, Bound, text_table

if TYPE_CHECKING:
    from pydicom import Dataset

_SAID: dict[Fault, str] = {
    "unreadable": "files are no DICOM files that can be read",
    "duplicate": "files have the SOPInstanceUID of another file",
    "no-patient": "files have no PatientID, or no SeriesInstanceUID",
    "frames": "files of several frames do not say of each where it lies and how it is scaled",
    "mixed": "series have slices of different orientations or pixel spacings",
    "unplaced": "series have slices without a place of their own",
    "several-series": "patients have several series that fit",
}
_WANTED = (
    *FRAME_ELEMENTS,
    "SOPInstanceUID",
    "PatientID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SeriesDescription",
    "Manufacturer",
    "ImageType",
    "InstanceNumber",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
)
_UNREADABLE = (BadInput, *DICOM_FAULTS)
_PARALLEL = 1e-3
_APART_MM = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class _Slice:
    """What one header says; it names a patient, so it is never printed."""

    file: str
    frame: int
    patient: str
    study: str
    series: str
    description: str
    manufacturer: str
    instance: int
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, ...]

    def __repr__(self) -> str:
        return "_Slice()"


def read_dicom_folder(source: DicomFolder, asked: Asked) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """One row a slice: patient, file, study, series, description, manufacturer, instance, position.

    Sorted by patient, series and place; `position` is in mm along the series' axis, "" where no
    place is given. `file` is relative to the data folder, or a member's name in a .zip. And in
    sentences what was left out as declared. Raises BadInput with every other fault, counted by
    name, and when no slice is left.
    """
    faults: Counter[Fault] = Counter()
    slices, total = _indexed(source, asked, faults)
    by_series: dict[tuple[str, str], list[_Slice]] = defaultdict(list)
    for one in slices:
        by_series[one.patient, one.series].append(one)
    chosen = _one_series_each(by_series, source, faults)
    rows: list[tuple[_Slice, str]] = []
    for key in sorted(chosen):
        rows += _of_series(by_series[key], source, faults)
    said = {fault: f"{count} {_SAID[fault]} ({fault})" for fault, count in faults.items()}
    if found := [text for fault, text in said.items() if fault not in source.leave_out]:
        raise BadInput(f"{asked.path}: of {total} files " + "; ".join(found))
    if not rows:
        raise BadInput(f"{asked.path}: no slice of {total} files is what `[dicom]` wants")
    return _table(rows, asked), tuple(f"left out, as declared: {text}" for text in said.values())


def _table(rows: list[tuple[_Slice, str]], asked: Asked) -> pd.DataFrame:
    bound = Bound(asked.path)
    columns: dict[str, list[str]] = {
        "patient": [one.patient for one, _ in rows],
        FILE: [one.file for one, _ in rows],
        "study": [one.study for one, _ in rows],
        "series": [one.series for one, _ in rows],
        "description": [one.description for one, _ in rows],
        "manufacturer": [one.manufacturer for one, _ in rows],
        "instance": [str(one.instance) for one, _ in rows],
        "position": [place for _, place in rows],
    }
    for own in columns.values():
        bound.cells(len(own), sum(map(len, own)))
    return text_table(columns)


def _indexed(source: DicomFolder, asked: Asked, faults: Counter[Fault]) -> tuple[list[_Slice], int]:
    """The slices that fit, each of its own UID, and how many files there were."""
    found: list[_Slice] = []
    seen: set[str] = set()
    names: set[str] = set()
    for name, opened in _files(asked):
        names.add(name)
        try:
            header = _header(opened)
            uid = _text(header, "SOPInstanceUID")
            fits = _fits(header, source)
        except _UNREADABLE:
            faults["unreadable"] += 1
            continue
        if not fits:
            continue
        if not _text(header, "PatientID") or not _text(header, "SeriesInstanceUID"):
            faults["no-patient"] += 1
        elif uid in seen:
            faults["duplicate"] += 1
        else:
            seen.add(uid)
            try:
                found += list(_slices(header, name))
            except _UNREADABLE:
                faults["frames"] += 1
    if any(one.frame and one.file in names for one in found):
        raise BadInput(f"{asked.path}: a file is called what a frame of another one is called")
    return found, len(names)


def _files(asked: Asked) -> Iterator[tuple[str, Callable[[], BinaryIO]]]:
    """Each file's name as the column has it, and how to open it."""
    names = sorted(file_names(asked.folder, asked.path))
    if not asked.path.endswith(".zip"):
        for name in names:
            path = f"{asked.path}/{name}"
            yield path, partial(_plain, asked.folder, path)
        return
    with zipfile.ZipFile(file_inside(asked.folder, asked.path)) as archive:
        for name in names:
            if not name.endswith("/"):
                yield name, partial(_member, archive, name)


def _plain(folder: Path, path: str) -> BinaryIO:
    found = file_inside(folder, path)
    if found.stat().st_size > DICOM_LIMIT_BYTES:
        raise BadInput(f"has over {DICOM_LIMIT_BYTES} bytes")
    return found.open("rb")


def _member(archive: zipfile.ZipFile, name: str) -> BinaryIO:
    entry = archive.getinfo(name)
    if entry.file_size > DICOM_LIMIT_BYTES:
        raise BadInput(f"has over {DICOM_LIMIT_BYTES} bytes")
    return cast("BinaryIO", archive.open(entry))


def _header(opened: Callable[[], BinaryIO]) -> "Dataset":
    try:
        with opened() as file:
            return parse_dicom(file, _WANTED)
    except NOT_UNPACKED:
        raise BadInput("cannot be opened") from None


def _fits(header: "Dataset", source: DicomFolder) -> bool:
    modality = MODALITIES.get(str(header.get("SOPClassUID", "")))
    named = _text(header, "SeriesDescription")
    wanted = not source.series_description or named in source.series_description
    kinds = header.get("ImageType", None) or ()
    return modality == source.modality and wanted and "LOCALIZER" not in list(kinds)


def _slices(header: "Dataset", name: str) -> Iterator[_Slice]:
    """A slice for each frame of a file. Raises BadInput when the frames do not say what they are.

    Of several, `instance` is the number of the frame in its file. Localizers are passed over.
    """
    frames = frames_of(header)
    several = len(frames) > 1
    for number, said in enumerate(frames, start=1):
        if "LOCALIZER" in list(said.get("FrameType", None) or ()):
            continue
        yield _Slice(
            file=f"{name}#{number}" if several else name,
            frame=number if several else 0,
            patient=_text(header, "PatientID"),
            study=_text(header, "StudyInstanceUID"),
            series=_text(header, "SeriesInstanceUID"),
            description=_text(header, "SeriesDescription"),
            manufacturer=_text(header, "Manufacturer"),
            instance=number if several else int(header.get("InstanceNumber", None) or 0),
            position=_numbers(said, "ImagePositionPatient", 3),
            orientation=_numbers(said, "ImageOrientationPatient", 6),
            spacing=_numbers(said, "PixelSpacing", 2),
        )


def _one_series_each(
    by_series: dict[tuple[str, str], list[_Slice]], source: DicomFolder, faults: Counter[Fault]
) -> list[tuple[str, str]]:
    """The series that are used, by the rule of `series`."""
    of_patient: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for patient, series in by_series:
        of_patient[patient].append((patient, series))
    chosen: list[tuple[str, str]] = []
    for own in of_patient.values():
        if len(own) == 1 or source.series == "all":
            chosen += own
        elif source.series == "longest":
            chosen.append(min(own, key=lambda key: (-len(by_series[key]), key)))
        else:
            faults["several-series"] += 1
    return chosen


def _of_series(
    slices: list[_Slice], source: DicomFolder, faults: Counter[Fault]
) -> list[tuple[_Slice, str]]:
    """The chosen slices of one series in the order of their places, and each one's place."""
    places = _places(slices)
    if places is None:
        faults["mixed"] += 1
        return []
    needed = source.slices is not None or source.between_mm is not None
    if np.isnan(places).any() or (len(places) > 1 and np.diff(np.sort(places)).min() < _APART_MM):
        if needed and len(slices) > 1:
            faults["unplaced"] += 1
            return []
        ordered = sorted(slices, key=lambda one: (one.instance, one.file))
        return [(one, "") for one in ordered]
    order = np.argsort(places, kind="stable")
    rows = [(slices[at], f"{places[at]:.10g}") for at in order]
    placed = places[order]
    if source.between_mm is not None:
        low, high = source.between_mm
        rows = [row for row, place in zip(rows, placed, strict=True) if low <= place <= high]
        placed = placed[(placed >= low) & (placed <= high)]
    return rows if source.slices is None else [rows[at] for at in _evenly(placed, source.slices)]


def _evenly(places: npt.NDArray[np.float64], count: int) -> list[int]:
    """Which of sorted places lie nearest to the middles of so many equal parts of their length."""
    if len(places) == 0:
        return []
    length = places[-1] - places[0]
    middles = places[0] + length * (np.arange(count) + 0.5) / count
    return sorted({int(np.abs(places - middle).argmin()) for middle in middles})


def _places(slices: list[_Slice]) -> npt.NDArray[np.float64] | None:
    """[slices] in mm along the axis of the series, NaN without; None when they do not match."""
    if not all(one.orientation and one.position for one in slices):
        return np.full(len(slices), np.nan)
    ways = np.array([one.orientation for one in slices])
    if np.abs(ways - ways[0]).max() > _PARALLEL or _spacings_differ(slices):
        return None
    axis = np.cross(ways[0, :3], ways[0, 3:])
    places: npt.NDArray[np.float64] = np.array([one.position for one in slices]) @ axis
    return places


def _spacings_differ(slices: list[_Slice]) -> bool:
    """Whether the pixels of placed slices are of different sizes, or only some say theirs."""
    if len({bool(one.spacing) for one in slices}) > 1:
        return True
    spacings = np.array([one.spacing for one in slices])
    return bool(spacings.size and np.abs(spacings - spacings[0]).max() > _PARALLEL)


def _numbers(said: Said, keyword: str, count: int) -> tuple[float, ...]:
    values = said.get(keyword, None)
    found = tuple(float(value) for value in values) if values else ()
    return found if len(found) == count and np.isfinite(found).all() else ()


def _text(header: "Dataset", keyword: str) -> str:
    return str(header.get(keyword, None) or "").strip()
