"""Small cells in a table that people read."""

from collections.abc import Sequence

SMALLEST_SHOWN = 5
TOO_SMALL = f"<{SMALLEST_SHOWN}"
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
