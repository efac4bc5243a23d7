"""One patient more moves a clipped sum by its clip norm, whatever the others' gradients round to.

The patients here are made so that a plain sum of float32 is moved by more: half of each run carries
its sum just below a power of two, the rest are half a step of the floats above it. One patient more
takes the sum past it, and from then on they are all rounded up. (Casacuberta, Shoemate, Vadhan and
Wagaman 2022, "Widespread underestimation of sensitivity")
"""

import numpy as np
import pytest
import torch
from torch import nn

from wardround.privacy.noise_shares import arithmetic_factor
from wardround_client.gradients import uses
from wardround_client.gradients.engine import per_patient
from wardround_client.gradients.uses import product_of_runs, weighted_rows

PATIENTS = 1024
RUNS = (8, 32, 256)


def lengths(run):
    """The gradient of each patient along one direction, at most the clip norm 1."""
    half = run // 2
    tiny = 1.02 * half * 2.0**-24
    one_run = [(half - 0.5) / half] * half + [tiny] * (half - 1) + [1.0]
    return torch.tensor(([1.0] + one_run * (PATIENTS // run)), dtype=torch.float32)


def records(of_patient, *shape):
    found = torch.zeros(len(of_patient), *shape)
    found.view(len(found), -1)[:, 0] = of_patient
    return found


class Positions(nn.Module):
    """Two positions a record, one of them silent: their products are not those of rows."""

    def __init__(self):
        super().__init__()
        self.inside = nn.Linear(6, 1, bias=False)

    def forward(self, x):
        return self.inside(x).sum(dim=1)


class Pixels(nn.Module):
    """A convolution over pixels, of which all but one are silent."""

    def __init__(self, kernel):
        super().__init__()
        self.inside = nn.Conv2d(1, 1, kernel, bias=False)

    def forward(self, x):
        return self.inside(x).flatten(1).sum(dim=1, keepdim=True)


NETWORKS = {
    "a row a patient": (lambda: nn.Linear(6, 1, bias=False), (6,)),
    "positions": (Positions, (2, 6)),
    "a kernel of all pixels": (lambda: Pixels(4), (1, 4, 4)),
    "pixels": (lambda: Pixels(3), (1, 8, 8)),
}


def moved(make, features):
    """How far the first patient moves the clipped sum."""
    model = make()

    def clipped_sum(chosen):
        with per_patient(model) as engine:
            return engine.clipped_sum(
                chosen,
                torch.ones(len(chosen)),
                torch.arange(len(chosen)),
                lambda outputs, labels: -outputs.reshape(-1) * labels,
                clip_norm_l2=1.0,
            ).values.double()

    return float((clipped_sum(features) - clipped_sum(features[1:])).norm())


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("network", NETWORKS)
def test_no_others_make_one_patient_move_the_sum_by_more_than_is_accounted(network, run):
    make, shape = NETWORKS[network]
    features = records(lengths(run), *shape)
    assert moved(make, features) <= 1.0 + (arithmetic_factor(PATIENTS) - 1.0) / 2.0


def test_the_same_patients_move_a_plain_sum_of_float32_by_more_than_is_accounted():
    """So the test above can fail: 0.4 % and more beyond the clip norm, where 0.1 % is accounted."""
    gradients = lengths(256).numpy()
    parts = [np.append(gradients, np.float32(0))[start:] for start in (0, 1)]
    # As by the engine's parts of 256 records, each summed from its first patient on.
    with_it, without = (
        sum(float(np.cumsum(part[at : at + 256])[-1]) for at in range(0, PATIENTS, 256))
        + float(part[PATIENTS:].sum())
        for part in parts
    )
    excess = with_it - without - 1.0
    assert 0.003 < excess < 0.005
    assert excess > 3 * (arithmetic_factor(PATIENTS) - 1.0)


@pytest.mark.parametrize("records", [1, 31, 32, 33, 100])
@pytest.mark.parametrize("wide", [False, True])
def test_runs_add_up_to_the_sum(records, wide, monkeypatch):
    if wide:  # as for layers whose runs are not formed all at once
        monkeypatch.setattr(uses, "_SMALL_VALUES", 0)
    torch.manual_seed(records)
    left, right = torch.randn(records, 3, 4), torch.randn(records, 3, 5)
    due = left.flatten(0, 1).double().mT @ right.flatten(0, 1).double()
    assert product_of_runs(left, right).double() == pytest.approx(due, abs=1e-4)
    weights = torch.rand(records)
    by_rows = torch.einsum("r,rpc->pc", weights.double(), right.double())
    assert weighted_rows(weights, right) == pytest.approx(by_rows, abs=1e-5)
