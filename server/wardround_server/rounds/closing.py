"""The end of a run: every hospital checks the whole log, countersigns it, hands over its own."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from wardround.audit.bundle import LogExport, RunEvidence
from wardround.audit.countersign import Countersignature, verify_countersignature
from wardround.audit.evidence import hospital_log
from wardround.errors import WardroundError
from wardround.evidence.checkpoint import check_entries, verify_checkpoint
from wardround.evidence.export import read_export
from wardround.protocol.envelope import Vector
from wardround.protocol.messages import Close, Closed
from wardround_server.rounds.attempt import Absence
from wardround_server.rounds.post import Answer, Post, Silence
from wardround_server.rounds.record import RunRecord
from wardround_server.rounds.session import Session


@dataclass(slots=True)
class RunCloser:
    """Collects what a bundle is made of. A hospital that is gone is missing in it, by name.

    So is one that hands over a log that cannot be read or is not signed by it: the others' bundle
    does not fail by it.
    """

    post: Post
    record: RunRecord
    signed_study: bytes
    coordinator_key: bytes
    identity_keys: Mapping[str, bytes]
    _faults: dict[str, str] = field(default_factory=dict)

    def close(self, session: Session, model: Vector | None, *, deadline_s: float) -> RunEvidence:
        """Send the log and the final model, if any; gather logs and countersignatures."""
        log = self.record.log
        exported, checkpoint = log.export(), log.checkpoint(lasting=True)
        self._faults.clear()
        question = Close(run=self.record.run, log=exported.decode(), checkpoint=checkpoint)
        logs: dict[str, LogExport] = {}
        signatures: dict[str, Countersignature] = {}
        for answer in self.post.ask(
            session.directory.names, question, model, message_type="query", deadline_s=deadline_s
        ):
            closed = self._closed(answer)
            if closed is None:
                continue
            hospital = answer.hospital
            signature = Countersignature(checkpoint=checkpoint, signature=closed.countersignature)
            try:
                logs[hospital] = self._checked(hospital, closed, signature)
                signatures[hospital] = signature
            except WardroundError as error:
                self._faults[hospital] = f"handed over no valid log: {type(error).__name__}"
        self._not_asked(session)
        for hospital, reason in sorted(self._faults.items()):
            # Behind what was countersigned: the log itself says whose word is missing.
            self.record.left_out(hospital, reason)
        return RunEvidence(
            signed_study=self.signed_study,
            coordinator_key=self.coordinator_key,
            hospital_keys=self.identity_keys,
            coordinator=LogExport(entries=log.export(), checkpoint=log.checkpoint(lasting=True)),
            hospitals=logs,
            countersignatures=signatures,
        )

    def _not_asked(self, session: Session) -> None:
        """Who was there before the coordinator stopped, and is not in the session after it."""
        for hospital in self.record.last_seen() - set(session.directory.names):
            absence = session.silent.get(hospital, Absence.DISCONNECTED)
            self._faults[hospital] = f"did not countersign: {absence}"

    def _closed(self, answer: Answer | Silence) -> Closed | None:
        if isinstance(answer, Answer) and isinstance(answer.body, Closed):
            return answer.body
        reason = answer.reason if isinstance(answer, Silence) else answer.body.__class__.__name__
        self._faults[answer.hospital] = f"did not countersign: {reason}"
        return None

    def _checked(self, hospital: str, closed: Closed, signature: Countersignature) -> LogExport:
        key = self.identity_keys[hospital]
        exported = LogExport.read(closed.log, closed.checkpoint)
        entries = read_export(exported.entries)
        hospital_log(hospital, entries)
        check_entries(entries, verify_checkpoint(closed.checkpoint, key, lasting=True))
        digest = self.record.study.digest
        verify_countersignature(key, signature, study_digest=digest, run=self.record.run)
        return exported
