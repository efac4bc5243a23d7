"""Readers of what a bundle and a log hold, fed with the golden bundle.

Some of its seeds may be of an older form than this version reads: those that are not accepted are
left out, and a target without any fails its test.
"""

import functools
import json
from collections.abc import Callable
from pathlib import Path

from tests.fuzz.mutator import split_head
from tests.fuzz.target import Target
from tests.fuzz.targets_evidence import MOMENT
from tests.fuzz.targets_masking import LIVE, parsed
from tests.fuzz.targets_messages import identity

from wardround.audit.bodies import COORDINATOR_TYPES, HOSPITAL_TYPES
from wardround.audit.body_fields import read_body
from wardround.audit.bundle import COORDINATOR_LOG, ENTRIES, bundle_of
from wardround.audit.check_redacted import check_redacted
from wardround.audit.container import MANIFEST, manifest_of, pack, unpack
from wardround.audit.pins import Pins
from wardround.audit.redact import REDACTED
from wardround.audit.statement import STATEMENT
from wardround.audit.verify import verify_bytes
from wardround.canonical import Json, canonical_bytes, parse_canonical
from wardround.errors import BadInput, WardroundError
from wardround.evidence.dsse import Envelope, seal
from wardround.evidence.entry import FIRST_PREVIOUS, Entry, entry_digest
from wardround.evidence.export import read_export, write_export
from wardround.evidence.merkle import leaf_hash

BUNDLE = Path(__file__).parents[1] / "vectors/golden/report-1/bundle.zip"
KNOWN = COORDINATOR_TYPES | HOSPITAL_TYPES
SMALL_BYTES = 1 << 14
LIMIT = 1 << 20


@functools.cache
def members() -> dict[str, bytes]:
    return unpack(BUNDLE.read_bytes())


def log_lines() -> list[Json]:
    logs = [content for name, content in members().items() if name.endswith(".jsonl")]
    return [json.loads(line) for log in logs for line in log.splitlines()]


def read_entry_body(data: bytes) -> None:
    """An entry's type on the first line, its body behind."""
    head, text = split_head(data)
    value = parse_canonical(text, what="body", limit_bytes=LIMIT)
    kind = head.decode("latin-1").rstrip("\n") or "none"
    entry = Entry(seq=0, time=MOMENT, type=kind, actor="north", body=value, previous=FIRST_PREVIOUS)
    read_body(entry, KNOWN)


def accepted(read: Callable[[bytes], object], seed: bytes) -> bool:
    try:
        read(seed)
    except WardroundError:
        return False
    return True


def new_bodies() -> dict[str, Json]:
    """Bodies of the rarer types."""
    about = {"transcript": LIVE["transcript"]}
    named = about | {"hospital": "cleveland"}
    return {
        "survivors-agreed": about
        | {
            "survivors": LIVE["survivors"],
            "signatures": LIVE["reveal_message"]["signatures"],
        },
        "survivors-signed": about | {"survivors": LIVE["survivors"]},
        "hospital-vanished": named | {"stage": "signed"},
        "share-rejected": named | {"reason": "it does not fit"},
        "hospital-missed": named | {"reason": "no answer"},
        "update-rejected": named | {"reason": "its header"},
        "attempt-void": about | {"reason": "4 of 7 uploaded"},
        "round-refused": about | {"code": "policy"},
        "hospital-refused": {"hospital": "cleveland", "code": "policy"},
    }


def body_seeds() -> list[bytes]:
    """One body of each type that the golden bundle's logs have, and of the rarer ones."""
    found = {
        kind: kind.encode() + b"\n" + canonical_bytes(body) for kind, body in new_bodies().items()
    }
    found |= {
        line["type"]: line["type"].encode() + b"\n" + canonical_bytes(line["body"])
        for line in log_lines()
    }
    return [seed for seed in found.values() if accepted(read_entry_body, seed)]


def read_chain(data: bytes) -> None:
    """Bodies by type, chained here to a log: the hashes are no wall to a mutator then."""
    value = parsed(data).get("entries")
    entries, previous = [], FIRST_PREVIOUS
    for seq, each in enumerate(value if isinstance(value, list) else []):
        fields = each if isinstance(each, dict) else {}
        entry = Entry(
            seq=seq,
            time=MOMENT,
            type=fields.get("type", "none"),
            actor=fields.get("actor", "north"),
            body=fields.get("body", {}),
            previous=previous,
        )
        previous = entry_digest(entry.to_bytes())
        entries.append(entry)
    read_export(write_export(entries))


def chain_seeds() -> list[bytes]:
    chained = [
        {"type": line["type"], "actor": line["actor"], "body": line["body"]}
        for line in log_lines()
        if line["actor"] == "coordinator"
    ]
    return [canonical_bytes({"entries": chained[:4]})]


def read_member(data: bytes) -> None:
    """A member's name on the first line, what is in the bundle in its place behind."""
    head, content = split_head(data)
    name = head.decode("latin-1").rstrip("\n")
    bundle_of({**members(), name: content})


def member_seeds() -> list[bytes]:
    return [
        name.encode() + b"\n" + content
        for name, content in members().items()
        if len(content) < SMALL_BYTES and split_head(name.encode() + b"\n" + content)[0]
    ]


@functools.cache
def redacted_members() -> dict[str, bytes]:
    """The golden bundle with every entry of the coordinator's log withheld."""
    found = dict(members())
    lines = found.pop(COORDINATOR_LOG + ENTRIES).splitlines()
    hashes = [canonical_bytes({"withheld": leaf_hash(line).hex()}) + b"\n" for line in lines]
    return found | {COORDINATOR_LOG + REDACTED: b"".join(hashes)}


def read_redacted(data: bytes) -> None:
    """A member of a redacted bundle in another form; `payload` is the statement's, sealed here."""
    head, content = split_head(data)
    name = head.decode("latin-1").rstrip("\n")
    if name == "payload":
        name, content = STATEMENT, seal(content, identity())
    check_redacted({**redacted_members(), name: content}, Pins())


def redacted_seeds() -> list[bytes]:
    shown = redacted_members()
    names = (COORDINATOR_LOG + REDACTED, "manifest.json", "keys.json", STATEMENT)
    payload = Envelope.from_bytes(shown[STATEMENT], what=STATEMENT).payload
    return [b"payload\n" + payload, *(name.encode() + b"\n" + shown[name] for name in names)]


def read_verified(data: bytes) -> None:
    """A whole bundle with a member in another form and a manifest that lists it, as a file."""
    head, content = split_head(data)
    changed = {**members(), head.decode("latin-1").rstrip("\n"): content}
    listed = {name: value for name, value in changed.items() if not name.startswith("manifest.")}
    try:
        packed = pack(changed | {MANIFEST: manifest_of(listed)})
    except ValueError as error:  # zipfile takes no such name
        raise BadInput("input: no name of a member") from error
    verify_bytes(packed)


TARGETS = (
    Target(name="verify", read=read_verified, seeds=member_seeds, refuses=False),
    Target(name="redacted", read=read_redacted, seeds=redacted_seeds),
    Target(name="entry-body", read=read_entry_body, seeds=body_seeds),
    Target(name="chain", read=read_chain, seeds=chain_seeds),
    Target(name="member", read=read_member, seeds=member_seeds),
)
