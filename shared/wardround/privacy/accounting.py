"""Epsilon from what was released: PLD decides, RDP brackets it from above.

Relation add/remove, Poisson sampling, pessimistic rounding on a grid of 1e-3, or a finer one where
a step loses less than that. Every function is pure, and independent of the order of the releases.
dp-accounting is imported on first use: it takes seconds, and `wardround --help` does not need it.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from importlib.metadata import version
from typing import Any, Protocol

from wardround.errors import BadInput
from wardround.privacy.mechanism import MOST_STEPS, Guarantee, SampledGaussian, Unit
from wardround.privacy.renyi import RenyiCurve
from wardround.privacy.search import least_that_keeps

GRID = 1e-3
LEAST_NOISE = 0.1
MOST_NOISE = 1e6
_NOISE_TICKS = 10_000  # noise multipliers have four decimals, so that both sides print the same
# RDP's order-2 divergence beyond which a PLD on the grid would take gigabytes.
_PLD_MOST_ONE_STEP = 150.0
_PLD_MOST_TOTAL = 2000.0
# A grid of a tenth of a step's standard deviation makes epsilon 0.1 % too large; one of the whole
# deviation, 5 % and more. Below 1e-7 rounding errors of the probabilities cost more than they win.
_GRIDS = tuple(part * 10.0**-power for power in range(4, 8) for part in (5.0, 2.0, 1.0))
_POINTS_OF_A_DEVIATION = 10.0
_MOST_POINTS = 200_000
_LEAST_RATE = 1e-9
_MOST_TURNS = 200
_CLOSE = 1e-11
_LOST_BY_PLD = 1e-14  # what a PLD cuts off its tails and counts as lost
_LEAST_DELTA_OF_PLD = 100 * _LOST_BY_PLD  # below it, that starts to show


def accountant() -> str:
    """Name and version of the accountant that decides, as printed beside every epsilon."""
    return f"dp-accounting {version('dp-accounting')} PLD, pessimistic, grid {GRID} or finer"


def guarantee(releases: Iterable[SampledGaussian], *, delta: float, unit: Unit) -> Guarantee:
    """The composed guarantee of `releases`, with all that belongs to it."""
    epsilon = epsilon_spent(releases, delta=delta)
    return Guarantee(epsilon=epsilon, delta=delta, unit=unit, accountant=accountant())


def epsilon_spent(releases: Iterable[SampledGaussian], *, delta: float) -> float:
    """Compose all releases into one epsilon: never less than the true one; nothing costs 0.0.

    Equal releases are merged first. Where a PLD would be too large (epsilon in the hundreds), or
    its grid too coarse (a million steps that lose nearly nothing), the RDP value stands in: it is
    an upper bound as well. Infinity where there is no bound at all: noise of nearly 0, or samples
    that were cut with a probability above delta. (Doroshenko et al. 2022, connect-the-dots PLD)

    >>> epsilon_spent([], delta=1e-5)
    0.0
    """
    _check_delta(delta)
    merged, cut = composed_releases(releases)
    if not merged:
        return 0.0
    grid = grid_of(merged) if delta > _LOST_BY_PLD else None
    by_pld = math.inf
    if grid is not None:
        # What it cannot compute it refuses with a ValueError; the bound below stands in.
        with suppress(ValueError, OverflowError, ZeroDivisionError):
            by_pld = _with_cut_samples(_composed(merged, grid), delta, cut)
        resolved = grid * _POINTS_OF_A_DEVIATION <= 2.0 * _deviation_of_a_step(merged)
        if resolved and delta >= _LEAST_DELTA_OF_PLD and math.isfinite(by_pld):
            return by_pld
    by_rdp = _with_cut_samples(RenyiCurve(merged), delta, cut)
    return min(by_pld, by_rdp) if by_pld > 0.0 else by_rdp


def epsilon_by_rdp(releases: Iterable[SampledGaussian], *, delta: float) -> float:
    """The second accountant: Renyi DP at integer orders, an upper bound of `epsilon_spent`.

    (Mironov et al. 2019; conversion of Canonne et al. 2020)
    """
    _check_delta(delta)
    merged, cut = composed_releases(releases)
    return _with_cut_samples(RenyiCurve(merged), delta, cut) if merged else 0.0


@lru_cache(maxsize=64)
def noise_for(epsilon: float, *, delta: float, sampling_rate: float, steps: int) -> float:
    """The least noise multiplier, in steps of 0.0001, whose epsilon does not exceed `epsilon`.

    Both sides compute it from the study's constants and get the same. Never below 0.1. Raises
    BadInput when no noise up to 10^6 is enough.
    """
    _check_epsilon(epsilon)
    _check_delta(delta)

    def spent(ticks: int) -> float:
        release = SampledGaussian(ticks / _NOISE_TICKS, sampling_rate, steps)
        return epsilon_spent([release], delta=delta)

    ticks = least_that_keeps(
        spent,
        epsilon,
        least=round(LEAST_NOISE * _NOISE_TICKS),
        most=round(MOST_NOISE * _NOISE_TICKS),
        guess=round(_first_guess(epsilon, delta, sampling_rate, steps) * _NOISE_TICKS),
    )
    if ticks is None:
        raise BadInput(f"epsilon {epsilon}: no noise up to {MOST_NOISE:g} keeps it")
    return ticks / _NOISE_TICKS


def gaussian_count_noise(epsilon: float, delta: float) -> float:
    """Noise multiplier for ONE Gaussian release of counts with L2 sensitivity 1, no sampling.

    Sensitivity 1 holds when each patient is in one bin once: one score a patient.
    """
    return noise_for(epsilon, delta=delta, sampling_rate=1.0, steps=1)


def composed_releases(
    releases: Iterable[SampledGaussian],
) -> tuple[tuple[SampledGaussian, ...], float]:
    """Equal releases as one, sorted, and a bound on the probability that any sample was cut."""
    steps: Counter[tuple[float, float]] = Counter()
    cuts: list[float] = []
    for release in releases:
        steps[release.noise_multiplier, release.sampling_rate] += release.steps
        cuts.append(release.steps * release.truncation)
    merged = [part for key, count in sorted(steps.items()) for part in _parts(*key, count)]
    return tuple(merged), math.fsum(cuts)


def grid_of(merged: Iterable[SampledGaussian]) -> float | None:
    """The grid on which these releases are composed: 1e-3, or what resolves a step's loss.

    None where a PLD would take gigabytes, or no grid resolves it: there the RDP value stands in.
    """
    parts = tuple(merged)
    if _too_large_for_pld(parts):
        return None
    deviation = _deviation_of_a_step(parts)
    if deviation < _GRIDS[-1]:
        return None
    fine_enough = deviation / _POINTS_OF_A_DEVIATION
    total = deviation * math.sqrt(sum(_pieces(part) for part in parts))
    affordable = (max(map(_largest_loss, parts)) + 20.0 * total) / _MOST_POINTS
    due = max(fine_enough, affordable)
    return next((grid for grid in (GRID, *_GRIDS) if grid <= due), _GRIDS[-1])


def _parts(noise: float, rate: float, steps: int) -> list[SampledGaussian]:
    whole, rest = divmod(steps, MOST_STEPS)
    parts = [SampledGaussian(noise, rate, MOST_STEPS)] * whole
    return parts + ([SampledGaussian(noise, rate, rest)] if rest else [])


def _too_large_for_pld(merged: Iterable[SampledGaussian]) -> bool:
    total = 0.0
    for release in merged:
        one_step = (1.0 / release.noise_multiplier) * (1.0 / release.noise_multiplier)
        if one_step > _PLD_MOST_ONE_STEP:
            return True
        excess = math.expm1(one_step)
        total += release.steps * math.log1p(release.sampling_rate**2 * excess)
    return total > _PLD_MOST_TOTAL


def _pieces(release: SampledGaussian) -> int:
    """How many distributions the release is composed of: unsampled Gaussians add up to one."""
    return 1 if release.sampling_rate == 1.0 else release.steps


def _deviation_of_a_step(merged: Iterable[SampledGaussian]) -> float:
    """The privacy loss' standard deviation per composed distribution, in the root mean square."""
    variance, pieces = 0.0, 0
    for release in merged:
        one_step = (1.0 / release.noise_multiplier) * (1.0 / release.noise_multiplier)
        excess = math.expm1(one_step)
        if release.sampling_rate == 1.0:
            excess = release.steps * one_step
        variance += _pieces(release) * release.sampling_rate**2 * excess
        pieces += _pieces(release)
    return math.sqrt(variance / pieces)


