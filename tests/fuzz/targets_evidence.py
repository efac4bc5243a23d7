"""Readers of evidence: entries, logs, checkpoints, envelopes, bundles, sign-offs, proofs."""

import functools
import io
import zipfile
from datetime import UTC, datetime

from tests.fuzz.target import Target
from tests.fuzz.targets_masking import GOOD, LIVE, parsed, seeds_of
from tests.fuzz.targets_messages import identity

from wardround.audit.bundle import bundle_of
from wardround.audit.container import manifest_faults, manifest_of, pack, unpack
from wardround.audit.sign_off import Decision, SignedBytes, SignOff, read_sign_off, sign_off
from wardround.canonical import Json, canonical_bytes
from wardround.errors import BadInput
from wardround.evidence.checkpoint import checkpoint_of, sign_checkpoint, verify_checkpoint
from wardround.evidence.dsse import Envelope, open_envelope, seal
from wardround.evidence.entry import FIRST_PREVIOUS, Entry, entry_digest
from wardround.evidence.export import read_export, write_export
from wardround.evidence.merkle import (
    consistency_proof,
    inclusion_proof,
    root,
    verify_consistency,
    verify_inclusion,
)

ACTOR = "coordinator"
MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LEAVES = [bytes([number]) for number in range(11)]


@functools.cache
def entries() -> list[Entry]:
    """A short log in the words of the protocol."""
    bodies: list[tuple[str, Json]] = [
        ("study-opened", {"study_digest": "00" * 32, "run": GOOD["run"], "software": "0.1.0"}),
        ("round-opened", {"transcript": LIVE["transcript"], "spec": LIVE["spec"]}),
        (
            "survivors-agreed",
            {
                "transcript": LIVE["transcript"],
                "survivors": LIVE["survivors"],
                "signatures": LIVE["reveal_message"]["signatures"],
            },
        ),
    ]
    log: list[Entry] = []
    previous = FIRST_PREVIOUS
    for seq, (kind, body) in enumerate(bodies):
        entry = Entry(seq=seq, time=MOMENT, type=kind, actor=ACTOR, body=body, previous=previous)
        log.append(entry)
        previous = entry_digest(entry.to_bytes())
    return log


def read_entry(data: bytes) -> None:
    Entry.from_bytes(data, position=0)


def read_note(data: bytes) -> None:
    verify_checkpoint(data.decode("utf-8", "replace"), identity().public_key)


def note_seeds() -> list[bytes]:
    checkpoint = checkpoint_of(entries(), actor=ACTOR)
    return [
        sign_checkpoint(identity(), checkpoint, lasting=lasting).encode()
        for lasting in (False, True)
    ]


def read_envelope(data: bytes) -> None:
    Envelope.from_bytes(data, what="envelope")
    open_envelope(data, identity().public_key, what="envelope")


def read_decision(data: bytes) -> None:
    """The payload of a sign-off, sealed here: behind the signature is where an officer's are."""
    read_sign_off(seal(data, identity()))


@functools.cache
def decision_seeds() -> list[bytes]:
    decided = SignOff(
        hospital="cleveland",
        officer="A. Officer",
        decision=Decision.APPROVE,
        remark=None,
        signed_at="2026-01-02T03:04:05.000000Z",
    )
    about = SignedBytes.of(b"{}", b"{}")
    return [Envelope.from_bytes(sign_off(identity(), decided, about), what="seed").payload]


def small_members() -> dict[str, bytes]:
    members = {"study.json": b"{}", "logs/coordinator.jsonl": b"", "VERIFY.md": b"read"}
    return members | {"manifest.json": manifest_of(members)}


def read_container(data: bytes) -> None:
    members = unpack(data)
    if "manifest.json" in members and manifest_faults(members) == []:
        bundle_of(members)


def container_seeds() -> list[bytes]:
    members = small_members()
    del members["manifest.json"]
    return [pack(members)]


def refused_containers() -> list[bytes]:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("study.json", bytes(1 << 20))  # what a zip bomb looks like
    return [pack(small_members()), packed.getvalue()]


def read_manifest(data: bytes) -> None:
    """A manifest beside the members that it should list; a fault is an answer, not an error."""
    faults = manifest_faults({**small_members(), "manifest.json": data})
    if faults:
        raise BadInput("manifest: faults were found")


def read_proof(data: bytes) -> None:
    """A consistency or inclusion proof as numbers and hashes, against a real tree."""
    value = parsed(data)
    numbers, hashes = value.get("numbers"), value.get("hashes")
    if not isinstance(numbers, list) or not isinstance(hashes, list) or len(numbers) != 2:
        raise BadInput("input: no proof")
    first, second = numbers
    if type(first) is not int or type(second) is not int:
        raise BadInput("input: no numbers")
    try:
        proof = [bytes.fromhex(each) for each in hashes]
    except (TypeError, ValueError) as error:
        raise BadInput("input: no hashes") from error
    if value.get("kind") == "inclusion":
        verify_inclusion(LEAVES[0], first, second, proof, root(LEAVES))
    else:
        verify_consistency(first, root(LEAVES[:4]), second, root(LEAVES), proof)


def proof_seeds() -> list[bytes]:
    grown = [each.hex() for each in consistency_proof(LEAVES, 4, len(LEAVES))]
    held = [each.hex() for each in inclusion_proof(LEAVES, 0)]
    return seeds_of(
        {"kind": "consistency", "numbers": [4, len(LEAVES)], "hashes": grown},
        {"kind": "inclusion", "numbers": [0, len(LEAVES)], "hashes": held},
    )


TARGETS = (
    Target(name="entry", read=read_entry, seeds=lambda: [entry.to_bytes() for entry in entries()]),
    Target(
        name="export",
        read=read_export,
        seeds=lambda: [write_export(entries()), b""],
        json=False,
    ),
    Target(name="checkpoint", read=read_note, seeds=note_seeds, json=False, most_bytes=1 << 14),
    Target(
        name="envelope",
        read=read_envelope,
        seeds=lambda: [seal(canonical_bytes({"a": 1}), identity())],
    ),
    Target(name="sign-off", read=read_decision, seeds=decision_seeds),
    Target(
        name="container",
        read=read_container,
        seeds=container_seeds,
        refused=refused_containers,
        json=False,
    ),
    Target(name="manifest", read=read_manifest, seeds=lambda: [small_members()["manifest.json"]]),
    Target(name="proof", read=read_proof, seeds=proof_seeds),
)
