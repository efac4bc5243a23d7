"""One attempt from the question to the opened sum, or to nothing: a void attempt opens nothing."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from wardround.errors import ProtocolViolation, QuorumMissed
from wardround.masking.coordinator_round import CoordinatorRound
from wardround.masking.quantise import Lanes
from wardround.masking.round_spec import Profile, RoundSpec
from wardround.protocol.envelope import Vector
from wardround.protocol.messages import Work
from wardround.statistics.released import ReleasedStatistics
from wardround_server.rounds.asked import is_noised
from wardround_server.rounds.attempt import Attempt, Outcome, Stage
from wardround_server.rounds.open_attempt import OpenAttempt
from wardround_server.rounds.opening import take_reveals, take_signatures
from wardround_server.rounds.post import Post
from wardround_server.rounds.record import RunRecord
from wardround_server.rounds.session import SHORT_DEADLINE_S, Session
from wardround_server.rounds.updates import take_updates
from wardround_server.rounds.uploads import UploadStore

# Unmasking waits for nobody: the coordinator's own cores, and no more than keystreams gain from.
_THREADS = min(4, len(os.sched_getaffinity(0)))
_ANSWERS = {
    Stage.UPDATE: "updates came",
    Stage.SIGNED: "survivors signed",
}


@dataclass(frozen=True, slots=True)
class Collected:
    """How the attempt ended; `total` is there when it is complete, the sum over `survivors`."""

    attempt: Attempt
    total: Lanes | None = None
    sum_digest: str = ""
    survivors: tuple[str, ...] = ()


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
        attempt = OpenAttempt(
            spec,
            CoordinatorRound(spec, self.identity_keys),
            Attempt(
                round=spec.round,
                number=spec.attempt,
                cohort=spec.cohort,
                threshold=spec.threshold,
            ),
            self.post,
            self.record,
            self.identity_keys,
            self.uploads,
        )
        try:
            self._stages(attempt, self._work(spec, scale), model, deadline_s)
            return self._opened(attempt)
        except (QuorumMissed, ProtocolViolation) as error:
            # Too few are left, or somebody masked for another transcript: nothing was opened.
            return self._void(attempt, f"{error}; missing {attempt.missing()}")

    def _work(self, spec: RoundSpec, scale: ReleasedStatistics | None) -> Work:
        work = Work(
            spec=spec.to_json(),
            checkpoint=self.record.log.checkpoint(),
            consistency=self.record.heads.proofs(spec.cohort),
            statistics=None if scale is None else scale.to_json(),
        )
        self.record.heads.sent(spec.cohort)
        return work

    def _stages(self, attempt: OpenAttempt, work: Work, model: Vector, deadline_s: float) -> None:
        """Until what opens the sum is there. Raises QuorumMissed when a stage is void."""
        short_s = min(deadline_s, SHORT_DEADLINE_S)
        take_updates(attempt, work, model, deadline_s=deadline_s)
        _complete_or_raise(attempt)
        questions = attempt.masked.close_uploads()
        if attempt.spec.profile is Profile.DOUBLE_MASK:
            if not is_noised(self.record.study, attempt.spec.purpose):
                self.record.asked.note(attempt.spec)
            take_signatures(attempt, questions, deadline_s=short_s)
            _complete_or_raise(attempt)
            take_reveals(attempt, deadline_s=short_s)

    def _opened(self, attempt: OpenAttempt) -> Collected:
        spec, masked = attempt.spec, attempt.masked
        total = masked.open(threads=_THREADS)
        self._faults(attempt)
        if spec.profile is Profile.DOUBLE_MASK:
            self.record.survivors_agreed(spec, masked.survivors, masked.signatures)
            if self.uploads is not None:
                self.uploads.opened(spec, masked.survivors, masked.mask_keys())
        return Collected(attempt.state, total, masked.sum_digest, masked.survivors)

    def _void(self, attempt: OpenAttempt, reason: str) -> Collected:
        self._faults(attempt)
        self.record.void(attempt.spec, reason)
        if self.uploads is not None:
            self.uploads.void(attempt.spec)
        return Collected(attempt.state)

    def _faults(self, attempt: OpenAttempt) -> None:
        """Those of the survivors; who has no update in the sum was rejected when it came."""
        for hospital, reason in sorted(attempt.masked.faults.items()):
            if hospital in attempt.masked.survivors:
                self.record.share_rejected(attempt.spec, hospital, reason)


def _complete_or_raise(attempt: OpenAttempt) -> None:
    state = attempt.state
    if state.outcome is Outcome.COMPLETE:
        return
    asked = len(state.cohort if state.stage is Stage.UPDATE else attempt.masked.survivors)
    raise QuorumMissed(
        f"{len(state.answered)} of {asked} {_ANSWERS[state.stage]}, {state.threshold} were due"
    )
