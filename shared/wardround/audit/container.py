"""The zip file of a bundle: written the same way every time, read as if an enemy had made it.

One manifest lists every member with its size and SHA-256; the coordinator signs the manifest.
Members are stored, not compressed: the same members then give the same bytes on every machine,
whatever its zlib, and no member can be larger than the file that came (no zip bomb).
"""

import hashlib
import io
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

from wardround.canonical import Json, canonical_bytes, parse_canonical
from wardround.errors import BadInput, why

BUNDLE_SCHEMA = "wardround.bundle/1"
MANIFEST = "manifest.json"
MANIFEST_SIGNATURE = "manifest.signature"
MANIFEST_PURPOSE = b"bundle"
# Added after the manifest was signed, by whoever has one: each is signed by its hospital.
SIGN_OFFS = "sign-offs/"
# The same, each by a time stamping authority over the head of the coordinator's log.
TIME_STAMPS = "time-stamps/"
UNLISTED = (SIGN_OFFS, TIME_STAMPS)

FILE_LIMIT_BYTES = 256 << 20
MEMBER_LIMIT_BYTES = 64 << 20
MANIFEST_LIMIT_BYTES = 1 << 20
MEMBER_LIMIT = 2100

_MOMENT = (1980, 1, 1, 0, 0, 0)
_NAME = re.compile(r"^(?:[a-z0-9][a-z0-9-]{0,62}/){0,2}[A-Za-z0-9][A-Za-z0-9.-]{0,90}$")


def pack(members: Mapping[str, bytes]) -> bytes:
    """Zip `members` deterministically: sorted names, one fixed time, stored, no extra field.

    >>> pack({"b": b"2", "a": b"1"}) == pack({"a": b"1", "b": b"2"})
    True
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(members):
            header = zipfile.ZipInfo(name, _MOMENT)
            header.create_system = 3
            header.external_attr = 0o100644 << 16
            archive.writestr(header, members[name], zipfile.ZIP_STORED)
    return buffer.getvalue()


def unpack(content: bytes) -> dict[str, bytes]:
    """Read the members of a zip file.

    Raises BadInput for anything but plain stored files with short plain names, each once, within
    the size limits of this module, in the one form that `pack` writes, and no byte beside them.
    """
    if len(content) > FILE_LIMIT_BYTES:
        raise BadInput(f"bundle: {len(content)} bytes came, at most {FILE_LIMIT_BYTES} are allowed")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            _check_directory(archive)
            members = {info.filename: archive.read(info) for info in archive.infolist()}
    # zipfile: NotImplementedError for a compression or a version that it does not know.
    except (zipfile.BadZipFile, EOFError, NotImplementedError, OSError, ValueError) as error:
        raise BadInput(f"bundle: not a readable zip file ({type(error).__name__})") from error
    # A byte between, before or after the members, a second name or a comment would be carried
    # along unread; what this module writes has exactly one form.
    if pack(members) != content:
        raise BadInput("bundle: the zip file holds bytes besides its members, or another order")
    return members


def read_file(path: Path) -> bytes:
    """The bytes of a bundle file. Raises BadInput when it is missing or over the size limit."""
    try:
        if path.stat().st_size > FILE_LIMIT_BYTES:
            raise BadInput(f"bundle {path.name}: over {FILE_LIMIT_BYTES} bytes")
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"bundle {path.name}: cannot be read ({why(error)})") from error


def manifest_of(members: Mapping[str, bytes]) -> bytes:
    """The manifest: every member with its size and SHA-256, as canonical JSON."""
    listed = [
        {"name": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        for name, content in sorted(members.items())
    ]
    return canonical_bytes({"schema": BUNDLE_SCHEMA, "members": listed})


def manifest_faults(members: Mapping[str, bytes]) -> list[tuple[str, str]]:
    """Compare the manifest with the members: (member, reason) for each difference."""
    try:
        listed = _listed(members[MANIFEST])
    except KeyError:
        return [(MANIFEST, "is missing")]
    except BadInput as error:
        return [(MANIFEST, str(error))]
    present = {name for name in members if not name.startswith(UNLISTED)}
    present -= {MANIFEST, MANIFEST_SIGNATURE}
    faults = [(name, "is listed in the manifest and missing") for name in sorted(listed - present)]
    faults += [(name, "is not listed in the manifest") for name in sorted(present - listed)]
    return faults + _content_faults(members)


def _content_faults(members: Mapping[str, bytes]) -> list[tuple[str, str]]:
    faults = []
    for entry in parse_canonical(
        members[MANIFEST], what="manifest", limit_bytes=MANIFEST_LIMIT_BYTES
    )["members"]:
        content = members.get(entry["name"])
        if content is None:
            continue
        if len(content) != entry["bytes"]:
            faults.append((entry["name"], "differs from the size in the manifest"))
        elif hashlib.sha256(content).hexdigest() != entry["sha256"]:
            faults.append((entry["name"], "differs from the SHA-256 in the manifest"))
    return faults


def _listed(content: bytes) -> set[str]:
    value = parse_canonical(content, what="manifest", limit_bytes=MANIFEST_LIMIT_BYTES)
    entries = value.get("members")
    if set(value) != {"schema", "members"} or value["schema"] != BUNDLE_SCHEMA:
        raise BadInput(f"manifest: schema {BUNDLE_SCHEMA} and members are due, and nothing else")
    if not isinstance(entries, list) or not all(_is_manifest_entry(entry) for entry in entries):
        raise BadInput("manifest: each member needs name, bytes and sha256, and nothing else")
    names = [entry["name"] for entry in entries]
    if names != sorted(set(names)):
        raise BadInput("manifest: a member is listed twice, or out of order")
    return set(names)


def _is_manifest_entry(entry: Json | object) -> bool:
    if not isinstance(entry, dict) or set(entry) != {"name", "bytes", "sha256"}:
        return False
    return isinstance(entry["name"], str) and type(entry["bytes"]) is int


def _check_directory(archive: zipfile.ZipFile) -> None:
    infos = archive.infolist()
    if len(infos) > MEMBER_LIMIT:
        raise BadInput(f"bundle: {len(infos)} members, at most {MEMBER_LIMIT} are allowed")
    names = [info.filename for info in infos]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BadInput(f"bundle: member {twice[0]!r} is there twice")
    for info in infos:
        _check_member(info)


def _check_member(info: zipfile.ZipInfo) -> None:
    if not _NAME.fullmatch(info.filename) or ".." in info.filename:
        raise BadInput(f"bundle: member name {info.filename[:80]!r} is not a plain one")
    if info.flag_bits & 0x1 or info.compress_type != zipfile.ZIP_STORED:
        raise BadInput(f"bundle: member {info.filename}: stored is due, not packed or encrypted")
    if info.file_size != info.compress_size or info.file_size > MEMBER_LIMIT_BYTES:
        raise BadInput(
            f"bundle: member {info.filename}: {info.file_size} bytes declared for "
            f"{info.compress_size} stored ones, at most {MEMBER_LIMIT_BYTES} are allowed"
        )
