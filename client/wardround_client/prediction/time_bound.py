"""Until when a patient is without the event: a lower bound on the time that holds at a stated rate.

The model says how likely the event is by each moment. A patient's level is what it said of the
moment at which the event came; low levels are events that came earlier than expected. The bound of
a new patient is the moment at which the model reaches a level that only a part `error` of patients
falls below: split conformal prediction with levels as scores (Chernozhukov, Wuethrich and Zhu 2021,
Distributional conformal prediction).

Who was lost from sight has no level. Only events count, each as one over the probability of having
been followed up that far: on average they are the early events of all patients. (Candes, Lei and
Ren 2023, Conformalized survival analysis, in the form of Gui, Hore, Ren and Barber 2024, whose
bound adapts to the patient) So it holds where being lost has nothing to do with the event, up to
the error of that probability. The patient in question counts as the heaviest event of them.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wardround.errors import BadInput
from wardround_client.prediction.censoring import stand_in_weights
from wardround_client.prediction.conformal import least_patients

Scores = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class TimeBound:
    """The level that few fall below, and until when it can be told at all.

    `until` is the horizon, or before it the last moment to which enough patients were followed up.
    """

    edges: tuple[float, ...]
    level: float
    until: float

    def of(self, risks: Scores) -> float:
        """The bound of a patient of whom the model says `risks` [edges] until each edge."""
        levels, moments = _curve(risks, self.edges)
        if levels[-1] <= self.level:
            return self.until
        # The first moment at which the level is reached; before the first edge risk rises from 0.
        at = int(np.searchsorted(levels, self.level, side="left"))
        before = max(at - 1, 0)
        rise = levels[at] - levels[before]
        part = (self.level - levels[before]) / rise if rise > 0 else 0.0
        return min(float(moments[before] + part * (moments[at] - moments[before])), self.until)


def time_bound(
    times: Scores, events: Flags, risks: Scores, edges: tuple[float, ...], *, error: float
) -> TimeBound | None:
    """Calibrate on patients [n] with `risks` [n, edges]; None where they are too few to bound any.

    An event at or after the last edge lies behind the horizon. Raises BadInput for an error that is
    not between 0 and 1.
    """
    if not 0.0 < error < 1.0:
        raise BadInput(f"conformal: an error between 0 and 1 was due, {error} came")
    least = least_patients(error)
    if len(times) < least:
        return None
    # Enough are still followed up there that the weights rest on somebody.
    until = min(edges[-1], float(np.sort(times)[-least]))
    early = events & (times < until)
    weights = stand_in_weights(times, events, until)[early]
    levels = np.array(
        [_level(said, edges, time) for said, time in zip(risks[early], times[early], strict=True)]
    )
    level = _largest_level(levels, weights, error * (len(times) + 1))
    return None if level is None or until <= 0.0 else TimeBound(edges, level, until)


def _largest_level(levels: Scores, weights: Scores, room: float) -> float | None:
    """Below it the events weigh, with the patient in question, at most `room`; None without any."""
    if room < (weights.max() if len(weights) else 1.0):
        return None
    order = np.argsort(levels, kind="stable")
    levels, weights = levels[order], weights[order]
    below = np.cumsum(weights) + np.maximum.accumulate(weights)
    # The first event whose falling below the level would be one too many is the level itself.
    over = np.flatnonzero(below > room * (1 + 1e-12))
    return float(levels[over[0]]) if len(over) else math.inf


def _curve(risks: Scores, edges: tuple[float, ...]) -> tuple[Scores, Scores]:
    """Risk and moment at 0 and at each edge; between them risk rises evenly, and never falls."""
    levels = np.maximum.accumulate(np.concatenate([[0.0], risks]))
    return levels, np.concatenate([[0.0], edges])


def _level(risks: Scores, edges: tuple[float, ...], time: float) -> float:
    levels, moments = _curve(risks, edges)
    return float(np.interp(time, moments, levels))
