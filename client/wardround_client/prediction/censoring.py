"""Who stands in for the patients of a prognosis that were lost from sight.

Whose status at an edge is known is no fair sample: an early event is always seen, a long follow-up
seldom. So each of them counts as one over the probability of being followed up that far: then they
are, on average, all patients. It holds where being lost has nothing to do with the event, and up
to the error of that probability, which is estimated from the same patients. (Robins and Rotnitzky
1992; Graf et al. 1999, section 4)
"""

import numpy as np
import numpy.typing as npt

from wardround.evaluation.kaplan_meier import kaplan_meier

Scores = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


def known_at(times: Scores, events: Flags, edge: float) -> tuple[Flags, Flags]:
    """Whose status at `edge` is known, and who of these had the event before it: [patients] each.

    Known is who had the event before the edge, or was followed up to it.
    """
    had = events & (times < edge)
    return had | (times >= edge), had


def stand_in_weights(times: Scores, events: Flags, edge: float) -> Scores:
    """[patients]: 1 / G(min(time, edge)-) of each whose status at `edge` is known, 0 of the others.

    G is Kaplan and Meier's curve of censoring over these patients; of one time, events come first.
    Without a patient lost before the edge every weight is 1.
    """
    known, _ = known_at(times, events, edge)
    weights = np.zeros(len(times))
    weights[known] = 1.0 / _followed_up(times, events, np.minimum(times, edge)[known])
    return weights


def _followed_up(times: Scores, events: Flags, at: Scores) -> Scores:
    """G(at-): the probability of not being lost before each time of `at`."""
    moments, place = np.unique(times, return_inverse=True)
    # Two bins for each moment, events before censorings: no bin has both.
    died, lost = (np.zeros(2 * len(moments), dtype=np.int64) for _ in range(2))
    np.add.at(died, 2 * place[events], 1)
    np.add.at(lost, 2 * place[~events] + 1, 1)
    curve = np.append(1.0, kaplan_meier(lost, died).survival)
    followed: Scores = curve[2 * np.searchsorted(moments, at)]
    return followed