def _largest_loss(release: SampledGaussian) -> float:
    """About the loss beyond which a distribution is cut: ten deviations out."""
    precision = math.sqrt(release.steps / _pieces(release)) / release.noise_multiplier
    exponent = precision * (precision / 2.0 + 10.0)
    if exponent > 500.0:
        return exponent + math.log(release.sampling_rate)
    return math.log1p(release.sampling_rate * math.expm1(exponent))


def _composed(merged: Sequence[SampledGaussian], grid: float) -> Any:
    composed = _pld(merged[0], grid)
    for release in merged[1:]:
        composed = composed.compose(_pld(release, grid))
    return composed


@lru_cache(maxsize=64)
def _pld(release: SampledGaussian, grid: float) -> Any:
    from dp_accounting.pld import (  # noqa: PLC0415 - heavy, see the module's docstring
        privacy_loss_distribution as pld,
    )

    if release.sampling_rate == 1.0:
        # The sum of n equal Gaussian releases is one with noise / sqrt(n): exact, and faster.
        deviation = release.noise_multiplier / math.sqrt(release.steps)
        return pld.from_gaussian_mechanism(deviation, value_discretization_interval=grid)
    # Beyond these two the library loses its digits; more noise and rarer samples cost less.
    noise = min(release.noise_multiplier, MOST_NOISE)
    rate = max(release.sampling_rate, _LEAST_RATE)
    one = pld.from_gaussian_mechanism(noise, value_discretization_interval=grid, sampling_prob=rate)
    return _self_composed(one, release, grid)


