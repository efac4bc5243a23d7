"""A folder of DICOM files becomes another without patients: whole, or not at all."""

import hashlib
import io
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.table import Table

from wardround.canonical import Json, canonical_bytes, parse_canonical
from wardround.durable import sync_folder
from wardround.errors import BadInput, VerificationFailed
from wardround_client.data.deidentify import (
    SourceImage,
    deidentified,
    is_declared_clean,
    pictures,
)
from wardround_client.data.deidentify_frames import slices_of_a_face
from wardround_client.data.deidentify_keys import Pseudonyms
from wardround_client.data.deidentify_sheet import (
    Sheet,
    each_image,
    picture_digest,
    write_private,
)
from wardround_client.data.deidentify_table import EDITION

SCHEMA = "wardround.deidentification/1"
PROFILE = f"DICOM PS3.15 {EDITION}, Basic Application Level Confidentiality Profile"
_REPORT_LIMIT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Attestation:
    """Who looked at the pictures of a contact sheet, and on which of them something is written.

    `left_out` are those pictures' numbers. Raises BadInput when not all were looked at, or a number
    is not on the sheet.
    """

    by: str
    at: str
    looked_at: int
    sheet: Sheet
    left_out: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        """Check that the whole sheet was looked at."""
        there = len(self.sheet.numbers)
        if not 0 < len(self.by.strip()) <= 200 or not self.by.isprintable():
            raise BadInput("attestation: the name of who looked is due, at most 200 signs")
        if self.looked_at != there:
            raise BadInput(f"attestation: {self.looked_at} pictures were looked at, of {there}")
        if self.left_out and not 1 <= min(self.left_out) <= max(self.left_out) <= there:
            raise BadInput(f"attestation: pictures to leave out are numbered 1 to {there}")

    def check(self, picture: str) -> None:
        """Raise BadInput when a picture is not on the sheet, or a person saw text in it."""
        number = self.sheet.numbers.get(picture)
        if number is None:
            raise BadInput("is not on the contact sheet")
        if number in self.left_out:
            raise BadInput("has something written into its pixels, as a person saw")

    def to_json(self) -> Json:
        """For the report."""
        return {
            "by": self.by,
            "at": self.at,
            "pictures_looked_at": self.looked_at,
            "pictures_with_text": len(self.left_out),
        }


@dataclass(slots=True, kw_only=True)
class Report:
    """What was done, in counts; it names no patient and no file."""

    shift_dates: bool
    key_fingerprint: str
    attestation: Attestation | None
    written: int = 0
    attested: int = 0
    faces: int = 0
    patients: set[str] = field(default_factory=set, repr=False)
    left_out: Counter[str] = field(default_factory=Counter)
    digests: list[str] = field(default_factory=list, repr=False)

    def to_json(self) -> Json:
        """The report as a JSON value."""
        listed = "\n".join(sorted(self.digests)).encode()
        return {
            "schema": SCHEMA,
            "profile": PROFILE,
            "method_codes": ["113100", "113107"] if self.shift_dates else ["113100"],
            "key_fingerprint": self.key_fingerprint,
            "files_written": self.written,
            "patients": len(self.patients),
            "declared_clean": self.written - self.attested,
            "attested_clean": self.attested,
            "may_show_a_face": self.faces,
            "left_out": dict(self.left_out),
            "files_sha256": hashlib.sha256(listed).hexdigest(),
            "attestation": None if self.attestation is None else self.attestation.to_json(),
        }

    def __rich__(self) -> Table:
        """Print as a table of counts."""
        table = Table(box=None, pad_edge=False, show_header=False)
        rows = {
            "files written": self.written,
            "patients": len(self.patients),
            "say that no text is in the pixels": self.written - self.attested,
            "looked at by a person": self.attested,
            "slices of which a face could be made": self.faces,
        }
        for what, count in rows.items():
            table.add_row(what, str(count))
        for why, count in sorted(self.left_out.items()):
            table.add_row(f"left out: a file {why}", str(count))
        return table


