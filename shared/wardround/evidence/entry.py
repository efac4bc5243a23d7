"""One entry of an evidence log: canonical JSON, chained to the entry before it."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from wardround.canonical import Json, canonical_bytes, parse_json
from wardround.errors import BadInput
from wardround.evidence.faults import LogFault, LogReason

MAX_ENTRY_BYTES = 1 << 20
MAX_SEQ = 2**53 - 1
LINE_LENGTH = 2000
FIRST_PREVIOUS = "0" * 64

_FIELDS = frozenset({"seq", "time", "type", "actor", "body", "previous"})
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_TIME = "%Y-%m-%dT%H:%M:%S.%fZ"
_TIME_SHAPE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What one party wrote down at one moment.

    `seq` counts from 0. `time` is that party's clock and may jump back: the order is `seq`.
    `previous` is the SHA-256 of the entry before (64 zeros for the first), so that no entry can
    change without changing every later one. Raises BadInput when a field is not what it has to be.
    """

    seq: int
    time: datetime
    type: str
    actor: str
    body: Json
    previous: str
    _line: bytes | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if type(self.seq) is not int or not 0 <= self.seq <= MAX_SEQ:
            raise BadInput("evidence entry: seq has to be an integer from 0 to 2^53 - 1")
        if self.time.tzinfo is None:
            raise BadInput("evidence entry: time needs a time zone")
        for name, value in (("type", self.type), ("actor", self.actor)):
            if not isinstance(value, str) or not _NAME.fullmatch(value):
                raise BadInput(f"evidence entry: {name} has to be lower-case letters, digits and -")
        if not isinstance(self.body, dict):
            raise BadInput(f"evidence entry: body is a {type(self.body).__name__}, not an object")
        if not isinstance(self.previous, str) or not _DIGEST.fullmatch(self.previous):
            raise BadInput("evidence entry: previous has to be 64 lower-case hex digits")

    def to_json(self) -> Json:
        """The JSON object that is hashed, stored and exported."""
        return {
            "seq": self.seq,
            "time": time_text(self.time),
            "type": self.type,
            "actor": self.actor,
            "body": self.body,
            "previous": self.previous,
        }

    def to_bytes(self) -> bytes:
        """The leaf: RFC 8785 bytes. Raises BadInput beyond MAX_ENTRY_BYTES."""
        if self._line is not None:
            return self._line
        line = canonical_bytes(self.to_json())
        if len(line) > MAX_ENTRY_BYTES:
            raise BadInput(f"evidence entry: {len(line)} bytes, at most {MAX_ENTRY_BYTES} allowed")
        return line

    @classmethod
    def from_bytes(cls, line: bytes, *, position: int | None = None) -> "Entry":
        """Read what `to_bytes` wrote, and nothing else.

        Raises LogFault (too-large, malformed, not-canonical); `position` becomes its `seq`.
        """
        if len(line) > MAX_ENTRY_BYTES:
            message = f"{len(line)} bytes, at most {MAX_ENTRY_BYTES} are allowed"
            raise LogFault(LogReason.TOO_LARGE, message, seq=position)
        try:
            value = parse_json(line, what="entry", limit_bytes=MAX_ENTRY_BYTES)
            entry = _entry(value)
            written = entry.to_bytes()
        except BadInput as error:
            raise LogFault(LogReason.MALFORMED, str(error), seq=position) from error
        if written != line:
            message = "the bytes are not the canonical JSON (RFC 8785) of their value"
            raise LogFault(LogReason.NOT_CANONICAL, message, seq=position)
        object.__setattr__(entry, "_line", line)  # what it was read from is what it writes
        return entry


def time_text(time: datetime) -> str:
    """RFC 3339 in UTC with six decimals: one spelling for one moment.

    >>> time_text(datetime(2026, 3, 1, 12, tzinfo=UTC))
    '2026-03-01T12:00:00.000000Z'
    """
    return time.astimezone(UTC).strftime(_TIME).rjust(27, "0")


def one_line(reason: str) -> str:
    r"""A reason as an entry may hold it, and a terminal show it: printable, 2,000 characters.

    Who sent the message that it is about chooses some of its words, and of a hundred hospitals
    the names alone are longer.

    >>> one_line("unknown \x1b[2J"), len(one_line(9000 * "a"))
    ('unknown ?[2J', 2000)
    """
    return "".join(sign if sign.isprintable() else "?" for sign in reason[:LINE_LENGTH])


def entry_digest(line: bytes) -> str:
    """SHA-256 of an entry's bytes: the `previous` of the next one, the head of the log."""
    return hashlib.sha256(line).hexdigest()


def head_of(entries: Sequence[Entry]) -> str:
    """The digest of the last entry; 64 zeros for an empty log."""
    return entry_digest(entries[-1].to_bytes()) if entries else FIRST_PREVIOUS


def _entry(value: dict[str, Any]) -> Entry:
    if value.keys() != _FIELDS:
        wrong = sorted(value.keys() ^ _FIELDS)
        raise BadInput(f"unknown or missing field: {', '.join(wrong)[:200]}")
    text = value["time"]
    if not isinstance(text, str) or not _TIME_SHAPE.fullmatch(text):
        raise BadInput("time has to look like 2026-03-01T12:00:00.000000Z")
    try:
        time = datetime.strptime(text, _TIME).replace(tzinfo=UTC)
    except ValueError as error:
        raise BadInput("time is not a date that exists") from error
    return Entry(**(value | {"time": time}))
