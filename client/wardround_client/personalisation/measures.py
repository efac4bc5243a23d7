"""What models are held against each other by, over a hospital's own held-out patients.

A measure is computed for many weightings of the patients at once: all ones is the value itself, and
as many draws with replacement are its bootstrap, by patient, the same draws for every model.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import numpy.typing as npt
from scipy.special import expit, logit

from wardround.evaluation.layout import Outcomes
from wardround.study.contract import Label, LabelKind
from wardround.study.manifest import StudyPlan
from wardround_client.prediction.calibration import channel_names, yes_or_no
from wardround_client.prediction.censoring import stand_in_weights

Values = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
_NEAREST = 1e-6  # a score of 0 or 1 has no log odds
_STEEPEST = 100.0
_NEWTON = 50
_PAIRS_AT_ONCE = 512  # of events, with everybody: the memory


class Aim(StrEnum):
    """Which way is better; of what aims at a number, models are not subtracted."""

    HIGHER = "higher is better"
    LOWER = "lower is better"
    ZERO = "0 is right"
    ONE = "1 is right"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One number: `value` takes outcomes and weights [draws, patients] to [draws].

    NaN is not available. `of` names the channel where a study has several.
    """

    name: str
    of: str = ""
    unit: str = ""
    aim: Aim
    value: Callable[[Outcomes, Values], Values]


def measures_of(study: StudyPlan) -> tuple[Measure, ...]:
    """The measures of the study's kind of label; the first is the one that the verdict is about."""
    label = study.contract.label
    if label.numbers:
        return tuple(_of_numbers(label))
    if label.kind is LabelKind.NONE:
        return (_auroc(label, 0, ""),)
    names, threshold = channel_names(label), study.evaluation.threshold
    if label.time is not None:
        last = len(label.time.edges) - 1
        until = f"until {label.time.edges[last]:g} {label.time.unit}"
        c_index = Measure(name="C-index", aim=Aim.HIGHER, value=_c_index(label.time.edges[last]))
        return (c_index, *_of_channel(label, last, until, threshold))
    if label.kind is LabelKind.BINARY:
        return (_auroc(label, 0, ""), *_of_channel(label, 0, "", threshold))
    each = [_auroc(label, place, name) for place, name in enumerate(names)]
    found = [Measure(name="Mean AUROC", aim=Aim.HIGHER, value=_mean_of(each, label)), *each]
    for place, name in enumerate(names):
        found += _of_channel(label, place, name, threshold)
    return tuple(found)


def _of_channel(label: Label, place: int, of: str, threshold: float) -> Iterator[Measure]:
    """What is asked of a risk besides its ranking."""
    for name, aim, value in (
        ("Brier score", Aim.LOWER, brier),
        ("Net benefit", Aim.HIGHER, net_benefit(threshold)),
        ("Calibration in the large", Aim.ZERO, in_the_large),
        ("Calibration slope", Aim.ONE, slope),
    ):
        shown = f"{name} at {threshold:g}" if aim is Aim.HIGHER else name
        yield Measure(name=shown, of=of, aim=aim, value=_channel(label, place, value))


OfScores = Callable[[Values, Values, Values], Values]
"""Scores [patients], truths [patients] (a yes is 1) and weights [draws, patients] -> [draws]."""


def _channel(label: Label, place: int, value: OfScores) -> Callable[[Outcomes, Values], Values]:
    """Over the patients whose outcome is known there.

    Until an edge of a prognosis those who were followed up stand in for those lost from sight, by
    weights of the patients as they are, not of each draw.
    """

    def of(outcomes: Outcomes, weights: Values) -> Values:
        known, yes = yes_or_no(label, outcomes.truth)[place]
        if label.time is not None:
            times, events = outcomes.truth[:, 0], outcomes.truth[:, 1] > 0.5
            weights = weights * stand_in_weights(times, events, label.time.edges[place])
        truth = yes[known].astype(np.float64)
        return value(outcomes.outputs[known, place], truth, weights[:, known])

    return of


def _auroc(label: Label, place: int, of: str) -> Measure:
    def value(outcomes: Outcomes, weights: Values) -> Values:
        known = binary(label, outcomes, place)
        if known is None:
            return np.full(len(weights), np.nan)
        scores, yes, rows = known
        return auroc(scores, yes.astype(np.float64), weights[:, rows])

    return Measure(name="AUROC", of=of, aim=Aim.HIGHER, value=value)


