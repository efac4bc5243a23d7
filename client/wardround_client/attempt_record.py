"""The last attempt of a study that this hospital answered, on disk before anything of it leaves."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from wardround.canonical import Json, canonical_bytes
from wardround.durable import write_durably
from wardround.masking.fields import exact_fields
from wardround.masking.round_spec import RoundSpec
from wardround.protocol.messages import RefusalCode
from wardround.study.manifest import Study
from wardround_client.home import HospitalHome, read_state
from wardround_client.refusal import StudyRefused
from wardround_client.restored import LoggedAttempt, refuse_a_restored_attempt


@dataclass(frozen=True, slots=True, kw_only=True)
class LastAttempt:
    """One attempt: where it stands (`RoundSpec.place`), its transcript, whom we signed.

    `survivors` are None until a set was written down; `after` is the transcript of the last
    attempt in the evidence log when this one began, None for the first.
    """

    place: int
    attempt: int
    transcript: str
    after: str | None
    survivors: tuple[str, ...] | None = None

    def to_json(self) -> Json:
        """The fields as they lie on disk."""
        survivors = None if self.survivors is None else list(self.survivors)
        return {
            "place": self.place,
            "attempt": self.attempt,
            "transcript": self.transcript,
            "after": self.after,
            "survivors": survivors,
        }

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Read what `to_json` wrote. Raises ProtocolViolation for other fields."""
        names = ("place", "attempt", "transcript", "after", "survivors")
        fields = exact_fields(value, names, what="attempt record")
        survivors = fields["survivors"]
        return cls(**fields | {"survivors": None if survivors is None else tuple(survivors)})


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """What must survive a crash of one study's rounds, in any run of it.

    It is written before anything leaves, so a hospital that crashed never answers an attempt
    twice, and a second run of a study never starts again from its first model. The survivors are
    written before their signature leaves, so two sets of one attempt are never both signed.
    """

    home: HospitalHome
    study: Study

    def last(self) -> LastAttempt | None:
        """The last attempt; None before the first."""
        state = read_state(self._file)
        return None if state is None else LastAttempt.from_json(state)

    def refuse_if_restored(self, logged: LoggedAttempt) -> None:
        """Raise VerificationFailed when the file is not the one that the evidence log goes with."""
        last = self.last()
        refuse_a_restored_attempt(
            transcript=None if last is None else last.transcript,
            after=None if last is None else last.after,
            survivors=None if last is None else last.survivors,
            logged=logged,
            study=self.study.name,
        )

    def check(self, spec: RoundSpec) -> None:
        """Refuse what is not newer than the last one. Raises StudyRefused.

        Where the sum opens what is not noised, a second attempt is refused once a set of
        survivors was signed: the two sums' difference would be that of single updates. Before
        that it is safe: of two sets that open, the second holds less than a third of the first.
        (PROTOCOL 9.6)
        """
        last = self.last()
        if last is None:
            return
        where = spec.where
        if (spec.place, spec.attempt) <= (last.place, last.attempt):
            raise StudyRefused(
                RefusalCode.REPLAY,
                f"{where}: place {last.place}, attempt {last.attempt} was answered",
            )
        signed = spec.place == last.place and last.survivors is not None
        if signed and not self.study.noises(spec.purpose):
            raise StudyRefused(
                RefusalCode.SECOND_ATTEMPT,
                f"{where}: survivors of attempt {last.attempt} were signed, and no noise covers "
                "a second sum",
            )

    def begin(self, spec: RoundSpec, logged: LoggedAttempt) -> None:
        """Remember this attempt; it is on disk when this returns."""
        self._write(
            LastAttempt(
                place=spec.place,
                attempt=spec.attempt,
                transcript=spec.transcript().hex(),
                after=logged.transcript,
            )
        )

    def check_survivors(self, transcript: str, survivors: Sequence[str]) -> None:
        """Refuse survivors of another attempt than the last, or others than were written down.

        Raises StudyRefused.
        """
        self._due(transcript, tuple(survivors))

    def sign(self, transcript: str, survivors: Sequence[str]) -> None:
        """Write these survivors down, for ever; they are on disk when this returns.

        Raises StudyRefused as `check_survivors` does. The same ones again change nothing.
        """
        last = self._due(transcript, tuple(survivors))
        if last.survivors is None:
            self._write(replace(last, survivors=tuple(survivors)))

    def _due(self, transcript: str, survivors: tuple[str, ...]) -> LastAttempt:
        last = self.last()
        if last is None or last.transcript != transcript:
            raise StudyRefused(
                RefusalCode.SURVIVORS, f"survivors: {transcript} is not our last attempt"
            )
        if last.survivors is not None and last.survivors != survivors:
            raise StudyRefused(
                RefusalCode.SECOND_SURVIVORS,
                f"survivors: other ones of {transcript} were written down before",
            )
        return last

    def _write(self, last: LastAttempt) -> None:
        write_durably(self._file, canonical_bytes(last.to_json()))

    @property
    def _file(self) -> Path:
        return self.home.attempt_file(self.study.digest)
