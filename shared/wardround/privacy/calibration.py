"""What an epsilon buys, and what rounds cost: for plans before a run, never for its guarantee."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from wardround.errors import BadInput
from wardround.privacy.mechanism import MOST_STEPS, SampledGaussian
from wardround.privacy.search import most_that_keeps

MOST_ROUNDS = 1_000_000
_ROWS = (1, 2, 5)


class RoundsCost(NamedTuple):
    """So many more rounds: epsilon after them, and what the last of them cost."""

    rounds: int
    epsilon_after: float
    epsilon_of_last: float


class RoundsBought(NamedTuple):
    """So many more rounds keep this epsilon."""

    epsilon: float
    rounds: int


def repeated(release: SampledGaussian, rounds: int) -> list[SampledGaussian]:
    """`rounds` equal releases, as few mechanisms as they can be written with."""
    at_once = max(1, MOST_STEPS // release.steps)
    whole, rest = divmod(rounds, at_once)
    sizes = [at_once] * whole + ([rest] if rest else [])
    return [
        SampledGaussian(
            release.noise_multiplier,
            release.sampling_rate,
            release.steps * size,
            release.truncation,
        )
        for size in sizes
    ]


def rounds_that_keep(
    after: Callable[[int], float], epsilon: float, *, most: int = MOST_ROUNDS
) -> int:
    """The greatest number of rounds, up to `most`, with `after(rounds)` at most `epsilon`.

    `after` never falls. Raises BadInput for an epsilon that is none.
    """
    if not 0.0 < epsilon < math.inf:
        raise BadInput(f"epsilon: {epsilon} came, more than 0 was due")
    return most_that_keeps(after, epsilon, most=most, guess=1)


def costs_of_rounds(after: Callable[[int], float], rounds: Iterable[int]) -> tuple[RoundsCost, ...]:
    """A row for each number of rounds: epsilon after it, and the cost of its last round."""
    numbers = sorted({number for number in rounds if number > 0})
    return tuple(
        RoundsCost(number, after(number), after(number) - after(number - 1)) for number in numbers
    )


def rounds_of_epsilons(
    after: Callable[[int], float], epsilons: Iterable[float], *, most: int = MOST_ROUNDS
) -> tuple[RoundsBought, ...]:
    """A row for each epsilon: the rounds that keep it."""
    return tuple(
        RoundsBought(epsilon, rounds_that_keep(after, epsilon, most=most)) for epsilon in epsilons
    )


def round_numbers(most: int, *also: int) -> Sequence[int]:
    """1, 2, 5, 10, 20, ... up to `most`, with `most` itself and the others among them.

    >>> round_numbers(12, 7)
    [1, 2, 5, 7, 10, 12]
    """
    found = {most, *also} - {0}
    power = 1
    while power <= most:
        found.update(power * row for row in _ROWS if power * row <= most)
        power *= 10
    return sorted(number for number in found if number > 0)
