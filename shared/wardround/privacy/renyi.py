"""Renyi DP of Poisson-sampled Gaussians at integer orders: an upper bound that never cancels.

The divergence is a sum of positive terms here, so nothing is lost where it is tiny, and what
overflows becomes infinity. (The reference implementation turns negative rounding errors and
overflows into an epsilon of 0.)
"""

import math
from collections.abc import Iterable
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from wardround.privacy.mechanism import SampledGaussian

_ORDERS = (*range(2, 65), 72, 80, 96, 112, 128, 192, 256, 384, 512, 1024, 2048, 4096, 8192, 16384)

Divergences = npt.NDArray[np.float64]


class RenyiCurve:
    """Epsilon over delta of a composition, read from its divergences at all orders."""

    def __init__(self, releases: Iterable[SampledGaussian]) -> None:
        self._composed: Divergences = np.zeros(len(_ORDERS))
        for release in releases:
            one = _of_one_step(release.noise_multiplier, release.sampling_rate)
            self._composed = self._composed + release.steps * one

    def get_epsilon_for_delta(self, delta: float) -> float:
        """The least epsilon of all orders.

        (Canonne, Kamath, Steinke 2020, proposition 12)
        """
        orders = np.array(_ORDERS, dtype=float)
        converted = (
            self._composed
            + np.log1p(-1.0 / orders)
            - (math.log(delta) + np.log(orders)) / (orders - 1.0)
        )
        return max(0.0, float(converted.min()))


@lru_cache(maxsize=1024)
def _of_one_step(noise_multiplier: float, sampling_rate: float) -> Divergences:
    """Divergence at each order; infinity where it is beyond a float.

    (Mironov, Talwar, Zhang 2019, section 3.3)
    """
    with np.errstate(over="ignore", divide="ignore", under="ignore"):
        inverse_variance = np.square(np.float64(1.0) / np.float64(noise_multiplier))
        if sampling_rate == 1.0:
            unsampled: Divergences = np.array(_ORDERS, dtype=float) * inverse_variance / 2.0
            return unsampled
        return np.array(
            [_of_one_order(order, inverse_variance, sampling_rate) for order in _ORDERS]
        )


def _of_one_order(order: int, inverse_variance: np.float64, sampling_rate: float) -> float:
    # E[(P/Q)^order] - 1 = sum over k >= 2 of Binomial(order, q)(k) * expm1(k (k - 1) / 2 s^2):
    # the probabilities sum to 1, and the terms of k = 0 and 1 are 0.
    exponent = _pairs(order) * inverse_variance
    growth = exponent + np.log(-np.expm1(-exponent))
    terms = _log_binomial(order, sampling_rate) + growth
    largest = terms.max()
    if not math.isfinite(largest):
        return math.inf if largest > 0 else 0.0
    log_excess = largest + np.log(np.exp(terms - largest).sum())
    return float(np.logaddexp(0.0, log_excess) / (order - 1))


@lru_cache(maxsize=len(_ORDERS))
def _pairs(order: int) -> Divergences:
    k = np.arange(2, order + 1, dtype=float)
    return k * (k - 1.0) / 2.0


@lru_cache(maxsize=len(_ORDERS))
def _log_choose(order: int) -> Divergences:
    from scipy.special import gammaln  # noqa: PLC0415 - heavy, see accounting

    k = np.arange(2, order + 1, dtype=float)
    chosen: Divergences = gammaln(order + 1) - gammaln(k + 1) - gammaln(order - k + 1)
    return chosen


def _log_binomial(order: int, sampling_rate: float) -> Divergences:
    k = np.arange(2, order + 1, dtype=float)
    return (
        _log_choose(order) + k * math.log(sampling_rate) + (order - k) * math.log1p(-sampling_rate)
    )