def deidentify_folder(
    source: Path,
    out: Path,
    *,
    pseudonyms: Pseudonyms,
    shift_dates: bool = False,
    attestation: Attestation | None = None,
) -> Report:
    """Write every image of `source` without its patient into `out`, and beside it OUT.json.

    What is no such image is left out and counted. Raises BadInput, and leaves nothing behind, when
    `out` is there, when no image is left, or when images do not say whether something is written
    into their pixels and nobody attests that nothing is.
    """
    report = Report(
        shift_dates=shift_dates,
        key_fingerprint=pseudonyms.fingerprint(),
        attestation=attestation,
    )
    if out.resolve().is_relative_to(source.resolve()):
        raise BadInput(f"{out.name}: lies in the folder that is read")
    with _whole_or_nothing(out) as new:
        silent = 0
        for parsed, pixels in each_image(source, report.left_out):
            if attestation is None and not is_declared_clean(parsed):
                silent += 1
                continue
            try:
                _take(new, parsed, pixels, pseudonyms, report)
            except BadInput as error:
                report.left_out[str(error)] += 1
        if silent:
            raise BadInput(
                f"{silent} images do not say whether something is written into their pixels: make "
                "a contact sheet, look at it, and attest what you saw"
            )
        if not report.written:
            why = "; ".join(f"{n} files: a file {why}" for why, n in report.left_out.items())
            raise BadInput(f"{source.name}: no image is left: {why or 'the folder has no files'}")
        write_private(_report_file(new), seal(report.to_json(), pseudonyms))
    return report


def seal(report: Json, pseudonyms: Pseudonyms) -> bytes:
    """The report with a code over it by the hospital's key."""
    return canonical_bytes({**report, "seal": pseudonyms.seal(canonical_bytes(report))})


def read_report(content: bytes, pseudonyms: Pseudonyms) -> Json:
    """A report, checked by the hospital's key. Raises VerificationFailed when it was changed."""
    value = parse_canonical(content, what="report", limit_bytes=_REPORT_LIMIT_BYTES)
    came = value.pop("seal", None)
    if came != pseudonyms.seal(canonical_bytes(value)):
        raise VerificationFailed("report: its seal is not by this hospital's key")
    return value


def _take(
    new: Path, parsed: SourceImage, pixels: bytes, pseudonyms: Pseudonyms, report: Report
) -> None:
    """Write one image without its patient. Raises BadInput when it may not come in."""
    declared = is_declared_clean(parsed)
    if not declared and report.attestation is not None:
        for picture in pictures(parsed):
            report.attestation.check(picture_digest(picture))
    made = deidentified(parsed, pixels, pseudonyms, shift_dates=report.shift_dates)
    buffer = io.BytesIO()
    made.save_as(buffer, enforce_file_format=True)
    content = buffer.getvalue()
    folder = new / str(made.PatientID) / _short(made.SeriesInstanceUID)
    for part in (folder.parent, folder):
        part.mkdir(mode=0o700, exist_ok=True)
    write_private(folder / f"{_short(made.SOPInstanceUID)}.dcm", content)
    report.written += 1
    report.attested += not declared
    report.faces += slices_of_a_face(parsed.elements, parsed.image.frames)
    report.patients.add(str(made.PatientID))
    report.digests.append(hashlib.sha256(content).hexdigest())


def _short(uid: str) -> str:
    """A new UID as a name of a file: its number in base 16."""
    return f"{int(str(uid).removeprefix('2.25.')):032x}"


def _report_file(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.json")


@contextmanager
def _whole_or_nothing(out: Path) -> Iterator[Path]:
    """A folder to be filled that becomes `out` at the end, its report with it, or is removed."""
    new = out.with_name(f"{out.name}.new")
    if out.exists() or _report_file(out).exists():
        raise BadInput(f"{out.name}: is there already")
    try:
        new.mkdir(mode=0o700)
    except OSError as error:
        raise BadInput(f"{new.name}: cannot be made ({type(error).__name__})") from None
    try:
        yield new
        sync_folder(new)
        _report_file(new).rename(_report_file(out))
        new.rename(out)
        sync_folder(out.parent)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        if not out.exists():
            for left in (_report_file(new), _report_file(out)):
                left.unlink(missing_ok=True)
        raise
