"""How far an attack gets at most, whatever it does: the f-DP curve of all that was released.

Tighter than epsilon, which is only the worst point of it. Probabilities are rounded up, so that
what is printed never flatters. (Dong, Roth and Su 2019)
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from wardround.audit.report_model import AttackPoint, Figure, Origin, not_available
from wardround.errors import BadInput
from wardround.privacy.mechanism import SampledGaussian
from wardround.privacy.trade_off import COARSE_GRID, composed_trade_off

FALSE_ALARMS: Final = (
    0.0,
    0.001,
    0.002,
    0.005,
    0.01,
    0.02,
    0.03,
    0.05,
    0.07,
    *(round(0.1 + 0.05 * step, 2) for step in range(18)),
    1.0,
)
_TICKS = 1000  # three decimals
_ONE_IN_100 = 0.01


@dataclass(frozen=True, slots=True)
class AttackLimits:
    """The curve in points, and what somebody gets right who guesses for 100 people, 50 of them in.

    Both are empty where no curve is known.
    """

    points: tuple[AttackPoint, ...] = ()
    right_of_100: float | None = None

    def right(self, origin: Origin) -> Figure:
        """`right_of_100` with where it comes from."""
        if self.right_of_100 is None:
            return not_available("no attack curve is known for what was released")
        return Figure(value=self.right_of_100, origin=origin)

    def found_in_words(self) -> str:
        """The curve where it matters, as a natural frequency; empty without one."""
        found = [point.found_most for point in self.points if point.false_alarms == _ONE_IN_100]
        if not found:
            return ""
        return (
            "Of 100 patients in the data and 100 others, an attacker who accuses 1 of the others "
            f"finds on average at most {math.ceil(round(100 * found[0], 6))} of the patients."
        )


@lru_cache(maxsize=64)
def attack_limits(releases: tuple[SampledGaussian, ...]) -> AttackLimits:
    """How far any attack gets on one patient, who was exposed to `releases`.

    Nothing released gives nothing away.
    """
    try:
        curve = composed_trade_off(releases, grid=COARSE_GRID)
    except BadInput:
        return AttackLimits()
    points = tuple(
        AttackPoint(false_alarms=wrong, found_most=_up(curve.right_most(wrong)))
        for wrong in FALSE_ALARMS
    )
    # From one tick to the next the finds rise to the next one's at most: no maximum is missed.
    ticks = [tick / _TICKS for tick in range(_TICKS + 1)]
    finds = [curve.right_most(wrong) for wrong in ticks]
    best = max(found - wrong for found, wrong in zip(finds[1:], ticks, strict=False))
    return AttackLimits(points, min(100.0, math.ceil(round(50.0 + 50.0 * best, 3))))


def _up(share: float) -> float:
    """Three decimals, rounded up, at most 1."""
    return min(1.0, math.ceil(round(share * _TICKS, 4)) / _TICKS)
