"""Every supported layer: its per-patient gradients, norms and sums are those of torch.func."""

import warnings

import pytest
import torch
from tests.support.patient_gradients import (
    belonging,
    clipped_by_definition,
    clipped_sum,
    distance,
    per_patient_gradients,
)
from torch import nn

from wardround.errors import BadInput
from wardround_client.gradients.engine import per_patient
from wardround_client.gradients.layers import Layers
from wardround_client.gradients.opaque import SlowLayersWarning
from wardround_client.gradients.patients import Patients
from wardround_client.gradients.tape import Tape, recording

# More than 32 channels x width take the way along pixels, fewer the way by channel.
LAYERS = {
    "linear": (lambda: nn.Linear(6, 4), (6,)),
    "linear without bias": (lambda: nn.Linear(6, 4, bias=False), (6,)),
    "linear over positions": (lambda: nn.Linear(6, 4), (5, 6)),
    "linear over a grid": (lambda: nn.Linear(40, 33), (2, 3, 40)),
    "conv1d": (lambda: nn.Conv1d(4, 6, 3), (4, 12)),
    "conv1d with all": (
        lambda: nn.Conv1d(4, 6, 3, stride=2, padding=2, dilation=2, groups=2),
        (4, 12),
    ),
    "conv2d": (lambda: nn.Conv2d(3, 8, 3), (3, 8, 8)),
    "conv2d of many channels": (lambda: nn.Conv2d(16, 8, 3, padding=1), (16, 9, 7)),
    "conv2d strided": (lambda: nn.Conv2d(16, 8, 3, stride=2, padding=1), (16, 9, 8)),
    "conv2d dilated": (lambda: nn.Conv2d(16, 8, (3, 2), dilation=(2, 3)), (16, 9, 8)),
    "conv2d 1x1": (lambda: nn.Conv2d(32, 8, 1, stride=2, bias=False), (32, 6, 6)),
    "conv2d of few positions": (lambda: nn.Conv2d(24, 40, 3, padding=1), (24, 2, 2)),
    "conv2d of few, same": (lambda: nn.Conv2d(24, 40, (2, 3), padding="same"), (24, 2, 2)),
    "conv2d of few, circular": (
        lambda: nn.Conv2d(24, 40, 3, padding=1, padding_mode="circular"),
        (24, 3, 2),
    ),
    "conv2d depthwise": (lambda: nn.Conv2d(8, 16, 3, groups=8, padding=1), (8, 6, 6)),
    "conv2d in groups": (lambda: nn.Conv2d(8, 6, 3, groups=2, stride=(1, 2)), (8, 6, 6)),
    "conv2d same": (lambda: nn.Conv2d(3, 8, (4, 3), padding="same", dilation=(1, 2)), (3, 7, 8)),
    "conv2d valid": (lambda: nn.Conv2d(3, 8, 2, padding="valid"), (3, 5, 5)),
    "conv2d reflected": (
        lambda: nn.Conv2d(3, 8, 3, padding=(1, 2), padding_mode="reflect"),
        (3, 6, 6),
    ),
    "conv3d": (lambda: nn.Conv3d(2, 4, (2, 3, 2), stride=(1, 2, 1), padding=1), (2, 4, 5, 4)),
    "conv3d of few positions": (lambda: nn.Conv3d(16, 24, 2), (16, 2, 2, 2)),
    "group norm": (lambda: nn.GroupNorm(2, 6), (6, 4, 5)),
    "group norm without positions": (lambda: nn.GroupNorm(2, 6), (6,)),
    "layer norm": (lambda: nn.LayerNorm(6), (6,)),
    "layer norm over positions": (lambda: nn.LayerNorm((3, 6)), (4, 3, 6)),
    "layer norm without bias": (lambda: nn.LayerNorm(6, bias=False), (2, 6)),
    "instance norm 1d": (lambda: nn.InstanceNorm1d(4, affine=True), (4, 7)),
    "instance norm 2d": (lambda: nn.InstanceNorm2d(4, affine=True), (4, 5, 3)),
    "instance norm 3d": (lambda: nn.InstanceNorm3d(4, affine=True), (4, 3, 2, 3)),
}


def build(name, dtype=torch.float32):
    make, shape = LAYERS[name]
    torch.manual_seed(3)
    layer = make()
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    return layer.to(dtype), shape


def squared(outputs, labels):
    return ((outputs.flatten(1) - labels[:, None]) ** 2).mean(dim=1)


