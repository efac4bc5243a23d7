"""FedProx and SCAFFOLD: the papers' steps, without drift, over noised sums alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from tests.support import gan_plans
from tests.support.masked_hospitals import seeded as named
from tests.support.study_plans import study_value
from tests.support.training_steps import SIZES, mlp, plan, records, seeded, stepped
from torch.nn import functional

from wardround.errors import BadInput
from wardround.models.networks import binary_loss, build, parameters_of
from wardround.privacy.engine_audit import audit_rule
from wardround.study.files import checked
from wardround.study.manifest import StudyPlan
from wardround.study.training import Training
from wardround_client.comparison.sites import study_of
from wardround_client.comparison.training import trained
from wardround_client.empirical.dry_run import name_canaries
from wardround_client.plans import step_sizes, training_plan
from wardround_client.training import local
from wardround_client.training.drift import Control
from wardround_client.training.local import train
from wardround_client.training.plan import PatientRecords, StepSizes
from wardround_client.training.stages import NoisedUpdate

EXACT = {"mechanism": "none", "noise_multiplier": 0.0, "clip_norm_l2": None}
ALL = 1 - 1e-12  # a sampling rate that leaves nobody out
NAMES = ("east", "north", "south", "west")
CORRECTION = np.linspace(-1, 1, sum(p.numel() for p in mlp().parameters())).astype(np.float32)


def updated(sizes, correction=None, **changes):
    update, _ = train(
        mlp(),
        records(),
        binary_loss,
        plan(**changes),
        sizes,
        correction=correction,
        randomness=seeded(1),
    )
    return update


# FedProx


@pytest.mark.parametrize(
    ("changes", "optimiser"),
    [
        ({}, lambda p: torch.optim.SGD(p, lr=0.1)),
        ({"momentum": 0.5}, lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.5)),
        ({"optimiser": "adam"}, lambda p: torch.optim.Adam(p, lr=0.1)),
    ],
)
def test_a_proximal_term_is_that_of_the_papers_objective(changes, optimiser):
    """Li et al. 2020, h_k(w; w_t) = F_k(w) + mu/2 |w - w_t|^2, by PyTorch's own gradients."""
    model, data, sizes = mlp(), records(), replace(SIZES, proximal=2.0, **changes)
    start = [parameter.detach().clone() for parameter in model.parameters()]
    steps = optimiser(model.parameters())
    for _ in range(15):
        steps.zero_grad()
        said = model(data.features).squeeze(-1)
        loss = functional.binary_cross_entropy_with_logits(said, data.labels, reduction="sum")
        far = sum(((p - s) ** 2).sum() for p, s in zip(model.parameters(), start, strict=True))
        (loss / sizes.expected_batch + 2.0 / 2 * far).backward()
        steps.step()
    due = parameters_of(model).numpy() - np.concatenate([s.flatten().numpy() for s in start])
    found = updated(sizes, sampling_rate=ALL, local_steps=15, **EXACT).values
    np.testing.assert_allclose(found, due, atol=2e-5)
    plain = updated(replace(sizes, proximal=0.0), sampling_rate=ALL, local_steps=15, **EXACT)
    assert np.abs(plain.values - due).max() > 0.05


def test_many_steps_end_where_pull_and_gradient_are_in_balance():
    sizes, data = replace(SIZES, proximal=5.0), records()
    model = torch.nn.Linear(6, 1)
    exact = plan(sampling_rate=ALL, local_steps=300, **EXACT)
    update, _ = train(model, data, binary_loss, exact, sizes, randomness=seeded(1))
    gradient = gradient_at(parameters_of(model).double().numpy(), data, sizes.expected_batch)
    np.testing.assert_allclose(gradient, -5.0 * update.values, atol=1e-4)
    assert np.abs(gradient).max() > 0.1


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("pull", [0.001, 0.1, 0.5, 1.0])  # proximal x learning rate: 1 at most
def test_a_pull_takes_no_gradient_further_than_momentum_alone(momentum, pull):
    """What `robust.bound` counts on: a step lives on by 1 + m + m^2 + ... and no more."""
    moved = speed = 0.0
    for step in range(2000):
        speed = momentum * speed + (step == 0) + pull * moved
        moved -= speed
        assert abs(moved) <= 1 / (1 - momentum) + 1e-12
    assert abs(moved) < 0.2


# Privacy


