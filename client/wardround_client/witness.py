"""A hospital's evidence of one study: its own log, and the heads it saw of the coordinator's.

A coordinator that shortens or rewrites its log contradicts a head that was witnessed here.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Self

from wardround.canonical import Json
from wardround.errors import ProtocolViolation
from wardround.evidence.checkpoint import verify_checkpoint
from wardround.evidence.entry import Entry, head_of
from wardround.evidence.log import EvidenceLog

WITNESSED = "checkpoint-witnessed"


@dataclass(slots=True)
class StudyEvidence:
    """`seen` maps sizes of the coordinator's log to the head it had then."""

    log: EvidenceLog = field(repr=False)
    coordinator_key: bytes
    seen: dict[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, log: EvidenceLog, *, coordinator_key: bytes) -> Self:
        """Take up what this log has witnessed before, also before a restart."""
        seen = {
            entry.body["size"]: entry.body["head"]
            for entry in log.entries()
            if entry.type == WITNESSED
        }
        return cls(log, coordinator_key, seen)

    def witness(self, note: str) -> tuple[str, Json] | None:
        """Check the coordinator's signed head against those seen; return the entry to log.

        It counts as seen once `append` has written it. Raises BadInput, BadSignature, or
        ProtocolViolation when the log has shrunk or was rewritten.
        """
        checkpoint = verify_checkpoint(note, self.coordinator_key)
        last = max(self.seen, default=-1)
        if checkpoint.size < last:
            raise ProtocolViolation(
                f"coordinator's log: {checkpoint.size} entries, {last} were seen before"
            )
        if checkpoint.size in self.seen:
            if self.seen[checkpoint.size] != checkpoint.head:
                raise ProtocolViolation("coordinator's log: another head at the same size")
            return None
        body = {"actor": checkpoint.actor, "size": checkpoint.size, "head": checkpoint.head}
        return (WITNESSED, body)

    def check_history(self, entries: list[Entry]) -> None:
        """Every head seen must be a head of this whole log. Raises ProtocolViolation."""
        for size, head in sorted(self.seen.items()):
            if size > len(entries) or head_of(entries[:size]) != head:
                raise ProtocolViolation(
                    f"coordinator's log: its first {size} entries are not those seen before"
                )

    def append(self, *entries: tuple[str, Json] | None) -> None:
        """Write entries into this hospital's log, in one go; None is left out."""
        due = [entry for entry in entries if entry is not None]
        if due:
            self.log.append_many(due, time=datetime.now(UTC))
        self.seen |= {body["size"]: body["head"] for kind, body in due if kind == WITNESSED}
