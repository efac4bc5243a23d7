"""The hospital as one object: which question gets which answer, and what it keeps open."""

import logging
import time
from contextlib import suppress
from dataclasses import dataclass, field

from wardround.canonical import Json
from wardround.errors import ProtocolViolation, WardroundError
from wardround.evidence.entry import one_line
from wardround.identity import Identity
from wardround.masking.round_spec import Purpose, RoundSpec
from wardround.privacy.accounting import epsilon_spent
from wardround.protocol.envelope import Vector
from wardround.protocol.messages import (
    Agree,
    Body,
    Close,
    Failed,
    Keys,
    Open,
    RefusalCode,
    Reveal,
    Survivors,
    Work,
)
from wardround.randomness import Randomness, system_randomness
from wardround.study.manifest import Mechanism, Study
from wardround.times import AttemptTimes
from wardround_client.admission import Admission, check_budget
from wardround_client.agreeing import agree, finish
from wardround_client.attacks.at_closing import FinalAttack
from wardround_client.attempt_record import AttemptRecord
from wardround_client.closing import Closer
from wardround_client.home import HospitalHome
from wardround_client.ledger import Ledger
from wardround_client.local_view import held_out_loss, keep_final_model
from wardround_client.models_beside import forget
from wardround_client.opening_the_sum import SumOpener
from wardround_client.refusal import StudyRefused, refusing
from wardround_client.remaining import attempts_used, statistics_left
from wardround_client.round import RoundWorker
from wardround_client.session import RunSession
from wardround_client.witness import StudyEvidence

log = logging.getLogger("wardround.hospital")

# Of a hospital's time, how much may go into its own view while rounds run.
_LOOK_SHARE = 0.1


