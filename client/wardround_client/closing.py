"""Answer to `close`: check the coordinator's whole log, countersign it, hand over our own."""

from dataclasses import dataclass

import numpy as np

from wardround.audit.countersign import countersign
from wardround.canonical import Json
from wardround.errors import ProtocolViolation
from wardround.evidence.checkpoint import Checkpoint, check_entries, verify_checkpoint
from wardround.evidence.entry import Entry
from wardround.evidence.export import read_export
from wardround.identity import Identity
from wardround.protocol.envelope import Vector, vector_due
from wardround.protocol.halves import digest_of_model
from wardround.protocol.messages import Close, Closed, RefusalCode
from wardround.protocol.specs import standardises
from wardround.quality.compare import Reference
from wardround.statistics.tally import tally
from wardround_client.attacks.at_closing import FinalAttack
from wardround_client.empirical.at_opening import noise_entry
from wardround_client.home import HospitalHome
from wardround_client.kept_statistics import keep, opened_in, reference_of
from wardround_client.own_updates import OwnRecord, check_own_updates
from wardround_client.quality import data_entry
from wardround_client.refusal import refusing
from wardround_client.session import RunSession


@dataclass(slots=True)
class Closer:
    """Ends a run at this hospital."""

    home: HospitalHome
    identity: Identity
    hospital: str
    attack: FinalAttack

    def answer(self, session: RunSession, close: Close, model: Vector | None) -> Closed:
        """Countersign the coordinator's log. Raises StudyRefused when it is not what we saw.

        Every head that was witnessed must lie in it, every sum in it must have our update or not
        as we know it (`check_own_updates`), and `model` must be the one that it ends with.
        """
        with refusing(RefusalCode.HISTORY):
            seen = session.evidence.witness(close.checkpoint)
            checkpoint = verify_checkpoint(
                close.checkpoint, session.evidence.coordinator_key, lasting=True
            )
            entries = _whole_log(close, checkpoint)
            session.evidence.check_history(entries)
            own = OwnRecord.of(self.hospital, session.evidence.log.entries())
            check_own_updates(own, entries)
            opened = _opened(session, entries, self.hospital)
            if model is not None:
                _check_model(session, entries, model)
        if opened is not None:
            keep(self.home, session, opened)
        session.evidence.append(
            seen,
            data_entry(self.home, session, opened),
            self._attacked(session, model),
            noise_entry(session.run, session.noise_probes),
            ("run-ended", self._ended(session, checkpoint, model)),
        )
        signed = countersign(
            self.identity,
            study_digest=session.study.digest,
            run=session.run,
            checkpoint=close.checkpoint,
        )
        log = session.evidence.log
        return Closed(
            log=log.export().decode(),
            checkpoint=log.checkpoint(lasting=True),
            countersignature=signed.signature,
        )

    def _attacked(self, session: RunSession, model: Vector | None) -> tuple[str, Json] | None:
        if model is None or not self.home.policy().attack_test:
            return None
        return self.attack.entry(session, model)

    def _ended(self, session: RunSession, checkpoint: Checkpoint, model: Vector | None) -> Json:
        delta = session.study.privacy.delta
        kept = None
        if model is not None:
            kept = digest_of_model(session.study, model, session.released)
        return {
            "run": session.run,
            "coordinator_head": checkpoint.head,
            "model": kept,
            "epsilon": _epsilon_of_study(session),
            "delta": delta,
            "epsilon_dataset": None if delta is None else session.ledger.spent(delta),
            "epsilon_budget": self.home.policy().epsilon_budget,
        }


def _whole_log(close: Close, checkpoint: Checkpoint) -> list[Entry]:
    entries = read_export(close.log.encode())
    check_entries(entries, checkpoint)
    if len(entries) != checkpoint.size:
        raise ProtocolViolation(
            f"coordinator's log: {len(entries)} entries, it has signed {checkpoint.size}"
        )
    return entries


def _check_model(session: RunSession, entries: list[Entry], model: Vector) -> None:
    vector_due(model, dtype=np.float32, lanes=session.parameters, what="final model")
    last = entries[-1].body if entries and entries[-1].type == "run-closed" else {}
    if last.get("model") != digest_of_model(session.study, model, session.released):
        raise ProtocolViolation("final model: not the one that the coordinator's log ends with")


def _opened(session: RunSession, entries: list[Entry], hospital: str) -> Reference | None:
    """The statistics that the log says were opened last, with our own part of them, if any."""
    study, rows = session.study, session.records.rows
    found = None if study.statistics is None else opened_in(study, entries)
    if standardises(study):
        if found is None:
            raise ProtocolViolation(
                "coordinator's log: no statistics were opened, the study uses them"
            )
        session.standardise(found[0])
    if found is None:
        return None
    released, members = found
    own = None
    if rows is not None and hospital in members:
        own = tally(rows, released.layout).values
    return reference_of(study, released, own)


def _epsilon_of_study(session: RunSession) -> float | None:
    delta = session.study.privacy.delta
    if delta is None or session.ledger.training_was_exact():
        return None
    history = session.ledger.history(delta=delta)
    own = [line for line in history if line.run == session.run]
    return own[-1].epsilon_of_run if own else 0.0
