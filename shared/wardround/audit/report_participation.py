"""Who took part, as report.json holds it (a part of `report_model`)."""

from typing import Literal

from wardround.audit.report_figure import Figure, Place, Text
from wardround.study.contract import Frozen


class AttemptFacts(Frozen):
    """One attempt of one round: who took part, how it ended, and whose updates are in its sum.

    `threshold` is how many of those who were asked had to answer to the end.
    """

    round: int
    attempt: int
    purpose: Literal["statistics", "train", "evaluate"]
    outcome: Literal["closed", "void", "interrupted"]
    reason: Text
    profile: Literal["double-mask", "one-trip"]
    threshold: int
    in_sum: tuple[str, ...]
    presence: dict[str, str]
    place: Place


class Absent(Frozen):
    """A hospital that did not contribute to an attempt or to the run, and why."""

    hospital: str
    since: Text
    reason: Text


class Suspicion(Frozen):
    """A hospital that revealed what did not fit what had been committed to, and what that was.

    Where it is a share of another's key, `reason` names that hospital too: one of the two is wrong.
    """

    hospital: str
    since: Text
    reason: Text


class Participation(Frozen):
    """Who was planned, who took part, who was missing."""

    verdict: Literal["everybody", "somebody was missing", "stopped early"]
    headline: Text
    planned: tuple[str, ...]
    completed: tuple[str, ...]
    absent: tuple[Absent, ...]
    suspected: tuple[Suspicion, ...]
    rounds_closed: Figure
    attempts: tuple[AttemptFacts, ...]
