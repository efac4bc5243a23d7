"""NDJSON files of a bulk export: one resource a line, read one after the other, within bounds."""

import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from wardround.canonical import Json, parse_json
from wardround.errors import BadInput
from wardround_client.data.fhir_source import Faults
from wardround_client.data.listing import file_names
from wardround_client.data.sources import file_inside

LINE_LIMIT_BYTES = 4 << 20
FILES_LIMIT_BYTES = 64 << 30
_SUFFIX = re.compile(r"\.(ndjson|jsonl)(\.gz)?$")


def resources(folder: Path, path: str, kind: str, faults: Faults) -> Iterator[Json]:
    """All resources of one type, in the order of the files' names and lines.

    A line that is no strict JSON (no key twice, finite numbers, Unicode, not nested too deeply), or
    another resource, is counted and passed over. Raises BadInput when there is no file of the type,
    when a file is cut off, or when lines or files are over their limits, unpacked.
    """
    names = sorted(name for name in file_names(folder, path) if holds(name, kind))
    if not names:
        raise BadInput(f"{path}: no file of {kind}, as {kind}.ndjson or {kind}.000.ndjson.gz")
    left = FILES_LIMIT_BYTES
    for name in names:
        found = file_inside(folder, f"{path}/{name}")
        try:
            with _opened(found) as file:
                while line := file.readline(LINE_LIMIT_BYTES + 1):
                    left -= len(line)
                    if left < 0:
                        raise BadInput(f"{path}: {kind}: over {FILES_LIMIT_BYTES} bytes")
                    resource = resource_of(line, kind, faults)
                    if resource is not None:
                        yield resource
        except (OSError, EOFError, zlib.error):
            raise BadInput(f"{path}: a file of {kind} is cut off or cannot be unpacked") from None


def resource_of(line: bytes, kind: str, faults: Faults) -> Json | None:
    """The resource of one line; None for an empty line, and for one that is counted as a fault."""
    if len(line) > LINE_LIMIT_BYTES:
        raise BadInput(f"{kind}: a line has over {LINE_LIMIT_BYTES} bytes")
    if not line.strip():
        return None
    try:
        resource = parse_json(line, what=kind, limit_bytes=LINE_LIMIT_BYTES)
    except BadInput:
        # Its text may quote the line.
        faults["not-json", f"lines of {kind} are no strict JSON"] += 1
        return None
    if resource.get("resourceType") != kind:
        faults["other-resource", f"lines of {kind} are another resource"] += 1
        return None
    # Both can turn the meaning of a resource round, in a way that is not known here.
    if "modifierExtension" in resource or "implicitRules" in resource:
        faults["modifier", f"resources {kind} have a modifierExtension or implicitRules"] += 1
        return None
    return resource


def holds(name: str, kind: str) -> bool:
    """Whether a file's name says that it holds resources of the type.

    >>> [holds(name, "Patient") for name in ("Patient.ndjson", "1.Patient.000.ndjson.gz")]
    [True, True]
    >>> holds("PatientList.ndjson", "Patient"), holds("Patient.json", "Patient")
    (False, False)
    """
    own = Path(name).name
    suffix = _SUFFIX.search(own)
    return suffix is not None and kind in re.split(r"[._-]", own[: suffix.start()])


def _opened(path: Path) -> BinaryIO:
    if path.suffix == ".gz":
        return cast("BinaryIO", gzip.open(path, "rb"))
    return path.open("rb")