def binary(label: Label, outcomes: Outcomes, place: int = 0) -> tuple[Values, Flags, Flags] | None:
    """Scores and yes of the patients known in a channel, and who these are; None without a label.

    An anomaly score counts as a score of being strange.
    """
    known = yes_or_no(label, outcomes.truth)
    if not known:
        return None
    rows, yes = known[place]
    return outcomes.outputs[rows, place], yes[rows], rows


def auroc(scores: Values, yes: Values, weights: Values) -> Values:
    """The share of pairs of a yes and a no in which the yes has the higher score, ties half."""
    if not len(scores):
        return np.full(len(weights), np.nan)
    order = np.argsort(scores, kind="stable")
    _, first = np.unique(scores[order], return_index=True)
    positives = np.add.reduceat((weights * yes)[:, order], first, axis=1)
    negatives = np.add.reduceat((weights * (1.0 - yes))[:, order], first, axis=1)
    below = np.cumsum(negatives, axis=1) - negatives
    pairs = positives.sum(axis=1) * negatives.sum(axis=1)
    return _over((positives * (below + negatives / 2)).sum(axis=1), pairs)


def brier(scores: Values, yes: Values, weights: Values) -> Values:
    """Mean squared distance of risk and outcome."""
    return _over(weights @ (scores - yes) ** 2, weights.sum(axis=1))


def in_the_large(scores: Values, yes: Values, weights: Values) -> Values:
    """Observed minus mean predicted risk."""
    return _over(weights @ (yes - scores), weights.sum(axis=1))


def net_benefit(threshold: float) -> OfScores:
    """True positives less false ones at the odds of the threshold, for each patient.

    A score of `threshold` or more is positive. (Vickers and Elkin 2006)
    """

    def value(scores: Values, yes: Values, weights: Values) -> Values:
        above = scores >= threshold
        gain = above * (yes - (1.0 - yes) * threshold / (1.0 - threshold))
        return _over(weights @ gain, weights.sum(axis=1))

    return value


def slope(scores: Values, yes: Values, weights: Values) -> Values:
    """The slope of the outcome on the log odds of the score by logistic regression (Cox 1958).

    NaN where it has no finite answer: one class, one score, or classes that a score separates.
    """
    place = logit(np.clip(scores, _NEAREST, 1.0 - _NEAREST))
    low, high = np.zeros(len(weights)), np.zeros(len(weights))
    step = np.full(len(weights), np.inf)
    with np.errstate(all="ignore"):
        for _ in range(_NEWTON):
            risk = expit(low[:, None] + high[:, None] * place)
            left, bend = weights * (yes - risk), weights * risk * (1.0 - risk)
            flat, tilt = left.sum(axis=1), left @ place
            first, second, third = bend.sum(axis=1), bend @ place, bend @ place**2
            volume = first * third - second**2
            step = (first * tilt - second * flat) / volume
            low, high = low + (third * flat - second * tilt) / volume, high + step
            if (np.abs(step) < 1e-9).all():
                break
        settled = (np.abs(step) < 1e-6) & (np.abs(high) < _STEEPEST)
    return np.where(settled & ~_separated(place, yes, weights), high, np.nan)


def _separated(place: Values, yes: Values, weights: Values) -> Flags:
    """[draws]: whether one threshold tells all of one kind from all of the other."""
    found = np.zeros(len(weights), dtype=np.bool_)
    kinds = weights * yes, weights * (1.0 - yes)
    for ill, well in (kinds, kinds[::-1]):
        highest = np.where(well > 0, place, -np.inf).max(axis=1, initial=-np.inf)
        lowest = np.where(ill > 0, place, np.inf).min(axis=1, initial=np.inf)
        found |= highest <= lowest
    return found


def _c_index(horizon: float) -> Callable[[Outcomes, Values], Values]:
    """Harrell's C of the risk until the horizon, which ends all follow-up."""

    def value(outcomes: Outcomes, weights: Values) -> Values:
        times = np.minimum(outcomes.truth[:, 0], horizon)
        events = (outcomes.truth[:, 1] > 0.5) & (outcomes.truth[:, 0] < horizon)
        return c_index(times, events, outcomes.outputs[:, -1], weights)

    return value


