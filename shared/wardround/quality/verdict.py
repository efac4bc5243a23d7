"""The verdict on one hospital's data, and the fixed list of reasons for it.

The words are all that leaves a hospital of its data's quality, so there are few of them, and none
says more than it has to: "an outcome is rare" stands for no patient and for ten, because a word for
"one class only" would tell the outcome of everybody who is known to be in the data.
"""

from collections.abc import Iterable
from enum import StrEnum


class Verdict(StrEnum):
    """Whether a study can train on a hospital's data."""

    READY = "ready"
    READY_WITH_REMARKS = "ready with remarks"
    NOT_READY = "not ready"


class Reason(StrEnum):
    """Why; the order is that in which they are told."""

    TOO_FEW = "too few patients"
    OUTCOME_TOO_RARE = "an outcome is too rare"
    TOO_MUCH_MISSING = "too much is missing"
    UNIT_OR_SCALE = "unit or scale"
    OUTCOME_RARE = "an outcome is rare"
    MUCH_MISSING = "much is missing"
    HARDLY_USED = "a range is hardly used"
    DIFFERS = "differs from the others"


STOPPING = frozenset(
    {Reason.TOO_FEW, Reason.OUTCOME_TOO_RARE, Reason.TOO_MUCH_MISSING, Reason.UNIT_OR_SCALE}
)


def verdict_of(reasons: Iterable[Reason]) -> Verdict:
    """What follows from the reasons; without any, the data are ready.

    >>> verdict_of([Reason.DIFFERS]).value
    'ready with remarks'
    >>> verdict_of([Reason.DIFFERS, Reason.TOO_FEW]).value
    'not ready'
    """
    found = set(reasons)
    if found & STOPPING:
        return Verdict.NOT_READY
    return Verdict.READY_WITH_REMARKS if found else Verdict.READY


def in_order(reasons: Iterable[Reason]) -> tuple[Reason, ...]:
    """Each reason once, in the order of the list."""
    found = set(reasons)
    return tuple(reason for reason in Reason if reason in found)
