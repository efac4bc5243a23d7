"""Answer to `close`: check the coordinator's whole log, countersign it, hand over our own."""

from dataclasses import dataclass

from wardround.audit.countersign import countersign
from wardround.errors import ProtocolViolation
from wardround.evidence.checkpoint import check_entries, verify_checkpoint
from wardround.evidence.entry import Entry
from wardround.evidence.export import read_export
from wardround.identity import Identity
from wardround.protocol.messages import Close, Closed
from wardround_client.home import HospitalHome
from wardround_client.session import RunSession


@dataclass(slots=True)
class Closer:
    """Ends a run at this hospital."""

    home: HospitalHome
    identity: Identity
    hospital: str

    def answer(self, session: RunSession, close: Close) -> Closed:
        """Countersign the coordinator's log. Raises ProtocolViolation when it is not what we saw.

        Every head that was witnessed must lie in it, and every update that we sent for this run
        and that it lists must be the one that we sent.
        """
        checkpoint = verify_checkpoint(close.checkpoint, session.evidence.coordinator_key)
        entries = read_export(close.log.encode())
        check_entries(entries, checkpoint)
        session.evidence.check_history(entries)
        self._check_own_updates(session, entries)
        delta = session.study.privacy.delta
        budget = self.home.policy().epsilon_budget
        dataset = None if delta is None else session.ledger.spent(delta)
        ended = {
            "run": session.run,
            "coordinator_head": checkpoint.head,
            "epsilon": _epsilon_of_study(session),
            "delta": delta,
            "epsilon_dataset": dataset,
            "epsilon_budget": budget,
        }
        session.evidence.append(("run-ended", ended))
        signed = countersign(
            self.identity,
            study_digest=session.study.digest,
            run=session.run,
            checkpoint=close.checkpoint,
        )
        log = session.evidence.log
        return Closed(
            log=log.export().decode(),
            checkpoint=log.checkpoint(),
            countersignature=signed.signature,
        )

    def _check_own_updates(self, session: RunSession, entries: list[Entry]) -> None:
        sent = {
            entry.body["transcript"]: entry.body["update_digest"]
            for entry in session.evidence.log.entries()
            if entry.type == "release-sent"
        }
        for entry in entries:
            if entry.type != "update-received" or entry.body["hospital"] != self.hospital:
                continue
            transcript = entry.body["transcript"]
            if entry.body["header"].get("update_digest") != sent.get(transcript):
                raise ProtocolViolation(
                    f"coordinator's log, entry {entry.seq}: not the update that we sent"
                )


def _epsilon_of_study(session: RunSession) -> float | None:
    delta = session.study.privacy.delta
    if delta is None or session.ledger.training_was_exact():
        return None
    history = session.ledger.history(delta=delta)
    own = [line for line in history if line.run == session.run]
    return own[-1].epsilon_of_run if own else 0.0