def c_index(times: Values, events: Flags, risks: Values, weights: Values) -> Values:
    """Of the pairs whose earlier one had the event: how many had the higher risk then, ties half.

    Of one time, an event comes before a censoring, and two events are no pair. (Harrell et al.
    1996)
    """
    agree, pairs = np.zeros(len(weights)), np.zeros(len(weights))
    own, had = weights.astype(np.float32), np.flatnonzero(events)
    for start in range(0, len(had), _PAIRS_AT_ONCE):
        rows = had[start : start + _PAIRS_AT_ONCE, None]
        later = (times[rows] < times) | ((times[rows] == times) & ~events)
        right = (risks[rows] > risks) + (risks[rows] == risks) / np.float32(2)
        mine, counts = own[:, rows[:, 0]], later.astype(np.float32)
        pairs += (mine * (own @ counts.T)).sum(axis=1, dtype=np.float64)
        agree += (mine * (own @ (counts * right).T)).sum(axis=1, dtype=np.float64)
    return _over(agree, pairs)


def _mean_of(each: list[Measure], label: Label) -> Callable[[Outcomes, Values], Values]:
    """Over all classes, or over the labels that have an AUROC."""

    def value(outcomes: Outcomes, weights: Values) -> Values:
        found = np.stack([one.value(outcomes, weights) for one in each])
        known = ~np.isnan(found)
        due = len(each) if label.kind is LabelKind.CLASSES else 1
        mean = _over(np.where(known, found, 0.0).sum(axis=0), known.sum(axis=0).astype(np.float64))
        return np.where(known.sum(axis=0) >= due, mean, np.nan)

    return value


def _of_numbers(label: Label) -> Iterator[Measure]:
    found: list[Measure] = []
    for place, target in enumerate(label.targets):
        low, high = target.range or (0.0, 1.0)
        for name, aim, value, unit in (
            ("R squared", Aim.HIGHER, r_squared, 0.0),
            ("Root mean squared error", Aim.LOWER, root_mean_square, high - low),
            ("Mean error", Aim.ZERO, mean_error, high - low),
            ("Calibration slope", Aim.ONE, line_slope, 0.0),
        ):
            one = _number(place, value, unit or 1.0)
            shown = target.unit if unit and target.unit != "1" else ""
            found.append(Measure(name=name, of=target.name, unit=shown, aim=aim, value=one))
    first = [one for one in found if one.name == "R squared"]
    yield Measure(name="Mean R squared", aim=Aim.HIGHER, value=_mean_of(first, label))
    yield from found


def _number(place: int, value: OfScores, width: float) -> Callable[[Outcomes, Values], Values]:
    def of(outcomes: Outcomes, weights: Values) -> Values:
        truth = outcomes.truth[:, place]
        known = ~np.isnan(truth)
        return width * value(outcomes.outputs[known, place], truth[known], weights[:, known])

    return of


def r_squared(said: Values, truth: Values, weights: Values) -> Values:
    """1 - squared errors over squared deviations from the mean."""
    whole = weights.sum(axis=1)
    mean = _over(weights @ truth, whole)
    spread = weights @ truth**2 - whole * mean**2
    return 1.0 - _over(weights @ (said - truth) ** 2, np.where(spread > 1e-9, spread, 0.0))


def root_mean_square(said: Values, truth: Values, weights: Values) -> Values:
    """Root of the mean squared error."""
    return np.sqrt(brier(said, truth, weights))


def mean_error(said: Values, truth: Values, weights: Values) -> Values:
    """Mean of said minus true."""
    return -in_the_large(said, truth, weights)


def line_slope(said: Values, truth: Values, weights: Values) -> Values:
    """The slope of truth on what was said, by least squares."""
    whole = weights.sum(axis=1)
    first, second = _over(weights @ said, whole), _over(weights @ truth, whole)
    spread = weights @ said**2 - whole * first**2
    both = weights @ (said * truth) - whole * first * second
    return _over(both, np.where(spread > 1e-9, spread, 0.0))


def _over(part: Values, whole: Values) -> Values:
    """The quotient; NaN where there is nothing to divide by."""
    with np.errstate(all="ignore"):
        return np.where(whole > 0, part / whole, np.nan)
