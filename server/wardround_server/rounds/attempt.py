"""One try at a round, as pure state: no socket, no clock, no file (PROTOCOL 6).

A cohort of hospitals is asked for updates, the survivors for signatures, and those for what opens
the sum. A stage is complete with as many answers as the threshold; with fewer the attempt is void,
and nothing was opened. Whether what was revealed is enough, `CoordinatorRound` judges.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from wardround.errors import QuorumMissed


class Outcome(StrEnum):
    """Where a stage of an attempt stands."""

    OPEN = "open"
    COMPLETE = "complete"
    VOID = "void"


class Stage(StrEnum):
    """What is waited for: masked updates, signatures under the survivors, what opens the sum."""

    UPDATE = "update"
    SIGNED = "signed"
    REVEALED = "revealed"


class Absence(StrEnum):
    """Why a hospital of the cohort did not contribute."""

    DEADLINE = "deadline"
    DISCONNECTED = "disconnected"
    REFUSED = "refused"
    FAILED = "failed"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """Who was asked in this stage, who answered, who is missing since which stage and why.

    `threshold` answers are due at every stage: all of the cohort with one trip.
    """

    round: int
    number: int
    cohort: tuple[str, ...]
    threshold: int
    stage: Stage = Stage.UPDATE
    asked: frozenset[str] = frozenset()
    answered: frozenset[str] = frozenset()
    absent: dict[str, Absence] = field(default_factory=dict)
    disputes: frozenset[tuple[str, str]] = frozenset()

    def __post_init__(self) -> None:
        if self.stage is Stage.UPDATE:
            object.__setattr__(self, "asked", frozenset(self.cohort))

    @property
    def waiting_for(self) -> frozenset[str]:
        """Hospitals that have neither answered this stage nor been given up."""
        return self.asked - self.answered - self.absent.keys()

    @property
    def outcome(self) -> Outcome:
        """VOID as soon as too few can still answer, COMPLETE when nobody is waited for."""
        if len(self.answered | self.waiting_for) < self.threshold:
            return Outcome.VOID
        return Outcome.OPEN if self.waiting_for else Outcome.COMPLETE

    @property
    def asked_to_sign(self) -> bool:
        """Whether a hospital may have signed survivors, so that the sum may be known."""
        return self.stage is not Stage.UPDATE

    def asking(self, stage: Stage, hospitals: Iterable[str]) -> "Attempt":
        """Go on to a later stage, or ask once more in this one, with those who are not lost."""
        return replace(
            self,
            stage=stage,
            asked=frozenset(hospitals) - self.absent.keys(),
            answered=frozenset(),
        )

    def with_answer(self, hospital: str) -> "Attempt":
        """Record a checked answer of a hospital that is still waited for."""
        self._must_wait_for(hospital)
        return replace(self, answered=self.answered | {hospital})

    def without(self, hospital: str, reason: Absence) -> "Attempt":
        """Give a hospital up."""
        self._must_wait_for(hospital)
        return replace(self, absent={**self.absent, hospital: reason})

    def disputed(self, hospital: str, named: str) -> "Attempt":
        """`hospital` refuses because of `named`: one of the two is at fault, nobody knows which."""
        return replace(self, disputes=self.disputes | {(hospital, named)})

    def lost(self) -> dict[str, Absence]:
        """Who is left out of what follows: the absent, and of a dispute whoever is blamed.

        Who refused only because of others, and is not blamed, takes part again.
        """
        blamed = blamed_in(self.disputes)
        accusers = {accuser for accuser, _ in self.disputes} - blamed
        lost = {name: why for name, why in self.absent.items() if name not in accusers}
        return {**lost, **dict.fromkeys(sorted(blamed), Absence.REJECTED)}

    def _must_wait_for(self, hospital: str) -> None:
        if hospital not in self.waiting_for:
            raise ValueError(
                f"round {self.round + 1}, attempt {self.number}: not waiting for {hospital}"
            )


def whole(groups: Sequence[Attempt]) -> Attempt:
    """The groups of one attempt as one: who was asked, who is lost, and how far any of them got.

    A single group is returned as it is. It is for what comes after the attempt, not for its stages.
    """
    if len(groups) == 1:
        return groups[0]
    stages = list(Stage)
    return Attempt(
        round=groups[0].round,
        number=groups[0].number,
        cohort=tuple(sorted(name for group in groups for name in group.cohort)),
        threshold=sum(group.threshold for group in groups),
        stage=max((group.stage for group in groups), key=stages.index),
        absent={name: why for group in groups for name, why in group.absent.items()},
        disputes=frozenset().union(*(group.disputes for group in groups)),
    )


def blamed_in(disputes: Iterable[tuple[str, str]]) -> frozenset[str]:
    """Without whom no dispute is left: again and again whoever is in most, all that are level.

    One liar among honest hospitals is in every dispute and goes alone; of a single pair both go.

    >>> sorted(blamed_in([("b", "a"), ("c", "a"), ("d", "a")])), sorted(blamed_in([("b", "a")]))
    (['a'], ['a', 'b'])
    """
    left = {frozenset(pair) for pair in disputes}
    blamed: set[str] = set()
    while left:
        counts = Counter(name for pair in left for name in pair)
        most = max(counts.values())
        worst = {name for name, count in counts.items() if count == most}
        blamed |= worst
        left = {pair for pair in left if not pair & worst}
    return frozenset(blamed)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a run stands between attempts; a checkpoint holds exactly this beside the model."""

    round: int
    attempt: int
    spare_attempts: int

    def after_void(self, attempt: Attempt, *, noised: bool) -> "Progress":
        """Go on to the next attempt of the same round. Raises QuorumMissed when none is left.

        Where no noise is in the sum, none is left either once hospitals were asked to sign: the
        difference of two sums of one round could be one hospital's update (PROTOCOL 9.6).
        """
        lost = ", ".join(f"{name} ({reason})" for name, reason in attempt.absent.items())
        void = f"attempt {self.attempt} is void, missing {lost or 'nobody'}"
        where = f"round {self.round + 1}: {void}"
        if attempt.asked_to_sign and not noised:
            raise QuorumMissed(
                f"{where}; hospitals were asked to sign its survivors, and without noise a second "
                "sum of one round could open one hospital's update: the run ends here"
            )
        if self.spare_attempts == 0:
            raise QuorumMissed(f"{where}; the study has no spare attempt left")
        return replace(self, attempt=self.attempt + 1, spare_attempts=self.spare_attempts - 1)

    def after_stop(self, opened: int) -> "Progress":
        """Go on after the coordinator stopped, when attempts up to `opened` were asked for."""
        spent = max(0, opened - self.attempt + 1)
        left = max(0, self.spare_attempts - spent)
        return replace(self, attempt=self.attempt + spent, spare_attempts=left)

    def after_complete(self) -> "Progress":
        """Go on to the next round."""
        return replace(self, round=self.round + 1, attempt=1)


def cohort_for(
    present: frozenset[str], *, quorum: int, where: str, absent: Mapping[str, str]
) -> tuple[str, ...]:
    """Choose whom to ask: everybody who is there. `where` is the round in words.

    Raises QuorumMissed below the quorum, naming who is `absent` and why.
    """
    if len(present) < quorum:
        lost = ", ".join(f"{name} ({why})" for name, why in sorted(absent.items()))
        raise QuorumMissed(
            f"{where}: {len(present)} hospitals are there, the quorum is {quorum}; "
            f"missing {lost or 'nobody'}"
        )
    return tuple(sorted(present))
