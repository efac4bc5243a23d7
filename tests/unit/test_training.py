"""The engine's claims: bounded sensitivity, public constants, and nothing leaves un-noised."""

import ast
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.support.patient_gradients import clipped_sum
from torch import nn
from torch.func import functional_call, grad

from wardround.errors import BadInput, WardroundError
from wardround.models.networks import binary_loss, parameters_of
from wardround.privacy.mechanism import Exact, SampledGaussian
from wardround.randomness import system_randomness
from wardround_client.training.local import train
from wardround_client.training.plan import PatientRecords, StepSizes, TrainingPlan
from wardround_client.training.report import commitment
from wardround_client.training.sampling import choose_records, sample_patients
from wardround_client.training.stages import (
    ClearUpdate,
    ClippedSum,
    NoiseDone,
    NoisedUpdate,
    RawUpdate,
    add_noise,
    noised,
    without_noise,
)

CLIENT = Path(__file__).parents[2] / "client" / "wardround_client"


def seeded(seed):
    return np.random.default_rng(seed).bytes


def same_bytes_every_call(count):
    """Two runs that draw in different amounts still meet the same numbers."""
    return (np.random.default_rng(3).bytes(4096) * (count // 4096 + 1))[:count]


def mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 1))


def bias_free():
    torch.manual_seed(0)
    return nn.Linear(6, 1, bias=False)


def cnn():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 1)
    )


def batch(shape, counts=(1, 3, 2, 4)):
    torch.manual_seed(1)
    records = sum(counts)
    patients = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))
    return torch.randn(records, *shape) * 3, torch.randint(0, 2, (records,)).float(), patients


def one_patient_at_a_time(model, features, labels, patients, clip_norm_l2):
    """The definition, by torch.func: mean over the patient's records, one clip, sum."""
    parameters = {name: p.detach() for name, p in model.named_parameters()}

    def mean_loss(parameters, own):
        return binary_loss(functional_call(model, parameters, features[own]), labels[own]).mean()

    total = 0.0
    for patient in patients.unique():
        gradient = grad(mean_loss)(parameters, patients == patient)
        flat = torch.cat([gradient[name].reshape(-1) for name in parameters])
        total = total + flat * min(1.0, clip_norm_l2 / float(flat.norm()))
    return total


def heart(patients=12, features=6, seed=4):
    rng = np.random.default_rng(seed)
    counts = rng.integers(1, 4, patients)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    torch.manual_seed(seed)
    x = torch.randn(int(offsets[-1]), features)
    return PatientRecords(features=x, labels=(x[:, 0] > 0).float(), offsets=offsets)


PLAN = {
    "mechanism": "local",
    "noise_multiplier": 1.0,
    "clip_norm_l2": 0.5,
    "sampling_rate": 0.4,
    "records_per_patient": 2,
    "local_steps": 3,
}
SIZES = StepSizes(learning_rate=0.1, expected_batch=5.0)


def run(plan=None, data=None, model=None, randomness=None, sizes=SIZES):
    return train(
        model or mlp(),
        data or heart(),
        binary_loss,
        TrainingPlan(**(PLAN | (plan or {}))),
        sizes,
        randomness=randomness or seeded(1),
    )


@pytest.mark.parametrize(("build", "shape"), [(mlp, (6,)), (cnn, (1, 8, 8))])
@pytest.mark.parametrize("records_at_once", [1, 5, 100])
def test_the_clipped_sum_is_that_of_a_loop_over_patients(build, shape, records_at_once):
    model, (features, labels, patients) = build(), batch(shape)
    due = one_patient_at_a_time(model, features, labels, patients, 0.3)
    got = clipped_sum(
        model,
        features,
        labels,
        patients,
        binary_loss,
        clip_norm_l2=0.3,
        records_at_once=records_at_once,
    )
    assert float((got.values - due).norm() / due.norm()) < 1e-5


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e4, 1e18])
@pytest.mark.parametrize("clip_norm_l2", [0.01, 1.0, 7.0])
def test_no_patient_moves_the_sum_by_more_than_the_clip_norm(size, clip_norm_l2):
    features, labels, _ = batch((6,), (5,))
    alone = clipped_sum(
        mlp(),
        features * size,
        1 - labels,
        torch.zeros(5, dtype=torch.int64),
        binary_loss,
        clip_norm_l2=clip_norm_l2,
    )
    assert float(alone.values.double().norm()) <= clip_norm_l2 * (1 + 1e-6)


def test_a_patient_within_the_clip_norm_is_not_changed_and_nobody_is_clipped_without_one():
    model, (features, labels, patients) = mlp(), batch((6,))
    due = one_patient_at_a_time(model, features, labels, patients, 1e9)
    for clip_norm_l2 in (1e6, None):
        got = clipped_sum(model, features, labels, patients, binary_loss, clip_norm_l2=clip_norm_l2)
        torch.testing.assert_close(got.values, due, rtol=1e-5, atol=1e-6)


