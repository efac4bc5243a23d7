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

CANARIES = 1000
ALPHA = 0.05
LEAST_POWER = 0.9
MOST_STEPS = 1000
# Where the attack is sharpest at 1000 canaries: a claim like one Gaussian release of noise 1 / 1.1.
# Below it luck decides; above it the claim itself lets nearly every canary be found.
_AIM = 1.1
_NAMED_EACH_WAY = (50, 100, 150, 200)
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
def audit_rule(noise_multiplier: float, sampling_rate: float) -> AuditRule:
    """The rule for an engine with these numbers: steps by the claim, names by the sharpest line.

    Of a few numbers of names it takes the one whose critical count lies farthest, in standard
    deviations, from what an engine with half the noise gives and, twice as far, from what an
    honest one gives: a false alarm keeps a hospital out of its study.
    """
    one_step = sampling_rate**2 * math.expm1(min(1.0 / noise_multiplier**2, 500.0))
    steps = min(max(round(_AIM**2 / one_step), 1), MOST_STEPS)
    rules = [
        AuditRule(
            noise_multiplier=noise_multiplier,
            sampling_rate=sampling_rate,
            steps=steps,
            canaries=CANARIES,
            named=named,
        )
        for named in _NAMED_EACH_WAY
    ]
    return max(rules, key=lambda rule: min(-_surplus(rule, 1.0) / 2, _surplus(rule, _FAULT)))


def judge(rule: AuditRule, right: int, *, delta: float) -> AuditOutcome:
    """What a dry run by `rule` with `right` right names shows about the engine's claim at `delta`.

    VIOLATION: that many right names come with probability at most ALPHA under the claim. PASS:
    they do not, and an engine with half the noise would have been caught with probability
    LEAST_POWER or more. INCONCLUSIVE: neither.
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
        verdict=Verdict.VIOLATION if p <= ALPHA else quiet,
    )


def audit_power(rule: AuditRule) -> float:
    """The chance, by the central limit of the scores, that half the noise would be caught."""
    return float(ndtr(_surplus(rule, _FAULT)))


def score(noised: Values, rule: AuditRule) -> Values:
    """How much a step's noised value, in units of the clip norm, speaks for "in": log likelihood.

    ln(1 - q + q exp((2x - 1) / (2 z^2))), the accountant's own privacy loss; finite for all x.
    """
    out = math.log1p(-rule.sampling_rate) if rule.sampling_rate < 1 else -math.inf
    drawn = (2.0 * noised - 1.0) / (2.0 * rule.noise_multiplier**2)
    return np.logaddexp(out, math.log(rule.sampling_rate) + drawn)


@lru_cache(maxsize=256)
def critical_count(rule: AuditRule) -> int:
    """The fewest right names that are a VIOLATION; one more than all of them where none is."""
    curve = trade_off(rule.claim)
    low, high = rule.named, 2 * rule.named + 1
    while high - low > 1:
        middle = (low + high) // 2
        if p_of_curve(rule.guesses(middle), curve) <= ALPHA:
            high = middle
        else:
            low = middle
    return high


def _surplus(rule: AuditRule, noise_ratio: float) -> float:
    """By how many standard deviations the right names pass the critical count, at less noise."""
    expected = _right_expected(rule, noise_ratio)
    spread = math.sqrt(max(expected * (1.0 - expected / (2 * rule.named)), 0.25))
    return (expected - critical_count(rule)) / spread


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
