"""What a membership attack on a released model reached, and how far its claim lets any attack get.

Pure statistics of two lists of scores, those of members and those of non-members, a high score
speaking for a member. Everything with a verdict is decided by a rule that is fixed before a score
is seen, and each test gets its own part of one error probability (Bonferroni).
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.special import betaincinv, ndtr, ndtri
from scipy.stats import rankdata

from wardround.errors import BadInput
from wardround.privacy.one_run import Guesses, p_of_curve
from wardround.privacy.trade_off import TradeOff, profile_curve

Values = npt.NDArray[np.float64]

# Over all tests of a model, and the part of it that goes to readings of messages: of these a few
# dozen trials already tell all from nothing, so that hardly any false alarm need come from them.
ALPHA = 0.05
ALPHA_OF_READINGS = 0.001
LEAST_POWER = 0.9
# A test past which a leak of this AUROC could slip finds not even a model that has learned its
# patients by heart. What else it can find is printed beside its verdict.
MOST_UNSEEN_AUROC = 0.99
FALSE_POSITIVE_RATES = (0.01, 0.001)
_NAMED_SHARES = (0.5, 0.4, 0.33, 0.25, 0.2, 0.1)
_MOST_SHIFT = 8.0
_POWER_DEVIATIONS = float(ndtri(LEAST_POWER))
_AREA_POINTS = 4001

NO_LEAK: TradeOff = profile_curve(np.zeros(1), np.zeros(1))


def clopper_pearson(successes: int, trials: int, *, alpha: float) -> tuple[float, float]:
    """The exact interval of a proportion: each end is wrong with probability alpha / 2 at most.

    (Clopper and Pearson 1934)

    >>> tuple(round(end, 4) for end in clopper_pearson(9, 10, alpha=0.05))
    (0.555, 0.9975)
    """
    if not 0 <= successes <= trials or trials < 1:
        raise BadInput(f"proportion: {successes} of {trials} came")
    low, high = 0.0, 1.0
    if successes > 0:
        low = float(betaincinv(successes, trials - successes + 1, alpha / 2))
    if successes < trials:
        high = float(betaincinv(successes + 1, trials - successes, 1 - alpha / 2))
    return low, high


def auroc_most(curve: TradeOff) -> float:
    """The greatest area under an ROC curve that the claim allows, from above."""
    wrong = np.linspace(0.0, 1.0, _AREA_POINTS)
    right = np.array([curve.right_most(value) for value in wrong])
    # The right end of each strip: the curve rises, so this is no less than the area.
    return min(1.0, float(right[1:].mean()))


def advantage_most(curve: TradeOff) -> float:
    """The greatest difference of true and false positive rate that the claim allows."""
    wrong = np.linspace(0.0, 1.0, _AREA_POINTS)
    step = 1.0 / (_AREA_POINTS - 1)
    return min(1.0, max(curve.right_most(float(value)) - float(value) for value in wrong) + step)


def auroc(members: Values, others: Values) -> float:
    """The chance that a member scores above a non-member; a tie counts half.

    >>> auroc(np.array([1.0, 2.0]), np.array([0.0, 1.0]))
    0.875
    """
    ranks = rankdata(np.concatenate([members, others]))
    above = ranks[: len(members)].sum() - len(members) * (len(members) + 1) / 2
    return float(above / (len(members) * len(others)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Advantage:
    """The largest gap of the two distributions, and what of it is no luck."""

    value: float
    low: float


def advantage(members: Values, others: Values, *, alpha: float) -> Advantage:
    """The greatest true minus false positive rate over all thresholds.

    `low` is exceeded by the true one with probability 1 - alpha, by a band that holds at all
    thresholds at once. (Massart 1990, Dvoretzky-Kiefer-Wolfowitz)
    """
    places = np.concatenate([members, others])
    right = _share_above(members, places)
    wrong = _share_above(others, places)
    value = max(0.0, float(np.max(right - wrong)))
    bands = sum(math.sqrt(math.log(2.0 / alpha) / (2.0 * len(s))) for s in (members, others))
    return Advantage(value=value, low=max(0.0, value - bands))


def _share_above(scores: Values, thresholds: Values) -> Values:
    """The share of `scores` at or above each threshold."""
    below = np.searchsorted(np.sort(scores), thresholds, side="left")
    return np.asarray(1.0 - below / len(scores))


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatingPoint:
    """True positive rate at a false positive rate, and what the claim allows there."""

    false_positive_rate: float
    false_positives: int
    false_positive_high: float
    true_positives: int
    true_positive_rate: float
    true_positive_low: float
    true_positive_high: float
    allowed: float

    @property
    def violates(self) -> bool:
        """Whether the lower bound of what was reached exceeds what is allowed."""
        return self.true_positive_low > self.allowed


def operating_point(
    members: Values, others: Values, curve: TradeOff, *, rate: float, alpha: float
) -> OperatingPoint:
    """How many members lie above the threshold that a false positive rate of `rate` sets.

    The threshold is an order statistic of the non-members, chosen by their number alone: strictly
    above it lies at most the share `rate` of them. The rate behind such a threshold has
    Clopper-Pearson's own beta distribution, so that its upper end holds although the same scores
    chose the threshold. `allowed` is what the claim gives at that upper end. Both ends fail with
    alpha / 2. Scores of different patients count as independent here, given the model; the names
    of a NamingRule do without that.
    """
    beyond = math.floor(rate * len(others))
    threshold = np.sort(others)[len(others) - 1 - beyond]
    true_positives = int((members > threshold).sum())
    _, wrong_high = clopper_pearson(beyond, len(others), alpha=alpha)
    low, high = clopper_pearson(true_positives, len(members), alpha=alpha)
    return OperatingPoint(
        false_positive_rate=rate,
        false_positives=int((others > threshold).sum()),
        false_positive_high=wrong_high,
        true_positives=true_positives,
        true_positive_rate=true_positives / len(members),
        true_positive_low=low,
        true_positive_high=high,
        allowed=curve.right_most(wrong_high),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class NamingRule:
    """Fixed before scores are seen: of `subjects` so many are named in, and as many out.

    `critical` right names refute the claim. `unseen_shift` is the smallest leak that would have
    been found with probability LEAST_POWER: members' scores higher by so many deviations. None:
    not even the largest leak would have been found.
    """

    subjects: int
    named: int
    critical: int
    unseen_shift: float | None

    @property
    def unseen_auroc(self) -> float | None:
        """The smallest detectable leak as the AUROC of an attack on it."""
        if self.unseen_shift is None:
            return None
        return float(ndtr(self.unseen_shift / math.sqrt(2.0)))

    @property
    def conclusive(self) -> bool:
        """Whether a leak that matters would have been found."""
        return self.unseen_auroc is not None and self.unseen_auroc <= MOST_UNSEEN_AUROC

    def right(self, scores: Values, members: npt.NDArray[np.bool_]) -> int:
        """How many names are right when the highest scores are named in and the lowest out."""
        order = np.argsort(scores, kind="stable")
        return int(members[order[-self.named :]].sum() + (~members[order[: self.named]]).sum())

    def p_of_claim(self, right: int, curve: TradeOff) -> float:
        """How likely so many right names are, at most, under the claim."""
        return p_of_curve(Guesses(canaries=self.subjects, made=2 * self.named, right=right), curve)


def naming_rule(subjects: int, curve: TradeOff, *, alpha: float) -> NamingRule | None:
    """The rule with which the smallest leak shows; None below four subjects.

    Each subject is in or out by a fair coin of its own, so the count of right names is bounded
    whatever the attack does and however one model ties the subjects together. (Steinke, Nasr and
    Jagielski 2023; Mahloujifar, Melis and Chaudhuri 2025)
    """
    if subjects < 4:
        return None
    rules = [
        _rule(subjects, named, curve, alpha)
        for named in sorted({max(1, int(share * subjects)) for share in _NAMED_SHARES})
    ]
    return min(rules, key=lambda rule: rule.unseen_shift or math.inf)


def _rule(subjects: int, named: int, curve: TradeOff, alpha: float) -> NamingRule:
    critical = _critical(subjects, named, curve, alpha)
    return NamingRule(
        subjects=subjects,
        named=named,
        critical=critical,
        unseen_shift=_unseen_shift(subjects, named, critical),
    )


def _critical(subjects: int, named: int, curve: TradeOff, alpha: float) -> int:
    low, high = named - 1, 2 * named + 1
    while high - low > 1:
        middle = (low + high) // 2
        guesses = Guesses(canaries=subjects, made=2 * named, right=middle)
        if p_of_curve(guesses, curve) <= alpha:
            high = middle
        else:
            low = middle
    return high


@lru_cache(maxsize=256)
def _unseen_shift(subjects: int, named: int, critical: int) -> float | None:
    """The least shift of normal scores with which the names are right often enough."""

    def found(shift: float) -> bool:
        share = _right_share(shift, named / subjects)
        mean, spread = 2 * named * share, math.sqrt(2 * named * share * (1 - share))
        return mean - critical + 0.5 >= _POWER_DEVIATIONS * spread

    if not found(_MOST_SHIFT):
        return None
    low, high = 0.0, _MOST_SHIFT
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (low, middle) if found(middle) else (middle, high)
    return high


def _right_share(shift: float, share: float) -> float:
    """Of the `share` with the highest scores, members' being N(shift, 1): how many are members."""
    low, high = -40.0, 40.0
    for _ in range(60):
        middle = (low + high) / 2
        if (ndtr(-middle) + ndtr(shift - middle)) / 2 > share:
            low = middle
        else:
            high = middle
    return min(1.0, float(ndtr(shift - high) / (2 * share)))