def records(shape, counts, dtype=torch.float32):
    torch.manual_seed(4)
    patients = belonging(counts)
    return torch.randn(len(patients), *shape, dtype=dtype), torch.randn(len(patients)), patients


def uses_of(model, features, labels, patients):
    """What the engine works with, one step before the clip."""
    tape = Tape()
    layers, own = Layers.of(model, tape), Patients.of(patients)
    with recording(layers.recorded), tape.batch(own):
        losses = squared(model(features), labels)
        return tape.backward((losses / torch.tensor(own.counts)[patients]).sum())


@pytest.mark.parametrize("counts", [(1,) * 5, (2, 1, 3, 1), (2, 2, 2)])
@pytest.mark.parametrize("name", LAYERS)
def test_norms_gradients_and_sums_of_a_layer_are_those_of_torch_func(name, counts):
    layer, shape = build(name)
    features, labels, patients = records(shape, counts)
    due = per_patient_gradients(layer, features, labels, patients, squared)
    (use,) = uses_of(layer, features, labels, patients)
    names = {id(p): name for name, p in layer.named_parameters()}
    own = [due[names[id(p)]] for p in use.parameters]
    assert len(own) == len(due)
    norms = torch.stack([g.flatten(1).double().norm(dim=1) for g in own]).norm(dim=0)
    assert distance(use.squared_norms().sqrt(), norms) < 1e-5
    factors = torch.rand(len(counts))
    for got, gradient in zip(use.gradients(), own, strict=True):
        assert distance(got, gradient) < 1e-5
    for got, gradient in zip(use.weighted_sum(factors), own, strict=True):
        assert distance(got, torch.tensordot(factors, gradient, dims=1)) < 1e-5


@pytest.mark.parametrize("name", LAYERS)
def test_one_patient_is_within_the_clip_norm_to_one_part_in_a_million(name):
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        layer, shape = build(name, dtype)
        for size in (1.0, 1e3):
            features, labels, patients = records(shape, (3,), dtype)
            got = clipped_sum(layer, features * size, labels, patients, squared, clip_norm_l2=1e-3)
            norm = float(got.values.double().norm())
            assert norm <= 1e-3 * (1 + 1e-6)
            assert norm > 1e-3 * (1 - 1e-4)


@pytest.mark.parametrize("name", LAYERS)
def test_an_activation_in_place_after_a_layer_takes_no_gradient_away(name):
    """Outputs that are views get another history when they are changed in place."""
    layer, shape = build(name)
    features, labels, patients = records(shape, (2, 1))
    due = per_patient_gradients(
        nn.Sequential(layer, nn.ReLU()), features, labels, patients, squared
    )
    model = nn.Sequential(layer, nn.ReLU(inplace=True))
    got = clipped_sum(model, features, labels, patients, squared, clip_norm_l2=0.1)
    assert distance(got.values, clipped_by_definition(due, 0.1)) < 1e-5


@pytest.mark.parametrize("frozen", ["weight", "bias"])
@pytest.mark.parametrize("name", ["linear", "linear over positions", "conv2d", "group norm"])
def test_a_frozen_parameter_gets_nothing_and_takes_no_part_in_the_norm(name, frozen):
    layer, shape = build(name)
    getattr(layer, frozen).requires_grad_(False)
    features, labels, patients = records(shape, (2, 1, 1))
    due = per_patient_gradients(layer, features, labels, patients, squared)
    got = clipped_sum(layer, features, labels, patients, squared, clip_norm_l2=0.1)
    assert list(due) == ["bias" if frozen == "weight" else "weight"]
    assert distance(got.values, clipped_by_definition(due, 0.1)) < 1e-5


def test_a_layer_that_is_wholly_frozen_is_not_touched():
    model = nn.Sequential(nn.Linear(6, 4), nn.Linear(4, 2))
    model[0].requires_grad_(False)
    with per_patient(model):
        assert "forward" not in model[0].__dict__
        assert "forward" in model[1].__dict__
    assert "forward" not in model[1].__dict__


