"""Both sides of an epsilon: what decides lies between a lower end and an upper bound.

The lower end is computed apart from dp-accounting: losses are rounded down, and the mean of what
rounding took is given back, less a deviation that is exceeded with a probability that is charged.
"""

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from wardround.privacy.accounting import (
    composed_releases,
    epsilon_by_rdp,
    epsilon_spent,
    grid_of,
)
from wardround.privacy.mechanism import SampledGaussian

_FINER = 4.0  # than the grid that decides: the deviation of what was rounded shrinks with it
_MOST_POINTS = 2**22
_SURE = 1e-3  # of delta, the probability that rounding took less than is given back
_FAR = 10.0  # deviations of the noise beyond which nothing is counted
_QUADRATURE = 40_001
_ROUNDING = 1e-6

Floats = npt.NDArray[np.float64]


class Bracket(NamedTuple):
    """No epsilon below `low` holds, `decided` does, and `high` does by another accountant."""

    low: float
    decided: float
    high: float


def epsilon_bracket(releases: Iterable[SampledGaussian], delta: float) -> Bracket:
    """Bracket the epsilon of `releases`: (low, decided, high), from three computations.

    `low`: the true epsilon is no less (of the neighbour that lacks a patient; rounded losses as in
    Gopi, Lee, Wutschitz 2021). `decided` is `epsilon_spent`, `high` is RDP's. `low` is 0.0 where
    the composition is too large or too fine for a grid.

    >>> epsilon_bracket([], 1e-5)
    Bracket(low=0.0, decided=0.0, high=0.0)
    """
    everything = tuple(releases)
    decided = epsilon_spent(everything, delta=delta)
    high = epsilon_by_rdp(everything, delta=delta)
    merged, cut = composed_releases(everything)
    grid = grid_of(merged) if merged else None
    if grid is None or not math.isfinite(decided):
        return Bracket(0.0, decided, high)
    # The true epsilon is at most the decided one, so no more than this was taken from delta.
    taken = (1.0 + math.exp(min(decided, 700.0))) * cut
    low = _lower_end(merged, delta + taken, grid / _FINER)
    # A lower end that is above what decides is not hidden: one of the two would be wrong.
    return Bracket(decided if 0.0 < low - decided < _ROUNDING else low, decided, high)


def _lower_end(merged: Sequence[SampledGaussian], delta: float, grid: float) -> float:
    parts = [_rounded_down(*_single(release), grid) for release in merged]
    counts = [1 if release.sampling_rate == 1.0 else release.steps for release in merged]
    sure = delta * _SURE
    given_back = sum(count * part.taken for part, count in zip(parts, counts, strict=True))
    given_back -= grid * math.sqrt(sum(counts) * math.log(1.0 / sure) / 2.0)
    losses, probabilities = _convolved(parts, counts, grid)
    # The transform's rounding errors could add up to mass that is not there.
    errors = len(losses) * float(np.finfo(float).eps)
    return _least_epsilon(losses + given_back, probabilities, delta + sure + errors)


def _single(release: SampledGaussian) -> tuple[float, float]:
    """Noise and rate of one of the distributions that are composed."""
    if release.sampling_rate == 1.0:
        return release.noise_multiplier / math.sqrt(release.steps), 1.0
    return release.noise_multiplier, release.sampling_rate


class _Rounded(NamedTuple):
    """Losses rounded down to `first`, `first` + 1, ... grid steps; the mean that this took."""

    first: int
    probabilities: Floats
    taken: float
    mean: float
    variance: float