@dataclass(slots=True)
class Hospital:
    """Answers the coordinator. Ledgers, logs and sessions stay open between messages."""

    home: HospitalHome
    identity: Identity
    name: str
    coordinator_key: bytes
    times: AttemptTimes
    randomness: Randomness = system_randomness
    sessions: dict[str, RunSession] = field(default_factory=dict, repr=False)
    _ledgers: dict[str, Ledger] = field(default_factory=dict, repr=False)
    _evidence: dict[str, StudyEvidence] = field(default_factory=dict, repr=False)
    _answered: Work | None = field(default=None, repr=False)
    _seen: Json = field(default_factory=dict, repr=False)
    _next_look_s: float = field(default=0.0, repr=False)
    _refused: str = field(default="", repr=False)

    @classmethod
    def at(cls, home: HospitalHome) -> "Hospital":
        """The hospital whose directory this is. Raises BadInput when it has not joined."""
        membership = home.membership()
        times = AttemptTimes(home.directory / "times.jsonl")
        return cls(home, membership.identity, membership.hospital, home.coordinator_key(), times)

    def answer(self, body: Body, vector: Vector | None) -> tuple[Body, Vector | None]:
        """Answer one message. Nothing but codes, type names and masked vectors leaves.

        The text of an error stays here: it could name what is in the records.
        """
        self._answered = None
        try:
            return self._answer_or_refuse(body, vector)
        except WardroundError as error:
            log.error("failed: %s: %s", type(error).__name__, one_line(str(error)))  # noqa: TRY400  # no traceback
            return Failed(error=type(error).__name__), None
        except Exception as error:  # noqa: BLE001  # the rim: a library's text may hold records
            log.error("failed: %s", type(error).__name__)  # noqa: TRY400  # its text is not ours
            return Failed(error=type(error).__name__), None

    def after_answer(self, body: Body, vector: Vector | None) -> None:
        """What can wait until the answer has left: this hospital's own view of the round.

        Loss and epsilon take at most a tenth of the time: of rounds that follow fast on each other
        not all are looked at, but the model that is evaluated always is.
        """
        session = self._session_of(body)
        if session is None or vector is None or not isinstance(body, Work):
            return
        if body != self._answered:  # it was refused, and the status says so
            return
        used = attempts_used(session.study, session.ledger.releases())
        self._seen |= {"attempts": used, "seconds": self.times.last}
        started_s = time.monotonic()
        if started_s >= self._next_look_s or body.spec.get("purpose") == Purpose.EVALUATE.value:
            self._seen |= {
                "epsilon": _epsilon_after(session, used),
                "loss": held_out_loss(session, vector),
            }
            ended_s = time.monotonic()
            self._next_look_s = ended_s + (ended_s - started_s) / _LOOK_SHARE
        self._show(state="training", study=session.study.name, **self._seen)

    def close(self) -> None:
        """Forget secrets, give the ledgers back."""
        for session in self.sessions.values():
            session.close()
        for ledger in self._ledgers.values():
            ledger.close()
        for evidence in self._evidence.values():
            evidence.log.close()

    def _answer_or_refuse(self, body: Body, vector: Vector | None) -> tuple[Body, Vector | None]:
        try:
            return self._answer(body, vector)
        except StudyRefused as refusal:
            said = f"{refusal.code.value}: {one_line(str(refusal))}"
            # The coordinator asks again every few seconds: people are told once.
            log.log(
                logging.DEBUG if said == self._refused else logging.WARNING, "refused: %s", said
            )
            self._refused = said
            self._note_refusal(body, refusal)
            return refusal.to_message(), None

    def _answer(self, body: Body, vector: Vector | None) -> tuple[Body, Vector | None]:
        if isinstance(body, Open):
            return self._open(body), None
        session = self._session_of(body)
        if session is None:
            raise StudyRefused(RefusalCode.NO_SESSION, "this process did not join that session")
        if isinstance(body, Work):
            worker = RoundWorker(self.home, self.identity, self.name, self.randomness, self.times)
            answered = worker.answer(session, body, vector)
            self._answered = body
            return answered
        if isinstance(body, Close):
            return self._close(session, body, vector), None
        return self._answer_without_vector(session, body), None

    def _answer_without_vector(self, session: RunSession, body: Body) -> Body:
        match body:
            case Agree():
                return agree(session, body, identity=self.identity, hospital=self.name)
            case Keys():
                return finish(session, body, hospital=self.name)
            case Survivors():
                return SumOpener(self.home).sign(session, body)
            case Reveal():
                return SumOpener(self.home).reveal(session, body)
        raise StudyRefused(RefusalCode.SPEC, f"a {type(body).__name__} is not for a hospital")

    def _open(self, question: Open) -> Body:
        admission = Admission(self.home, self.identity, self.name, self.randomness)
        approved = admission.check(question)
        dataset = approved.description.dataset
        if dataset not in self._ledgers:
            self._ledgers[dataset] = self.home.ledger(dataset)
        ledger = self._ledgers[dataset]
        planned = check_budget(self.home, approved, ledger)
        evidence = self._evidence_of(approved.study)
        AttemptRecord(self.home, approved.study).refuse_if_restored(evidence.attempt)
        with refusing(RefusalCode.HISTORY):
            seen = evidence.witness(question.checkpoint)
        admission.audit(question, approved, evidence)
        session = admission.open(question, approved, ledger, evidence)
        old = self.sessions.get(question.run)
        if old is not None:
            old.close()
        self.sessions[question.run] = session
        joined = admission.join(session, planned, seen)
        self._refused = ""
        self._show(state="joined", study=approved.study.name, run=question.run)
        return joined

    def _close(self, session: RunSession, close: Close, vector: Vector | None) -> Body:
        attack = FinalAttack(self.name, self.times, self.randomness)
        closed = Closer(self.home, self.identity, self.name, attack).answer(session, close, vector)
        if vector is not None:
            keep_final_model(self.home, session, vector)
        forget(self.home, session.study)
        session.close()
        self._show(state="done", study=session.study.name, **self._seen)
        return closed

    def _evidence_of(self, study: Study) -> StudyEvidence:
        kept = self._evidence.get(study.digest)
        if kept is not None and len(kept.log.entries()) == kept.log.size:
            return kept
        if kept is not None:  # `review approve` has written into it since
            kept.log.close()
        self._evidence[study.digest] = StudyEvidence.of(
            self.home.log(study.digest), coordinator_key=self.coordinator_key
        )
        return self._evidence[study.digest]

    def _session_of(self, body: Body) -> RunSession | None:
        if isinstance(body, Close):
            return self.sessions.get(body.run)
        if isinstance(body, Work):
            run, name = str(body.spec.get("run")), body.spec.get("session")
        elif isinstance(body, Agree | Keys | Survivors | Reveal):
            run, name = body.run, body.session
        else:
            return None
        session = self.sessions.get(run)
        return session if session is not None and session.name == name else None

    def _note_refusal(self, body: Body, refusal: StudyRefused) -> None:
        """Keep a refused round in the evidence log, and show it to the hospital's own people."""
        session = self._session_of(body)
        if session is not None and isinstance(body, Work | Survivors | Reveal):
            entry = {"transcript": _transcript_of(body), "code": refusal.code.value}
            session.evidence.append(("round-refused", entry))
        self._show(state=f"refused: {refusal.code.value}", why=one_line(str(refusal)))
        self._next_look_s = 0.0  # the next answered round says that all is well again

    def _show(self, **changes: object) -> None:
        self.home.show({"hospital": self.name, **changes})


def _transcript_of(body: Work | Survivors | Reveal) -> str | None:
    """Of the attempt that a message is about; None where its spec is none."""
    if not isinstance(body, Work):
        return body.transcript
    with suppress(ProtocolViolation):
        return RoundSpec.from_json(body.spec).transcript().hex()
    return None


def _epsilon_after(session: RunSession, attempts: int) -> float | None:
    """What a training patient has spent in this study so far: updates and statistics."""
    study = session.study
    if study.privacy.mechanism is Mechanism.NONE or study.privacy.delta is None:
        return None
    planned = statistics_left(study, ())
    counted = len(planned) - len(statistics_left(study, session.ledger.releases()))
    spent = [study.release_of_one_attempt()] * attempts if attempts else []
    return epsilon_spent([*spent, *planned[:counted]], delta=study.privacy.delta)
