"""Convolutions: all ways to a norm agree with torch.func, whichever is the cheapest."""

import pytest
import torch
from tests.support.patient_gradients import belonging, distance, per_patient_gradients
from torch import nn

from wardround_client.gradients.convolution import ConvolutionUse, Way
from wardround_client.gradients.layers import Layers
from wardround_client.gradients.patients import Patients
from wardround_client.gradients.tape import Tape, recording

CONVOLUTIONS = {
    "padded": (lambda: nn.Conv2d(3, 8, 3, padding=1), (3, 5, 4)),
    "strided": (lambda: nn.Conv2d(16, 8, (3, 2), stride=(1, 2), padding=1), (16, 9, 6)),
    "dilated": (lambda: nn.Conv2d(12, 8, (2, 3), stride=2, dilation=(3, 2)), (12, 9, 8)),
    "few positions": (lambda: nn.Conv2d(24, 20, 3, padding=1), (24, 2, 3)),
    "circular": (lambda: nn.Conv2d(4, 6, 3, padding=(1, 2), padding_mode="circular"), (4, 5, 5)),
}


def squared(outputs, labels):
    return ((outputs.flatten(1) - labels[:, None]) ** 2).mean(dim=1)


@pytest.mark.parametrize("counts", [(1,) * 5, (2, 1, 3, 1)])
@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("way", Way)
def test_every_way_to_a_convolution_s_norms_and_sum_is_that_of_torch_func(
    way, name, counts, monkeypatch
):
    make, shape = CONVOLUTIONS[name]
    torch.manual_seed(5)
    layer, patients = make(), belonging(counts)
    features, labels = torch.randn(len(patients), *shape), torch.randn(len(patients))
    due = per_patient_gradients(layer, features, labels, patients, squared)
    monkeypatch.setattr(ConvolutionUse, "_cheapest", lambda _self: way)
    tape, own = Tape(), Patients.of(patients)
    layers = Layers.of(layer, tape)
    with recording(layers.recorded), tape.batch(own):
        weights = 1 / torch.tensor(own.counts)[patients]
        (use,) = tape.backward(squared(layer(features), labels), weights)
    norms = torch.stack([g.flatten(1).double().norm(dim=1) for g in due.values()]).norm(dim=0)
    assert distance(use.squared_norms().sqrt(), norms) < 1e-5
    factors = torch.rand(len(counts))
    for got, gradient in zip(use.weighted_sum(factors), due.values(), strict=True):
        assert distance(got, torch.tensordot(factors, gradient, dims=1)) < 1e-5
