"""Intervals for numbers and sets of classes that hold at a stated rate, and who is unlike others.

Split conformal prediction: the only assumption is that the patient is exchangeable with the
hospital's held-out patients that calibrate. Nothing of this leaves the hospital.
"""

import math

import numpy as np
import numpy.typing as npt

from wardround.errors import BadInput

Scores = npt.NDArray[np.float64]


def least_patients(error: float) -> int:
    """How many calibrating patients it takes before an interval can be bounded at all.

    >>> least_patients(0.1), least_patients(0.05)
    (9, 19)
    """
    return math.ceil(round(1.0 / error, 9)) - 1


def quantile(strangeness: Scores, error: float) -> float:
    """What at most a part `error` of exchangeable patients exceeds; infinite when there are few.

    `strangeness` [patients] of those that calibrate. The ceil((n + 1)(1 - error))-th smallest.
    (Lei et al. 2018, Distribution-free predictive inference for regression, algorithm 2)
    """
    if not 0.0 < error < 1.0:
        raise BadInput(f"conformal: an error between 0 and 1 was due, {error} came")
    rank = math.ceil(round((len(strangeness) + 1) * (1.0 - error), 9))
    if rank > len(strangeness):
        return math.inf
    return float(np.partition(strangeness, rank - 1)[rank - 1])


def number_interval(
    value: float, residuals: Scores, *, error: float, most: tuple[float, float]
) -> tuple[float, float]:
    """The interval around a predicted `value`, cut to the contract's range `most`."""
    radius = quantile(np.abs(residuals), error)
    return max(most[0], value - radius), min(most[1], value + radius)


def class_set(probabilities: Scores, of_the_truth: Scores, *, error: float) -> tuple[int, ...]:
    """The classes that cannot be ruled out at this error, by number; perhaps all, perhaps none.

    `probabilities` [classes] of the patient, `of_the_truth` [patients] what the model gave the
    true class of each calibrating patient. (Sadinle, Lei and Wasserman 2019, LAC)
    """
    most = quantile(1.0 - of_the_truth, error)
    return tuple(int(place) for place in np.flatnonzero(1.0 - probabilities <= most))


def p_value(strangeness: float, calibrating: Scores) -> float:
    """How likely a patient like the others is at least as strange: uniform, or above, for them.

    Never below 1 / (n + 1): few patients cannot show that one is unlike them.
    (Vovk, Gammerman and Shafer 2005, Algorithmic learning in a random world, section 2.2)

    >>> p_value(9.0, np.arange(9.0))
    0.1
    """
    return float((1 + np.count_nonzero(calibrating >= strangeness)) / (len(calibrating) + 1))
