"""The noise of training, and a probe of it that shows how much there really was."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from wardround.errors import BadInput
from wardround.noise import discrete_gaussian, gaussian
from wardround.privacy.noise_measured import VALUES_A_STEP as PROBE_VALUES

__all__ = ["PROBE_VALUES", "NoiseProbe", "discrete_gaussian", "gaussian"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseProbe:
    """Noise that was drawn with that of the release and never left: its size against the claim.

    When the noise is what is claimed, `sum_of_squares_over_variance` is chi-squared with `count`
    degrees of freedom. It tells nothing of a patient.
    """

    count: int
    sum_of_squares_over_variance: float = field(repr=False)

    @classmethod
    def of(cls, values: npt.NDArray[np.floating | np.integer], *, variance: float) -> "NoiseProbe":
        """Measure noise values against the variance that is claimed for them."""
        if not 0.0 < variance < math.inf:
            raise BadInput(f"noise probe: variance {variance} came, more than 0 was due")
        # Divided first: lanes squared would pass the end of int64.
        scaled = values.astype(np.float64) / math.sqrt(variance)
        return cls(count=len(values), sum_of_squares_over_variance=float(scaled @ scaled))

    @classmethod
    def together(cls, probes: Iterable["NoiseProbe"]) -> "NoiseProbe":
        """The probes of several steps as one.

        >>> one = NoiseProbe.of(np.array([2, -2]), variance=4.0)
        >>> NoiseProbe.together([one, one]) == NoiseProbe(
        ...     count=4, sum_of_squares_over_variance=4.0
        ... )
        True
        """
        all_of_them = tuple(probes)
        return cls(
            count=sum(probe.count for probe in all_of_them),
            sum_of_squares_over_variance=math.fsum(
                probe.sum_of_squares_over_variance for probe in all_of_them
            ),
        )
