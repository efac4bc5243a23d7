"""Estimates from noised sums, each with a 95 % interval for the noise alone.

The noise's variance is public, so the intervals of counts are exact, that of a mean is Fieller's,
and that of a quantile inverts exact tests. They say what the noise may have done, not how the
patients would differ from others. Truths that no sum can have (a negative count) are cut off, which
keeps the coverage; `clamped` says that the estimate itself was.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from wardround.canonical import Json
from wardround.statistics.cells import ONE

Floats = npt.NDArray[np.float64]

Z_95 = 1.959963984540054
# Below so many standard deviations of noise in the number of patients a spread is not stated: its
# interval comes from a linearisation, which then no longer holds 95 %.
LEAST_PATIENTS_OVER_NOISE = 10.0
_HALF_LANE = 0.5 / ONE


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its interval; None when the noise drowns it, the interval then says all."""

    value: float | None
    low: float
    high: float
    clamped: bool = False

    def to_json(self) -> Json:
        """As the report holds it."""
        return {
            "value": self.value,
            "low": self.low,
            "high": self.high,
            "clamped": self.clamped,
        }

    def scaled(self, factor: float, offset: float = 0.0) -> "Estimate":
        """The same in another unit: value x factor + offset, factor above 0."""
        value = None if self.value is None else self.value * factor + offset
        return Estimate(
            value, self.low * factor + offset, self.high * factor + offset, self.clamped
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NoisedMoments:
    """Sums of v and of v^2 - 1/2 over patients with a value, and their number; v in [-1, 1].

    All in units of one patient. Each sum has noise of standard deviation `noise`, the number
    of `patients_noise`, all independent.
    """

    patients: float
    total: float
    square: float
    noise: float
    patients_noise: float

    def mean(self) -> Estimate:
        """The mean of v: a ratio of two normals, so Fieller's interval, which is exact.

        Half a lane is added for the rounding of each value. Not available where the number of
        patients cannot be told from 0. (Fieller 1954)
        """
        reach = Z_95 * self.noise
        number_reach = Z_95 * self.patients_noise
        leading = self.patients**2 - number_reach**2
        if self.patients <= 0 or leading <= 0:
            return Estimate(None, -1.0, 1.0)
        centre = self.total * self.patients / leading
        spread = math.sqrt(leading * reach**2 + (number_reach * self.total) ** 2) / leading
        return _cut(self.total / self.patients, centre, spread + _HALF_LANE, -1.0, 1.0)

    def variance(self) -> Estimate:
        """The variance of v over the patients (divided by their number), by linearisation."""
        if self.patients < LEAST_PATIENTS_OVER_NOISE * self.patients_noise or self.patients <= 0:
            return Estimate(None, 0.0, 1.0)
        mean, square = self.total / self.patients, self.square / self.patients
        by_number = self.patients_noise * (2 * mean**2 - square)
        spread = math.hypot(self.noise, 2 * mean * self.noise, by_number) / self.patients
        rounding = (1 + 2 * abs(mean)) * _HALF_LANE
        value = square + 0.5 - mean**2
        return _cut(value, value, Z_95 * spread + rounding, 0.0, 1.0)


def _cut(value: float, centre: float, half: float, least: float, most: float) -> Estimate:
    kept = min(max(value, least), most)
    low, high = (min(max(end, least), most) for end in (centre - half, centre + half))
    return Estimate(kept, low, high, clamped=kept != value)


def count(value: float, noise: float) -> Estimate:
    """A number of patients with noise of standard deviation `noise`: exact, cut at 0.

    >>> count(-3.0, 2.0)
    Estimate(value=0.0, low=0.0, high=0.9199279690801081, clamped=True)
    """
    return _cut(value, value, Z_95 * noise, 0.0, math.inf)


def standard_deviation(variance: Estimate) -> Estimate:
    """The root of a variance and of its interval."""
    value = None if variance.value is None else math.sqrt(variance.value)
    return Estimate(value, math.sqrt(variance.low), math.sqrt(variance.high), variance.clamped)


def quantile(bins: Floats, edges: Floats, share: float, noise: float) -> Estimate:
    """The least value below or at which `share` of the patients lie, from noised bins.

    The interval is the hull of the bins that no exact test at 2.5 % rejects: bin k cannot hold it
    when surely too few patients lie below its upper edge, or surely too many below its lower. So it
    covers the noise and the width of a bin. The value interpolates in the nearest histogram
    that has no negative cell.
    """
    places = np.arange(bins.size + 1)
    below = np.concatenate([[0.0], np.cumsum(bins)])
    # Of share x all, what is missing below each edge: its noise is known at every edge.
    excess = below - share * below[-1]
    spread = Z_95 * noise * np.sqrt((1 - share) ** 2 * places + share**2 * (bins.size - places))
    possible = (excess[:-1] <= spread[:-1]) & (excess[1:] >= -spread[1:])
    held = np.flatnonzero(possible)
    sure = below[-1] > Z_95 * noise * math.sqrt(bins.size)
    if not sure or not held.size:
        return Estimate(None, float(edges[0]), float(edges[-1]))
    low, high = float(edges[held[0]]), float(edges[held[-1] + 1])
    value = _interpolated(nearest_histogram(bins), edges, share)
    return Estimate(min(max(value, low), high), low, high, clamped=bool((bins < 0).any()))


def nearest_histogram(bins: Floats) -> Floats:
    """The nearest cells (least squares) that are not negative and have the same sum.

    With a sum of 0 or less, all are 0. (Duchi et al. 2008, projection onto the simplex)

    >>> nearest_histogram(np.array([4.0, -2.0, 1.0])).tolist()
    [3.0, 0.0, 0.0]
    """
    total = float(bins.sum())
    if total <= 0:
        return np.zeros_like(bins)
    ordered = np.sort(bins)[::-1]
    surplus = (np.cumsum(ordered) - total) / np.arange(1, bins.size + 1)
    taken = surplus[np.flatnonzero(ordered > surplus)[-1]]
    nearest: Floats = np.maximum(bins - taken, 0.0)
    return nearest


def _interpolated(bins: Floats, edges: Floats, share: float) -> float:
    below = np.concatenate([[0.0], np.cumsum(bins)])
    due = share * below[-1]
    at = min(int(np.searchsorted(below[1:], due, side="left")), bins.size - 1)
    inside = (due - below[at]) / bins[at] if bins[at] > 0 else 0.0
    return float(edges[at] + inside * (edges[at + 1] - edges[at]))
