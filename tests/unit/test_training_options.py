"""Ceilings, clipping options, and the probe of the noise."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from tests.support.training_steps import (
    ADAPTIVE,
    SIZES,
    mlp,
    plan,
    records,
    seeded,
    stepped,
    trained,
)

from wardround.errors import BadInput
from wardround.privacy.engine import parse_engine
from wardround.privacy.mechanism import SampledGaussian
from wardround.privacy.truncation import truncation_bound
from wardround_client.training import local
from wardround_client.training.adaptive import AdaptiveClip
from wardround_client.training.noise import PROBE_VALUES, NoiseProbe
from wardround_client.training.stages import (
    ClippedSum,
    NoisedUpdate,
    add_noise,
)
from wardround_client.training.step import draw

# Ceilings


CEILING = {"patients_most": 40, "batch_most": 30}


@pytest.mark.parametrize("run", [trained, stepped])
def test_more_patients_than_the_studys_bound_are_refused_before_anything_is_drawn(run):
    def never(count):
        raise AssertionError("randomness was drawn")

    with pytest.raises(BadInput, match=r"more than the 40 .*privacy\.patients_most") as refusal:
        run(data=records(41), randomness=never, **CEILING)
    assert "41" not in str(refusal.value)
    run(data=records(40), **CEILING)


@pytest.mark.parametrize("run", [trained, stepped])
def test_a_batch_is_cut_to_its_ceiling_and_what_that_costs_is_in_the_report(run):
    _, report = run(sampling_rate=0.9, patients_most=30, batch_most=28)
    assert max(report.batch_sizes) <= 28
    due = truncation_bound(30, 0.9, 28)
    assert report.engine.truncation == report.engine.released.truncation == due > 0
    _, free = run(sampling_rate=0.9)
    assert free.engine.truncation == 0.0


def test_batches_are_really_cut():
    def sizes(**ceiling):
        made, data = plan(sampling_rate=0.9, **ceiling), records()
        return [draw(data, made, seeded(seed)).patients for seed in range(200)]

    uncut = sizes()
    assert sizes(patients_most=30, batch_most=28) == [min(size, 28) for size in uncut] != uncut


def test_what_the_ledger_reserves_has_the_truncation():
    planned = plan(**CEILING)
    assert planned.release == SampledGaussian(1.2, 0.4, 3, truncation_bound(40, 0.4, 30))


# Clipping options


def test_per_layer_clipping_is_done_and_reported():
    for run in (trained, stepped):
        assert run(clipping="per-layer")[1].engine.clipping == "per-layer"
        assert run()[1].engine.clipping == "flat"
    quiet = {"noise_multiplier": 1e-6, "sampling_rate": 1.0, "local_steps": 1}
    big = records(1, size=100.0)
    flat, by_layer = (
        trained(data=big, clipping=kind, **quiet)[0].values * 5.0 / 0.1 / 0.5
        for kind in ("flat", "per-layer")
    )
    assert np.linalg.norm(flat) == pytest.approx(1, abs=1e-4)
    assert np.linalg.norm(by_layer) <= 1 + 1e-4
    assert np.linalg.norm(by_layer[:35]) == pytest.approx(math.sqrt(1 / 2), abs=1e-4)


@pytest.mark.parametrize("z", [0.5, 1.2, 9.9])
def test_gradient_noise_and_count_noise_together_are_the_noise_of_a_step(z):
    """Two releases with noise a / sensitivity and b / sensitivity are one with the harmonic."""
    adaptive = plan(noise_multiplier=z, **ADAPTIVE)
    gradient, count = adaptive.gradient_noise_multiplier, 5.0 / 0.5
    together = (gradient**-2 + count**-2) ** -0.5
    assert z <= together <= z * (1 + 1e-9)
    assert gradient > z


def test_a_count_that_spends_the_whole_step_is_refused():
    for noise in (0.6, 0.5):
        with pytest.raises(BadInput, match="the count alone"):
            plan(**(ADAPTIVE | {"adaptive_count_noise": noise}))


def test_an_adaptive_release_reports_the_steps_noise_and_the_largest_clip_norm_used():
    update, report = trained(local_steps=30, **ADAPTIVE)
    assert isinstance(update, NoisedUpdate)
    assert report.engine.clipping == "adaptive"
    assert report.engine.released == plan(local_steps=30, **ADAPTIVE).release
    assert report.engine.clip_norm_l2 == 0.5
    assert parse_engine(report.engine.body()) == report.engine


def clip_norms_of(monkeypatch, steps, **changes):
    used, honest = [], local.add_noise

    def watched(clipped, **more):
        used.append((clipped.clip_norm_l2, more["noise_multiplier"]))
        return honest(clipped, **more)

    monkeypatch.setattr(local, "add_noise", watched)
    trained(local_steps=steps, sampling_rate=0.5, **(ADAPTIVE | changes))
    return used


def test_the_clip_norm_follows_the_quantile_and_never_passes_the_studys(monkeypatch):
    # The gradients of these patients have norms near 1.
    fallen = clip_norms_of(monkeypatch, 80, clip_norm_l2=50.0, noise_multiplier=0.01)
    norms = [norm for norm, _ in fallen]
    assert norms[0] == 50.0
    assert max(norms) == 50.0
    assert 0.05 < norms[-1] < 5.0
    capped = clip_norms_of(monkeypatch, 20, clip_norm_l2=0.01)
    assert max(norm for norm, _ in capped) <= 0.01
    noises = {noise for _, noise in capped}
    assert noises == {plan(**ADAPTIVE).gradient_noise_multiplier}


def adapted(within, sampled, clip_norm_l2=1.0, **changes):
    about = {"quantile": 0.5, "count_noise": 1e-3, "most_l2": 4.0, "expected_batch": 10.0}
    return AdaptiveClip(**(about | changes)).after(
        clip_norm_l2, within=within, sampled=sampled, randomness=seeded(2)
    )


def test_the_clip_norm_moves_geometrically_by_the_share_within():
    assert adapted(10, 10) == pytest.approx(math.exp(-0.2 * 0.5), rel=1e-3)
    assert adapted(0, 10) == pytest.approx(math.exp(0.2 * 0.5), rel=1e-3)
    assert adapted(5, 10) == pytest.approx(1.0, rel=1e-3)
    assert adapted(0, 10, clip_norm_l2=4.0) == 4.0
    assert adapted(10, 10, clip_norm_l2=4e-4) == 4e-4


def test_one_patient_moves_the_count_by_a_half_whichever_side_they_are_on():
    """The noise is charged against 1/2; `bytes` are zeros, which make noise of zero."""
    about = AdaptiveClip(quantile=0.5, count_noise=1e-9, most_l2=9.0, expected_batch=100.0)

    def moved(within, sampled):
        return math.log(about.after(1.0, within=within, sampled=sampled, randomness=bytes))

    for neighbour in (moved(4, 9), moved(3, 9)):
        assert abs(neighbour - moved(3, 8)) == pytest.approx(0.2 * 0.5 / 100, rel=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        {"adaptive_quantile": 0.5},
        {"adaptive_count_noise": 5.0},
        ADAPTIVE | {"adaptive_quantile": None},
        ADAPTIVE | {"adaptive_quantile": 1.0},
        ADAPTIVE | {"adaptive_count_noise": 0.0},
        ADAPTIVE | {"mechanism": "distributed", "local_steps": 1},
        ADAPTIVE | {"mechanism": "none", "noise_multiplier": 0.0},
        {"clipping": "sometimes"},
        {"patients_most": 5},
        {"batch_most": 5},
        {"patients_most": 5, "batch_most": 0},
        {"patients_most": 100, "batch_most": 10},  # below the mean: every batch would be cut
        {"mechanism": "distributed", "local_steps": 2},
        {"mechanism": "distributed", "local_steps": 1, "clip_norm_l2": None},
        {"mechanism": "distributed", "local_steps": 1, "honest": 0},
        {"mechanism": "distributed", "local_steps": 1, "noise_multiplier": 0.0},
    ],
)
def test_a_plan_with_options_that_contradict_each_other_is_refused(wrong):
    with pytest.raises(BadInput):
        plan(**wrong)


# The grid and the probe


def test_a_noised_sum_lies_on_a_grid_finer_than_a_millionth_of_the_noise():
    clipped = ClippedSum(values=torch.randn(1000) / 3, clip_norm_l2=0.3)
    noisy = add_noise(clipped, noise_multiplier=1.1, expected_batch=100.0, randomness=seeded(3))
    deviation = 1.1 * 0.3 * 1.0002
    grid = 2.0 ** math.floor(math.log2(deviation * 2**-20))
    steps = noisy.values.double().numpy() / grid
    assert np.array_equal(steps, np.rint(steps))
    assert len(np.unique(steps % 8)) == 8
    assert noisy.values.dtype == torch.float32


def test_every_step_draws_a_probe_from_the_call_that_noises_it():
    for run, steps in ((trained, 3), (stepped, 1)):
        report = run()[1]
        assert report.noise_probe.count == steps * PROBE_VALUES
    none = trained(mechanism="none", noise_multiplier=0.0)[1]
    assert none.noise_probe is None


def test_the_probe_fits_the_claim_over_many_steps_and_three_percent_off_does_not():
    probe = trained(local_steps=40, sampling_rate=0.05)[1].noise_probe

    def fits(statistic):
        below = stats.chi2.cdf(statistic, probe.count)
        return 2 * min(below, 1 - below)

    measured = probe.sum_of_squares_over_variance
    assert fits(measured) > 0.01
    assert fits(measured * 0.97**2) < 1e-4
    assert fits(measured * 1.03**2) < 1e-4


def test_a_probe_without_a_variance_is_refused():
    with pytest.raises(BadInput, match="variance"):
        NoiseProbe.of(np.ones(3), variance=0.0)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 0.01])
def test_a_step_is_that_of_pytorchs_own_class_bit_for_bit(momentum, weight_decay):
    sizes = replace(SIZES, momentum=momentum, weight_decay=weight_decay)
    ours, theirs = list(mlp().parameters()), list(mlp().parameters())
    descend = local._descent(ours, sizes)
    due = torch.optim.SGD(
        theirs, lr=sizes.learning_rate, momentum=momentum, weight_decay=weight_decay
    )
    for _ in range(5):
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = torch.randn(mine.shape)
            other.grad = mine.grad.clone()
        descend()
        due.step()
        assert all(torch.equal(m, o) for m, o in zip(ours, theirs, strict=True))
    assert not torch.equal(ours[0], next(mlp().parameters()))
