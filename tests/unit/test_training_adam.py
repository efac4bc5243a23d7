"""Adam at the hospital: the textbook's steps, begun anew, over noised sums alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.support.study_plans import study_value
from tests.support.training_steps import SIZES, mlp, plan, records, seeded, stepped
from tests.unit.test_partition import specs, study
from torch.nn import functional

from wardround.errors import BadInput
from wardround.models.networks import binary_loss, parameters_of
from wardround.privacy.engine_audit import audit_rule
from wardround.robust.bound import longest_mean_l2
from wardround.study.files import checked
from wardround.study.manifest import StudyPlan
from wardround_client.empirical.dry_run import name_canaries
from wardround_client.training import local
from wardround_client.training.local import train
from wardround_client.training.plan import StepSizes
from wardround_client.training.stages import NoisedUpdate

ADAM = replace(SIZES, optimiser="adam", learning_rate=0.01)
EXACT = {"mechanism": "none", "noise_multiplier": 0.0, "clip_norm_l2": None}
ALL = 1 - 1e-12  # a sampling rate that leaves nobody out


def updated(sizes=ADAM, **changes):
    update, _ = train(mlp(), records(), binary_loss, plan(**changes), sizes, randomness=seeded(1))
    return update


def by_hand(sums, sizes, steps):
    """Kingma and Ba 2015, Algorithm 1, in float64: the change after each sum's step."""
    first = second = moved = np.zeros(sums[0].shape)
    for step in range(1, steps + 1):
        gradient = sums[step - 1] / sizes.expected_batch
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        root = np.sqrt(second / (1 - 0.999**step))
        moved = moved - sizes.learning_rate * first / (1 - 0.9**step) / (root + 1e-8)
    return moved


def test_without_noise_and_sampling_it_is_pytorchs_own_adam():
    model, data = mlp(), records()
    start = parameters_of(model).clone()
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(20):
        optimiser.zero_grad()
        said = model(data.features).squeeze(-1)
        functional.binary_cross_entropy_with_logits(said, data.labels, reduction="sum").backward()
        for parameter in model.parameters():
            parameter.grad /= ADAM.expected_batch
        optimiser.step()
    due = (parameters_of(model) - start).numpy()
    found = updated(sampling_rate=ALL, local_steps=20, **EXACT).values
    assert np.abs(due).max() > 0.1
    np.testing.assert_allclose(found, due, atol=2e-5)
    other = updated(SIZES, sampling_rate=ALL, local_steps=20, **EXACT).values
    assert np.abs(other - due).max() > 0.05


def test_with_noise_the_update_is_a_function_of_the_noised_sums_alone(monkeypatch):
    """Post-processing: whoever saw the noised sums could compute the update, without a record."""
    seen, honest = [], local.add_noise

    def watched(clipped, **more):
        private = honest(clipped, **more)
        seen.append(private.values.double().numpy())
        return private

    monkeypatch.setattr(local, "add_noise", watched)
    update = updated(local_steps=4)
    assert isinstance(update, NoisedUpdate)
    assert len(seen) == 4
    np.testing.assert_allclose(update.values, by_hand(seen, ADAM, 4), atol=1e-6)
    assert np.abs(by_hand(seen, ADAM, 4) - by_hand(seen, ADAM, 3)).max() > 1e-3


def test_every_attempt_begins_with_no_memory():
    first, again = updated(local_steps=3), updated(local_steps=3)
    assert np.array_equal(first.values, again.values)
    # A first step of Adam is one learning rate each way, whatever was before it.
    one = updated(local_steps=1).values
    np.testing.assert_allclose(np.abs(one), 0.01, rtol=1e-3)


def test_a_dry_run_looks_at_clip_and_noise_whatever_steps_behind_them():
    rule = audit_rule(1.2, 0.4, hospitals=1)
    named = [
        name_canaries(plan(), sizes, rule, seed=b"s" * 32, randomness=seeded(5))
        for sizes in (ADAM, replace(ADAM, optimiser="sgd"))
    ]
    assert np.array_equal(named[0].inside, named[1].inside)
    assert np.array_equal(named[0].outside, named[1].outside)


def test_a_share_of_the_noise_is_no_place_for_it():
    with pytest.raises(BadInput, match="optimiser adam came, sgd was due"):
        stepped(sizes=ADAM)
    shared = {"mechanism": "distributed", "epsilon": 3.0, "delta": 1e-4}
    sizes = {"clip_norm_l2": 1.0, "sampling_rate": 0.5}
    with pytest.raises(BadInput, match=r"training\.optimiser adam with mechanism distributed"):
        small(privacy=shared | sizes, optimiser="adam")


@pytest.mark.parametrize("wrong", [{"momentum": 0.9}, {"optimiser": "adamw"}])
def test_what_is_no_adam_is_refused(wrong):
    with pytest.raises(BadInput):
        StepSizes(**({"learning_rate": 0.1, "expected_batch": 5.0, "optimiser": "adam"} | wrong))
    with pytest.raises(BadInput):
        small(**({"optimiser": "adam"} | wrong))


def small(privacy=None, **training):
    value = study_value("risk", "logistic-regression")
    value["training"] |= training
    return checked(StudyPlan, value | ({"privacy": privacy} if privacy else {}), what="study")


def test_a_study_that_does_not_ask_for_it_has_the_bytes_that_it_had():
    assert "optimiser" not in small().to_json()["training"]
    assert small(optimiser="sgd").to_json() == small().to_json()
    assert small(optimiser="adam").to_json()["training"]["optimiser"] == "adam"


# How far a step of Adam can go


def moves(gradients, learning_rate=1.0):
    """How far the last step goes, after these gradients of one coordinate."""
    first = second = 0.0
    for gradient in gradients:
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
    steps = len(gradients)
    return learning_rate * first / (1 - 0.9**steps) / np.sqrt(second / (1 - 0.999**steps))


def test_no_gradients_move_a_group_beyond_the_bound_and_the_worst_nearly_reach_it():
    one = study(
        privacy__mechanism="none",
        privacy__epsilon=None,
        privacy__delta=None,
        training__optimiser="adam",
        training__learning_rate=0.01,
        training__local_steps=7,
    )
    bound = longest_mean_l2(one, specs(one)[0], survivors=3)
    of_a_step = bound / np.sqrt(3) / 7 / 0.01
    worst = (0.9 / 0.999) ** np.arange(8000, 0, -1.0)  # where Cauchy and Schwarz are equal
    assert 0.98 * of_a_step < moves(worst) < of_a_step
    random = np.random.default_rng(2)
    for _ in range(50):
        tried = random.normal(size=60) * 10.0 ** random.uniform(-6, 6, 60)
        assert abs(moves(tried)) < of_a_step
