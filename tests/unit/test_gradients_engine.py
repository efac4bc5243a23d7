"""The engine as training and Opacus' optimizers drive it."""

import pytest
import torch
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer, DPOptimizerFastGradientClipping
from tests.support.patient_gradients import (
    belonging,
    clipped_by_definition,
    clipped_sum,
    distance,
    per_patient_gradients,
)
from torch import nn

from wardround.errors import BadInput, WardroundError
from wardround_client.gradients.clipping import Clipping
from wardround_client.gradients.engine import per_patient
from wardround_client.gradients.opacus_module import FastGradSampleModule


def network(*, in_place=True):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.GroupNorm(4, 16),
        nn.ReLU(inplace=in_place),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 40, 3, padding=1, bias=False),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.LayerNorm(160),
        nn.Linear(160, 8),
        nn.Tanh(),
        nn.Linear(8, 3),
    )


def loss(outputs, labels):
    return nn.functional.cross_entropy(outputs, labels, reduction="none")


def records(counts=(1, 3, 2, 1, 4)):
    torch.manual_seed(1)
    patients = belonging(counts)
    return torch.randn(len(patients), 3, 8, 8), torch.arange(len(patients)) % 3, patients


@pytest.mark.parametrize("counts", [(1, 3, 2, 1, 4), (1,) * 6])
@pytest.mark.parametrize("clip_norm_l2", [0.01, 1.0, 1e6])
def test_the_clipped_sum_is_the_one_of_the_definition(counts, clip_norm_l2):
    model, (features, labels, patients) = network(), records(counts)
    due = per_patient_gradients(model, features, labels, patients, loss)
    got = clipped_sum(model, features, labels, patients, loss, clip_norm_l2=clip_norm_l2)
    assert distance(got.values, clipped_by_definition(due, clip_norm_l2)) < 1e-5


@pytest.mark.parametrize("records_at_once", [1, 3, 4, 7])
def test_parts_add_up_to_one_batch(records_at_once):
    model, given = network(), records()
    whole = clipped_sum(model, *given, loss, clip_norm_l2=0.3)
    parts = clipped_sum(model, *given, loss, clip_norm_l2=0.3, records_at_once=records_at_once)
    assert distance(parts.values, whole.values) < 1e-6
    assert parts.within_clip == whole.within_clip


def test_a_part_holds_no_more_records_than_the_setting_but_for_one_patient():
    seen = []

    def watching(outputs, labels):
        seen.append(len(labels))
        return loss(outputs, labels)

    with per_patient(network()) as engine:
        engine.clipped_sum(*records(), watching, clip_norm_l2=1.0)
        seen.clear()
        engine.clipped_sum(*records(), watching, clip_norm_l2=1.0, records_at_once=3)
    assert seen == [1, 3, 3, 4]


def test_the_layout_of_the_records_changes_nothing():
    model, (features, labels, patients) = network(), records()
    due = clipped_sum(model, features, labels, patients, loss, clip_norm_l2=0.3)
    last = features.contiguous(memory_format=torch.channels_last)
    got = clipped_sum(model, last, labels, patients, loss, clip_norm_l2=0.3)
    turned = model.to(memory_format=torch.channels_last)
    both = clipped_sum(turned, last, labels, patients, loss, clip_norm_l2=0.3)
    assert distance(got.values, due.values) < 1e-6
    assert distance(both.values, due.values) < 1e-6


def test_each_layer_is_clipped_to_its_share():
    model, (features, labels, patients) = network(), records()
    due = per_patient_gradients(model, features, labels, patients, loss)
    share = 0.2 / 6**0.5
    parts = []
    for layer in ("0", "1", "4", "8", "9", "11"):
        own = {name: g for name, g in due.items() if name.split(".")[0] == layer}
        parts.append(clipped_by_definition(own, share))
    got = clipped_sum(
        model, features, labels, patients, loss, clip_norm_l2=0.2, clipping=Clipping.PER_LAYER
    )
    assert distance(got.values, torch.cat(parts)) < 1e-5


def test_a_patient_clipped_by_layer_is_within_the_clip_norm_as_a_whole():
    features, labels, _ = records((1,))
    got = clipped_sum(
        network(),
        features * 100,
        labels,
        torch.tensor([0]),
        loss,
        clip_norm_l2=1e-4,
        clipping=Clipping.PER_LAYER,
    )
    assert float(got.values.double().norm()) <= 1e-4 * (1 + 1e-6)


