"""Epsilon from what was released: PLD decides, RDP brackets it from above.

Relation add/remove, Poisson sampling, pessimistic rounding on a grid of 1e-3. Every function is
pure, and independent of the order of the releases. dp-accounting is imported on first use: it
takes seconds, and `wardround --help` does not need it.
"""

import math
from collections.abc import Callable, Iterable
from functools import lru_cache
from importlib.metadata import version
from typing import Any

from wardround.errors import BadInput
from wardround.privacy.mechanism import Guarantee, SampledGaussian, Unit

GRID = 1e-3
LEAST_NOISE = 0.1
MOST_NOISE = 1e6
_NOISE_TICKS = 10_000  # noise multipliers have four decimals, so that both sides print the same
# RDP's order-2 divergence beyond which a PLD on the grid would take gigabytes.
_PLD_MOST_ONE_STEP = 150.0
_PLD_MOST_TOTAL = 2000.0
_RDP_ORDERS = (*range(2, 65), 72, 80, 96, 112, 128, 192, 256, 384, 512, 1024, 2048)


def accountant() -> str:
    """Name and version of the accountant that decides, as printed beside every epsilon."""
    return f"dp-accounting {version('dp-accounting')} PLD, pessimistic, grid {GRID}"


def guarantee(releases: Iterable[SampledGaussian], *, delta: float, unit: Unit) -> Guarantee:
    """The composed guarantee of `releases`, with all that belongs to it."""
    epsilon = epsilon_spent(releases, delta=delta)
    return Guarantee(epsilon=epsilon, delta=delta, unit=unit, accountant=accountant())


def epsilon_spent(releases: Iterable[SampledGaussian], *, delta: float) -> float:
    """Compose all releases into one epsilon: never less than the true one; nothing costs 0.0.

    Equal releases are merged first. Where epsilon is in the hundreds and beyond, the RDP value
    stands in: it is an upper bound as well. (Doroshenko et al. 2022, connect-the-dots PLD)

    >>> epsilon_spent([], delta=1e-5)
    0.0
    """
    _check_delta(delta)
    merged = _merged(releases)
    if not merged:
        return 0.0
    if _too_large_for_pld(merged):
        return epsilon_by_rdp(merged, delta=delta)
    composed = _pld(merged[0])
    for release in merged[1:]:
        composed = composed.compose(_pld(release))
    return float(composed.get_epsilon_for_delta(delta))


def epsilon_by_rdp(releases: Iterable[SampledGaussian], *, delta: float) -> float:
    """The second accountant: Renyi DP at integer orders, an upper bound of `epsilon_spent`.

    (Mironov et al. 2019; conversion of Canonne et al. 2020)
    """
    from dp_accounting import dp_event  # noqa: PLC0415 - heavy, see the module's docstring
    from dp_accounting.rdp import (  # noqa: PLC0415 - heavy, see the module's docstring
        rdp_privacy_accountant as rdp,
    )

    _check_delta(delta)
    merged = _merged(releases)
    if not merged:
        return 0.0
    composed = rdp.RdpAccountant(_RDP_ORDERS)
    for release in merged:
        gaussian = dp_event.GaussianDpEvent(release.noise_multiplier)
        sampled = dp_event.PoissonSampledDpEvent(release.sampling_rate, gaussian)
        composed.compose(sampled, release.steps)
    return float(composed.get_epsilon(delta))


@lru_cache(maxsize=64)
def noise_for(epsilon: float, *, delta: float, sampling_rate: float, steps: int) -> float:
    """The least noise multiplier, in steps of 0.0001, whose epsilon does not exceed `epsilon`.

    Both sides compute it from the study's constants and get the same. Never below 0.1. Raises
    BadInput when no noise up to 10^6 is enough.
    """
    _check_epsilon(epsilon)

    def spent(noise: float) -> float:
        return epsilon_spent([SampledGaussian(noise, sampling_rate, steps)], delta=delta)

    near = _solve_noise(spent, epsilon, _first_guess(epsilon, delta, sampling_rate, steps))
    ticks = max(math.ceil(near * _NOISE_TICKS), round(LEAST_NOISE * _NOISE_TICKS))
    while spent(ticks / _NOISE_TICKS) > epsilon:
        ticks += 1
    while ticks / _NOISE_TICKS > LEAST_NOISE and spent((ticks - 1) / _NOISE_TICKS) <= epsilon:
        ticks -= 1
    return ticks / _NOISE_TICKS