@pytest.mark.parametrize("sizes", [replace(SIZES, proximal=3.0), SIZES])
def test_with_noise_an_update_is_a_function_of_noised_sums_and_what_is_public(monkeypatch, sizes):
    """Post-processing: whoever saw the noised sums could compute the update, without a record."""
    seen, honest = [], local.add_noise

    def watched(clipped, **more):
        private = honest(clipped, **more)
        seen.append(private.values.double().numpy())
        return private

    monkeypatch.setattr(local, "add_noise", watched)
    correction = None if sizes.proximal else CORRECTION
    update = updated(sizes, correction, local_steps=4)
    assert isinstance(update, NoisedUpdate)
    moved = np.zeros(len(CORRECTION))
    for total in seen:
        gradient = total / sizes.expected_batch + sizes.proximal * moved
        moved = moved - sizes.learning_rate * (gradient + (0 if correction is None else correction))
    assert len(seen) == 4
    np.testing.assert_allclose(update.values, moved, atol=1e-6)
    plain = updated(SIZES, local_steps=4).values
    assert np.abs(update.values - plain).max() > 0.01


@pytest.mark.parametrize("method", [{"proximal": 0.5}, {"control": "scaffold"}])
def test_neither_costs_epsilon_and_the_same_noise_is_drawn(method):
    local = {"mechanism": "local", "epsilon": 3.0, "delta": 1e-4}
    privacy = local | {"clip_norm_l2": 1.0, "sampling_rate": 0.5}
    with_it, without = (study(privacy, local_steps=5, **each) for each in (method, {}))
    assert with_it.noise_multiplier() == without.noise_multiplier() > 0.5
    assert training_plan(with_it, hospitals=4) == training_plan(without, hospitals=4)
    sizes = step_sizes(with_it)
    shaken = [
        train(
            mlp(),
            records(),
            binary_loss,
            training_plan(with_it, hospitals=4),
            sizes,
            correction=CORRECTION if "control" in method else None,
            randomness=seeded(seed),
        )
        for seed in (1, 2)
    ]
    (one, report), (two, _) = shaken
    assert report.engine.noise_multiplier == with_it.noise_multiplier()
    assert report.noise_probe.sum_of_squares_over_variance / report.noise_probe.count > 0.8
    assert np.abs(one.values - two.values).min() > 0


def test_a_dry_run_looks_at_clip_and_noise_whatever_pulls_behind_them():
    rule = audit_rule(1.2, 0.4, hospitals=1)
    first, second = (
        name_canaries(plan(), sizes, rule, seed=b"s" * 32, randomness=seeded(5))
        for sizes in (SIZES, replace(SIZES, proximal=4.0))
    )
    assert np.array_equal(first.inside, second.inside)
    assert np.array_equal(first.outside, second.outside)


# SCAFFOLD


def study(privacy=None, rounds=6, **training):
    value = study_value("risk", "logistic-regression")
    value["training"] |= training
    value["rounds"] |= {"count": rounds}
    value["privacy"] = privacy or value["privacy"]
    return study_of(checked(StudyPlan, value, what="study"), NAMES)


def exactly(**training):
    """A study without noise in which every patient is in every batch."""
    privacy = {"mechanism": "none", "clip_norm_l2": 1e6, "sampling_rate": ALL}
    return study(privacy=privacy, **training)


def unlike(patients=40):
    """Four hospitals that disagree: each has another rule, other features and other outcomes."""
    random, features = np.random.default_rng(3), build(exactly(local_steps=2)).in_features
    made = {}
    for at, name in enumerate(NAMES):
        x = random.normal(size=(patients, features)) + np.eye(len(NAMES), features)[at]
        sick = 1 / (1 + np.exp(-x @ random.normal(size=features) * 2 - 3 * (at % 2) + 1.5))
        made[name] = PatientRecords(
            features=torch.from_numpy(x.astype(np.float32)),
            labels=torch.from_numpy((random.uniform(size=patients) < sick).astype(np.float32)),
            offsets=np.arange(patients + 1),
        )
    return made


def gradient_at(point, patients, normaliser):
    """Of the summed logistic loss, in float64, by hand: weights, then the constant."""
    x = np.c_[patients.features.double().numpy(), np.ones(len(patients.features))]
    return x.T @ (1 / (1 + np.exp(-x @ point)) - patients.labels.numpy()) / normaliser


