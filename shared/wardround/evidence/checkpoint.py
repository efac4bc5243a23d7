"""Signed checkpoints: what a party's log was, at one size, in a note that witnesses keep.

The note's text has four lines: origin, size, Merkle root (base64), and `head` with the hash chain's
head. Any two checkpoints of one log are either consistent or proof that it was rewritten.
(C2SP tlog-checkpoint; `head` is its extension line)
"""

import base64
import binascii
import re
from collections.abc import Sequence
from dataclasses import dataclass

from wardround.errors import BadInput
from wardround.evidence.entry import FIRST_PREVIOUS, MAX_SEQ, Entry, head_of
from wardround.evidence.faults import LogFault, LogReason
from wardround.evidence.merkle import EMPTY_ROOT, HASH_BYTES, root
from wardround.evidence.note import open_note, sign_note, split_note
from wardround.identity import Identity

_ORIGIN = re.compile(r"wardround/[a-z0-9][a-z0-9-]{0,62}")
_SIZE = re.compile(r"0|[1-9][0-9]{0,15}")
_HEAD = re.compile(r"head ([0-9a-f]{64})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A log at one size: `head` of the hash chain (hex) and `root` of the tree (32 bytes).

    Raises BadInput when a part is not what it has to be.
    """

    origin: str
    size: int
    head: str
    root: bytes

    def __post_init__(self) -> None:
        if not _ORIGIN.fullmatch(self.origin):
            raise BadInput("checkpoint: the origin has to be wardround/ and the party's name")
        if type(self.size) is not int or not 0 <= self.size <= MAX_SEQ:
            raise BadInput("checkpoint: the size has to be an integer from 0 to 2^53 - 1")
        if len(self.root) != HASH_BYTES or not re.fullmatch(r"[0-9a-f]{64}", self.head):
            raise BadInput("checkpoint: head and root have to be 32 bytes each")
        if self.size == 0 and (self.head, self.root) != (FIRST_PREVIOUS, EMPTY_ROOT):
            raise BadInput("checkpoint: an empty log has another head and root")

    @property
    def actor(self) -> str:
        """The party whose log it is."""
        return self.origin.removeprefix("wardround/")

    def to_text(self) -> str:
        """The four lines that are signed."""
        encoded = base64.b64encode(self.root).decode()
        return f"{self.origin}\n{self.size}\n{encoded}\nhead {self.head}\n"


def origin_of(actor: str) -> str:
    """The log name of a party. Raises BadInput when that is not a party's name.

    >>> origin_of("cleveland")
    'wardround/cleveland'
    """
    origin = f"wardround/{actor}"
    if not _ORIGIN.fullmatch(origin):
        raise BadInput("evidence log: a party's name is lower-case letters, digits and -")
    return origin


def checkpoint_of(entries: Sequence[Entry], *, actor: str) -> Checkpoint:
    """The checkpoint of a log that consists of these entries."""
    return Checkpoint(
        origin=origin_of(actor),
        size=len(entries),
        head=head_of(entries),
        root=root([entry.to_bytes() for entry in entries]),
    )


def sign_checkpoint(identity: Identity, checkpoint: Checkpoint, *, lasting: bool = False) -> str:
    """The signed note; its key name is the origin.

    `lasting` adds ML-DSA-65: for the end of a run, what is kept for years.
    """
    text = checkpoint.to_text()
    return sign_note(text, name=checkpoint.origin, identity=identity, lasting=lasting)


def parse_checkpoint(note: str) -> Checkpoint:
    """Read a note WITHOUT checking its signature: for a look at whose it is.

    Raises BadInput for anything but the one spelling that `sign_checkpoint` writes.
    """
    text, name, _, _ = split_note(note)
    lines = text.split("\n")
    if len(lines) != 5:
        raise BadInput(f"checkpoint: 4 lines were due, {len(lines) - 1} came")
    origin, size, encoded, head = lines[:4]
    headed = _HEAD.fullmatch(head)
    if not _SIZE.fullmatch(size) or headed is None:
        raise BadInput("checkpoint: line 2 has to be a size, line 4 a head")
    try:
        decoded = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadInput("checkpoint: line 3 has to be a root in base64") from error
    checkpoint = Checkpoint(origin=origin, size=int(size), head=headed[1], root=decoded)
    if checkpoint.to_text() != text or name != origin:
        raise BadInput("checkpoint: not written as its origin writes it")
    return checkpoint


def verify_checkpoint(note: str, public_key: bytes, *, lasting: bool = False) -> Checkpoint:
    """Read a note that this key signed, `lasting`: with both its keys.

    Raises BadInput (form) or BadSignature.
    """
    checkpoint = parse_checkpoint(note)
    open_note(note, public_key, name=checkpoint.origin, lasting=lasting)
    return checkpoint


def check_entries(entries: Sequence[Entry], checkpoint: Checkpoint) -> None:
    """Check that a log contains what its checkpoint signed; later entries may follow.

    `entries` come from `read_export`, so their chain holds. Raises LogFault: actors-mixed,
    truncated, head-differs, root-differs.
    """
    if entries and entries[0].actor != checkpoint.actor:
        message = f"the log of {entries[0].actor}, the checkpoint of {checkpoint.actor}"
        raise LogFault(LogReason.ACTORS_MIXED, message, seq=0)
    if len(entries) < checkpoint.size:
        message = f"{len(entries)} entries, its checkpoint signed {checkpoint.size}"
        raise LogFault(LogReason.TRUNCATED, message, seq=len(entries))
    signed = entries[: checkpoint.size]
    if head_of(signed) != checkpoint.head:
        message = "not the entry whose hash the checkpoint signed as its head"
        raise LogFault(LogReason.HEAD_DIFFERS, message, seq=max(checkpoint.size - 1, 0))
    if root([entry.to_bytes() for entry in signed]) != checkpoint.root:
        message = f"the first {checkpoint.size} entries do not have the root that was signed"
        raise LogFault(LogReason.ROOT_DIFFERS, message)
