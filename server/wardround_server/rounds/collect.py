"""One attempt: ask the cohort, add every masked update as it comes, open the sum or void it."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from wardround.errors import BadInput, ProtocolViolation
from wardround.masking.accumulator import Accumulator
from wardround.masking.quantise import Lanes
from wardround.masking.round_spec import Purpose, RoundSpec
from wardround.masking.update import check_update
from wardround.protocol.envelope import Vector, vector_due
from wardround.protocol.messages import Refusal, RefusalCode, Update, Work
from wardround.statistics.released import ReleasedStatistics
from wardround_server.rounds.attempt import Absence, Attempt, Outcome
from wardround_server.rounds.post import Answer, Post, Silence
from wardround_server.rounds.record import RunRecord
from wardround_server.rounds.session import Session
from wardround_server.rounds.uploads import UploadStore

# Flower's names for what a message is about.
_MESSAGE_TYPES = {
    Purpose.STATISTICS: "query",
    Purpose.TRAIN: "train",
    Purpose.EVALUATE: "evaluate",
}


@dataclass(frozen=True, slots=True)
class Collected:
    """How the attempt ended; `total` is there when it is complete."""

    attempt: Attempt
    total: Lanes | None
    sum_digest: str


@dataclass(slots=True)
class Collector:
    """Runs attempts of one session."""

    post: Post
    record: RunRecord
    session: Session
    identity_keys: Mapping[str, bytes]
    uploads: UploadStore | None = None

    def collect(
        self,
        spec: RoundSpec,
        model: Vector,
        *,
        deadline_s: float,
        scale: ReleasedStatistics | None = None,
    ) -> Collected:
        """Ask the cohort of `spec` with `model`; every hospital's share is recorded.

        `scale` are the released statistics by which the study standardises.
        """
        self.record.round_opened(spec)
        work = Work(
            spec=spec.to_json(),
            directory=tuple(self.session.directory.to_json()),
            checkpoint=self.record.log.checkpoint(),
            consistency=self.record.heads.proofs(spec.cohort),
            statistics=None if scale is None else scale.to_json(),
        )
        self.record.heads.sent(spec.cohort)
        accumulator = Accumulator(spec)
        attempt = Attempt(round=spec.round, number=spec.attempt, cohort=spec.cohort)
        for answer in self.post.ask(
            spec.cohort,
            work,
            model,
            message_type=_MESSAGE_TYPES[spec.purpose],
            deadline_s=deadline_s,
        ):
            attempt = self._take(attempt, accumulator, spec, answer)
        if attempt.outcome is not Outcome.COMPLETE:
            lost = ", ".join(f"{name}: {why}" for name, why in sorted(attempt.absent.items()))
            self._void(spec, f"masks cancel only with the whole cohort; missing {lost}")
            return Collected(attempt, None, "")
        return self._open(attempt, accumulator, spec)

    def _open(self, attempt: Attempt, accumulator: Accumulator, spec: RoundSpec) -> Collected:
        try:
            collected = Collected(attempt, accumulator.sum(), accumulator.sum_digest)
        except ProtocolViolation as error:
            # Somebody masked for another transcript: nothing was opened, nothing is learnt.
            self._void(spec, f"{type(error).__name__}: the masks did not cancel")
            return Collected(attempt, None, "")
        if self.uploads is not None:
            self.uploads.opened(spec)
        return collected

    def _void(self, spec: RoundSpec, reason: str) -> None:
        self.record.void(spec, reason)
        if self.uploads is not None:
            self.uploads.void(spec)

    def _take(
        self, attempt: Attempt, total: Accumulator, spec: RoundSpec, answer: Answer | Silence
    ) -> Attempt:
        hospital = answer.hospital
        if isinstance(answer, Silence):
            return self._without(attempt, spec, answer)
        if isinstance(answer.body, Refusal):
            # Another process of this hospital answers; the one that joined the session is gone.
            restarted = answer.body.code is RefusalCode.NO_SESSION
            reason = Absence.DISCONNECTED if restarted else Absence.REFUSED
            silence = Silence(hospital, reason, answer.body.code.value)
            self.record.refused(hospital, answer.body)
            return self._without(attempt, spec, silence)
        try:
            update = _update(answer)
            values = vector_due(
                answer.vector, dtype=np.uint32, lanes=spec.lanes, what=f"update of {hospital}"
            )
            masked = check_update(
                values,
                update.header,
                bytes.fromhex(update.signature),
                spec=spec,
                identity_key=self.identity_keys[hospital],
                hospital=hospital,
            )
            seen = self.record.witness(hospital, update.checkpoint, self.identity_keys[hospital])
            total.add(hospital, masked)
        except (ProtocolViolation, BadInput) as error:
            return self._without(attempt, spec, Silence(hospital, Absence.REJECTED, str(error)))
        if self.uploads is not None:
            self.uploads.keep(spec, hospital, masked.values)
        self.record.heads.answered(hospital)
        self.record.received(spec, hospital, update.header, update.signature, seen)
        return attempt.with_answer(hospital)

    def _without(self, attempt: Attempt, spec: RoundSpec, silence: Silence) -> Attempt:
        if silence.reason in {Absence.REJECTED, Absence.FAILED}:
            self.record.rejected(spec, silence.hospital, silence.detail or silence.reason.value)
        self.record.missed(spec, silence)
        return attempt.without(silence.hospital, silence.reason)


def _update(answer: Answer) -> Update:
    if not isinstance(answer.body, Update):
        raise ProtocolViolation(f"{answer.hospital}: an update was due, something else came")
    return answer.body
