"""The step that carries a share of the noise, and the stages that may leave."""

import math
import typing

import numpy as np
import pytest
import torch
from tests.support.training_steps import (
    LIMIT,
    ONE_STEP,
    SCALE,
    SIZES,
    mlp,
    plan,
    records,
    seeded,
    stepped,
    trained,
)

from wardround.errors import BadInput, WardroundError
from wardround.models.networks import parameters_of
from wardround.privacy.engine import DistributedEngine, parse_engine
from wardround.privacy.noise_shares import StepScale, noise_share, noise_tail
from wardround.randomness import system_randomness
from wardround_client.training import distributed
from wardround_client.training.plan import StepSizes
from wardround_client.training.stages import (
    ClearUpdate,
    ClippedLanes,
    ClippedSum,
    NoisedLanes,
    NoisedUpdate,
    add_share,
    lanes_of,
    noised,
    to_mask,
)


def share_of(lanes=41, noise_multiplier=1.2):
    return noise_share(
        noise_multiplier,
        StepScale(learning_rate=0.1, clip_norm_l2=0.5, expected_batch=5.0),
        most_change=64.0,
        hospitals=4,
        honest=3,
        lanes=lanes,
    )


def test_the_share_is_the_one_that_coordinator_and_verifier_compute():
    due = share_of()
    shared, report = stepped(scale=due.scale)
    engine = report.engine
    assert isinstance(engine, DistributedEngine)
    assert engine.share_variance == shared.share_variance == due.variance
    assert engine.sensitivity_lanes == due.sensitivity_lanes
    assert engine.honest == 3
    assert engine.noise_multiplier >= 1.2
    assert engine.noise_multiplier == pytest.approx(1.2, rel=1e-6)
    assert parse_engine(engine.body()) == engine


def test_the_lanes_are_the_step_of_the_clipped_sum():
    """With noise of a few lanes beside steps of thousands: the step that plain SGD would take."""
    data, model = records(20), mlp()
    start = parameters_of(model).clone()
    quiet = {"noise_multiplier": 1e-3, "sampling_rate": 1.0}
    shared, _ = stepped(data=data, model=model, **quiet)
    update, _ = trained(data=data, local_steps=1, noise_multiplier=1e-6, sampling_rate=1.0)
    assert torch.equal(parameters_of(model), start)
    assert shared.values.dtype == np.int32
    np.testing.assert_allclose(shared.values / SCALE, update.values, atol=1e-4)
    assert np.abs(update.values).max() > 0.01


def test_rounding_and_clipping_keep_neighbours_within_the_sensitivity():
    """The lanes before the noise, for any patient who comes or goes."""
    model, sizes = mlp(), SIZES
    for seed in range(20):
        torch.manual_seed(seed)
        others, one = torch.randn(41) * 3, torch.randn(41)
        one *= 0.5 / one.norm()
        first, second = (
            distributed.to_lanes(
                model,
                ClippedSum(values=values, clip_norm_l2=0.5),
                sizes,
                scale=2.0**8,
                limit=LIMIT,
            )
            for values in (others, others + one)
        )
        moved = np.linalg.norm((first.values - second.values).astype(float))
        assert moved <= first.sensitivity_lanes
        assert first.sensitivity_lanes == pytest.approx(0.01 * 256 + math.sqrt(41), rel=1e-3)


def test_lanes_are_clamped_so_that_the_noise_stays_below_the_limit():
    far = np.array([LIMIT, -LIMIT, 0] * 50, dtype=np.int32)
    variance = 2**40
    clipped = ClippedLanes(values=far, sensitivity_lanes=1.0, limit=LIMIT)
    shared = add_share(clipped, share_variance=variance, randomness=seeded(4))
    assert np.abs(shared.values.astype(np.int64)).max() <= LIMIT
    room = LIMIT - noise_tail(variance)
    noise = shared.values.astype(np.int64) - np.clip(far.astype(np.int64), -room, room)
    assert 0.7 < noise.std() / 2**20 < 1.3
    with pytest.raises(WardroundError, match="no room"):
        add_share(clipped, share_variance=2**50, randomness=seeded(4))


