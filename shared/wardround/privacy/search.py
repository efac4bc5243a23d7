"""Whole-number searches along an epsilon: few evaluations, since each one is a convolution."""

import math
from collections.abc import Callable

_STEEPEST_ERROR = 50.0  # logarithm of value over limit, cut here: 0 and infinity have none
_SECANTS = 10  # then halve: a secant may creep where the value jumps


def least_that_keeps(
    value: Callable[[int], float], limit: float, *, least: int, most: int, guess: int
) -> int | None:
    """The least whole number from `least` to `most` where a falling `value` is at most `limit`.

    None when there is none. The answer keeps the limit and the number below it does not, also
    where the value's last digits waver.
    """
    start = min(max(guess, least), most)
    failing = _last_before_crossing(value, limit, below=least - 1, above=most + 1, start=start)
    return failing + 1 if failing < most else None


def most_that_keeps(value: Callable[[int], float], limit: float, *, most: int, guess: int) -> int:
    """The greatest number from 1 to `most` where a rising `value` is at most `limit`, or 0."""
    start = min(max(guess, 1), most)
    return _last_before_crossing(
        value, limit, below=0, above=most + 1, start=start, rising=True, elasticity=0.5
    )


def _last_before_crossing(
    value: Callable[[int], float],
    limit: float,
    *,
    below: int,
    above: int,
    start: int,
    rising: bool = False,
    elasticity: float = -1.0,
) -> int:
    """Narrow (`below`, `above`) to two neighbours between which the limit is crossed.

    Secants of log(value) over log(number): an epsilon is close to a power of noise and of rounds.
    """
    place, last = start, None
    for turn in range(10_000):
        spent = value(place)
        error = _log_ratio(spent, limit)
        if (spent <= limit) == rising:
            below = place
        else:
            above = place
        if above - below <= 1:
            return below
        if last is not None and last[1] != error:
            elasticity = (error - last[1]) / (math.log(place) - math.log(last[0]))
        last = (place, error)
        if turn < _SECANTS and elasticity:
            target = math.log(place) - error / elasticity
        else:
            target = 0.5 * (math.log(max(below, 1)) + math.log(above))
        place = _inside(target, below, above)
    raise AssertionError("the search did not end")  # pragma: no cover - each turn narrows it


def _inside(log_place: float, below: int, above: int) -> int:
    nearest = round(math.exp(min(log_place, math.log(above))))
    return min(max(nearest, below + 1), above - 1)


def _log_ratio(spent: float, limit: float) -> float:
    if spent <= 0.0:
        return -_STEEPEST_ERROR
    return min(max(math.log(spent) - math.log(limit), -_STEEPEST_ERROR), _STEEPEST_ERROR)
