"""bundle.zip: study, keys, logs, countersignatures and report of one run (see BUNDLE.md)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

from wardround.audit.container import (
    MANIFEST,
    MANIFEST_PURPOSE,
    MANIFEST_SIGNATURE,
    manifest_faults,
    manifest_of,
    pack,
    read_file,
    unpack,
)
from wardround.audit.countersign import Countersignature
from wardround.audit.derive import derive_report
from wardround.audit.evidence import Evidence, coordinator_log, hospital_log
from wardround.audit.sign_off import member_of, sign_offs_of
from wardround.audit.statement import STATEMENT, report_statement
from wardround.audit.timestamp import MOST_STAMPS, time_stamps_of
from wardround.audit.uploads import upload_member, uploads_of
from wardround.canonical import Json, canonical_bytes, parse_canonical
from wardround.durable import write_durably
from wardround.errors import BadInput, VerificationFailed
from wardround.evidence.dsse import seal
from wardround.evidence.export import read_export
from wardround.evidence.note import MAX_NOTE_BYTES
from wardround.identity import LASTING_SIGNATURE_BYTES, PUBLIC_KEY_BYTES, Identity
from wardround.study.files import read_signed_study

STUDY, KEYS, REPORT = "study.json", "keys.json", "report.json"
COUNTERSIGNATURES, GUIDE = "countersignatures.json", "VERIFY.md"
COORDINATOR_LOG = "logs/coordinator"
HOSPITAL_LOGS = "logs/hospitals/"
ENTRIES, CHECKPOINT = ".jsonl", ".checkpoint"

_SINGLE = frozenset({STUDY, KEYS, REPORT, STATEMENT, COUNTERSIGNATURES, GUIDE})
_JSON_LIMIT_BYTES = 32 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LogExport:
    """One party's log as it travels: JSON lines, and the signed note over all of them."""

    entries: bytes = field(repr=False)
    checkpoint: str

    @classmethod
    def read(cls, entries: bytes | str, checkpoint: str) -> "LogExport":
        """From what a message holds."""
        return cls(
            entries=entries.encode() if isinstance(entries, str) else entries,
            checkpoint=checkpoint,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvidence:
    """What the parties hand over at the end of a run. A hospital that was lost has no log here."""

    signed_study: bytes = field(repr=False)
    coordinator_key: bytes
    hospital_keys: Mapping[str, bytes]
    coordinator: LogExport
    hospitals: Mapping[str, LogExport]
    countersignatures: Mapping[str, Countersignature]
    uploads: Mapping[str, bytes] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A bundle's contents as they came: well formed, nothing verified yet."""

    parts: RunEvidence
    report: bytes = field(repr=False)
    statement: bytes = field(repr=False)
    manifest: bytes = field(repr=False)
    manifest_signature: bytes
    sign_offs: Mapping[str, bytes] = field(repr=False)
    time_stamps: Mapping[str, bytes] = field(repr=False)


def write_bundle(path: Path, parts: RunEvidence, *, identity: Identity) -> Json:
    """Derive the report, sign it as the coordinator, and write the bundle; return the report.

    The same parts and key give the same bytes but for the ML-DSA-65 signatures. Raises BadInput or
    LogFault, and writes nothing, when the parts contradict themselves.
    """
    report = derive_report(evidence_of(parts))
    write_durably(path, bundle_bytes(parts, canonical_bytes(report), identity=identity))
    return report


def bundle_bytes(parts: RunEvidence, report: bytes, *, identity: Identity) -> bytes:
    """The bytes of a bundle with this report, signed by `identity`."""
    members = {
        STUDY: parts.signed_study,
        KEYS: _keys_bytes(parts),
        COUNTERSIGNATURES: _countersignature_bytes(parts),
        REPORT: report,
        STATEMENT: seal(report_statement(report), identity),
        GUIDE: files("wardround.audit").joinpath("templates/VERIFY.md").read_bytes(),
        **_log_members(COORDINATOR_LOG, parts.coordinator),
    }
    for name, log in parts.hospitals.items():
        members |= _log_members(HOSPITAL_LOGS + name, log)
    members |= {upload_member(name): content for name, content in parts.uploads.items()}
    return sealed(members, identity=identity)


def sealed(members: Mapping[str, bytes], *, identity: Identity) -> bytes:
    """Zip `members` with their manifest and its signature."""
    manifest = manifest_of(members)
    signature = _hex_line(identity.sign_lasting(MANIFEST_PURPOSE, manifest))
    return pack({**members, MANIFEST: manifest, MANIFEST_SIGNATURE: signature})


def read_bundle(path: Path) -> Bundle:
    """Read a bundle strictly; signatures and logs are `verify_bundle`'s work.

    Raises BadInput for a malformed bundle, VerificationFailed when a member is not what the
    manifest says.
    """
    members = unpack(read_file(path))
    faults = manifest_faults(members)
    if faults:
        name, reason = faults[0]
        raise VerificationFailed(f"bundle: member {name} {reason}")
    return bundle_of(members)


def bundle_of(members: Mapping[str, bytes]) -> Bundle:
    """Type the members of a bundle. Raises BadInput for a wrong list or a malformed member."""
    _check_list(members)
    keys = _json(members, KEYS)
    hospitals = {
        name.removeprefix(HOSPITAL_LOGS).removesuffix(ENTRIES)
        for name in members
        if name.startswith(HOSPITAL_LOGS) and name.endswith(ENTRIES)
    }
    parts = RunEvidence(
        signed_study=members[STUDY],
        coordinator_key=_key(keys.get("coordinator"), "coordinator"),
        hospital_keys=_hospital_keys(keys),
        coordinator=_export(members, COORDINATOR_LOG),
        hospitals={name: _export(members, HOSPITAL_LOGS + name) for name in sorted(hospitals)},
        countersignatures=_countersignatures(_json(members, COUNTERSIGNATURES)),
        uploads=uploads_of(members),
    )
    return Bundle(
        parts=parts,
        report=members[REPORT],
        statement=members[STATEMENT],
        manifest=members[MANIFEST],
        manifest_signature=_signature(members[MANIFEST_SIGNATURE], MANIFEST_SIGNATURE),
        sign_offs=sign_offs_of(members),
        time_stamps=_time_stamps(members),
    )


def evidence_of(parts: RunEvidence) -> Evidence:
    """Read study and logs. Raises BadInput, BadSignature or LogFault at the first that is damaged.

    Checkpoints and countersignatures are not checked here: that is `verify_bundle`.
    """
    return Evidence(
        study=read_signed_study(parts.signed_study, signer=parts.coordinator_key),
        keys=parts.hospital_keys,
        coordinator_key=parts.coordinator_key,
        coordinator=coordinator_log(read_export(parts.coordinator.entries)),
        hospitals={
            name: hospital_log(name, read_export(log.entries))
            for name, log in sorted(parts.hospitals.items())
        },
        countersigned=frozenset(parts.countersignatures),
    )


def _check_list(members: Mapping[str, bytes]) -> None:
    logs = {name for name in members if name.startswith("logs/")}
    stems = {name.removesuffix(ENTRIES).removesuffix(CHECKPOINT) for name in logs}
    due = {MANIFEST, MANIFEST_SIGNATURE, *_SINGLE}
    due |= {member_of(name) for name in sign_offs_of(members)} | set(time_stamps_of(members))
    due |= {upload_member(name) for name in uploads_of(members)}
    due |= {stem + ending for stem in stems | {COORDINATOR_LOG} for ending in (ENTRIES, CHECKPOINT)}
    missing, unknown = sorted(due - set(members)), sorted(set(members) - due)
    strange = sorted(s for s in stems - {COORDINATOR_LOG} if not s.startswith(HOSPITAL_LOGS))
    for name, reason in (
        *((name, "is missing") for name in missing),
        *((name, "has no place in a bundle") for name in unknown + strange),
    ):
        raise BadInput(f"bundle: member {name} {reason}")


def _time_stamps(members: Mapping[str, bytes]) -> dict[str, bytes]:
    found = time_stamps_of(members)
    if len(found) > MOST_STAMPS:
        raise BadInput(f"bundle: {len(found)} time stamps, at most {MOST_STAMPS} are allowed")
    return found


def _log_members(stem: str, log: LogExport) -> dict[str, bytes]:
    return {stem + ENTRIES: log.entries, stem + CHECKPOINT: log.checkpoint.encode()}


def _export(members: Mapping[str, bytes], stem: str) -> LogExport:
    note = members[stem + CHECKPOINT]
    if len(note) > MAX_NOTE_BYTES:
        raise BadInput(f"bundle: member {stem}{CHECKPOINT}: over {MAX_NOTE_BYTES} bytes")
    try:
        return LogExport(entries=members[stem + ENTRIES], checkpoint=note.decode())
    except UnicodeDecodeError as error:
        raise BadInput(f"bundle: member {stem}{CHECKPOINT} is not UTF-8") from error


def _json(members: Mapping[str, bytes], name: str) -> Json:
    return parse_canonical(members[name], what=f"member {name}", limit_bytes=_JSON_LIMIT_BYTES)


def _keys_bytes(parts: RunEvidence) -> bytes:
    hospitals = {name: key.hex() for name, key in parts.hospital_keys.items()}
    return canonical_bytes({"coordinator": parts.coordinator_key.hex(), "hospitals": hospitals})


def _hospital_keys(keys: Json) -> dict[str, bytes]:
    hospitals = keys.get("hospitals")
    if set(keys) != {"coordinator", "hospitals"} or not isinstance(hospitals, dict):
        raise BadInput(f"member {KEYS}: coordinator and hospitals are due, and nothing else")
    return {name: _key(value, name) for name, value in hospitals.items()}


def _key(value: object, party: str) -> bytes:
    return _hex(value, PUBLIC_KEY_BYTES, f"member {KEYS}: key of {party}")


def _countersignature_bytes(parts: RunEvidence) -> bytes:
    return canonical_bytes(
        {
            name: {"checkpoint": signed.checkpoint, "signature": signed.signature}
            for name, signed in parts.countersignatures.items()
        }
    )


def _countersignatures(value: Json) -> dict[str, Countersignature]:
    found = {}
    for name, signed in value.items():
        if not isinstance(signed, dict) or set(signed) != {"checkpoint", "signature"}:
            raise BadInput(
                f"member {COUNTERSIGNATURES}: checkpoint and signature of {name} are due"
            )
        if not isinstance(signed["checkpoint"], str):
            raise BadInput(f"member {COUNTERSIGNATURES}: checkpoint of {name} is not text")
        what = f"member {COUNTERSIGNATURES}: signature of {name}"
        signature = _hex(signed["signature"], LASTING_SIGNATURE_BYTES, what).hex()
        found[name] = Countersignature(checkpoint=signed["checkpoint"], signature=signature)
    return found


def _hex_line(value: bytes) -> bytes:
    return value.hex().encode() + b"\n"


def _signature(content: bytes, name: str) -> bytes:
    line = content.decode("ascii", "replace")
    text = line.removesuffix("\n") if line.endswith("\n") else None
    return _hex(text, LASTING_SIGNATURE_BYTES, f"member {name}")


def _hex(value: Any, size_bytes: int, what: str) -> bytes:
    due = f"{what}: {2 * size_bytes} lower-case hex digits are due"
    if not isinstance(value, str) or len(value) != 2 * size_bytes:
        raise BadInput(due)
    if not set(value) <= set("0123456789abcdef"):
        raise BadInput(due)
    return bytes.fromhex(value)
