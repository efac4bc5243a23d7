"""A bundle for the public: entries and the report withheld, every proof still valid.

A withheld entry leaves its leaf hash in its place, so the log's Merkle root, which its party
signed, is still computed from the file. A withheld member stays in the signed manifest with its
SHA-256. No key is needed and no signature is made anew. A leaf hash hides what cannot be guessed,
and no more: it has no salt.
"""

from collections.abc import Mapping

from wardround.audit.bundle import (
    COORDINATOR_LOG,
    ENTRIES,
    HOSPITAL_LOGS,
    REPORT,
    bundle_of,
)
from wardround.audit.check_intact import check_members, read_logs
from wardround.audit.container import SIGN_OFFS, pack, unpack
from wardround.audit.uploads import upload_member
from wardround.canonical import canonical_bytes
from wardround.errors import BadInput, VerificationFailed
from wardround.evidence.export import read_export
from wardround.evidence.merkle import leaf_hash

REDACTED = ".redacted.jsonl"
# What a reader needs to see that both sides tell one story; all else of a hospital is its own.
_SHOWN_OF_HOSPITALS = frozenset(
    {"run-joined", "release-sent", "survivors-signed", "checkpoint-witnessed"}
)
# A refusal tells a hospital's budget.
_HIDDEN_OF_COORDINATOR = frozenset({"hospital-refused"})


def redact(content: bytes, *, keep_report: bool = False) -> bytes:
    """The bundle without officers, budgets, accounts, uploads; without the report by default.

    With the report the sign-offs go too. Raises BadInput for a malformed bundle or one that is
    redacted already, VerificationFailed for one that is not intact: its proofs would not hold.
    """
    members = unpack(content)
    if is_redacted(members):
        raise BadInput("bundle: it is redacted already")
    bundle = bundle_of(members)
    faults = [*check_members(members), *read_logs(bundle)[2]]
    if faults:
        raise VerificationFailed(f"bundle: {faults[0]}")
    # Masks hold as long as X25519 does; what is public is read for longer.
    gone = {upload_member(name) for name in bundle.parts.uploads}
    gone |= {name for name in members if name.endswith(ENTRIES)}
    kept = {name: member for name, member in members.items() if name not in gone}
    kept |= _log(COORDINATOR_LOG, bundle.parts.coordinator.entries)
    for name, log in bundle.parts.hospitals.items():
        kept |= _log(HOSPITAL_LOGS + name, log.entries)
    if not keep_report:
        del kept[REPORT]
        kept = {name: member for name, member in kept.items() if not name.startswith(SIGN_OFFS)}
    return pack(kept)


def is_redacted(members: Mapping[str, bytes]) -> bool:
    """Whether these are the members of a redacted bundle."""
    return any(name.endswith(REDACTED) for name in members)


def withheld_line(line: bytes) -> bytes:
    """What stands in the place of an entry's line.

    >>> withheld_line(b"")[:24]
    b'{"withheld":"6e340b9cffb'
    """
    return canonical_bytes({"withheld": leaf_hash(line).hex()})


def _log(stem: str, entries: bytes) -> dict[str, bytes]:
    lines = []
    for entry in read_export(entries):
        if stem == COORDINATOR_LOG:
            hidden = entry.type in _HIDDEN_OF_COORDINATOR
        else:
            hidden = entry.type not in _SHOWN_OF_HOSPITALS
        line = entry.to_bytes()
        lines.append(withheld_line(line) if hidden else line)
    return {stem + REDACTED: b"".join(line + b"\n" for line in lines)}