def test_a_zero_gradient_stays_zero():
    model = nn.Linear(6, 1, bias=False)
    got = clipped_sum(
        model,
        torch.zeros(4, 6),
        torch.ones(4),
        torch.tensor([0, 0, 1, 2]),
        binary_loss,
        clip_norm_l2=1.0,
    )
    assert torch.equal(got.values, torch.zeros(6))


def test_no_patient_at_all_sums_to_zeros():
    nobody = torch.zeros(0, dtype=torch.int64)
    got = clipped_sum(
        mlp(), torch.zeros(0, 6), torch.zeros(0), nobody, binary_loss, clip_norm_l2=1.0
    )
    assert got.values.shape == parameters_of(mlp()).shape
    assert not got.values.any()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 3e38])
def test_a_gradient_that_is_not_finite_counts_as_zero_and_spares_the_others(value):
    features, labels, patients = batch((6,))
    others = patients != 1
    renumbered = torch.unique_consecutive(patients[others], return_inverse=True)[1]
    due = clipped_sum(
        mlp(), features[others], labels[others], renumbered, binary_loss, clip_norm_l2=0.3
    )
    features[patients == 1] = value
    got = clipped_sum(mlp(), features, labels, patients, binary_loss, clip_norm_l2=0.3)
    if got.without_gradient:
        torch.testing.assert_close(got.values, due.values)
    assert float((got.values - due.values).norm()) <= 0.3 * (1 + 1e-5)


def test_batch_norm_is_refused_with_its_name_and_the_group_norm_to_put_there():
    model = nn.Sequential(nn.Conv2d(1, 48, 3), nn.BatchNorm2d(48), nn.Flatten(), nn.Linear(9, 1))
    with pytest.raises(BadInput, match=r"layer 1 is BatchNorm2d.*GroupNorm\(16, 48\)"):
        run(model=model)


def test_records_out_of_order_are_refused():
    features, labels, _ = batch((6,), (4,))
    for order in ([0, 1, 0, 1], [1, 1, 2, 2], [0, 0, 2, 2]):
        with pytest.raises(BadInput, match="sorted by patient"):
            clipped_sum(mlp(), features, labels, torch.tensor(order), binary_loss, clip_norm_l2=1.0)


def test_a_reduced_loss_is_refused():
    features, labels, patients = batch((6,))
    with pytest.raises(BadInput, match="one a record"):
        clipped_sum(
            mlp(), features, labels, patients, lambda o, y: binary_loss(o, y).mean(), clip_norm_l2=1
        )


def test_the_model_is_a_plain_one_again_after_training():
    model = mlp()
    run(model=model)
    assert not any(layer._forward_hooks or layer._backward_hooks for layer in model.modules())
    assert all(getattr(p, "grad_sample", None) is None for p in model.parameters())
    run(model=model)


def test_neighbouring_datasets_get_the_same_rate_normaliser_and_step():
    """Opacus 1.6 takes both from N (its issues 571 and 819): one step then tells N from N + 1."""
    small = heart(10)
    silent = PatientRecords(
        features=torch.cat([small.features, torch.zeros(1, 6)]),
        labels=torch.cat([small.labels, torch.zeros(1)]),
        offsets=np.append(small.offsets, small.offsets[-1] + 1),
    )
    (first, first_report), (second, second_report) = (
        run(
            plan={"sampling_rate": 1.0},
            data=data,
            model=bias_free(),
            randomness=same_bytes_every_call,
        )
        for data in (small, silent)
    )
    np.testing.assert_allclose(first.values, second.values, rtol=1e-5)
    assert first_report.engine.sampling_rate == second_report.engine.sampling_rate


def test_the_report_is_what_was_done_and_commits_to_the_batch_sizes():
    update, report = run()
    engine = report.engine
    assert isinstance(update, NoisedUpdate)
    assert engine.released == TrainingPlan(**PLAN).release == SampledGaussian(1.0, 0.4, 3)
    assert len(report.batch_sizes) == engine.steps == 3
    assert engine.batches_commitment == commitment(report.batch_sizes, report.salt)
    assert engine.batches_commitment != commitment(report.batch_sizes, bytes(32))
    assert engine.clip_norm_l2 == 0.5


def test_the_update_is_final_minus_starting_parameters():
    model = mlp()
    start = parameters_of(model).clone()
    update, _ = run(model=model, sizes=StepSizes(learning_rate=0.1, expected_batch=5, momentum=0.9))
    assert update.values.dtype == np.float32
    assert np.array_equal(update.values, (parameters_of(model) - start).numpy())