class Twice(nn.Module):
    """One layer called twice, and a weight that two layers share."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.last = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 1)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.last(self.second(torch.tanh(self.first(torch.tanh(self.first(x))))))


@pytest.mark.parametrize("counts", [(1,) * 4, (2, 1, 3)])
def test_gradients_of_a_shared_parameter_are_added_before_the_norm(counts):
    torch.manual_seed(0)
    model = Twice()
    features, labels, patients = records((6,), counts)
    due = clipped_by_definition(
        per_patient_gradients(model, features, labels, patients, squared), 0.3
    )
    got = clipped_sum(model, features, labels, patients, squared, clip_norm_l2=0.3)
    assert distance(got.values, due) < 1e-5


class Scaled(nn.Module):
    """A bare parameter around a layer."""

    def __init__(self):
        super().__init__()
        self.inner, self.scale = nn.Linear(6, 3), nn.Parameter(torch.ones(3) * 0.7)

    def forward(self, x):
        return self.inner(x) * self.scale


@pytest.mark.parametrize(
    ("build_slow", "named"),
    [
        (Scaled, "1 (Scaled)"),
        (lambda: nn.Bilinear(6, 6, 3), None),
        (lambda: nn.utils.parametrizations.weight_norm(nn.Linear(6, 3)), "ParametrizedLinear"),
        (lambda: nn.RMSNorm(6), "1 (RMSNorm)"),
        (nn.PReLU, "1 (PReLU)"),
    ],
)
def test_a_layer_that_is_not_known_is_right_as_well_and_named_in_a_warning(build_slow, named):
    torch.manual_seed(0)
    slow = build_slow()
    middle = slow if named else Doubled(slow)
    model = nn.Sequential(nn.Linear(6, 6), middle, nn.Tanh(), nn.Flatten())
    features, labels, patients = records((6,), (2, 1, 1))
    due = per_patient_gradients(model, features, labels, patients, squared)
    with pytest.warns(SlowLayersWarning) as warned:
        got = clipped_sum(model, features, labels, patients, squared, clip_norm_l2=0.2)
    assert (named or "1.inner (Bilinear)") in str(warned[0].message)
    assert "Linear(6" not in str(warned[0].message)
    assert distance(got.values, clipped_by_definition(due, 0.2)) < 1e-5


class Doubled(nn.Module):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return self.inner(x, x)


def test_known_layers_warn_of_nothing():
    layer, shape = build("conv2d")
    features, labels, patients = records(shape, (1, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clipped_sum(layer, features, labels, patients, squared, clip_norm_l2=1.0)


def test_running_statistics_are_refused():
    model = nn.Sequential(nn.InstanceNorm1d(4, affine=True, track_running_stats=True))
    with pytest.raises(BadInput, match="track_running_stats=False"):
        clipped_sum(model, *records((4, 5), (1, 1)), squared, clip_norm_l2=1.0)


class Transposed(nn.Module):
    """Puts the steps before the records, as `batch_first=False` does."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(6, 3)

    def forward(self, x):
        return self.inner(x.transpose(0, 1)).transpose(0, 1)


class Flattened(Transposed):
    def forward(self, x):
        return self.inner(x.reshape(-1, 6)).reshape(len(x), -1)


@pytest.mark.parametrize("wrong", [Transposed, Flattened])
def test_records_that_are_not_in_the_first_dimension_are_refused_even_where_sizes_agree(wrong):
    for steps in (2, 3, 4):
        features, labels, patients = records((steps, 6), (1,) * 4)
        with pytest.raises(BadInput, match="first dimension"):
            clipped_sum(wrong(), features, labels, patients, squared, clip_norm_l2=1.0)


class Tied(nn.Module):
    """Takes a weight past its layer."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(6, 6)

    def forward(self, x):
        return nn.functional.linear(self.first(x), self.first.weight)


def test_a_weight_that_is_used_past_its_layer_is_refused_by_name():
    with pytest.raises(BadInput, match=r"first\.weight is used outside"):
        clipped_sum(Tied(), *records((6,), (1, 1)), squared, clip_norm_l2=1.0)


class InPlace(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 1)

    def forward(self, x):
        own = x.clone()
        hidden = torch.relu_(self.first(own))
        if self.breaks:
            # The first layer's own backward never runs, so autograd does not look.
            own.mul_(2)
        return self.second(hidden)


def test_a_change_in_place_is_right_after_a_layer_and_refused_before_its_gradient():
    torch.manual_seed(0)
    model, (features, labels, patients) = InPlace(), records((6,), (1, 2))
    model.breaks = False
    due = per_patient_gradients(model, features, labels, patients, squared)
    got = clipped_sum(model, features, labels, patients, squared, clip_norm_l2=0.1)
    assert distance(got.values, clipped_by_definition(due, 0.1)) < 1e-5
    model.breaks = True
    with pytest.raises(BadInput, match="in place"):
        clipped_sum(model, features, labels, patients, squared, clip_norm_l2=0.1)
