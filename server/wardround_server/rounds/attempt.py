"""One try at a round, as pure state: no socket, no clock, no file (PROTOCOL.md, "A round").

A cohort of hospitals is asked. When all of them have answered the attempt is complete; when one
is missing the sum cannot be opened and the attempt is void.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from wardround.errors import QuorumMissed


class Outcome(StrEnum):
    """Where an attempt stands."""

    OPEN = "open"
    COMPLETE = "complete"
    VOID = "void"


class Absence(StrEnum):
    """Why a hospital of the cohort did not contribute."""

    DEADLINE = "deadline"
    DISCONNECTED = "disconnected"
    REFUSED = "refused"
    FAILED = "failed"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """Who was asked, who answered, who is missing and why."""

    round: int
    number: int
    cohort: tuple[str, ...]
    answered: frozenset[str] = frozenset()
    absent: dict[str, Absence] = field(default_factory=dict)

    @property
    def waiting_for(self) -> frozenset[str]:
        """Hospitals that have neither answered nor been given up."""
        return frozenset(self.cohort) - self.answered - self.absent.keys()

    @property
    def outcome(self) -> Outcome:
        """VOID as soon as one hospital is lost: pairwise masks need the whole cohort."""
        if self.absent:
            return Outcome.VOID
        return Outcome.OPEN if self.waiting_for else Outcome.COMPLETE

    def with_answer(self, hospital: str) -> "Attempt":
        """Record a checked answer of a hospital that is still waited for."""
        self._must_wait_for(hospital)
        return replace(self, answered=self.answered | {hospital})

    def without(self, hospital: str, reason: Absence) -> "Attempt":
        """Give a hospital up."""
        self._must_wait_for(hospital)
        return replace(self, absent={**self.absent, hospital: reason})

    def _must_wait_for(self, hospital: str) -> None:
        if hospital not in self.waiting_for:
            raise ValueError(
                f"round {self.round}, attempt {self.number}: not waiting for {hospital}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a run stands between attempts; a checkpoint holds exactly this beside the model."""

    round: int
    attempt: int
    spare_attempts: int

    def after_void(self, attempt: Attempt) -> "Progress":
        """Go on to the next attempt of the same round. Raises QuorumMissed when none is left."""
        if self.spare_attempts == 0:
            lost = ", ".join(f"{name} ({reason})" for name, reason in attempt.absent.items())
            raise QuorumMissed(
                f"round {self.round}: attempt {self.attempt} is void, missing {lost or 'nobody'}; "
                "the study has no spare attempt left"
            )
        return replace(self, attempt=self.attempt + 1, spare_attempts=self.spare_attempts - 1)

    def after_complete(self) -> "Progress":
        """Go on to the next round."""
        return replace(self, round=self.round + 1, attempt=1)


def cohort_for(
    present: frozenset[str], *, quorum: int, round_number: int, absent: Mapping[str, str]
) -> tuple[str, ...]:
    """Choose whom to ask: everybody who is there.

    Raises QuorumMissed below the quorum, naming who is `absent` and why.
    """
    if len(present) < quorum:
        lost = ", ".join(f"{name} ({why})" for name, why in sorted(absent.items()))
        raise QuorumMissed(
            f"round {round_number}: {len(present)} hospitals are there, the quorum is {quorum}; "
            f"missing {lost or 'nobody'}"
        )
    return tuple(sorted(present))
