"""What may be told of a count of patients: small ones are hidden, others are rounded.

Fewer than 11 is the cell size that the US Centers for Medicare & Medicaid Services hide; nearest 5
is how NHS England rounds hospital statistics. Together they leave no cell to be had by subtraction:
with a whole of 40 and a part of 35 the rest may be 1 to 9. No epsilon covers such a count.
"""

FEW = 11
STEP = 5
LEAST_TOLD = 15


def told(count: int) -> int | None:
    """The count as it may be told: None below 11, else to the nearest 5, 15 at least.

    >>> [told(count) for count in (0, 10, 11, 17, 18, 403)]
    [None, None, 15, 15, 20, 405]
    """
    if count < FEW:
        return None
    return max(LEAST_TOLD, STEP * ((count + STEP // 2) // STEP))


def bounds(said: int | None) -> tuple[int, int]:
    """The least and the most that a count was which is told like this.

    >>> bounds(None), bounds(15), bounds(40)
    ((0, 10), (11, 17), (38, 42))
    """
    if said is None:
        return 0, FEW - 1
    low = FEW if said == LEAST_TOLD else said - STEP // 2
    return low, said + STEP // 2