def test_patients_within_the_clip_norm_are_counted():
    model, (features, labels, patients) = network(), records()
    due = per_patient_gradients(model, features, labels, patients, loss)
    norms = torch.cat([g.flatten(1) for g in due.values()], dim=1).norm(dim=1).sort().values
    between = float(norms[1:3].mean())
    got = clipped_sum(model, features, labels, patients, loss, clip_norm_l2=between)
    assert (got.within_clip, got.without_gradient) == (2, 0)
    assert clipped_sum(model, features, labels, patients, loss, clip_norm_l2=None).within_clip == 5


def test_a_patient_without_a_finite_gradient_is_left_out_and_counted():
    model, (features, labels, patients) = network(), records()
    others = patients != 1
    renumbered = patients[others].unique_consecutive(return_inverse=True)[1]
    due = clipped_sum(model, features[others], labels[others], renumbered, loss, clip_norm_l2=0.3)
    features[2] = float("nan")
    got = clipped_sum(model, features, labels, patients, loss, clip_norm_l2=0.3)
    assert distance(got.values, due.values) < 1e-6
    assert (got.without_gradient, got.within_clip) == (1, due.within_clip)


def test_values_made_to_cancel_do_not_pass_the_clip_norm():
    """A group norm behind a convolution makes its output gradients cancel over large inputs."""
    torch.manual_seed(2)
    model = nn.Sequential(
        nn.Conv2d(64, 80, 3, padding=1), nn.GroupNorm(1, 80), nn.Flatten(), nn.Linear(320, 3)
    )
    features = 1e4 + torch.randn(1, 64, 2, 2)
    got = clipped_sum(
        model, features, torch.tensor([1]), torch.tensor([0]), loss, clip_norm_l2=1e-5
    )
    assert float(got.values.double().norm()) <= 1e-5 * (1 + 1e-6)


def test_nothing_to_train_and_nothing_used_give_zeros():
    model, given = network(), records()
    got = clipped_sum(model, *given, lambda outputs, _: (outputs * 0).sum(dim=1), clip_norm_l2=1.0)
    assert not got.values.any()
    model.requires_grad_(False)
    assert clipped_sum(model, *given, loss, clip_norm_l2=1.0).values.shape == (0,)


def test_a_model_of_float64_gives_a_sum_of_float64():
    model, (features, labels, patients) = network().double(), records()
    due = per_patient_gradients(model, features.double(), labels, patients, loss)
    got = clipped_sum(model, features.double(), labels, patients, loss, clip_norm_l2=0.1)
    assert got.values.dtype == torch.float64
    assert distance(got.values, clipped_by_definition(due, 0.1)) < 1e-6


def test_no_gradient_and_no_forward_stays_behind():
    model = network()
    clipped_sum(model, *records(), loss, clip_norm_l2=1.0)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any("forward" in layer.__dict__ for layer in model.modules())


@pytest.mark.parametrize("clip_norm_l2", [0.0, -1.0, float("inf"), float("nan")])
def test_a_clip_norm_without_a_meaning_is_refused(clip_norm_l2):
    with pytest.raises(BadInput, match="clip norm"):
        clipped_sum(network(), *records(), loss, clip_norm_l2=clip_norm_l2)


def step(model, optimizer, features, labels, reduction):
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(features), labels, reduction=reduction).backward()
    optimizer.step()
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("fast", [False, True])
def test_an_optimizer_of_opacus_takes_the_step_that_it_takes_with_opacus_own_module(
    fast, reduction
):
    features, labels, _ = records((1,) * 6)

    def optimizer(kind, parameters):
        return kind(
            torch.optim.SGD(parameters, lr=0.5),
            noise_multiplier=0.0,
            max_grad_norm=0.2,
            expected_batch_size=6,
            loss_reduction=reduction,
        )

    theirs = GradSampleModule(network(in_place=False), loss_reduction=reduction)
    due = step(theirs, optimizer(DPOptimizer, theirs.parameters()), features, labels, reduction)
    ours = FastGradSampleModule(
        network(), loss_reduction=reduction, max_grad_norm=0.2 if fast else None
    )
    kind = DPOptimizerFastGradientClipping if fast else DPOptimizer
    got = step(ours, optimizer(kind, ours.parameters()), features, labels, reduction)
    start = torch.cat([p.detach().flatten() for p in network().parameters()])
    assert distance(got - start, due - start) < 2e-5
    plain = ours.to_standard_module()
    assert not any("forward" in layer.__dict__ for layer in plain.modules())


def test_an_optimizer_of_opacus_gets_no_sum_that_is_not_finite():
    features, labels, _ = records((1,) * 3)
    features[1] = float("nan")
    ours = FastGradSampleModule(network(), max_grad_norm=1.0)
    with pytest.raises(WardroundError, match="not finite"):
        nn.functional.cross_entropy(ours(features), labels).backward()
