"""What a guarantee lets an attacker reach: the trade-off curve of sampled Gaussian releases.

An attack on one privacy unit says "was in" with probability at most F(a) where the unit was in,
if it says so with probability a where it was not. Everything here rests on the inverse of F, read
off the accountant's privacy profile. Pure NumPy but for dp-accounting, imported on first use.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from wardround.errors import BadInput
from wardround.privacy.accounting import composed_releases, grid_of
from wardround.privacy.mechanism import SampledGaussian

Values = npt.NDArray[np.float64]

# Coarser than the ledger's grid: rounding is pessimistic, so a curve only gets harder to violate.
FINE_GRID = 4e-3
COARSE_GRID = 1e-2
_PIECES = 256
_COARSER = 10.0  # than the accountant's own grid
_LEAST_DELTA = 1e-9
_MOST_EPSILON = 60.0  # at e^60 nothing is left to hide, and the slopes stay finite


@dataclass(frozen=True, slots=True)
class TradeOff:
    """The largest of affine functions, and 0: convex, rising, and never above the true inverse.

    It is symmetric: the claim holds for a unit that is added and for one that is removed.
    """

    intercepts: Values = field(repr=False)
    slopes: Values = field(repr=False)

    def wrong_least(self, right: float) -> float:
        """The least probability of a wrong guess for whom is right with probability `right`."""
        return max(0.0, float(np.max(self.intercepts + self.slopes * right)))

    def right_most(self, wrong: float) -> float:
        """The greatest probability of a right guess for whom is wrong with probability `wrong`.

        >>> profile_curve(np.array([np.log(2.0)]), np.array([0.0])).right_most(0.125)
        0.25
        """
        return float(np.clip(np.min((wrong - self.intercepts) / self.slopes), 0.0, 1.0))


def profile_curve(epsilons: Values, deltas: Values) -> TradeOff:
    """The curve of a mechanism that is (epsilon, delta)-DP for each pair, both ways round.

    right <= delta + e^epsilon wrong, and the same of the complements; each solved for `wrong`.
    Any subset of pairs gives a curve that claims less. (Dong, Roth and Su 2019, Prop. 2.5)

    >>> curve = profile_curve(np.array([0.0]), np.array([0.25]))
    >>> curve.wrong_least(0.5), curve.wrong_least(0.125)
    (0.25, 0.0)
    """
    shrinking = np.exp(-epsilons)
    growing = np.exp(epsilons)
    return TradeOff(
        intercepts=np.concatenate([-deltas * shrinking, 1.0 - growing - deltas]),
        slopes=np.concatenate([shrinking, growing]),
    )


@lru_cache(maxsize=64)
def trade_off(release: SampledGaussian, *, grid: float = FINE_GRID) -> TradeOff:
    """The curve that `release` claims, by the pessimistic PLD on `grid`.

    Raises BadInput for batches that were cut: their claim is not a curve of this kind.
    """
    if release.truncation:
        raise BadInput(f"trade-off: {release} came, without truncation was due")
    return _curve_of(_privacy_loss(release, grid), grid)


def composed_trade_off(releases: Iterable[SampledGaussian], *, grid: float) -> TradeOff:
    """The curve of everything that was released to one unit; nothing gives nothing away.

    `grid` is the coarsest: many steps that lose little each get a finer one.

    Raises BadInput for batches that were cut, and where a PLD would take gigabytes.
    """
    merged, cut = composed_releases(releases)
    if not merged:
        return profile_curve(np.zeros(1), np.zeros(1))
    resolving = grid_of(merged)
    if cut or resolving is None:
        raise BadInput("trade-off: releases without truncation, and with noise, were due")
    # A grid of a step's whole deviation costs some percent; coarser ones cost the curve its point.
    grid = min(grid, _COARSER * resolving)
    privacy_loss = _privacy_loss(merged[0], grid)
    for release in merged[1:]:
        privacy_loss = privacy_loss.compose(_privacy_loss(release, grid))
    return _curve_of(privacy_loss, grid)


def _curve_of(privacy_loss: Any, grid: float) -> TradeOff:
    top = float(privacy_loss.get_epsilon_for_delta(_LEAST_DELTA))
    epsilons = np.linspace(0.0, min(max(top, grid), _MOST_EPSILON), _PIECES)
    return profile_curve(epsilons, np.asarray(privacy_loss.get_delta_for_epsilon(epsilons)))


def _privacy_loss(release: SampledGaussian, grid: float) -> Any:
    from dp_accounting.pld import (  # noqa: PLC0415 - heavy: seconds
        privacy_loss_distribution as pld,
    )

    one = pld.from_gaussian_mechanism(
        release.noise_multiplier,
        value_discretization_interval=grid,
        sampling_prob=release.sampling_rate,
    )
    return one.self_compose(release.steps)
