"""What `make bench-rounds` makes of its measurements: ratios within one run, and the goals."""

from collections.abc import Mapping
from dataclasses import dataclass

from wardround.canonical import Json

PLAIN, STOCK = "plain", "stock-flower"


@dataclass(frozen=True, slots=True)
class Case:
    """One thing that is measured."""

    profile: str
    hospitals: int
    parameters: int

    def to_json(self) -> Json:
        """The beginning of its line."""
        return {
            "bench": "rounds",
            "profile": self.profile,
            "hospitals": self.hospitals,
            "parameters": self.parameters,
        }


@dataclass(frozen=True, slots=True)
class Goal:
    """Seconds at most, or so many times faster or slower than `beside` in the same run."""

    case: Case
    beside: str | None = None
    seconds_most: float | None = None
    faster_least: float | None = None
    added_most: float | None = None


# For four hospitals, and 20 with a million parameters, on an idle machine of two cores.
GOALS = (
    Goal(Case("one-trip", 4, 122_570), seconds_most=0.10),
    Goal(Case("double-mask", 4, 122_570), seconds_most=0.20),
    Goal(Case("one-trip", 4, 122_570), beside=STOCK, faster_least=100.0),
    Goal(Case("double-mask", 4, 122_570), beside=STOCK, faster_least=50.0),
    Goal(Case("double-mask", 4, 25_000_000), seconds_most=2.5),
    Goal(Case("double-mask", 20, 1_000_000), seconds_most=2.0),
    Goal(Case("double-mask", 4, 25_000_000), beside=PLAIN, added_most=0.15),
)


def ratios(overhead_s: Mapping[Case, float]) -> list[Json]:
    """How a masked round stands to plain and stock ones of the same size in the same run."""
    lines = []
    for case, seconds in overhead_s.items():
        if case.profile in {PLAIN, STOCK}:
            continue
        plain = overhead_s.get(_beside(case, PLAIN))
        stock = overhead_s.get(_beside(case, STOCK))
        line: Json = {}
        if plain is not None:
            line |= {"plain_s": plain, "added_by_masking": seconds / plain - 1.0}
        if stock is not None:
            line |= {"stock_flower_s": stock, "speedup": stock / seconds}
        if line:
            named = {**case.to_json(), "bench": "rounds-ratio", "overhead_s": seconds}
            lines.append(named | line)
    return lines


def goals(overhead_s: Mapping[Case, float]) -> list[Json]:
    """Each goal whose parts were measured: what was due, what was measured, whether it is met."""
    lines = []
    for goal in GOALS:
        seconds = overhead_s.get(goal.case)
        other = 1.0 if goal.beside is None else overhead_s.get(_beside(goal.case, goal.beside))
        if seconds is not None and other is not None:
            named = {**goal.case.to_json(), "bench": "rounds-goal"}
            lines.append(named | _outcome(goal, seconds, other))
    return lines


def _outcome(goal: Goal, seconds: float, other: float) -> Json:
    if goal.seconds_most is not None:
        line: Json = {"seconds_most": goal.seconds_most, "seconds": seconds}
        return line | {"reached": seconds <= goal.seconds_most}
    if goal.faster_least is not None:
        line = {"times_faster_least": goal.faster_least, "times_faster": other / seconds}
        return line | {"beside": goal.beside, "reached": other / seconds >= goal.faster_least}
    added, most = seconds / other - 1.0, goal.added_most or 0.0
    return {"added_most": most, "added": added, "beside": goal.beside, "reached": added <= most}


def _beside(case: Case, profile: str) -> Case:
    return Case(profile, case.hospitals, case.parameters)
