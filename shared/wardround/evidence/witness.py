"""What one party saw of another's log. A log that shrinks or changes contradicts a head seen here.

Hospitals witness the coordinator's log, the coordinator witnesses the hospitals'. A witness' own
log keeps what it saw, so that any two bundles show a rewritten history.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

from wardround.canonical import Json
from wardround.errors import ProtocolViolation
from wardround.evidence.checkpoint import verify_checkpoint
from wardround.evidence.entry import Entry, head_of

WITNESSED = "checkpoint-witnessed"


@dataclass(slots=True)
class Witness:
    """`seen` maps sizes of the log of `actor` to the head it had then."""

    actor: str
    key: bytes
    seen: dict[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, own: Iterable[Entry], *, actor: str, key: bytes) -> Self:
        """Take up what our own log says that we saw, also before a restart."""
        bodies = [entry.body for entry in own if entry.type == WITNESSED]
        seen = {body["size"]: body["head"] for body in bodies if body["actor"] == actor}
        return cls(actor, key, seen)

    def check(self, note: str) -> tuple[str, Json] | None:
        """Check a signed head against those seen; return the entry to log, None for no news.

        It counts as seen once it was logged: `logged`. Raises BadInput, BadSignature, or
        ProtocolViolation when the log has shrunk or was rewritten.
        """
        checkpoint = verify_checkpoint(note, self.key)
        what = f"log of {self.actor}"
        if checkpoint.actor != self.actor:
            raise ProtocolViolation(f"{what}: the head of another party's log came")
        last = max(self.seen, default=-1)
        if checkpoint.size < last:
            raise ProtocolViolation(f"{what}: {checkpoint.size} entries, {last} were seen before")
        if checkpoint.size in self.seen:
            if self.seen[checkpoint.size] != checkpoint.head:
                raise ProtocolViolation(f"{what}: another head at the same size")
            return None
        body = {"actor": self.actor, "size": checkpoint.size, "head": checkpoint.head}
        return (WITNESSED, body)

    def logged(self, entries: Iterable[tuple[str, Json]]) -> None:
        """Remember the heads among entries that are now in our own log."""
        for kind, body in entries:
            if kind == WITNESSED and body["actor"] == self.actor:
                self.seen[body["size"]] = body["head"]

    def check_history(self, entries: list[Entry]) -> None:
        """Every head seen must be a head of this whole log. Raises ProtocolViolation."""
        for size, head in sorted(self.seen.items()):
            if size > len(entries) or head_of(entries[:size]) != head:
                raise ProtocolViolation(
                    f"log of {self.actor}: its first {size} entries are not those seen before"
                )
