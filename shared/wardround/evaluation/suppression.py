"""Small cells in a table that people read."""

from collections.abc import Sequence
from enum import StrEnum

import numpy as np

SMALLEST_SHOWN = 5
TOO_SMALL = f"<{SMALLEST_SHOWN}"
WITHHELD = "withheld"


class Standing(StrEnum):
    """Whether a group of patients is shown apart, and why not."""

    SHOWN = "shown"
    NOBODY = "nobody counted"
    TOO_FEW = "too few"
    WITHHELD = "withheld"


def shown_count(count: int) -> str:
    """The count, or `<5` below five (zero included: "nobody" can be about somebody).

    >>> shown_count(12), shown_count(4), shown_count(0)
    ('12', '<5', '<5')
    """
    return str(count) if count >= SMALLEST_SHOWN else TOO_SMALL


def shown_row(counts: Sequence[int]) -> list[str]:
    """A row whose total is printed: one small cell alone could be had by subtraction.

    So the smallest other cell is withheld with it.

    >>> shown_row([40, 3, 12])
    ['40', '<5', 'withheld']
    >>> shown_row([40, 3, 2])
    ['40', '<5', '<5']
    """
    shown = [shown_count(count) for count in counts]
    if shown.count(TOO_SMALL) == 1 and len(counts) > 1:
        others = [at for at, text in enumerate(shown) if text != TOO_SMALL]
        shown[min(others, key=lambda at: counts[at])] = WITHHELD
    return shown


def standings(
    cells: Sequence[tuple[int, ...]], smallest: int, *, exact: bool
) -> tuple[Standing, ...]:
    """Which groups may be shown apart, from their patients of each outcome; the total is known.

    A group of fewer than `smallest` of any outcome is not; an empty one has nobody to protect.
    Exact counts: what is hidden must not come out by subtraction from the total, so the smallest
    shown ones are withheld until the hidden ones together are large enough, or nothing is shown.
    Noised counts: no subtraction gets past the noise, and a small one only says too little.

    >>> [s.value for s in standings([(40, 12), (30, 9), (20, 2), (0, 0)], 5, exact=True)]
    ['shown', 'withheld', 'too few', 'nobody counted']
    """
    said = [_alone(cell, smallest, exact=exact) for cell in cells]
    while exact:
        hidden = [cells[at] for at, word in enumerate(said) if word in _HIDDEN]
        shown = [at for at, word in enumerate(said) if word is Standing.SHOWN]
        if not hidden or not shown or np.sum(hidden, axis=0).min() >= smallest:
            break
        said[min(shown, key=lambda at: (min(cells[at]), sum(cells[at])))] = Standing.WITHHELD
    return tuple(said)


def told_at_the_source(cells: Sequence[tuple[int, ...]], smallest: int) -> tuple[bool, ...]:
    """Which groups of one hospital are counted apart, from their patients of each outcome.

    Everybody else is counted together, and an empty group is as good as told. A group of fewer than
    `smallest` of any outcome is not told, and at least one large one with it. Which one does not
    depend on how large it is: they go from the last on, who is not known first. They go on until
    the hidden ones, S small and L large, have S * (smallest - 1) + L * smallest patients of each
    outcome, or nothing is left to tell. Then whoever has the counts and knows this rule learns of
    no hidden group how many patients it has (decision 0024; a test tries all tables).

    >>> told_at_the_source([(40, 12), (20, 2), (30, 9), (0, 0)], 5)
    (True, False, False, True)
    """
    small = [any(cell) and min(cell) < smallest for cell in cells]
    told = [not few for few in small]
    least = sum(small) * (smallest - 1)
    if not any(small):
        return tuple(told)
    hidden = np.sum([cell for cell, few in zip(cells, small, strict=True) if few], axis=0)
    for at in reversed(range(len(cells))):
        if not told[at] or not any(cells[at]):
            continue
        told[at], hidden, least = False, hidden + np.array(cells[at]), least + smallest
        if hidden.min() >= least:
            break
    return tuple(told)


def _alone(cell: tuple[int, ...], smallest: int, *, exact: bool) -> Standing:
    if exact and not any(cell):
        return Standing.NOBODY
    return Standing.SHOWN if min(cell) >= smallest else Standing.TOO_FEW


_HIDDEN = {Standing.TOO_FEW, Standing.WITHHELD}