@lru_cache(maxsize=64)
def _rounded_down(noise: float, rate: float, grid: float) -> _Rounded:
    ends = _loss(np.array([-_FAR * noise, 1.0 + _FAR * noise]), noise, rate)
    first, last = math.floor(ends[0] / grid), math.floor(ends[1] / grid)
    edges = _outcome(np.arange(first, last + 2) * grid, noise, rate)
    probabilities = np.diff(_below(edges, noise, rate))
    steps = np.arange(first, last + 1) * grid
    outcomes = np.linspace(-_FAR * noise, 1.0 + _FAR * noise, _QUADRATURE)
    weights = _density(outcomes, noise, rate)
    weights /= weights.sum()
    losses = _loss(outcomes, noise, rate)
    mean = float(weights @ losses)
    return _Rounded(
        first,
        probabilities,
        taken=mean - float(probabilities @ steps),
        mean=mean,
        variance=float(weights @ np.square(losses - mean)),
    )


def _loss(outcome: Floats, noise: float, rate: float) -> Floats:
    """The loss where the patient is there: log of the mixture's density over the noise's alone."""
    exponent = (2.0 * outcome - 1.0) / (2.0 * noise**2)
    if rate == 1.0:
        return exponent
    shared = np.logaddexp(math.log1p(-rate), math.log(rate) + exponent)
    # Where the loss is tiny the sum above has lost its digits.
    return np.where(np.abs(exponent) < 1.0, np.log1p(rate * np.expm1(exponent)), shared)


def _outcome(loss: Floats, noise: float, rate: float) -> Floats:
    """The outcome that has a loss; minus infinity where no outcome loses as little."""
    if rate == 1.0:
        return noise**2 * loss + 0.5
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        ratio = np.maximum(np.expm1(loss) / rate, -1.0)
        exponent = np.where(loss > 500.0, loss - math.log(rate), np.log1p(ratio))
    return noise**2 * exponent + 0.5


def _below(outcome: Floats, noise: float, rate: float) -> Floats:
    from scipy.special import ndtr  # noqa: PLC0415 - heavy, see accounting

    share: Floats = (1.0 - rate) * ndtr(outcome / noise) + rate * ndtr((outcome - 1.0) / noise)
    return share


def _density(outcome: Floats, noise: float, rate: float) -> Floats:
    absent = np.exp(-np.square(outcome / noise) / 2.0)
    return (1.0 - rate) * absent + rate * np.exp(-np.square((outcome - 1.0) / noise) / 2.0)


def _convolved(
    parts: Sequence[_Rounded], counts: Sequence[int], grid: float
) -> tuple[Floats, Floats]:
    """The composition on a circle that is wide enough: what wraps around has no weight left."""
    pairs = list(zip(parts, counts, strict=True))
    mean = sum(count * part.mean for part, count in pairs)
    spread = math.sqrt(sum(count * part.variance for part, count in pairs))
    widest = max(len(part.probabilities) for part in parts)
    half = math.ceil(20.0 * spread / grid) + widest
    points = min(1 << (2 * half).bit_length(), _MOST_POINTS)
    spectrum = np.ones(points // 2 + 1, dtype=complex)
    for part, count in pairs:
        folded = np.zeros(points)
        np.add.at(folded, np.arange(len(part.probabilities)) % points, part.probabilities)
        spectrum *= np.fft.rfft(folded) ** count
    probabilities: Floats = np.maximum(np.fft.irfft(spectrum, points), 0.0)
    first = sum(count * part.first for part, count in pairs)
    # Of all places on the circle, those around the mean of the sum.
    start = math.floor(mean / grid) - points // 2
    places = np.arange(start, start + points)
    losses: Floats = np.multiply(places, grid, dtype=np.float64)
    return losses, probabilities[(places - first) % points]


def _least_epsilon(losses: Floats, probabilities: Floats, delta: float) -> float:
    """The least epsilon whose hockey-stick divergence is at most delta; 0.0 where all are."""
    from scipy.optimize import brentq  # noqa: PLC0415 - heavy, see accounting

    def excess(epsilon: float) -> float:
        above = losses > epsilon
        return float(probabilities[above] @ -np.expm1(epsilon - losses[above])) - delta

    if excess(0.0) <= 0.0:
        return 0.0
    most = float(losses[-1])
    return float(brentq(excess, 0.0, most, xtol=1e-9)) - 1e-9
