"""What more rounds of a study would take of a dataset's budget. Pure functions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from wardround.privacy.calibration import (
    MOST_ROUNDS,
    RoundsBought,
    RoundsCost,
    costs_of_rounds,
    repeated,
    round_numbers,
    rounds_of_epsilons,
    rounds_that_keep,
)
from wardround.privacy.mechanism import SampledGaussian
from wardround_client.ledger.budget import epsilon_of
from wardround_client.ledger.releases import Release

_SHARES_OF_WHAT_IS_LEFT = (0.25, 0.5, 0.75, 1.0)
_MOST_ROWS = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is still to come of a study: one training attempt, and the releases beside them."""

    one_attempt: SampledGaussian
    attempts: int
    evaluation: Sequence[SampledGaussian]
    statistics: Sequence[SampledGaussian]
    split: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Rounds against epsilon, both ways. `rounds_that_fit` is what the budget still buys."""

    rounds_that_fit: int
    costs: tuple[RoundsCost, ...]
    bought: tuple[RoundsBought, ...]


def forecast(
    releases: Sequence[Release], plan: Plan, *, budget_epsilon: float, delta: float
) -> Forecast:
    """The two tables for a study on top of all that the dataset has released.

    The study's evaluation and statistics are counted into every row: they come with any round.
    """
    after = _epsilon_after(releases, plan, delta)
    fits = rounds_that_keep(after, budget_epsilon, most=MOST_ROUNDS)
    before = min(after(0), budget_epsilon)
    left = budget_epsilon - before
    ceilings = [before + share * left for share in _SHARES_OF_WHAT_IS_LEFT] if left > 0.0 else []
    numbers = round_numbers(max(fits, plan.attempts), fits, plan.attempts)
    return Forecast(
        rounds_that_fit=fits,
        costs=costs_of_rounds(after, _shortened(numbers, {fits, plan.attempts})),
        bought=rounds_of_epsilons(after, ceilings),
    )


def _epsilon_after(releases: Sequence[Release], plan: Plan, delta: float) -> Callable[[int], float]:
    @cache
    def after(rounds: int) -> float:
        return epsilon_of(
            releases,
            delta=delta,
            training=repeated(plan.one_attempt, rounds),
            evaluation=plan.evaluation,
            statistics=plan.statistics,
            split=plan.split,
        )

    return after


def _shortened(numbers: Sequence[int], due: set[int]) -> list[int]:
    """No more rows than a screen wants: those that are due, and the others evenly."""
    others = [number for number in numbers if number not in due]
    every = -(-len(others) // _MOST_ROWS) or 1
    return sorted({*others[::every], *due})
