"""A report's numbers beside those of other people's code, from the same evidence and rows."""

import hashlib
import json
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import pytest
from dp_accounting.pld import privacy_loss_distribution as pld
from sklearn.metrics import (
    accuracy_score,
    brier_score_loss,
    confusion_matrix,
    roc_auc_score,
)
from tests.support.federation_evidence import Federation, federation, study_of

from wardround.audit.bundle import evidence_of
from wardround.audit.derive import report_of
from wardround.audit.report_model import Report
from wardround.canonical import Json

STUDIES: dict[str, Json] = {
    "local": {},
    "distributed": {"privacy": {"mechanism": "distributed"}, "training": {"local_steps": 1}},
    "noised counts": {"evaluation": {"counts": "noised", "epsilon": 3.0, "bins": 16}},
    "statistics": {"statistics": {"epsilon": 1.0}},
}


@lru_cache(maxsize=8)
def run(kind: str) -> tuple[Federation, Report]:
    lost = {"leiden": (1, "deadline")} if kind == "local" else None
    fed = federation(study=study_of(rounds=2, changes=STUDIES[kind]), lost=lost)
    return fed, report_of(evidence_of(fed.parts()))


def gaussians(fed: Federation, hospital: str) -> Iterator[tuple[str, float, float, int]]:
    """Purpose, noise, rate and steps of every release that a hospital's log says was sent."""
    entries = fed.hospitals[hospital].entries
    purposes = {
        e.body["release"]: e.body["purpose"] for e in entries if e.type == "release-reserved"
    }
    for entry in entries:
        if entry.type != "release-sent" or entry.body["engine"]["mechanism"] == "exact":
            continue
        engine = entry.body["engine"]
        noise = engine.get("noise_multiplier")
        if noise is None:
            noise = (engine["honest"] * engine["share_variance"]) ** 0.5
            noise /= engine["sensitivity_lanes"]
        rate = engine.get("sampling_rate", 1.0)
        yield purposes[entry.body["release"]], noise, rate, engine.get("steps", 1)


@lru_cache(maxsize=32)
def by_the_library(found: tuple[tuple[str, float, float, int], ...], delta: float) -> float:
    """Every release composed on its own, on a finer grid than the product's."""
    composed = None
    for _, noise, rate, steps in found:
        one = pld.from_gaussian_mechanism(
            noise, sampling_prob=rate, value_discretization_interval=5e-4
        ).self_compose(steps)
        composed = one if composed is None else composed.compose(one)
    return 0.0 if composed is None else float(composed.get_epsilon_for_delta(delta))


@pytest.mark.parametrize("kind", STUDIES)
def test_epsilon_of_a_report_equals_an_independent_computation(kind: str):
    fed, report = run(kind)
    delta = fed.study.privacy.delta
    assert delta is not None
    for entry in report.guarantee.hospitals:
        found = sorted(gaussians(fed, entry.hospital))
        groups = [
            tuple(each for each in found if each[0] in {use, "statistics"})
            for use in ("train", "evaluate")
        ]
        due, worst = max((by_the_library(group, delta), group) for group in groups)
        assert entry.epsilon.value is not None
        assert due - 1e-4 <= entry.epsilon.value <= due + 3e-3
        weaker = tuple((use, noise * 0.97, rate, steps) for use, noise, rate, steps in worst)
        assert by_the_library(weaker, delta) > entry.epsilon.value + 3e-3


def rows(fed: Federation) -> tuple[np.ndarray, np.ndarray]:
    """The held-out rows that the counts were made of, pooled, as tests/support draws them."""
    labels, scores = [], []
    for name in fed.study.names():
        random = np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]))
        patients = 40 + 25 * (len(name) % 4)
        here = (random.random(patients) < 0.4).astype(np.int64)
        labels.append(here)
        noise = random.normal(size=patients) + 1.7 * (2 * here - 1)
        scores.append(1 / (1 + np.exp(-noise)))
    return np.concatenate(labels), np.concatenate(scores)


def test_every_metric_equals_scikit_learns_on_the_pooled_rows():
    fed, report = run("statistics")
    metrics = report.evaluation.metrics
    assert metrics is not None
    labels, scores = rows(fed)
    said = scores >= report.evaluation.threshold
    tn, fp, fn, tp = confusion_matrix(labels, said).ravel()
    due = {
        "sensitivity": tp / (tp + fn),
        "specificity": tn / (tn + fp),
        "ppv": tp / (tp + fp),
        "npv": tn / (tn + fn),
        "accuracy": accuracy_score(labels, said),
        "prevalence": labels.mean(),
    }
    for name, value in due.items():
        assert metrics[name]["value"] == pytest.approx(value, abs=1e-6), name
    assert (metrics["patients"], metrics["positives"]) == (len(labels), labels.sum())
    exact = roc_auc_score(labels, scores)
    assert metrics["auroc_lower"] - 1e-6 <= exact <= metrics["auroc_upper"] + 1e-6
    assert metrics["auroc_upper"] - metrics["auroc_lower"] < 0.01
    # Scores are counted in a hundred bins: a squared error moves by at most a bin's half width.
    assert metrics["brier"]["value"] == pytest.approx(brier_score_loss(labels, scores), abs=0.01)


def test_noised_metrics_hold_scikit_learns_within_the_printed_bracket():
    fed, report = run("noised counts")
    metrics = report.evaluation.metrics
    assert metrics is not None
    labels, scores = rows(fed)
    said = scores >= report.evaluation.threshold
    due = {"accuracy": accuracy_score(labels, said), "prevalence": labels.mean()}
    due["auroc"] = roc_auc_score(labels, scores)
    for name, value in due.items():
        found = metrics[name]
        assert found["noise_low"] <= value <= found["noise_high"], name
        assert found["noise_low"] < found["noise_high"]
    assert json.dumps(metrics["auroc"])
