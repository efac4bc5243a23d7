"""One attempt from the question to the opened sum, or to nothing: a void attempt opens nothing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from wardround.errors import ProtocolViolation, QuorumMissed
from wardround.masking.coordinator_round import CoordinatorRound
from wardround.masking.keystream import threads_here
from wardround.masking.quantise import Lanes
from wardround.masking.round_spec import Profile, RoundSpec
from wardround.protocol.envelope import Vector
from wardround.protocol.messages import Body, Work
from wardround.statistics.released import ReleasedStatistics
from wardround_server.rounds.attempt import Attempt, Outcome, Stage
from wardround_server.rounds.open_attempt import Asked, OpenAttempt
from wardround_server.rounds.opening import take_reveals, take_signatures
from wardround_server.rounds.post import Post
from wardround_server.rounds.record import RunRecord
from wardround_server.rounds.session import SHORT_DEADLINE_S, Session
from wardround_server.rounds.updates import take_updates
from wardround_server.rounds.uploads import UploadStore

Questions = Mapping[int, Mapping[str, Body]]
Result = TypeVar("Result")

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
        specs: Sequence[RoundSpec],
        model: Vector,
        *,
        deadline_s: float,
        scale: ReleasedStatistics | None = None,
    ) -> tuple[Collected, ...]:
        """Ask the cohorts of one attempt's groups with `model`; every hospital's share is recorded.

        `scale` are the released statistics by which the study standardises. A group whose sum
        cannot be opened costs the others nothing.
        """
        for spec in specs:
            self.record.round_opened(spec)
        attempts = tuple(self._attempt(spec) for spec in specs)
        under_way = UnderWay(attempts, self._void)
        works = [self._work(spec, scale) for spec in specs]
        take_updates(tuple(zip(attempts, works, strict=True)), model, deadline_s=deadline_s)
        questions = under_way.each(_uploads_closed)
        if specs[0].profile is Profile.DOUBLE_MASK:
            self._open_double_masks(under_way, questions, min(deadline_s, SHORT_DEADLINE_S))
        opened = under_way.each(self._opened)
        return tuple(opened.get(at) or under_way.void[at] for at in range(len(attempts)))

    def _attempt(self, spec: RoundSpec) -> OpenAttempt:
        return OpenAttempt(
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

    def _work(self, spec: RoundSpec, scale: ReleasedStatistics | None) -> Work:
        work = Work(
            spec=spec.to_json(),
            checkpoint=self.record.log.checkpoint(),
            consistency=self.record.heads.proofs(spec.cohort),
            statistics=None if scale is None else scale.to_json(),
        )
        self.record.heads.sent(spec.cohort)
        return work

    def _open_double_masks(
        self, under_way: "UnderWay", questions: Questions, deadline_s: float
    ) -> None:
        """Until what opens the sums is there, of the groups that are not void before."""
        spec = under_way.attempts[0].spec
        if questions and not self.record.study.noises(spec.purpose):
            self.record.asked.note(spec)
        take_signatures(under_way.with_questions(questions), deadline_s=deadline_s)
        questions = under_way.each(_signatures_closed)
        while questions:
            take_reveals(under_way.with_questions(questions), deadline_s=deadline_s)
            still = under_way.each(lambda attempt: attempt.masked.still_needed())
            questions = {at: more for at, more in still.items() if more}

    def _opened(self, attempt: OpenAttempt) -> Collected:
        spec, masked = attempt.spec, attempt.masked
        total = masked.open(threads=threads_here())
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


@dataclass(slots=True)
class UnderWay:
    """The groups of an attempt, by their place; those that `_void` has ended are out."""

    attempts: Sequence[OpenAttempt]
    _end: Callable[[OpenAttempt, str], Collected]
    void: dict[int, Collected] = field(default_factory=dict)

    def each(self, step: Callable[[OpenAttempt], Result]) -> dict[int, Result]:
        """Take one step with every group that is not void; what it returned, by place."""
        done = {}
        for at, attempt in enumerate(self.attempts):
            if at in self.void:
                continue
            try:
                done[at] = step(attempt)
            except (QuorumMissed, ProtocolViolation) as error:
                # Too few are left, or somebody masked for another transcript: nothing was opened.
                reason = f"{error}; missing {attempt.missing()}"
                self.void[at] = self._end(attempt, reason)
        return done

    def with_questions(self, questions: Questions) -> list[Asked]:
        """Whom to ask what, group by group."""
        return [(self.attempts[at], each) for at, each in questions.items()]


def _uploads_closed(attempt: OpenAttempt) -> Mapping[str, Body]:
    _complete_or_raise(attempt)
    return attempt.masked.close_uploads()


def _signatures_closed(attempt: OpenAttempt) -> Mapping[str, Body]:
    _complete_or_raise(attempt)
    return attempt.masked.close_signatures()


def _complete_or_raise(attempt: OpenAttempt) -> None:
    state = attempt.state
    if state.outcome is Outcome.COMPLETE:
        return
    asked = len(state.cohort if state.stage is Stage.UPDATE else attempt.masked.survivors)
    raise QuorumMissed(
        f"{len(state.answered)} of {asked} {_ANSWERS[state.stage]}, {state.threshold} were due"
    )
