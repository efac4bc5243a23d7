"""Models on the same patients: each with its interval, and what one has over the other.

Two AUROCs are compared by DeLong's covariance; everything else by a bootstrap that draws patients,
the same ones for every model. A difference has no interval where so few patients could be anything.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt

from wardround.evaluation.intervals import Z_95, auroc_interval
from wardround.evaluation.layout import Outcomes
from wardround.randomness import Randomness, words
from wardround.study.contract import LabelKind
from wardround.study.manifest import StudyPlan
from wardround_client.personalisation.measures import Aim, Measure, Values, binary, measures_of

DRAWS = 1000
FEWEST = 10  # patients, below which a bootstrap says nothing
FEWEST_OF_A_KIND = 5  # with and without the outcome, below which a difference says nothing
_FINITE = 0.9  # of the draws
_ENDS = (2.5, 97.5)
_AT_ONCE = 100


class Way(StrEnum):
    """Which model."""

    RELEASED = "federated"
    ALONE = "alone"
    PERSONALISED = "personalised"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """A number with its 95 % interval; None is not available."""

    value: float | None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """What `of` has over `over`: the difference of the two; its interval is that of pairs."""

    of: Way
    over: Way
    difference: Told


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One measure: of every model, and the differences where more or less is better."""

    name: str
    of: str
    unit: str
    aim: Aim
    values: Mapping[Way, Told]
    gains: tuple[Gain, ...]


# In this order: the first whose models are there is what the verdict is about.
_PAIRS = (
    (Way.PERSONALISED, Way.ALONE),
    (Way.RELEASED, Way.ALONE),
    (Way.PERSONALISED, Way.RELEASED),
)


def rows_of(
    study: StudyPlan, outcomes: Mapping[Way, Outcomes], randomness: Randomness
) -> tuple[Row, ...]:
    """Every measure of the study's label over the same held-out patients, patient by patient."""
    (patients,) = {len(each.outputs) for each in outcomes.values()}
    draws = _draws(patients, randomness)
    return tuple(_row(study, one, outcomes, draws) for one in measures_of(study))


def pairs_of(ways: Sequence[Way]) -> tuple[tuple[Way, Way], ...]:
    """The comparisons of those that are there; the first is the one the verdict is about."""
    return tuple(pair for pair in _PAIRS if set(pair) <= set(ways))


def _row(
    study: StudyPlan,
    one: Measure,
    outcomes: Mapping[Way, Outcomes],
    draws: npt.NDArray[np.uint8],
) -> Row:
    label = study.contract.label
    whole = np.ones((1, draws.shape[1]))
    values = {way: float(one.value(own, whole)[0]) for way, own in outcomes.items()}
    ranked = one.name == "AUROC" and label.kind in {LabelKind.BINARY, LabelKind.NONE}
    known = {way: binary(label, own) for way, own in outcomes.items()} if ranked else {}
    cases = [found[:2] for found in known.values() if found is not None]
    drawn = {} if cases else {way: _of_draws(one, own, draws) for way, own in outcomes.items()}
    told = {
        way: _told(value, _of_auroc(value, cases[0][1]) if cases else _middle(drawn[way]))
        for way, value in values.items()
    }
    gains, places = [], {way: place for place, way in enumerate(values)}
    for of, over in pairs_of(tuple(values)) if one.aim in {Aim.HIGHER, Aim.LOWER} else ():
        if cases:
            both = [cases[places[of]][0], cases[places[over]][0]]
            ends = auroc_difference(both[0], both[1], cases[0][1])
        else:
            ends = _middle(drawn[of] - drawn[over]) if _enough(study, outcomes[of]) else None
        gains.append(Gain(of=of, over=over, difference=_told(values[of] - values[over], ends)))
    return Row(
        name=one.name, of=one.of, unit=one.unit, aim=one.aim, values=told, gains=tuple(gains)
    )


def auroc_difference(
    first: Values, second: Values, yes: npt.NDArray[np.bool_]
) -> tuple[float, float] | None:
    """95 % interval of the first AUROC less the second, of two scores for the same patients.

    None with fewer than five patients of either kind, and where the two rank all alike: then
    nothing is known of how much they could differ. (DeLong, DeLong and Clarke-Pearson 1988)
    """
    positives, negatives = int(yes.sum()), int((~yes).sum())
    if min(positives, negatives) < FEWEST_OF_A_KIND:
        return None
    of_yes, of_no = [], []
    for scores in (first, second):
        of_yes.append(_below(scores[~yes], scores[yes]))
        of_no.append(1.0 - _below(scores[yes], scores[~yes]))
    apart = of_yes[0] - of_yes[1], of_no[0] - of_no[1]
    variance = float(apart[0].var(ddof=1) / positives + apart[1].var(ddof=1) / negatives)
    if variance <= 0.0:
        return None
    middle, half = float(apart[0].mean()), Z_95 * float(np.sqrt(variance))
    return max(middle - half, -1.0), min(middle + half, 1.0)


def _below(others: Values, scores: Values) -> Values:
    """The share of the others that each score is above, ties half."""
    ordered = np.sort(others)
    left, right = (np.searchsorted(ordered, scores, side=side) for side in ("left", "right"))
    share: Values = (left + right) / (2 * len(others))
    return share


def _enough(study: StudyPlan, outcomes: Outcomes) -> bool:
    """Whether a difference may have an interval at all: five of either kind, where kinds are."""
    label, truth = study.contract.label, outcomes.truth
    if len(truth) < FEWEST:
        return False
    if label.time is not None:
        return int((truth[:, 1] > 0.5).sum()) >= FEWEST_OF_A_KIND
    if label.kind is LabelKind.BINARY:
        return min(int((truth > 0.5).sum()), int((truth <= 0.5).sum())) >= FEWEST_OF_A_KIND
    return True


def _draws(patients: int, randomness: Randomness) -> npt.NDArray[np.uint8]:
    """[draws, patients]: how often each patient is drawn, with replacement."""
    if patients < FEWEST:
        return np.zeros((0, patients), dtype=np.uint8)
    counts = np.zeros((DRAWS, patients), dtype=np.uint8)
    for draw in range(DRAWS):
        drawn = words(patients, randomness) % np.uint64(patients)
        counts[draw] = np.bincount(drawn.astype(np.int64), minlength=patients)
    return counts


def _of_draws(one: Measure, outcomes: Outcomes, draws: npt.NDArray[np.uint8]) -> Values:
    parts = [draws[start : start + _AT_ONCE] for start in range(0, len(draws), _AT_ONCE)]
    found = [one.value(outcomes, part.astype(np.float64)) for part in parts]
    return np.concatenate([np.zeros(0), *found])


def _of_auroc(value: float, yes: npt.NDArray[np.bool_]) -> tuple[float, float] | None:
    if np.isnan(value):
        return None
    return auroc_interval(value, int(yes.sum()), int((~yes).sum()))


def _middle(drawn: Values) -> tuple[float, float] | None:
    """The middle 95 % of the draws; None when too many of them have no value."""
    finite = drawn[np.isfinite(drawn)]
    if not len(drawn) or len(finite) < _FINITE * len(drawn):
        return None
    low, high = np.percentile(finite, _ENDS)
    return float(low), float(high)


def _told(value: float, ends: tuple[float, float] | None) -> Told:
    if not np.isfinite(value):
        return Told(value=None)
    return Told(value=value) if ends is None else Told(value=value, low=ends[0], high=ends[1])
