"""The audit of a privacy engine before it meets a patient: the rule fixed beforehand, the verdict.

A dry run trains on synthetic canaries with the study's own clip, rate and noise. The rule says,
from those public numbers alone, how many steps it takes and how many canaries are named; the
verdict follows from the rule and one count. Hospital and verifier compute the same.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from wardround.privacy.accounting import epsilon_spent
from wardround.privacy.mechanism import SampledGaussian
from wardround.privacy.one_run import (
    Guesses,
    epsilon_at_least,
    epsilon_of_curve_at_least,
    p_of_curve,
)
from wardround.privacy.trade_off import trade_off
from wardround.privacy.verdict import Verdict

ALPHA = 0.05
LEAST_POWER = 0.9
# A dry run takes two seconds at most. What its parts take was measured on one core: a step of one
# simulated hospital, a value of noise (an integer one where it is shared), one of a gradient.
_MOST_SECONDS = 1.7
_STEP_SECONDS, _GRADIENT_SECONDS = 1e-3, 12e-9
_NOISE_SECONDS, _SHARED_NOISE_SECONDS = 1e-7, 1e-6
_CANARIES = (1000, 2000, 4000)
# The claim of a dry run is like one Gaussian release of noise 1 / aim. With less, luck decides;
# with more, the claim itself lets nearly every canary be found.
_AIMS = (0.6, 0.7, 0.8, 1.1)
# A false alarm keeps a hospital out of its study, so that 5 % of them would be too many: the line
# lies also this many standard deviations above what an honest engine gives (3 in a million).
_HONEST_DEVIATIONS = 4.5
_NAMED_OF_1000 = (50, 100, 150, 200)
_FAULT = 0.5  # the power is that against an engine with half the noise
_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(128)

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRule:
    """What is fixed before the dry run.

    The `named` canaries with the highest scores are named in, as many with the lowest are named
    out, and the attack passes on the rest.
    """

    noise_multiplier: float
    sampling_rate: float
    steps: int
    canaries: int
    named: int

    @property
    def claim(self) -> SampledGaussian:
        """What the engine claims for the steps of the dry run."""
        return SampledGaussian(self.noise_multiplier, self.sampling_rate, self.steps)

    def guesses(self, right: int) -> Guesses:
        """The outcome in which `right` of the names are right. Raises BadInput for no such."""
        return Guesses(canaries=self.canaries, made=2 * self.named, right=right)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditOutcome:
    """What the claim was, what the attack shows, and the verdict."""

    epsilon_claimed: float
    epsilon_f_dp: float
    epsilon_steinke: float
    p_of_claim: float
    power: float
    verdict: Verdict


@lru_cache(maxsize=64)
def audit_rule(noise_multiplier: float, sampling_rate: float, *, hospitals: int = 1) -> AuditRule:
    """The rule for an engine with these numbers: the least work that has the power.

    Where nothing of a second or two has it, the rule with the most. `hospitals` are simulated in
    each step: several where the noise is shared.
    """
    tried = []
    for canaries in _CANARIES:
        for aim in _AIMS:
            most = _most_steps(sampling_rate, canaries, hospitals)
            steps = min(_steps_for(noise_multiplier, sampling_rate, aim), most)
            rule = _sharpest(noise_multiplier, sampling_rate, steps, canaries)
            tried.append(rule)
            if audit_power(rule) >= LEAST_POWER:
                return rule
    return max(tried, key=audit_power)


def _steps_for(noise_multiplier: float, sampling_rate: float, aim: float) -> int:
    """How many steps claim as much as one Gaussian release of noise 1 / aim (Bu et al. 2020)."""
    one_step = sampling_rate**2 * math.expm1(min(1.0 / noise_multiplier**2, 500.0))
    return max(1, round(aim**2 / one_step))


def _most_steps(sampling_rate: float, canaries: int, hospitals: int) -> int:
    gradients = sampling_rate * canaries / 2 * canaries
    noise = canaries * (_SHARED_NOISE_SECONDS if hospitals > 1 else _NOISE_SECONDS)
    step = hospitals * (_STEP_SECONDS + noise) + gradients * _GRADIENT_SECONDS
    return max(1, int(_MOST_SECONDS / step))


def _sharpest(
    noise_multiplier: float, sampling_rate: float, steps: int, canaries: int
) -> AuditRule:
    """Of a few numbers of names the one that half the noise passes the line with by most."""
    rules = [
        AuditRule(
            noise_multiplier=noise_multiplier,
            sampling_rate=sampling_rate,
            steps=steps,
            canaries=canaries,
            named=named * canaries // 1000,
        )
        for named in _NAMED_OF_1000
    ]
    return max(rules, key=audit_power)


@lru_cache(maxsize=256)
def judge(rule: AuditRule, right: int, *, delta: float) -> AuditOutcome:
    """What a dry run by `rule` with `right` right names shows about the engine's claim at `delta`.

    VIOLATION: the right names reach the critical count, which the claim allows with probability
    at most ALPHA. PASS: they do not, and an engine with half the noise would have been caught
    with probability LEAST_POWER or more. INCONCLUSIVE: neither.
    """
    guesses = rule.guesses(right)
    p = p_of_curve(guesses, trade_off(rule.claim))
    power = audit_power(rule)
    quiet = Verdict.PASS if power >= LEAST_POWER else Verdict.INCONCLUSIVE
    return AuditOutcome(
        epsilon_claimed=epsilon_spent([rule.claim], delta=delta),
        epsilon_f_dp=epsilon_of_curve_at_least(guesses, rule.claim, delta=delta, alpha=ALPHA),
        epsilon_steinke=epsilon_at_least(guesses, delta=delta, alpha=ALPHA),
        p_of_claim=p,
        power=power,
        verdict=Verdict.VIOLATION if right >= critical_count(rule) else quiet,
    )


def audit_power(rule: AuditRule) -> float:
    """The chance, by the central limit of the scores, that half the noise would be caught."""
    caught, spread = _right_names(rule, _FAULT)
    return float(ndtr((caught - critical_count(rule)) / spread))


def score(noised: Values, rule: AuditRule) -> Values:
    """How much a step's noised value, in units of the clip norm, speaks for "in": log likelihood.

    ln(1 - q + q exp((2x - 1) / (2 z^2))), the accountant's own privacy loss; finite for all x.
    """
    out = math.log1p(-rule.sampling_rate) if rule.sampling_rate < 1 else -math.inf
    drawn = (2.0 * noised - 1.0) / (2.0 * rule.noise_multiplier**2)
    return np.logaddexp(out, math.log(rule.sampling_rate) + drawn)


@lru_cache(maxsize=256)
def critical_count(rule: AuditRule) -> int:
    """The fewest right names that are a VIOLATION; more than there are where none is.

    Refuted by the claim's own curve, and beyond what luck gives an engine whose noise is
    independent, as the accountant has it.
    """
    curve = trade_off(rule.claim)
    low, high = rule.named, 2 * rule.named + 1
    while high - low > 1:
        middle = (low + high) // 2
        if p_of_curve(rule.guesses(middle), curve) <= ALPHA:
            high = middle
        else:
            low = middle
    honest, spread = _right_names(rule, 1.0)
    return max(high, math.ceil(honest + _HONEST_DEVIATIONS * spread))


def _right_names(rule: AuditRule, noise_ratio: float) -> tuple[float, float]:
    """How many names are right at so much of the noise: expectation and standard deviation."""
    expected = _right_expected(rule, noise_ratio)
    return expected, math.sqrt(max(expected * (1.0 - expected / (2 * rule.named)), 0.25))


def _right_expected(rule: AuditRule, noise_ratio: float) -> float:
    """How many names are right, taking the sums of the scores as normal."""
    noise = noise_ratio * rule.noise_multiplier * _NODES
    weights = _WEIGHTS / _WEIGHTS.sum()
    quiet, drawn = score(noise, rule), score(1.0 + noise, rule)
    q = rule.sampling_rate
    means = np.array([weights @ quiet, (1 - q) * (weights @ quiet) + q * (weights @ drawn)])
    squares = np.array(
        [weights @ quiet**2, (1 - q) * (weights @ quiet**2) + q * (weights @ drawn**2)]
    )
    spreads = np.sqrt(rule.steps * np.maximum(squares - means**2, 1e-300))
    means *= rule.steps
    share = rule.named / rule.canaries
    top = _tails(means, spreads, share, upper=True)
    bottom = _tails(means, spreads, share, upper=False)
    return rule.named * float(top[1] / top.sum() + bottom[0] / bottom.sum())


def _tails(means: Values, spreads: Values, share: float, *, upper: bool) -> Values:
    """The tails (out, in) beyond the threshold past which `share` of all canaries lie."""
    sign = -1.0 if upper else 1.0
    low = float(np.min(means - 40 * spreads))
    high = float(np.max(means + 40 * spreads))
    for _ in range(100):
        middle = (low + high) / 2
        tails = ndtr(sign * (middle - means) / spreads)
        if (float(tails.mean()) > share) == upper:
            low = middle
        else:
            high = middle
    return np.asarray(ndtr(sign * (low + high - 2 * means) / (2 * spreads)))
