"""A hospital's evidence of one study: its own log, and what it saw of the coordinator's."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Self

from wardround.audit.evidence import COORDINATOR
from wardround.canonical import Json
from wardround.evidence.entry import Entry
from wardround.evidence.log import EvidenceLog
from wardround.evidence.witness import Witness


@dataclass(slots=True)
class StudyEvidence:
    """The two belong together: what was seen counts once it is in the own log."""

    log: EvidenceLog = field(repr=False)
    coordinator: Witness

    @classmethod
    def of(cls, log: EvidenceLog, *, coordinator_key: bytes) -> Self:
        """Take up what this log has witnessed before, also before a restart."""
        return cls(log, Witness.of(log.entries(), actor=COORDINATOR, key=coordinator_key))

    @property
    def coordinator_key(self) -> bytes:
        """The coordinator's pinned public keys."""
        return self.coordinator.key

    def witness(self, note: str) -> tuple[str, Json] | None:
        """Check the coordinator's signed head against those seen; return the entry to log.

        Raises BadInput, BadSignature, or ProtocolViolation when its log has shrunk or was
        rewritten.
        """
        return self.coordinator.check(note)

    def check_history(self, entries: list[Entry]) -> None:
        """Every head seen must be a head of this whole log. Raises ProtocolViolation."""
        self.coordinator.check_history(entries)

    def append(self, *entries: tuple[str, Json] | None) -> None:
        """Write entries into this hospital's log, in one go; None is left out."""
        due = [entry for entry in entries if entry is not None]
        if due:
            self.log.append_many(due, time=datetime.now(UTC))
        self.coordinator.logged(due)
