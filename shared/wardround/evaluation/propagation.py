"""What noise on counts does to a metric: the same digits for every reader, no simulation."""

import math
from collections.abc import Callable

import numpy as np

from wardround.evaluation.histograms import Counts
from wardround.evaluation.intervals import Z_95

Metric = Callable[[Counts], float | None]


def noise_spread(metric: Metric, cells: Counts, cell_noise_sd: float) -> float | None:
    """Half of the 95 % interval of the noise, by linear propagation.

    1.96 standard deviations, from central differences of one standard deviation in each cell.
    None where the metric is not available after such a change: then nothing is known.
    """
    step = max(1, round(cell_noise_sd))
    changes = []
    moved = cells.copy()
    for cell in np.ndindex(cells.shape):
        moved[cell] = cells[cell] + step
        more = metric(moved)
        moved[cell] = cells[cell] - step
        less = metric(moved)
        moved[cell] = cells[cell]
        if more is None or less is None:
            return None
        changes.append((more - less) / (2 * step))
    return Z_95 * cell_noise_sd * math.sqrt(math.fsum(change**2 for change in changes))
