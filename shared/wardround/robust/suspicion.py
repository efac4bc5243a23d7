"""Which hospital is behind the groups that lie far off: a test that the random draw makes exact.

Groups are drawn anew in every attempt, and no hospital chooses its neighbours. So a hospital that
has nothing to do with it is in a flagged group as often as chance puts it there: in each round
with the share of hospitals that were in flagged groups. Who is there far more often is suspected.
It is no proof: a hospital with unusual patients moves its groups too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

SUSPECTED_BELOW: Final = 1e-3


@dataclass(frozen=True, slots=True)
class GroupedRound:
    """One round that was combined: whose updates are in each group's sum, and which are flagged."""

    groups: tuple[tuple[str, ...], ...]
    flagged: frozenset[int]

    @property
    def chance(self) -> float:
        """With which probability the draw puts one of these hospitals into a flagged group."""
        return sum(len(self.groups[at]) for at in self.flagged) / sum(map(len, self.groups))

    def has(self, hospital: str) -> bool:
        """Whether one of the sums holds its update."""
        return any(hospital in group for group in self.groups)

    def blames(self, hospital: str) -> bool:
        """Whether it is in a flagged group."""
        return any(hospital in self.groups[at] for at in self.flagged)


@dataclass(frozen=True, slots=True)
class Suspected:
    """A hospital that was in flagged groups more often than chance explains.

    `p_value` is after Bonferroni, for the whole roster.
    """

    hospital: str
    flagged: int
    rounds: int
    expected: float
    p_value: float

    def in_words(self) -> str:
        """For the report and whoever watches."""
        return (
            f"its group lay far off in {self.flagged} of {self.rounds} rounds, chance alone gives "
            f"{self.expected:.1f} (p = {self.p_value:.0e}); it stays in the rounds"
        )


def suspected_of(rounds: Sequence[GroupedRound], roster: Sequence[str]) -> tuple[Suspected, ...]:
    """Hospitals of the roster below 1e-3, after Bonferroni, sorted by name.

    One-sided and exact given how many were flagged: in each round a coin with that round's
    chance, in all a Poisson binomial. Nobody is named where nothing but chance is at work, but
    with probability 1e-3 for a whole run.
    """
    tested = (_tested(rounds, hospital, len(roster)) for hospital in sorted(roster))
    return tuple(each for each in tested if each.p_value < SUSPECTED_BELOW)


def tail_probability(chances: Sequence[float], least: int) -> float:
    """That at least so many of independent coins with these chances fall.

    >>> tail_probability([0.5, 0.5], 2)
    0.25
    """
    exactly = [1.0] + [0.0] * len(chances)  # exactly[k]: k of the coins so far
    for thrown, chance in enumerate(chances, start=1):
        for k in range(thrown, 0, -1):
            exactly[k] = exactly[k] * (1.0 - chance) + exactly[k - 1] * chance
        exactly[0] *= 1.0 - chance
    return min(1.0, sum(exactly[least:]))


def _tested(rounds: Sequence[GroupedRound], hospital: str, roster: int) -> Suspected:
    here = [each for each in rounds if each.has(hospital)]
    flagged = sum(each.blames(hospital) for each in here)
    chances = [each.chance for each in here]
    p_value = min(1.0, roster * tail_probability(chances, flagged))
    return Suspected(hospital, flagged, len(here), sum(chances), p_value)