def _self_composed(one: Any, release: SampledGaussian, grid: float) -> Any:
    # Many steps of a short distribution at once need a window hundreds of times as wide as the
    # result; two stages do not. What they add to the tails is below 1e-10, and counted as lost.
    steps, length = release.steps, _largest_loss(release) / grid
    if steps * (_deviation_of_a_step([release]) / grid) ** 2 <= 100.0 * length**2 or steps < 10_000:
        return one.self_compose(steps)
    size = math.isqrt(steps)
    stages, rest = divmod(steps, size)
    composed = one.self_compose(size).self_compose(stages)
    return composed.compose(one.self_compose(rest)) if rest else composed


class _Curve(Protocol):
    """What both accountants answer."""

    def get_epsilon_for_delta(self, delta: float) -> float: ...


def _with_cut_samples(curve: _Curve, delta: float, cut: float) -> float:
    """The least epsilon with delta(epsilon) + (1 + e^epsilon) * cut <= delta, from above.

    `cut` bounds the total variation between what was done and what `curve` is of, for either
    neighbour: it moves the left side of the definition by `cut`, the right by e^epsilon * `cut`.
    Infinity where no epsilon is enough.
    """
    if cut == 0.0:
        return float(curve.get_epsilon_for_delta(delta))
    epsilon = _charged_for(0.0, curve, delta, cut)
    # The sequence rises to the answer; an epsilon that is no less than what is due holds.
    for _ in range(_MOST_TURNS):
        due = _charged_for(epsilon, curve, delta, cut)
        if due <= epsilon:
            return epsilon
        epsilon = due if due - epsilon > _CLOSE else due + 100.0 * _CLOSE
    return math.inf


def _charged_for(epsilon: float, curve: _Curve, delta: float, cut: float) -> float:
    """What `curve` needs once (1 + e^epsilon) * cut has been taken from delta."""
    left = delta - (1.0 + math.exp(min(epsilon, 700.0))) * cut
    return float(curve.get_epsilon_for_delta(left)) if left > 0.0 else math.inf


def _first_guess(epsilon: float, delta: float, sampling_rate: float, steps: int) -> float:
    # The central limit of the composition: mu = q sqrt(T (exp(1/s^2) - 1)). It understates, so
    # it may only start a search (Bu et al. 2020).
    from dp_accounting import (  # noqa: PLC0415 - heavy, see the module's docstring
        gaussian_mechanism,
    )

    deviation = float(gaussian_mechanism.get_sigma_gaussian(epsilon, delta))
    ratio = 1.0 / (deviation * sampling_rate * math.sqrt(steps))
    guess = 1.0 / math.sqrt(math.log1p(ratio**2)) if ratio > 1e-6 else 1.0 / ratio
    return min(max(guess, LEAST_NOISE), MOST_NOISE)


def _check_delta(delta: float) -> None:
    if not 0.0 < delta < 1.0:
        raise BadInput(f"delta: {delta} came, between 0 and 1 was due")


def _check_epsilon(epsilon: float) -> None:
    if not 0.0 < epsilon < math.inf:
        raise BadInput(f"epsilon: {epsilon} came, more than 0 was due")
