"""How much noise there was: a chi-squared test of noise that nothing was added to.

Where the gradient is zero by construction, what a release holds is its noise alone. Its size over
a run, against what the accountant was told, is seen without touching a patient and for free.
"""

import math
from dataclasses import dataclass

from scipy.special import chdtr, chdtrc, gammainccinv, gammaincinv

from wardround.errors import BadInput
from wardround.privacy.verdict import Verdict

VALUES_A_STEP = 512  # that every noising call draws beside those of the parameters
P_VIOLATION = 1e-6
CONFIDENCE = 0.9999
# An audit that could only have seen a larger shortfall than this says nothing.
_SHORTFALL_DUE = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseMeasured:
    """The noise's deviation over the claimed one, with its interval and what that amounts to.

    `shortfall_seen` is the smallest relative shortfall that this many values show at P_VIOLATION
    (with probability one half).
    """

    coordinates: int
    sigma_ratio: float
    sigma_ratio_low: float
    sigma_ratio_high: float
    p_value: float
    shortfall_seen: float
    verdict: Verdict


def noise_measured(coordinates: int, sum_of_squares_over_variance: float) -> NoiseMeasured:
    """Test whether noise values have the deviation that is claimed for them.

    Under the claim the sum is chi-squared. VIOLATION: less noise than claimed, at a two-sided p
    below P_VIOLATION. More noise than claimed breaks no guarantee; its p still shows. PASS needs
    enough values to have seen a shortfall of 5 %; with fewer it is INCONCLUSIVE.

    >>> noise_measured(307_200, 307_200.0).verdict
    <Verdict.PASS: 'PASS'>
    >>> noise_measured(307_200, 0.99**2 * 307_200).verdict
    <Verdict.VIOLATION: 'VIOLATION'>
    >>> noise_measured(100, 90.0).verdict
    <Verdict.INCONCLUSIVE: 'INCONCLUSIVE'>
    """
    total = sum_of_squares_over_variance
    if coordinates < 1 or not 0.0 <= total < math.inf:
        raise BadInput(f"noise measured: {coordinates} values with a sum of {total} came")
    p = min(1.0, 2.0 * min(float(chdtr(coordinates, total)), float(chdtrc(coordinates, total))))
    least = _quantile(coordinates, P_VIOLATION / 2)
    shortfall_seen = 1.0 - math.sqrt(least / coordinates)
    outside = (1.0 - CONFIDENCE) / 2
    return NoiseMeasured(
        coordinates=coordinates,
        sigma_ratio=math.sqrt(total / coordinates),
        sigma_ratio_low=math.sqrt(total / (2.0 * float(gammainccinv(coordinates / 2, outside)))),
        sigma_ratio_high=math.sqrt(total / _quantile(coordinates, outside)),
        p_value=p,
        shortfall_seen=shortfall_seen,
        verdict=_verdict(short=total < least, seen=shortfall_seen <= _SHORTFALL_DUE),
    )


def _verdict(*, short: bool, seen: bool) -> Verdict:
    if short:
        return Verdict.VIOLATION
    return Verdict.PASS if seen else Verdict.INCONCLUSIVE


def _quantile(coordinates: int, probability: float) -> float:
    return 2.0 * float(gammaincinv(coordinates / 2, probability))