def test_a_frozen_parameter_has_a_lane_and_no_step():
    model = mlp()
    model[0].weight.requires_grad_(requires_grad=False)
    shared, report = stepped(model=model, data=records(size=3.0), noise_multiplier=1e-6)
    assert len(shared.values) == 41
    assert np.abs(shared.values[:30] / SCALE).max() < 1e-6
    assert np.abs(shared.values[30:] / SCALE).max() > 1e-4
    whole, _ = stepped(data=records(size=3.0))
    assert report.engine.sensitivity_lanes == stepped()[1].engine.sensitivity_lanes
    assert len(whole.values) == 41


@pytest.mark.parametrize(
    "wrong",
    [
        StepSizes(learning_rate=0.1, expected_batch=5.0, momentum=0.5),
        StepSizes(learning_rate=0.1, expected_batch=5.0, weight_decay=0.1),
    ],
)
def test_one_step_with_memory_is_refused(wrong):
    with pytest.raises(BadInput, match="momentum and weight decay"):
        stepped(sizes=wrong)


def test_each_mechanism_has_its_own_way_and_takes_no_other():
    with pytest.raises(BadInput, match="distributed was due"):
        stepped(mechanism="local")
    with pytest.raises(BadInput, match="takes one step"):
        trained(**ONE_STEP)


def test_a_sum_that_nobody_clipped_has_no_lanes():
    with pytest.raises(WardroundError, match="not clipped"):
        distributed.to_lanes(
            mlp(),
            ClippedSum(values=torch.ones(41), clip_norm_l2=None),
            SIZES,
            scale=SCALE,
            limit=LIMIT,
        )


def test_only_stages_that_may_leave_have_a_way_to_the_lanes_that_are_masked():
    for way in (to_mask, lanes_of):
        takes = typing.get_type_hints(way)["update"]
        assert set(typing.get_args(takes)) == {NoisedUpdate, ClearUpdate, NoisedLanes}


def test_lanes_of_an_update_are_its_quantised_values_and_of_a_share_its_own():
    shared, _ = stepped()
    assert lanes_of(shared, scale=SCALE, limit=LIMIT) is to_mask(shared) is shared.values
    update, _ = trained()
    assert to_mask(update) is update.values
    lanes = lanes_of(update, scale=SCALE, limit=LIMIT)
    assert lanes.tolist() == np.rint(update.values.astype(float) * SCALE).astype(int).tolist()


def test_the_stages_of_a_share_are_silent_and_sealed():
    shared, report = stepped(randomness=system_randomness)
    for value in (shared, report, ClippedLanes(values=shared.values, sensitivity_lanes=1, limit=2)):
        assert "array" not in repr(value)
        assert "sum_of_squares" not in repr(value)
    with pytest.raises(ValueError, match="read-only"):
        shared.values[0] = 1


def test_steps_that_differ_in_noise_cannot_be_told_as_one_release():
    from wardround_client.training.report import StepDone, report_steps
    from wardround_client.training.stages import NoiseDone, RawUpdate

    def step(noise_multiplier, clip_norm_l2):
        done = NoiseDone(noise_multiplier=noise_multiplier, clip_norm_l2=clip_norm_l2)
        return StepDone(
            batch_size=1, clip_norm_l2=clip_norm_l2, noise=done, probe=None, without_gradient=0
        )

    for steps in ([step(1.0, 0.5), step(0.9, 0.5)], [step(1.0, 0.5), step(1.0, 0.4)]):
        with pytest.raises(WardroundError, match="differ"):
            report_steps(steps, plan(), salt=bytes(32))
    with pytest.raises(WardroundError, match="may not leave"):
        noised(RawUpdate(np.ones(2, np.float32)), [None])
