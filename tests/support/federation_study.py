"""The small real study that the evidence in memory is about, and its parties' keys."""

import hashlib
from collections.abc import Mapping

import numpy as np
from tests.support.identities import identity_of
from tests.support.labelled_counts import counts_of_any_label
from tests.support.masked_hospitals import seeded

from wardround.canonical import Json
from wardround.evaluation.histograms import Counts, Scores, count_patients
from wardround.evaluation.layout import Outcomes
from wardround.identity import Identity
from wardround.masking.quantise import Lanes
from wardround.noise import discrete_gaussian
from wardround.privacy.accounting import gaussian_count_noise
from wardround.protocol.specs import evaluation_layout, statistics_layout, statistics_share_of
from wardround.statistics.tally import PatientRows, tally
from wardround.study.contract import LabelKind
from wardround.study.files import checked
from wardround.study.manifest import Study

NAMES = ("bergen", "coimbra", "leiden", "zurich")
CONTRACT: Json = {
    "patient_key": "patient",
    "label": {"name": "disease", "description": "narrowing over 50 %", "positive": "1"},
    "columns": [
        {
            "name": "age",
            "kind": "continuous",
            "description": "age",
            "unit": "a",
            "range": [18, 95],
        },
        {"name": "angina", "kind": "binary", "description": "angina under exercise"},
    ],
}


def new_identity(name: str) -> Identity:
    """A key that depends on the name alone."""
    return identity_of(seeded(f"identity/{name}")(32))


def study_of(
    names: tuple[str, ...] = NAMES,
    *,
    rounds: int = 3,
    changes: Mapping[str, Mapping[str, object]] | None = None,
    keys: str = "",
) -> Study:
    """A small real study; `changes` replaces keys of its tables, `keys` seeds other identities."""
    value: Json = {
        "schema": "wardround.study/1",
        "name": "heart-risk",
        "title": "Risk of coronary disease from routine findings",
        "purpose": "One risk model over several hospitals, without moving a record.",
        "contact": "data.office@example.org",
        "task": {"family": "risk", "model": "logistic-regression"},
        "contract": CONTRACT,
        "privacy": {
            "mechanism": "local",
            "epsilon": 2.5,
            "delta": 1e-4,
            "clip_norm_l2": 1.0,
            "sampling_rate": 0.1,
        },
        "training": {"local_steps": 4, "learning_rate": 0.5, "expected_batch": 20.0},
        "rounds": {"count": rounds, "quorum": min(3, len(names))},
        "masking": {"minimum_hospitals": min(3, len(names))},
        "evaluation": {"registered": "2026-02-20", "bins": 100},
        "roster": [
            {"name": name, "fingerprint": new_identity(keys + name).fingerprint} for name in names
        ],
    }
    for table, keys in (changes or {}).items():
        value[table] = {**value.get(table, {}), **keys}
    return checked(Study, value, what="test study")


def statistics_of_hospital(study: Study, name: str) -> Lanes:
    """A hospital's noised statistics, the same each time: ages about 60, half of them angina."""
    seed = int.from_bytes(hashlib.sha256(f"statistics/{name}".encode()).digest()[:8])
    random = np.random.default_rng(seed)
    patients, layout = 400 + 10 * len(name), statistics_layout(study)
    rows = PatientRows(
        outcomes=(random.random(patients) < 0.4).astype(np.int64),
        numbers={"age": np.clip(random.normal(60, 12, patients), 18, 95)},
        codes={"angina": random.integers(0, 2, patients)},
    )
    share = statistics_share_of(study, len(study.names()))
    noise = discrete_gaussian(layout.lanes, variance=share.variance, randomness=random.bytes)
    return tally(rows, layout).noised(noise, share).lanes


def counts_of_hospital(study: Study, name: str) -> Lanes:
    """Held-out patients of one hospital, with scores that separate the classes fairly well."""
    random = np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]))
    patients = 40 + 25 * (len(name) % 4)
    labels = (random.random(patients) < 0.4).astype(np.int64)
    scores = 1 / (1 + np.exp(-(random.normal(size=patients) + 1.7 * (2 * labels - 1))))
    if study.contract.label.kind is not LabelKind.BINARY:
        return counts_of_any_label(study, name)
    if study.evaluation.detailed:
        return _detailed_counts(study, random)
    if study.evaluation.beside:
        return _counts_beside(study, random, labels, scores)
    raw = count_patients(labels, scores, evaluation_layout(study).cut)
    if study.evaluation.counts == "exact":
        return raw.exact().to_lanes()
    assert study.evaluation.epsilon is not None
    assert study.privacy.delta is not None
    spread = gaussian_count_noise(study.evaluation.epsilon, study.privacy.delta)
    noise = np.rint(random.normal(scale=spread, size=evaluation_layout(study).lanes)).astype(
        np.int64
    )
    return raw.noised(noise).to_lanes()


def _counts_beside(
    study: Study, random: np.random.Generator, labels: Counts, scores: Scores
) -> Lanes:
    """Alone a hospital ranks its patients by coin, personalised as the study's model does."""
    of_way = {"local-only": random.random(len(scores)), "personalised": scores}
    beside = np.array([of_way[way] for way in study.evaluation.beside])[:, :, None]
    outcomes = Outcomes(labels.astype(np.float64), scores[:, None], beside=beside)
    return evaluation_layout(study).count(outcomes).exact()


def _detailed_counts(study: Study, random: np.random.Generator) -> Lanes:
    """Groups as large as the study's smallest one asks, so that a study says how sure it can be.

    Nobody is in the last named group of an age, and of angina all are alike; who is 65 or older and
    below 75 is ranked by coin: so `edges` decide whether a group is served worse. Age is what the
    model rests on.
    """
    plan = study.evaluation
    patients = 24 * plan.smallest_group
    truth = (random.random(patients) < 0.4).astype(np.float64)
    age, angina = random.uniform(18, 75, patients), random.integers(0, 2, patients)
    signal = np.where(age < 65, 1.7, 0.0) * (2 * truth - 1)
    scores, coin = (
        1 / (1 + np.exp(-(random.normal(size=patients) + part))) for part in (signal, 0 * signal)
    )
    groups = [
        angina if each.column == "angina" else np.searchsorted(each.edges, age, side="right")
        for each in plan.subgroups
    ]
    outcomes = Outcomes(
        truth,
        scores[:, None],
        groups=np.array(groups, dtype=np.int64).reshape(-1, patients).T,
        shuffled=np.array(
            [coin if each == "age" else scores for each in plan.shuffled(study.contract)]
        ),
    )
    raw = evaluation_layout(study).count(outcomes)
    if plan.counts == "exact":
        return raw.exact()
    assert plan.epsilon is not None
    assert study.privacy.delta is not None
    return raw.noised(gaussian_count_noise(plan.epsilon, study.privacy.delta), random.bytes)
