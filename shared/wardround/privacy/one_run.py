"""Privacy audited in one run: what a count of right guesses proves against a claim.

Each of `canaries` units is in or out by a fair coin of its own. One run of the mechanism later an
attacker names some of them in, some out, and passes on the rest. A mechanism that keeps its claim
bounds how often that many guesses are right, whatever the attacker does.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import bdtrc, expit

from wardround.errors import BadInput
from wardround.privacy.accounting import epsilon_spent
from wardround.privacy.mechanism import SampledGaussian
from wardround.privacy.trade_off import COARSE_GRID, TradeOff, trade_off

_LEAST_P = 1e-15
_MOST_EPSILON = 60.0
_NOISE_STEP = 1.01  # the lower bound is searched to one per cent of noise
_MOST_RATIO = 2**10
_LEAST_NOISE = 0.05  # with less than that a step hides nothing, and a PLD of it takes gigabytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Guesses:
    """How an attack on one run went: of `canaries`, `made` were guessed, `right` of them so."""

    canaries: int
    made: int
    right: int

    def __post_init__(self) -> None:
        if not 0 <= self.right <= self.made <= self.canaries or self.made < 1:
            raise BadInput(
                f"guesses: {self.right} right of {self.made} of {self.canaries} canaries came"
            )


def p_of_claim(guesses: Guesses, epsilon: float, delta: float) -> float:
    """How likely that many right guesses are, at most, under an (epsilon, delta)-DP mechanism.

    It holds for any attack. (Steinke, Nasr and Jagielski 2023, Theorem 5.2)
    """
    made, right = guesses.made, guesses.right
    if right == 0:
        return 1.0
    accuracy = float(expit(epsilon))
    pure = float(bdtrc(right - 1, made, accuracy))
    if delta == 0.0:
        return pure
    fewer = np.arange(1, right + 1)
    # P[right > X >= right - i] / i; bdtrc(-1) is 1, which SciPy does not say.
    at_least = np.append(bdtrc(right - fewer[:-1] - 1.0, made, accuracy), 1.0)
    most = float(np.max((at_least - pure) / fewer))
    return min(1.0, pure + 2.0 * guesses.canaries * delta * most)


def epsilon_at_least(guesses: Guesses, *, delta: float, alpha: float) -> float:
    """The lower bound on epsilon that holds with confidence 1 - `alpha`; 0.0 when nothing shows.

    >>> round(epsilon_at_least(Guesses(canaries=100, made=100, right=95), delta=0.0, alpha=0.05), 2)
    2.17
    """
    if p_of_claim(guesses, 0.0, delta) > alpha:
        return 0.0
    low, high = 0.0, _MOST_EPSILON
    while high - low > 1e-4:
        middle = (low + high) / 2
        if p_of_claim(guesses, middle, delta) <= alpha:
            low = middle
        else:
            high = middle
    return low


def p_of_curve(guesses: Guesses, curve: TradeOff) -> float:
    """How likely that many right guesses are, at most, under a mechanism with this curve.

    Sharper than `p_of_claim`, for the whole curve is claimed, not one point of it. (Mahloujifar,
    Melis and Chaudhuri 2025, Theorem 3.2 and Algorithm 3, for two symbols and with abstention)
    """
    if _possible(guesses, curve, 1.0):
        return 1.0
    low, high = math.log(_LEAST_P), 0.0
    while high - low > 0.01:
        middle = (low + high) / 2
        if _possible(guesses, curve, math.exp(middle)):
            low = middle
        else:
            high = middle
    # The upper end: never less than the exact value.
    return math.exp(high)


def _possible(guesses: Guesses, curve: TradeOff, chance: float) -> bool:
    """Whether a mechanism with `curve` may reach that many right guesses with this chance.

    From `right` downwards, `correct` and `wrong` are the shares of canaries, in expectation, that
    are guessed right and wrong in runs with at least so many right. A run with at least i right,
    seen by one canary that flips, has at least i - 1: so wrong[i - 1] is at least what the curve
    asks for correct[i]. What comes to more than the guesses made is impossible.
    """
    total = guesses.made / guesses.canaries
    correct = chance * guesses.right / guesses.canaries
    wrong = chance * (guesses.made - guesses.right) / guesses.canaries
    for count in range(guesses.right - 1, -1, -1):
        more = curve.wrong_least(correct) - wrong
        if more <= 0.0:
            break
        wrong += more
        correct += count / (guesses.made - count) * more
        if correct + wrong > total:
            return False
    return correct + wrong <= total


def noise_at_most(guesses: Guesses, claim: SampledGaussian, *, alpha: float) -> float:
    """The largest noise multiplier that the guesses rule out: the real one is below it.

    Among mechanisms with the rate and the steps of `claim`, with confidence 1 - `alpha`; infinite
    when nothing shows.
    """

    def ruled_out(noise: float) -> bool:
        other = SampledGaussian(noise, claim.sampling_rate, claim.steps)
        return not _possible(guesses, trade_off(other, grid=COARSE_GRID), alpha)

    low, high = _bracket(ruled_out, claim.noise_multiplier)
    if math.isinf(high) or low == high:
        return high
    while high / low > _NOISE_STEP:
        middle = math.sqrt(low * high)
        if ruled_out(middle):
            high = middle
        else:
            low = middle
    return high


def _bracket(ruled_out: Callable[[float], bool], start: float) -> tuple[float, float]:
    """Noise that is not ruled out and more noise that is, a factor 2 apart.

    Both the same where even next to no noise is ruled out; the upper one infinite where 2^10
    times the noise is not.
    """
    if ruled_out(start):
        low = start / 2
        while ruled_out(low):
            if low < _LEAST_NOISE:
                return low, low
            low /= 2
        return low, 2 * low
    high = 2 * start
    while not ruled_out(high):
        if high > start * _MOST_RATIO:
            return high, math.inf
        high *= 2
    return high / 2, high


def epsilon_of_curve_at_least(
    guesses: Guesses, claim: SampledGaussian, *, delta: float, alpha: float
) -> float:
    """The lower bound on the epsilon of `claim`'s kind of mechanism, whatever its noise is.

    With confidence 1 - `alpha` the noise is below `noise_at_most`, so epsilon is above this;
    0.0 when nothing shows.
    """
    noise = noise_at_most(guesses, claim, alpha=alpha)
    if math.isinf(noise):
        return 0.0
    return epsilon_spent([SampledGaussian(noise, claim.sampling_rate, claim.steps)], delta=delta)
