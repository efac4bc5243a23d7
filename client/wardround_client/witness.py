"""A hospital's evidence of one study: its own log, and what it saw of the coordinator's."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Self

from wardround.audit.evidence import COORDINATOR
from wardround.canonical import Json
from wardround.evidence.entry import Entry
from wardround.evidence.log import EvidenceLog
from wardround.evidence.witness import Witness
from wardround.protocol.messages import Proof
from wardround_client.restored import LoggedAttempt


@dataclass(slots=True)
class StudyEvidence:
    """The two belong together: what was seen counts once it is in the own log.

    `attempt` is the last one that the own log knows of.
    """

    log: EvidenceLog = field(repr=False)
    coordinator: Witness
    attempt: LoggedAttempt = field(default_factory=LoggedAttempt)

    @classmethod
    def of(cls, log: EvidenceLog, *, coordinator_key: bytes) -> Self:
        """Take up what this log has witnessed before, also before a restart."""
        entries = log.entries()
        evidence = cls(log, Witness.of(entries, actor=COORDINATOR, key=coordinator_key))
        evidence.attempt.see((entry.type, entry.body) for entry in entries)
        return evidence

    @property
    def coordinator_key(self) -> bytes:
        """The coordinator's pinned public keys."""
        return self.coordinator.key

    def witness(
        self, note: str, consistency: Sequence[Proof] | None = None
    ) -> tuple[str, Json] | None:
        """Check the coordinator's signed head against those seen; return the entry to log.

        With `consistency`, its growth has to be proven from every head since the last proof.
        Raises BadInput, BadSignature, ProtocolViolation or LogFault when its log has shrunk, was
        rewritten, or is not proven to have grown.
        """
        if consistency is None:
            return self.coordinator.check(note)
        proofs = {proof.size: [bytes.fromhex(h) for h in proof.hashes] for proof in consistency}
        return self.coordinator.check(note, proofs)

    def check_history(self, entries: list[Entry]) -> None:
        """Every head seen must be a head of this whole log. Raises ProtocolViolation."""
        self.coordinator.check_history(entries)

    def append(self, *entries: tuple[str, Json] | None) -> None:
        """Write entries into this hospital's log, in one go; None is left out."""
        due = [entry for entry in entries if entry is not None]
        if due:
            self.log.append_many(due, time=datetime.now(UTC))
        self.coordinator.logged(due)
        self.attempt.see(due)
