"""One attempt on its way: what every stage of it works on."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from wardround.masking.coordinator_round import CoordinatorRound
from wardround.masking.round_spec import RoundSpec
from wardround.protocol.messages import Body, Refusal, RefusalCode
from wardround_server.rounds.attempt import Absence, Attempt, Stage
from wardround_server.rounds.post import Answer, Post, Silence
from wardround_server.rounds.record import RunRecord
from wardround_server.rounds.uploads import UploadStore


@dataclass(slots=True)
class OpenAttempt:
    """One group of an attempt, or the whole of it where a study has no groups.

    `masked` is what came and what opens it, `state` who is there; the rest is the rim.
    """

    spec: RoundSpec
    masked: CoordinatorRound
    state: Attempt
    post: Post
    record: RunRecord
    identity_keys: Mapping[str, bytes]
    uploads: UploadStore | None

    def without(self, silence: Silence) -> None:
        """Go on without a hospital: out of the sum, or of what opens it."""
        if self.state.stage is Stage.UPDATE:
            if silence.reason in {Absence.REJECTED, Absence.FAILED}:
                reason = silence.detail or silence.reason.value
                self.record.rejected(self.spec, silence.hospital, reason)
            self.record.missed(self.spec, silence)
        else:
            self.record.vanished(self.spec, silence, self.state.stage)
        self.state = self.state.without(silence.hospital, silence.reason)

    def disputed(self, hospital: str, *named: str) -> None:
        """Of `hospital` and each of those named one is at fault: see `Attempt.lost`."""
        for other in named:
            self.state = self.state.disputed(hospital, other)

    def missing(self) -> str:
        """Who is lost and why, for a sentence."""
        lost = sorted(self.state.absent.items())
        return ", ".join(f"{name}: {why}" for name, why in lost) or "nobody"

    def refused(self, hospital: str, refusal: Refusal) -> None:
        """Go on without a hospital that said no."""
        self.record.refused(hospital, refusal)
        self.without(self._refusal(hospital, refusal))

    def _refusal(self, hospital: str, refusal: Refusal) -> Silence:
        if refusal.code is RefusalCode.NO_SESSION:
            # Another process of this hospital answers; the one that joined the session is gone.
            return Silence(hospital, Absence.DISCONNECTED, refusal.code.value)
        named = refusal.hospital
        if named is not None and named in self.spec.cohort and named != hospital:
            self.disputed(hospital, named)
            reason = f"{hospital} says that {named} has signed for another key of their pair"
            self.record.share_rejected(self.spec, named, reason)
        return Silence(hospital, Absence.REFUSED, refusal.code.value)


Asked = tuple[OpenAttempt, Mapping[str, Body]]


def ask_all(
    stage: Stage, asked: Sequence[Asked], *, deadline_s: float
) -> Iterator[tuple[OpenAttempt, Answer]]:
    """Ask those of each group who are not lost, all at once; yield what is neither silence nor no.

    Whoever gave no answer, or refused, is recorded and given up.
    """
    bodies: dict[str, Body] = {}
    for attempt, questions in asked:
        attempt.state = attempt.state.asking(stage, questions)
        bodies |= {name: questions[name] for name in sorted(attempt.state.asked)}
    for attempt, _ in asked[:1]:
        answers = attempt.post.ask_each(bodies, message_type="query", deadline_s=deadline_s)
        yield from answered((attempt for attempt, _ in asked), answers)


def answered(
    attempts: Iterable[OpenAttempt], answers: Iterator[Answer | Silence]
) -> Iterator[tuple[OpenAttempt, Answer]]:
    """Of these the real ones, each with its hospital's group, while it is waited for."""
    group_of = {name: attempt for attempt in attempts for name in attempt.spec.cohort}
    for answer in answers:
        attempt = group_of[answer.hospital]
        if isinstance(answer, Silence):
            attempt.without(answer)
        elif isinstance(answer.body, Refusal):
            attempt.refused(answer.hospital, answer.body)
        else:
            yield attempt, answer
