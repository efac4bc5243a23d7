"""A log as a file: one canonical JSON line per entry, and the strict reader of such a file."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from wardround.evidence.entry import FIRST_PREVIOUS, MAX_ENTRY_BYTES, Entry, entry_digest
from wardround.evidence.faults import LogFault, LogReason


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportLimits:
    """How much a reader takes in."""

    total_bytes: int = 256 << 20
    entries: int = 1_000_000


DEFAULT_LIMITS = ExportLimits()


def write_export(entries: Sequence[Entry]) -> bytes:
    """The entries' bytes, each with a line end."""
    return b"".join(entry.to_bytes() + b"\n" for entry in entries)


def read_export(content: bytes, limits: ExportLimits = DEFAULT_LIMITS) -> list[Entry]:
    """Read an exported log: canonical lines, one actor, contiguous numbers, unbroken chain.

    Raises LogFault with its own reason for each kind of damage. What it cannot see is a changed
    LAST entry or a cut tail: `check_entries` finds these with a checkpoint.
    """
    if len(content) > limits.total_bytes:
        message = f"{len(content)} bytes, at most {limits.total_bytes} are allowed"
        raise LogFault(LogReason.TOO_LARGE, message)
    if content and not content.endswith(b"\n"):
        raise LogFault(LogReason.MALFORMED, "the last line has no end", seq=content.count(b"\n"))
    count = content.count(b"\n")
    if count > limits.entries:
        message = f"{count} entries, at most {limits.entries} are allowed"
        raise LogFault(LogReason.TOO_LARGE, message)
    return check_lines(content.split(b"\n")[:-1])


def check_lines(lines: Sequence[bytes]) -> list[Entry]:
    """The entries of these canonical lines, as `read_export` checks them."""
    if any(len(line) > MAX_ENTRY_BYTES for line in lines):
        raise LogFault(LogReason.TOO_LARGE, f"an entry of more than {MAX_ENTRY_BYTES} bytes")
    entries = [Entry.from_bytes(line, position=at) for at, line in enumerate(lines)]
    _check_numbers(entries)
    previous = FIRST_PREVIOUS
    for entry, line in zip(entries, lines, strict=True):
        if entry.actor != entries[0].actor:
            message = f"written by {entry.actor} in the log of {entries[0].actor}"
            raise LogFault(LogReason.ACTORS_MIXED, message, seq=entry.seq)
        if entry.previous != previous:
            message = "its `previous` is not the hash of the entry before it: one was changed"
            raise LogFault(LogReason.CHAIN_BROKEN, message, seq=entry.seq)
        previous = entry_digest(line)
    return entries


def _check_numbers(entries: Sequence[Entry]) -> None:
    numbers = [entry.seq for entry in entries]
    if numbers == list(range(len(numbers))):
        return
    seq, copies = Counter(numbers).most_common(1)[0]
    if copies > 1:
        twins = [entry for entry in entries if entry.seq == seq]
        if all(twin == twins[0] for twin in twins):
            raise LogFault(LogReason.ENTRY_REPEATED, "the same entry came again", seq=seq)
        raise LogFault(LogReason.SEQUENCE_TAKEN, "two entries with this number", seq=seq)
    at = next(at for at, number in enumerate(numbers) if at != number)
    if sorted(numbers) == list(range(len(numbers))):
        raise LogFault(LogReason.OUT_OF_ORDER, f"entry {numbers[at]} stands in its place", seq=at)
    missing = min(set(range(len(numbers))) - set(numbers))
    raise LogFault(LogReason.SEQUENCE_GAP, "this entry is missing", seq=missing)
