"""Is a map about what the network learned? It is compared with those of random weights."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from wardround_client.explanation.subject import Subject

Map = npt.NDArray[np.floating]
NETWORKS = 5
LEAST_RANKS = 8  # of fewer parts, chance alone makes any rank correlation
HIGH = 0.7
_SEED = b"sanity"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sanity:
    """The mean rank correlation, -1 to 1, of a map's sizes with those of random networks' maps.

    None where there are too few parts to rank, or `constant`: the map is the same everywhere.
    """

    correlation: float | None
    constant: bool = False

    @property
    def warning(self) -> str | None:
        """Why the map is not to be trusted, or None."""
        if self.constant:
            return "The map is the same everywhere: it says nothing."
        if self.correlation is not None and self.correlation >= HIGH:
            return (
                "The map looks like that of a network with random weights: it shows the input "
                "more than what was learned. Do not rely on it."
            )
        return None

    def line(self) -> str:
        """The number in a sentence."""
        if self.correlation is None:
            few = "" if self.constant else f", fewer than {LEAST_RANKS} parts"
            return f"likeness to maps of random weights: NA{few}"
        return f"likeness to maps of random weights: {self.correlation:.2f} (1: the same)"


def sanity(
    subject: Subject, own: Map, explain: Callable[[Subject], Map], *, networks: int = NETWORKS
) -> Sanity:
    """Compare `own` with what `explain` gives for networks of random weights.

    Sizes count, not signs: a random network is as often for as against. (Adebayo et al. 2018,
    Sanity checks for saliency maps, section 3)
    """
    if own.size and not np.ptp(own):
        return Sanity(correlation=None, constant=True)
    if own.size < LEAST_RANKS:
        return Sanity(correlation=None)
    found = []
    for number in range(networks):
        other = explain(subject.with_random_weights(_SEED + str(number).encode()))
        found.append(rank_correlation(np.abs(own), np.abs(other)))
    # A random network whose map is empty is unlike any other.
    return Sanity(correlation=fmean(value or 0.0 for value in found))


def rank_correlation(one: Map, other: Map) -> float | None:
    """Spearman's, of two maps of one shape; None when one of them is constant.

    >>> rank_correlation(np.array([1.0, 2.0, 3.0]), np.array([2.0, 4.0, 9.0]))
    1.0
    """
    ranks = [rankdata(values.ravel()) for values in (one, other)]
    apart = [values - values.mean() for values in ranks]
    sizes = [float(np.linalg.norm(values)) for values in apart]
    if min(sizes) == 0.0:
        return None
    return round(float(apart[0] @ apart[1]) / (sizes[0] * sizes[1]), 12)