def algorithm_1(study, hospitals):
    """Karimireddy et al. 2020, Algorithm 1 with option II, everybody in every round, float64.

    Server and hospitals keep their controls as the paper has it: c travels, and each hospital
    sends the change of its c_i.
    """
    training, normaliser = study.training, study.training.expected_batch
    x = parameters_of(build(study)).double().numpy()
    c, own = np.zeros(len(x)), {name: np.zeros(len(x)) for name in hospitals}
    for _ in range(study.rounds.count):
        moves, changes = [], []
        for name, patients in hospitals.items():
            y = x
            for _ in range(training.local_steps):
                g = gradient_at(y, patients, normaliser)
                y = y - training.learning_rate * (g - own[name] + c)
            new = own[name] - c + (x - y) / (training.local_steps * training.learning_rate)
            moves.append(y - x)
            changes.append(new - own[name])
            own[name] = new
        x = x + training.server.learning_rate * np.mean(moves, axis=0)
        c = c + np.mean(changes, axis=0)
    return x


@pytest.mark.parametrize("server", [1.0, 0.6])
def test_scaffold_is_the_papers_algorithm_though_no_control_travels(server):
    one = exactly(
        control="scaffold",
        local_steps=8,
        learning_rate=0.3,
        expected_batch=40.0,
        server={"learning_rate": server},
    )
    hospitals = unlike()
    found, due = trained(one, hospitals, named("scaffold")), algorithm_1(one, hospitals)
    np.testing.assert_allclose(found, due, atol=2e-5)
    plain = exactly(**one.training.model_dump(exclude={"control", "weighting"}))
    assert np.abs(trained(plain, hospitals, named("plain")) - due).max() > 0.02


def loss_at(point, hospitals):
    """The summed logistic loss of all patients."""
    return sum(
        np.logaddexp(
            0, (1 - 2 * p.labels.numpy()) * (p.features.double().numpy() @ point[:-1] + point[-1])
        ).sum()
        for p in hospitals.values()
    )


@pytest.mark.slow
def test_of_hospitals_that_disagree_scaffold_finds_the_common_optimum_and_fedavg_does_not():
    hospitals = unlike()
    steps = {"local_steps": 20, "learning_rate": 0.8, "expected_batch": 40.0, "rounds": 40}
    optimum = minimize(
        loss_at,
        np.zeros(len(parameters_of(build(exactly(local_steps=2))))),
        args=(hospitals,),
        jac=lambda x, _: sum(gradient_at(x, p, 1.0) for p in hospitals.values()),
        tol=1e-10,
    ).x
    ways = {"fedavg": {}, "fedprox": {"proximal": 0.5}, "scaffold": {"control": "scaffold"}}
    far = {
        name: np.linalg.norm(trained(exactly(**steps, **way), hospitals, named(name)) - optimum)
        for name, way in ways.items()
    }
    assert far["scaffold"] < 0.02 * far["fedavg"]
    assert 0.02 < far["fedprox"] < 0.8 * far["fedavg"]


# Quadratics of one number: F_i(x) = a_i (x - b_i)^2 / 2, by the hospital's own `Control`
SLOPES, CENTRES = np.array([4.0, 1.0, 0.5, 0.2]), np.array([0.0, 1.0, -2.0, 5.0])
OPTIMUM = (SLOPES * CENTRES).sum() / SLOPES.sum()
STEPS = Training(local_steps=10, learning_rate=0.1, expected_batch=1.0, control="scaffold")


def where_it_ends(anew=(), everybody=True, rounds=200, proximal=0.0, control=True):
    """The model after so many rounds; in those of `anew` the first hospital, or everybody, forgets.

    The hospital computes in float32, as it does in a round.
    """
    x, kept = np.zeros(1, np.float32), [None] * len(SLOPES)
    for number in range(rounds):
        moves = []
        for at, (slope, centre) in enumerate(zip(SLOPES, CENTRES, strict=True)):
            if number in anew and (everybody or at == 0):
                kept[at] = None
            correction = None if kept[at] is None else kept[at].correction(x, STEPS)
            y = x
            for _ in range(STEPS.local_steps):
                pull = proximal * (y - x)
                more = 0 if correction is None else correction
                y = y - np.float32(STEPS.learning_rate) * (slope * (y - centre) + pull + more)
            moves.append(y - x)
            kept[at] = Control.after(x, y - x, correction, STEPS) if control else None
        x = (x + np.mean(moves, axis=0)).astype(np.float32)
    return abs(float(x[0]) - OPTIMUM)


