"""The dry run goes through the real engine: an honest one passes, one with a fault does not."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from wardround.errors import BadInput
from wardround.privacy.coins import coins, coins_commitment, packed_flags
from wardround.privacy.engine_audit import audit_rule, judge
from wardround.privacy.verdict import Verdict
from wardround_client.empirical.canaries import CanaryModel, canary_patients
from wardround_client.empirical.dry_run import name_canaries
from wardround_client.training import distributed, local
from wardround_client.training.plan import StepSizes, TrainingPlan
from wardround_client.training.stages import ClippedSum

DELTA = 1e-5
SEED = bytes(range(32))
SIZES = StepSizes(learning_rate=0.3, expected_batch=40.0, momentum=0.9, weight_decay=1e-3)
RULE = audit_rule(3.5, 0.5)


def seeded(seed):
    return np.random.default_rng(seed).bytes


def plan(**changes):
    fields = {
        "mechanism": "local",
        "noise_multiplier": 3.5,
        "clip_norm_l2": 0.7,
        "sampling_rate": 0.5,
        "records_per_patient": 2,
        "local_steps": 10,
    }
    return TrainingPlan(**(fields | changes))


SHARED = {"mechanism": "distributed", "local_steps": 1, "honest": 4}


def audit(study_plan, seed=1):
    named = name_canaries(study_plan, SIZES, RULE, seed=SEED, randomness=seeded(seed))
    return judge(RULE, named.right(coins(SEED, RULE.canaries)), delta=DELTA)


@pytest.mark.parametrize("changes", [{}, SHARED, {"clipping": "per-layer"}])
def test_an_honest_engine_passes_and_the_bounds_lie_below_its_claim(changes):
    outcome = audit(plan(**changes))
    assert outcome.verdict is Verdict.PASS
    assert 1.0 < outcome.epsilon_f_dp < outcome.epsilon_claimed
    assert 0.5 < outcome.epsilon_steinke < outcome.epsilon_f_dp


def test_a_moving_clip_norm_and_a_ceiling_on_batches_are_held_still_for_the_audit():
    moving = plan(clipping="adaptive", adaptive_quantile=0.5, adaptive_count_noise=20.0)
    assert audit(moving).verdict is Verdict.PASS
    assert audit(plan(patients_most=50, batch_most=40)).verdict is Verdict.PASS


HONEST_NOISE, HONEST_SHARE = local.add_noise, distributed.add_share
HONEST_CLIP, HONEST_DRAW = local.clip, local.draw


def half_noise(clipped, *, noise_multiplier, **rest):
    less = HONEST_NOISE(clipped, noise_multiplier=noise_multiplier / 2, **rest)
    return replace(less, done=replace(less.done, noise_multiplier=noise_multiplier))


def no_noise(clipped, *, noise_multiplier, **rest):
    less = HONEST_NOISE(clipped, noise_multiplier=1e-6, **rest)
    return replace(less, done=replace(less.done, noise_multiplier=noise_multiplier))


def clip_at_twice_the_norm(*arguments, clip_norm_l2, **more):
    wide = HONEST_CLIP(*arguments, clip_norm_l2=2 * clip_norm_l2, **more)
    return replace(wide, clip_norm_l2=clip_norm_l2)


def clip_records_instead_of_patients(*arguments, clip_norm_l2, **more):
    """Each of a patient's two records adds a clipped gradient of its own."""
    one = HONEST_CLIP(*arguments, clip_norm_l2=clip_norm_l2, **more)
    return ClippedSum(values=2 * one.values, clip_norm_l2=clip_norm_l2)


def everybody_in_every_step(patients, study_plan, randomness):
    return HONEST_DRAW(patients, replace(study_plan, sampling_rate=1.0), randomness)


def a_quarter_of_the_share(clipped, *, share_variance, randomness):
    less = HONEST_SHARE(clipped, share_variance=share_variance // 4, randomness=randomness)
    return replace(less, share_variance=share_variance)


@pytest.mark.parametrize(
    ("module", "name", "fault", "changes"),
    [
        (local, "add_noise", half_noise, {}),
        (local, "add_noise", no_noise, {}),
        (local, "clip", clip_at_twice_the_norm, {}),
        (local, "clip", clip_records_instead_of_patients, {}),
        (local, "draw", everybody_in_every_step, {}),
        (distributed, "add_share", a_quarter_of_the_share, SHARED),
    ],
)
def test_an_engine_with_a_fault_is_a_violation(module, name, fault, changes, monkeypatch):
    monkeypatch.setattr(module, name, fault)
    outcome = audit(plan(**changes))
    assert outcome.verdict is Verdict.VIOLATION, fault.__name__
    assert outcome.epsilon_f_dp > outcome.epsilon_claimed


def test_a_plan_without_noise_has_nothing_to_audit():
    with pytest.raises(BadInput, match="mechanism none"):
        audit(plan(mechanism="none", noise_multiplier=0.0))


def test_a_canary_is_one_clip_norm_on_its_own_coordinate_and_on_no_other():
    members = coins(SEED, 40)
    model = CanaryModel(40)
    local.train(
        model,
        canary_patients(members, clip_norm_l2=0.7, records_per_patient=5),
        lambda outputs, labels: -outputs.squeeze(-1) * labels,
        plan(noise_multiplier=1e-6, local_steps=3),
        StepSizes(learning_rate=1.0, expected_batch=1.0),
        randomness=seeded(2),
    )
    moves = model.moves() / 0.7
    rounded = moves.round()
    assert len(moves) == 3
    assert torch.allclose(moves, rounded, atol=1e-4)
    assert set(rounded.unique().tolist()) == {0.0, 1.0}
    assert not rounded[:, torch.from_numpy(~members)].any()


def test_coins_are_fair_follow_from_the_seed_and_are_bound_by_its_commitment():
    flips = coins(SEED, 20_000)
    assert abs(flips.mean() - 0.5) < 0.015
    assert np.array_equal(flips[:1000], coins(SEED, 1000))
    assert (coins(bytes(32), 1000) != flips[:1000]).any()
    assert coins_commitment(SEED) != coins_commitment(bytes(32))
    assert packed_flags(np.array([True, False, False, False, False, False, False, True, True])) == (
        b"\x81\x80"
    )