def test_mechanism_none_learns_from_all_patients_and_is_called_clear():
    plan = {
        "mechanism": "none",
        "noise_multiplier": 0.0,
        "clip_norm_l2": None,
        "sampling_rate": 1.0,
        "local_steps": 60,
    }
    model, data = mlp(), heart(60)
    sizes = StepSizes(learning_rate=0.5, expected_batch=60)
    update, report = run(plan=plan, data=data, model=model, sizes=sizes)
    assert isinstance(update, ClearUpdate)
    assert report.engine.released == Exact()
    assert report.engine.noise_multiplier == 0.0
    accuracy = ((model(data.features).squeeze(-1) > 0) == data.labels.bool()).float().mean()
    assert accuracy > 0.9


def test_operating_system_randomness_trains_as_well():
    first, _ = run(randomness=system_randomness)
    second, _ = run(randomness=system_randomness)
    assert not np.array_equal(first.values, second.values)


def test_an_update_with_an_un_noised_step_behind_it_may_not_leave():
    raw, done = RawUpdate(np.ones(3, np.float32)), NoiseDone(noise_multiplier=1.0, clip_norm_l2=1.0)
    assert isinstance(noised(raw, [done, done]), NoisedUpdate)
    for steps in ([done, None], []):
        with pytest.raises(WardroundError, match="may not leave"):
            noised(raw, steps)


def test_an_unclipped_sum_cannot_be_noised():
    with pytest.raises(WardroundError, match="not clipped"):
        add_noise(
            ClippedSum(values=torch.ones(2), clip_norm_l2=None),
            noise_multiplier=1.0,
            expected_batch=1.0,
            randomness=seeded(0),
        )


def test_an_update_that_is_not_finite_may_not_leave():
    with pytest.raises(WardroundError, match="finite"):
        without_noise(RawUpdate(np.array([1.0, np.nan], np.float32)))


def test_an_update_cannot_be_changed_after_it_was_sealed():
    update = without_noise(RawUpdate(np.ones(3, np.float32)))
    with pytest.raises(ValueError, match="read-only"):
        update.values[0] = 2


def test_only_the_stages_module_makes_an_update_that_may_leave():
    makers = []
    for path in CLIENT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
                name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr
                if name in {"NoisedUpdate", "ClearUpdate"}:
                    makers.append(path.name)
    assert makers == ["stages.py"] * 3  # noised, without_noise, weighted


def test_stages_and_records_are_silent_when_printed():
    update, report = run()
    for value in (update, report, heart(), RawUpdate(update.values)):
        text = repr(value)
        assert "tensor" not in text
        assert "array" not in text
        assert "salt" not in text


@pytest.mark.parametrize(
    "wrong",
    [
        {"mechanism": "off"},
        {"noise_multiplier": 0.0, "mechanism": "local", "clip_norm_l2": None},
        {"noise_multiplier": -1.0},
        {"clip_norm_l2": None},
        {"mechanism": "none"},
        {"sampling_rate": 0.0},
        {"sampling_rate": 1.5},
        {"records_per_patient": 0},
        {"local_steps": 0},
    ],
)
def test_a_plan_without_a_meaning_is_refused(wrong):
    with pytest.raises(BadInput):
        TrainingPlan(**(PLAN | wrong))


def test_mechanism_local_cannot_be_planned_without_noise():
    with pytest.raises(BadInput, match="noise"):
        TrainingPlan(**(PLAN | {"noise_multiplier": 0.0}))


@pytest.mark.parametrize("offsets", [[0, 2], [1, 3], [0, 2, 2, 3], []])
def test_patient_records_that_do_not_add_up_are_refused(offsets):
    with pytest.raises(BadInput, match="offsets"):
        PatientRecords(
            features=torch.zeros(3, 1),
            labels=torch.zeros(3),
            offsets=np.array(offsets, dtype=np.int64),
        )


def test_a_patient_gives_at_most_k_consecutive_records_and_all_when_there_are_fewer():
    offsets = np.array([0, 2, 9, 12])
    starts = set()
    for seed in range(200):
        chosen = choose_records(offsets, np.array([0, 1]), most=3, randomness=seeded(seed))
        own = chosen.records[chosen.patient_of_record == 1]
        assert chosen.records[chosen.patient_of_record == 0].tolist() == [0, 1]
        assert np.diff(own).tolist() == [1, 1]
        starts.add(int(own[0]))
    assert starts == {2, 3, 4, 5, 6}


def test_nobody_sampled_gives_an_empty_batch():
    nobody = sample_patients(0, rate=0.5, randomness=seeded(0))
    chosen = choose_records(np.array([0]), nobody, most=3, randomness=seeded(0))
    assert (len(chosen.records), chosen.patients) == (0, 0)


def test_everybody_is_sampled_at_rate_1():
    assert sample_patients(1000, rate=1.0, randomness=seeded(0)).tolist() == list(range(1000))
