"""Who knows a patient's record asks the pooled counts of an evaluation whether it is among them.

A coordinator may choose the model that is evaluated: one that spreads the scores gives almost
everybody a bin of their own. No hospital can see that, since a model is what training made of all.
"""

import numpy as np
import pytest
import torch
from tests.support.study_plans import study_plan
from tests.support.training_steps import seeded

from wardround.evaluation.layouts import layout_of
from wardround.models.networks import build
from wardround.privacy.accounting import gaussian_count_noise
from wardround.privacy.attack_bounds import advantage, advantage_most
from wardround.privacy.mechanism import SampledGaussian
from wardround.privacy.trade_off import trade_off
from wardround_client.held_out import held_out_outcomes
from wardround_client.training.plan import PatientRecords

MEMBERS, TIMES = 142, 20  # as many as study heart_disease holds out in all
EPSILON, DELTA = 3.0, 1e-4


def study_with(**evaluation):
    columns = [
        {"name": f"value_{place}", "kind": "continuous", "description": "x", "range": [0, 1]}
        for place in range(6)
    ]
    registered = {"registered": "2026-11-22", **evaluation}
    privacy = {"mechanism": "none", "clip_norm_l2": 1.0, "sampling_rate": 0.5, "delta": DELTA}
    return study_plan(
        "risk", "logistic-regression", columns=columns, evaluation=registered, privacy=privacy
    )


def spreading(study):
    """A made-up model: sums of what a record says, on as many scores as there are."""
    network = build(study)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(torch.linspace(0.3, 0.8, parameter.numel()).reshape(parameter.shape))
    return network


def patients(random):
    features = torch.from_numpy(random.uniform(-1, 1, (MEMBERS, 6))).float()
    labels = torch.from_numpy(random.integers(0, 2, MEMBERS)).float()
    return PatientRecords(features=features, labels=labels, offsets=np.arange(MEMBERS + 1))


def asked(study, counted, outcomes):
    """What the counts have at each patient's own class and score."""
    bins = study.evaluation.bins
    cell = np.minimum((outcomes.outputs[:, 0] * bins).astype(int), bins - 1)
    return counted[outcomes.truth.astype(int) * bins + cell].astype(float)


def scores_of_both(study, leave):
    """Members' and others' scores, over many evaluations; `leave` makes counts what leaves."""
    random, layout, network = np.random.default_rng(3), layout_of(study), spreading(study)
    inside, outside = [], []
    for _ in range(TIMES):
        members, others = (
            held_out_outcomes(network, patients(random), study) for _ in ("members", "others")
        )
        counted = leave(layout.count(members))
        inside.append(asked(study, counted, members))
        outside.append(asked(study, counted, others))
    return np.concatenate(inside), np.concatenate(outside)


def test_exact_counts_tell_nine_in_ten_known_patients_apart_from_those_who_are_not_held_out():
    inside, outside = scores_of_both(study_with(), lambda counts: counts.exact())
    assert inside.min() >= 1.0  # a member is never missed, nor its outcome
    assert advantage(inside, outside, alpha=0.05).value == pytest.approx(0.9, abs=0.02)


def test_noised_counts_tell_no_more_of_them_than_their_epsilon():
    study = study_with(counts="noised", epsilon=EPSILON, bins=8)
    noise, randomness = gaussian_count_noise(EPSILON, DELTA), seeded(7)
    inside, outside = scores_of_both(study, lambda counts: counts.noised(noise, randomness))
    most = advantage_most(trade_off(SampledGaussian(noise, 1.0, 1)))
    # Who does not know the others cannot even come near it.
    assert advantage(inside, outside, alpha=0.05).value < 0.5 * most
    assert most < 0.4
