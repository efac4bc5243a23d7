"""How long an honest group's mean can be: the engine stays below, longer garbage is seen."""

import numpy as np
import pytest
from tests.unit.test_partition import MODEL, specs, study

from wardround.errors import ProtocolViolation
from wardround.masking.quantise import quantise
from wardround.noise import discrete_gaussian
from wardround.protocol.specs import training_share
from wardround.robust.bound import longest_mean_l2
from wardround.robust.combined import OpenedGroup, combined_round

EXACT = {"privacy__mechanism": "none", "privacy__epsilon": None, "privacy__delta": None}
WEIGHTED = {
    **EXACT,
    "training__weighting": "patients",
    "training__weight_unit": 10,
    "training__weight_most": 20,
}


def opened(one, updates):
    """Groups of three hospitals with these updates each, as their sums open."""
    found = []
    for spec, update in zip(specs(one), updates, strict=True):
        total = 3 * quantise(np.asarray(update, np.float32), scale=spec.scale, limit=spec.limit)
        found.append(OpenedGroup.of(one, spec, total.astype(np.int32), survivors=3))
    return found


def test_the_bound_follows_from_what_clips():
    exact = study(**EXACT)
    spec = specs(exact)[0]
    assert longest_mean_l2(exact, spec, survivors=3) == pytest.approx(64.0 * np.sqrt(3))
    local = study(training__learning_rate=0.01)
    step = 2 * 0.01 * 1.0
    noise = 0.01 * local.noise_multiplier() / 15.0 / np.sqrt(3) * (np.sqrt(3) + 6)
    bound = longest_mean_l2(local, specs(local)[0], survivors=3)
    assert bound == pytest.approx(step + noise)
    fast = study(training__learning_rate=0.01, training__momentum=0.9)
    assert longest_mean_l2(fast, specs(fast)[0], survivors=3) == pytest.approx(10 * bound)
    decays = study(training__learning_rate=0.01, training__weight_decay=0.1)
    wide = longest_mean_l2(decays, specs(decays)[0], survivors=3)
    assert wide == pytest.approx(64.0 * np.sqrt(3))


def test_a_full_step_and_the_noise_of_honest_shares_stay_below_the_bound():
    one = study(privacy__mechanism="distributed")
    spec = specs(one)[0]
    share = training_share(one, 3, spec.lanes)
    random = np.random.default_rng(3)
    bound = longest_mean_l2(one, spec, survivors=3)
    clipped = 2 * one.training.learning_rate * one.privacy.clip_norm_l2
    for _ in range(200):
        noise = discrete_gaussian(3 * spec.lanes, variance=share.variance, randomness=random.bytes)
        mean = noise.reshape(3, -1).sum(axis=0) / spec.scale / 3
        assert clipped + np.linalg.norm(mean) < bound
    assert clipped < bound < 64.0 * np.sqrt(3)


def test_a_group_that_is_longer_than_the_engine_allows_is_flagged_though_others_are_too():
    """Three of four send garbage: by distance the honest one would stand out, by length they do."""
    one = study(training__learning_rate=0.001, training__update_bound=8.0)
    honest, wrong = np.full(3, 1e-4), np.array([5.0, -5.0, 5.0])
    groups = opened(one, [honest, wrong, wrong, wrong])
    found = combined_round(one, one.robust, groups)
    names = [group.spec.transcript().hex() for group in groups]
    assert set(names[1:]) <= set(found.flagged)
    assert list(found.flagged) == sorted(found.flagged)


def test_the_order_in_which_groups_open_changes_no_bit():
    one = study(**EXACT, robust__rule="mean")
    random = np.random.default_rng(1)
    groups = opened(one, random.normal(size=(4, 3)))
    due = combined_round(one, one.robust, groups)
    for _ in range(6):
        mixed = [groups[at] for at in random.permutation(4)]
        found = combined_round(one, one.robust, mixed)
        assert found.values.tobytes() == due.values.tobytes()
        assert found.flagged == due.flagged


def test_weighted_groups_give_the_weighted_mean_and_the_loss_of_all():
    one = study(**WEIGHTED, robust__rule="mean")
    found, weights = [], (3, 6, 9, 12)
    for spec, weight in zip(specs(one), weights, strict=True):
        lanes = quantise(
            np.full(3, weight * weight, np.float32), scale=spec.scale, limit=spec.limit
        )
        total = np.concatenate([[weight, weight * weight * 1024], lanes]).astype(np.int32)
        found.append(OpenedGroup.of(one, spec, total, survivors=3))
    combined = combined_round(one, one.robust, found)
    due = np.average(weights, weights=weights)
    np.testing.assert_allclose(combined.values, due, rtol=1e-6)
    assert combined.loss == pytest.approx(due)
    assert combined.values.shape == MODEL.shape


def test_a_group_with_weights_that_nobody_can_have_is_refused():
    one = study(**WEIGHTED)
    spec = specs(one)[0]
    with pytest.raises(ProtocolViolation, match="the weights sum to 2, 3 to 60 was due"):
        OpenedGroup.of(one, spec, np.array([2, 0, 1, 1, 1], np.int32), survivors=3)
