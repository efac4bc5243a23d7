"""How often a Poisson sample is larger than a batch may be."""

import math

from wardround.errors import BadInput


def truncation_bound(patients_most: int, sampling_rate: float, batch_most: int) -> float:
    """P(Binomial(patients_most, sampling_rate) > batch_most), or more; 1.0 at or below the mean.

    A hospital with fewer patients exceeds the batch less often. All three are public constants.
    The bound is Chernoff's, exp(-n KL(k/n || q)) for k or more, which the exact tail undercuts
    by a factor near sqrt(n), and which every computer evaluates alike. (Hoeffding 1963, theorem 1)

    >>> truncation_bound(1000, 0.05, 1000)
    0.0
    >>> 1e-13 < truncation_bound(1000, 0.05, 110) < 1e-12
    True
    """
    if patients_most < 1 or batch_most < 1 or not 0.0 < sampling_rate <= 1.0:
        raise BadInput(
            f"truncation: at most {batch_most} of {patients_most} patients at rate "
            f"{sampling_rate:g}; at least 1 of each and a rate up to 1 were due"
        )
    if batch_most >= patients_most:
        return 0.0
    share = (batch_most + 1) / patients_most
    if share <= sampling_rate:
        return 1.0
    divergence = share * math.log(share / sampling_rate)
    if share < 1.0:
        divergence += (1.0 - share) * math.log((1.0 - share) / (1.0 - sampling_rate))
    return min(1.0, math.exp(-patients_most * divergence))