def test_on_quadratics_fedavg_is_biased_fedprox_less_and_scaffold_not():
    fedavg, fedprox = (where_it_ends(control=False, proximal=mu) for mu in (0.0, 3.0))
    assert fedavg > 0.15
    assert 0.05 < fedprox < 0.7 * fedavg
    assert where_it_ends() < 1e-6


def test_a_control_that_one_hospital_forgets_alone_misleads_for_ever_and_one_of_all_does_not():
    """Why hospitals begin anew together, by what all of them see (decision 0021)."""
    alone = [where_it_ends((50,), everybody=False, rounds=rounds) for rounds in (200, 600)]
    assert min(alone) > 0.1
    assert alone[0] == pytest.approx(alone[1], rel=1e-3)
    assert where_it_ends((50,)) < 1e-6


# What a study may ask for


def small(**training):
    value = study_value("risk", "logistic-regression")
    value["training"] |= training
    return checked(StudyPlan, value, what="study")


def test_a_study_that_asks_for_neither_has_the_bytes_that_it_had():
    assert not {"proximal", "control"} & small().to_json()["training"].keys()
    assert small(proximal=0.0, control="none").to_json() == small().to_json()
    asked = small(local_steps=2, proximal=0.5).to_json()["training"]
    assert (asked["proximal"], "control" in asked) == (0.5, False)
    assert small(control="scaffold").to_json()["training"]["control"] == "scaffold"


@pytest.mark.parametrize(
    ("training", "words"),
    [
        ({"proximal": 0.5}, "nothing to pull it back from"),
        ({"proximal": -0.5, "local_steps": 2}, "proximal"),
        ({"proximal": 3.0, "local_steps": 2, "learning_rate": 0.5}, "is 1.5, at most 1 was due"),
        ({"control": "scaffold", "momentum": 0.9}, "momentum"),
        ({"control": "scaffold", "weight_decay": 0.1}, "weight_decay"),
        ({"control": "scaffold", "optimiser": "adam"}, "adam"),
        ({"control": "scaffold", "local_steps": 2, "proximal": 0.1}, "proximal"),
        ({"control": "scaffold", "server": {"name": "fedadam"}}, "fedadam"),
        ({"control": "feddyn"}, "control"),
    ],
)
def test_steps_that_do_not_go_together_are_refused_by_name(training, words):
    with pytest.raises(BadInput, match=words):
        small(**training)


@pytest.mark.parametrize("method", [{"proximal": 0.5}, {"control": "scaffold"}])
def test_a_share_of_the_noise_is_no_place_for_either(method):
    shared = {"mechanism": "distributed", "epsilon": 3.0, "delta": 1e-4}
    privacy = shared | {"clip_norm_l2": 1.0, "sampling_rate": 0.5}
    with pytest.raises(BadInput, match=r"training\.proximal and training\.control with mechanism"):
        study(privacy, local_steps=2, **method)
    with pytest.raises(BadInput, match="proximal is 0 with mechanism distributed"):
        stepped(sizes=replace(SIZES, proximal=0.1))


def test_a_mean_that_is_none_has_no_control():
    value = study_value("risk", "logistic-regression", robust={"groups": 3, "rule": "median"})
    value["training"]["control"] = "scaffold"
    value["rounds"]["quorum"] = 9
    with pytest.raises(BadInput, match=r"training\.control does not go with \[robust\]"):
        checked(StudyPlan, value, what="study")
    del value["training"]["control"]
    assert checked(StudyPlan, value, what="study").robust is not None


def test_a_gan_has_no_control():
    value = gan_plans.plan_of().to_json()
    value["training"] |= {"local_steps": 2, "proximal": 0.1}
    assert checked(StudyPlan, value, what="study").training.proximal == 0.1
    value["training"] |= {"proximal": 0.0, "control": "scaffold"}
    with pytest.raises(BadInput, match=r"family gan does not go with training\.control"):
        checked(StudyPlan, value, what="study")


def test_what_is_no_step_is_refused():
    with pytest.raises(BadInput, match="proximal is 0 or more"):
        StepSizes(learning_rate=0.1, expected_batch=5.0, proximal=-1.0)
    with pytest.raises(BadInput, match=r"control: shape \(3,\) came, \(41,\) was due"):
        updated(SIZES, np.zeros(3, np.float32))
