"""Whatever the network: the clipped sum is the one of the definition, and bounded."""

import itertools

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.patient_gradients import (
    belonging,
    clipped_by_definition,
    clipped_sum,
    distance,
    per_patient_gradients,
)
from torch import nn

SIDE = 8


def normalisation(draw, channels):
    return draw(
        st.sampled_from(
            [
                nn.Identity(),
                nn.GroupNorm(2, channels),
                nn.GroupNorm(channels, channels),
                nn.InstanceNorm2d(channels, affine=True),
            ]
        )
    )


class Residual(nn.Module):
    """An inner convolution, called once or twice, beside its input."""

    def __init__(self, inner, calls):
        super().__init__()
        self.inner, self.calls = inner, calls

    def forward(self, x):
        for _ in range(self.calls):
            x = x + torch.tanh(self.inner(x))
        return x


@st.composite
def image_networks(draw):
    channels = draw(st.sampled_from([2, 4, 16]))
    groups = draw(st.sampled_from([1, 2]))
    first = nn.Conv2d(
        2,
        channels,
        draw(st.sampled_from([1, 2, 3, (2, 3)])),
        stride=draw(st.integers(1, 2)),
        padding=draw(st.integers(0, 2)),
        dilation=draw(st.integers(1, 2)),
        groups=groups,
        bias=draw(st.booleans()),
        padding_mode=draw(st.sampled_from(["zeros", "reflect", "replicate"])),
    )
    inner = nn.Conv2d(channels, channels, 3, padding="same")
    layers = [
        first,
        normalisation(draw, channels),
        draw(st.sampled_from([nn.ReLU(), nn.ReLU(inplace=True), nn.Tanh()])),
        Residual(inner, draw(st.integers(1, 2))),
        nn.Flatten(),
    ]
    with torch.no_grad():
        width = nn.Sequential(*layers)(torch.zeros(1, 2, SIDE, SIDE)).shape[1]
    return nn.Sequential(*layers, nn.Linear(width, 3, bias=draw(st.booleans())))


@st.composite
def row_networks(draw):
    widths = [5, *draw(st.lists(st.sampled_from([4, 7]), min_size=1, max_size=3))]
    layers = []
    for before, after in itertools.pairwise(widths):
        layers += [nn.Linear(before, after, bias=draw(st.booleans())), nn.Tanh()]
        if draw(st.booleans()):
            layers.append(nn.LayerNorm(after))
    if draw(st.booleans()):
        shared = nn.Linear(widths[-1], widths[-1])
        shared.weight = nn.Parameter(torch.randn(widths[-1], widths[-1]) / 3)
        twin = nn.Linear(widths[-1], widths[-1])
        twin.weight = shared.weight
        layers += [shared, nn.Tanh(), twin]
    if draw(st.booleans()):
        layers += [nn.Unflatten(1, (1, widths[-1])), nn.Conv1d(1, 2, 2), nn.Flatten()]
        return nn.Sequential(*layers, nn.Linear(2 * (widths[-1] - 1), 3))
    return nn.Sequential(*layers, nn.Linear(widths[-1], 3))


def loss(outputs, labels):
    # A cross entropy that is far from 0 or 1 would leave rounding as the gradient.
    return (outputs - (labels[:, None] == torch.arange(3)).float()).square().mean(dim=1)


def freeze_some(draw, model):
    parameters = list(model.parameters())
    for parameter in parameters[:-1]:
        parameter.requires_grad_(draw(st.integers(0, 4)) > 0)


@st.composite
def cases(draw, networks):
    torch.manual_seed(draw(st.integers(0, 1000)))
    model, shape = draw(networks)
    # Defaults start norm layers at 1 and 0, where a mistake could hide.
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    freeze_some(draw, model)
    counts = draw(st.lists(st.integers(1, 3), min_size=1, max_size=5))
    patients = belonging(counts)
    features = torch.randn(len(patients), *shape)
    if len(shape) == 3 and draw(st.booleans()):
        features = features.contiguous(memory_format=torch.channels_last)
    labels = torch.arange(len(patients)) % 3
    at_once = draw(st.sampled_from([1, 3, 100]))
    return model, (features, labels, patients), draw(st.sampled_from([0.05, 1.0, 50.0])), at_once


IMAGES = image_networks().map(lambda model: (model, (2, SIDE, SIDE)))
ROWS = row_networks().map(lambda model: (model, (5,)))


@settings(max_examples=40, deadline=None)
@given(cases(st.one_of(IMAGES, ROWS)))
def test_random_networks_get_the_clipped_sum_of_the_definition(case):
    model, records, clip_norm_l2, at_once = case
    due = clipped_by_definition(per_patient_gradients(model, *records, loss), clip_norm_l2)
    got = clipped_sum(model, *records, loss, clip_norm_l2=clip_norm_l2, records_at_once=at_once)
    assert distance(got.values, due) < 1e-5


@settings(max_examples=20, deadline=None)
@given(
    cases(st.one_of(IMAGES, ROWS)),
    st.sampled_from([torch.float32, torch.bfloat16]),
    st.sampled_from([1.0, 1e3]),
)
def test_one_patient_of_a_random_network_is_within_the_clip_norm(case, dtype, size):
    model, (features, labels, patients), _, at_once = case
    own = patients == 0
    got = clipped_sum(
        model.to(dtype),
        features[own].to(dtype) * size,
        labels[own],
        patients[own],
        loss,
        clip_norm_l2=1e-3,
        records_at_once=at_once,
    )
    assert float(got.values.double().norm()) <= 1e-3 * (1 + 1e-6)
