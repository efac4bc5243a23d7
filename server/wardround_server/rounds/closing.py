"""The end of a run: every hospital checks the whole log, countersigns it, hands over its own."""

from collections.abc import Mapping
from dataclasses import dataclass

from wardround.audit.bundle import LogExport, RunEvidence
from wardround.audit.countersign import Countersignature
from wardround.protocol.envelope import Vector
from wardround.protocol.messages import Close, Closed
from wardround_server.rounds.post import Answer, Post
from wardround_server.rounds.record import RunRecord
from wardround_server.rounds.session import Session


@dataclass(slots=True)
class RunCloser:
    """Collects what a bundle is made of. A hospital that is gone is missing in it, by name."""

    post: Post
    record: RunRecord
    signed_study: bytes
    coordinator_key: bytes
    identity_keys: Mapping[str, bytes]

    def close(self, session: Session, model: Vector, *, deadline_s: float) -> RunEvidence:
        """Send the log and the final model; gather logs and countersignatures."""
        log = self.record.log
        exported, checkpoint = log.export(), log.checkpoint()
        question = Close(run=self.record.run, log=exported.decode(), checkpoint=checkpoint)
        logs: dict[str, LogExport] = {}
        signatures: dict[str, Countersignature] = {}
        for answer in self.post.ask(
            session.directory.names, question, model, message_type="query", deadline_s=deadline_s
        ):
            if isinstance(answer, Answer) and isinstance(answer.body, Closed):
                closed = answer.body
                logs[answer.hospital] = LogExport.read(closed.log, closed.checkpoint)
                signatures[answer.hospital] = Countersignature(
                    checkpoint=checkpoint, signature=closed.countersignature
                )
            else:
                self.record.show(note=f"{answer.hospital} did not countersign")
        return RunEvidence(
            signed_study=self.signed_study,
            coordinator_key=self.coordinator_key,
            hospital_keys=self.identity_keys,
            coordinator=LogExport(entries=exported, checkpoint=checkpoint),
            hospitals=logs,
            countersignatures=signatures,
        )