def gaussian_count_noise(epsilon: float, delta: float) -> float:
    """Noise multiplier for ONE Gaussian release of counts with L2 sensitivity 1, no sampling.

    Sensitivity 1 holds when each patient is in one bin once: one score a patient.
    """
    return noise_for(epsilon, delta=delta, sampling_rate=1.0, steps=1)


def epsilon_curve(schedule: SampledGaussian, *, delta: float, releases: int) -> list[float]:
    """Epsilon after 1, 2, ... `releases` releases of `schedule` each."""
    _check_delta(delta)
    if releases < 1:
        return []
    whole = SampledGaussian(
        schedule.noise_multiplier, schedule.sampling_rate, schedule.steps * releases
    )
    if _too_large_for_pld((whole,)):
        return [epsilon_spent([schedule] * count, delta=delta) for count in range(1, releases + 1)]
    one = _pld(schedule)
    composed, curve = one, [float(one.get_epsilon_for_delta(delta))]
    for _ in range(releases - 1):
        composed = composed.compose(one)
        curve.append(float(composed.get_epsilon_for_delta(delta)))
    return curve


def _merged(releases: Iterable[SampledGaussian]) -> tuple[SampledGaussian, ...]:
    steps: dict[tuple[float, float], int] = {}
    for release in releases:
        key = (release.noise_multiplier, release.sampling_rate)
        steps[key] = steps.get(key, 0) + release.steps
    return tuple(SampledGaussian(*key, count) for key, count in sorted(steps.items()))


def _too_large_for_pld(merged: Iterable[SampledGaussian]) -> bool:
    total = 0.0
    for release in merged:
        one_step = 1.0 / release.noise_multiplier**2
        if one_step > _PLD_MOST_ONE_STEP:
            return True
        total += release.steps * math.log1p(release.sampling_rate**2 * math.expm1(one_step))
    return total > _PLD_MOST_TOTAL


@lru_cache(maxsize=64)
def _pld(release: SampledGaussian) -> Any:
    from dp_accounting.pld import (  # noqa: PLC0415 - heavy, see the module's docstring
        privacy_loss_distribution as pld,
    )

    if release.sampling_rate == 1.0:
        # The sum of n equal Gaussian releases is one with noise / sqrt(n): exact, and faster.
        deviation = release.noise_multiplier / math.sqrt(release.steps)
        return pld.from_gaussian_mechanism(deviation, value_discretization_interval=GRID)
    one = pld.from_gaussian_mechanism(
        release.noise_multiplier,
        value_discretization_interval=GRID,
        sampling_prob=release.sampling_rate,
    )
    return one.self_compose(release.steps)


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


def _solve_noise(spent: Callable[[float], float], epsilon: float, guess: float) -> float:
    """A noise near the one that spends `epsilon`, by Brent's method on logarithms."""
    from scipy.optimize import brentq  # noqa: PLC0415 - heavy, see the module's docstring

    def excess(log_noise: float) -> float:
        return math.log(max(spent(math.exp(log_noise)), 1e-12)) - math.log(epsilon)

    low = high = math.log(guess)
    while excess(low) < 0:
        if low <= math.log(LEAST_NOISE):
            return LEAST_NOISE
        high, low = low, max(low - 0.2, math.log(LEAST_NOISE))
    while excess(high) > 0:
        if high >= math.log(MOST_NOISE):
            raise BadInput(f"epsilon {epsilon}: no noise up to {MOST_NOISE:g} keeps it")
        low, high = high, min(high + 0.2, math.log(MOST_NOISE))
    if low == high:
        return math.exp(low)
    tolerance = 0.5 / _NOISE_TICKS / math.exp(high)
    return math.exp(float(brentq(excess, low, high, xtol=tolerance)))


def _check_delta(delta: float) -> None:
    if not 0.0 < delta < 1.0:
        raise BadInput(f"delta: {delta} came, between 0 and 1 was due")


def _check_epsilon(epsilon: float) -> None:
    if not 0.0 < epsilon < math.inf:
        raise BadInput(f"epsilon: {epsilon} came, more than 0 was due")
