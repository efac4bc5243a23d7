"""Held-out patients of every kind of label, told apart by sex and age, and the layouts of them."""

import numpy as np
from tests.support.survival_oracles import cohort

from wardround.evaluation.binary import AnomalyLayout
from wardround.evaluation.channels import ChannelsLayout
from wardround.evaluation.detailed import DetailedLayout
from wardround.evaluation.histograms import CountsLayout, CountsMode
from wardround.evaluation.layout import Outcomes
from wardround.evaluation.regression import RegressionLayout, Scale
from wardround.evaluation.subgroups import Groups
from wardround.evaluation.survival import SurvivalLayout

SEX = Groups("sex", "1", ("0", "1"))
CROSSED = Groups("sex by age", "a", ("0, < 65", "0, ≥ 65", "1, < 65", "1, ≥ 65"))
WARD = Groups("ward", "1", ("a", "b", "c"))
CLASSES = ("normal", "benign", "malignant")
LABELS = ("liver", "heart")
SCALES = (Scale("liver", "mg", 0.0, 10.0), Scale("heart", "1", -1.0, 2.0))
EDGES = (100.0, 200.0, 400.0)
KINDS = ("anomaly", "classes", "labels", "numbers", "survival")


def whole_of(kind, mode=CountsMode.EXACT, *, bins=500, time_bins=20):
    """The layout of the whole."""
    cut = CountsLayout(mode=mode, bins=bins)
    if kind == "anomaly":
        return AnomalyLayout(cut, 0.5)
    if kind == "numbers":
        return RegressionLayout(mode=mode, targets=SCALES, bins=bins)
    if kind == "survival":
        return SurvivalLayout(
            mode=mode, edges=EDGES, unit="d", bins=min(bins, 50), time_bins=time_bins
        )
    names = CLASSES if kind == "classes" else LABELS
    return ChannelsLayout(kind=kind, names=names, cut=cut, threshold=0.5)


def detailed(kind, mode=CountsMode.EXACT, *, groupings=(CROSSED, WARD), shuffled=(), **cut):
    """The layout with groups and shuffled columns."""
    whole = whole_of(kind, mode, **cut)
    return DetailedLayout(whole=whole, groupings=groupings, smallest=5, shuffled=shuffled)


def patients(kind, seed, count, *, worse=None):
    """Groups [patients, 2] of `CROSSED` and `WARD`; of group `worse` of the first, coins."""
    random = np.random.default_rng(seed)
    groups = np.stack([random.integers(0, 4, count), random.integers(0, 3, count)], axis=1)
    truth, outputs = _OF_KIND[kind](random, seed, count)
    told = outputs.copy()
    if worse is not None:
        place = np.flatnonzero(groups[:, 0] == worse)
        told[place] = outputs[random.permutation(place)]
    return Outcomes(truth, told, groups=groups)


def some(outcomes, kept):
    """Some of the patients."""
    groups = None if outcomes.groups is None else outcomes.groups[kept]
    return Outcomes(outcomes.truth[kept], outcomes.outputs[kept], groups=groups)


def _logistic(values):
    return 1 / (1 + np.exp(-values))


def _scored(random, truth):
    return _logistic(random.normal(size=truth.shape) + 1.3 * (2 * truth - 1))


def _anomaly(random, _, count):
    truth = (random.random(count) < 0.3).astype(float)
    return truth, _scored(random, truth)[:, None]


def _classes(random, _, count):
    truth = random.integers(0, 3, count)
    logits = random.normal(size=(count, 3)) + 1.5 * np.eye(3)[truth]
    odds = np.exp(logits)
    return truth.astype(float), odds / odds.sum(axis=1, keepdims=True)


def _labels(random, _, count):
    truth = (random.random((count, 2)) < [0.4, 0.25]).astype(float)
    said = _scored(random, truth)
    truth[random.random((count, 2)) < 0.15] = np.nan
    return truth, said


def _numbers(random, _, count):
    truth = random.random((count, 2))
    said = np.clip(0.1 + 0.8 * truth + random.normal(0, 0.1, (count, 2)), 0, 1)
    truth[random.random((count, 2)) < 0.15] = np.nan
    return truth, said


def _survival(_random, seed, count):
    times, events, risks = cohort(seed, count)
    return np.stack([times, events], axis=1), risks


_OF_KIND = {
    "anomaly": _anomaly,
    "classes": _classes,
    "labels": _labels,
    "numbers": _numbers,
    "survival": _survival,
}
