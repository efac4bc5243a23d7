"""Family gan: halves of a model, a patient's part in a step, records that say they are nobody's."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from tests.support.gan_plans import MADE, NAMES, PLANS, plan_of
from tests.support.masked_hospitals import seeded
from tests.support.study_plans import CLASSES, EVENT, MOLECULE, image, study_plan

from wardround.errors import BadInput
from wardround.models import gan
from wardround.models.generating import after_round, drawn
from wardround.models.networks import build, parameters_of
from wardround.optimisers import OptimiserState
from wardround.protocol.halves import digest_of_model, made_digest, model_digest
from wardround.protocol.specs import attempt_spec
from wardround_client.comparison.page import page
from wardround_client.comparison.result import SYNTHETIC, compared
from wardround_client.comparison.sites import Site, study_of
from wardround_client.comparison.ways import Way, score
from wardround_client.gradients.engine import per_patient
from wardround_client.plans import training_plan
from wardround_client.records import PatientRecords
from wardround_client.training.learning import learning, looked_at, trained_part
from wardround_client.training.sampling import Batch
from wardround_client.training.step import clip, look_up


@pytest.fixture(params=PLANS)
def study(request):
    return study_of(PLANS[request.param](), NAMES)


def records_of(study, patients=12, each=2, seed=3):
    draw = np.random.default_rng(seed)
    shape = (patients * each, *study.contract.input_shape())
    classes = draw.integers(0, gan.conditions(study.contract), patients)
    return PatientRecords(
        features=torch.from_numpy(draw.uniform(-1, 1, shape)).float(),
        labels=torch.from_numpy(np.repeat(classes, each)).float(),
        offsets=np.arange(0, patients * each + 1, each),
    )


def test_the_verifier_knows_the_discriminators_size_without_building_it(study):
    network = gan.adversaries(build(study))
    own = sum(parameter.numel() for parameter in network.discriminator.parameters())
    whole = parameters_of(network)
    assert study.made_from == own < whole.numel()
    assert torch.equal(whole[:own], parameters_of(network.discriminator))


def test_a_round_has_a_lane_for_each_of_the_discriminators_parameters(study):
    model = parameters_of(build(study)).numpy()
    spec = attempt_spec(
        study,
        run="1" * 32,
        session="2" * 32,
        round_number=0,
        attempt=1,
        cohort=NAMES,
        directory_digest="3" * 64,
        model=model,
    )
    assert spec.lanes == study.made_from
    assert spec.model_digest == digest_of_model(study, model)
    trained, made = model[: study.made_from], made_digest(study, model)
    assert spec.model_digest == model_digest(trained, made=made) != model_digest(model)


def one_patients_sum(study, network, own, place, *, copies=1):
    """The clipped sum of a batch that is this patient alone."""
    learns = learning(network, own, study, seeded("twins"))
    start = int(own.offsets[place])
    rows = np.arange(start, int(own.offsets[place + 1])).repeat(copies)
    batch = Batch(records=rows, patient_of_record=np.zeros(len(rows), dtype=np.int64), patients=1)
    with per_patient(learns.module) as engine:
        return clip(
            engine,
            look_up(learns.patients, batch, None, seeded("draws")),
            learns.loss,
            training_plan(study, hospitals=3),
            clip_norm_l2=1.0,
            records_at_once=64,
        )


def test_a_patient_with_its_twins_moves_a_sum_by_the_clip_norm_at_most(study):
    """Whatever generator and whatever discriminator the coordinator sent."""
    network, own = gan.adversaries(build(study)), records_of(study)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(50.0)
    norms = []
    for place in range(own.patients):
        summed = one_patients_sum(study, network, own, place)
        assert summed.values.numel() == study.made_from
        norms.append(float(summed.values.norm()))
    assert max(norms) <= 1.0 + 1e-5
    assert max(norms) > 0.99


def test_the_gradient_is_that_of_records_and_twins_together():
    """Oracle: the mean of both losses by autograd, twins of the same noise and class."""
    study = study_of(plan_of(), NAMES)
    network, own = gan.adversaries(build(study)), records_of(study)
    learns = learning(network, own, study, seeded("twins"))
    got = one_patients_sum(study, network, own, 4)
    rows = slice(int(own.offsets[4]), int(own.offsets[5]))
    seen, real = learning(network, own, study, seeded("twins")).patients.beside(
        own.features[rows], own.labels[rows]
    )
    assert real.tolist() == [1.0, 0.0, 1.0, 0.0]
    assert torch.equal(
        seen[0::2], gan.conditioned(own.features[rows], own.labels[rows], study.contract)
    )
    assert torch.equal(seen[0::2, -2:], seen[1::2, -2:])  # a twin has its record's class
    loss = gan.discriminator_loss(network.discriminator(seen), real).mean()
    due = torch.cat(
        [g.reshape(-1) for g in torch.autograd.grad(loss, list(learns.module.parameters()))]
    )
    clipped = due * min(1.0, 1.0 / float(due.norm()))
    torch.testing.assert_close(got.values, clipped, rtol=1e-4, atol=1e-6)


def test_a_generator_that_gives_no_numbers_counts_as_nothing_and_is_no_refusal():
    """A refusal would tell the coordinator that somebody of that class was sampled."""
    study = study_of(plan_of(), NAMES)
    network, own = gan.adversaries(build(study)), records_of(study)
    with torch.no_grad():
        first, _, second, *_ = network.generator.parameters()
        first[:, MADE["latent"] + 1] = 3e38  # infinities for the second class alone
        second.mul_(100.0)
    labels = own.labels[::2]
    sums = [one_patients_sum(study, network, own, place) for place in range(own.patients)]
    silent = [bool((one.values == 0).all()) for one in sums]
    assert silent == (labels == 1).tolist()
    assert {True, False} == set(silent)


def test_behind_a_round_only_the_second_half_moves_and_public_names_say_how(study):
    model = parameters_of(build(study)).numpy()
    first = after_round(study, model, OptimiserState(), run="1" * 32, round_number=0)
    again = after_round(study, model, OptimiserState(), run="1" * 32, round_number=0)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first[: study.made_from], model[: study.made_from])
    assert (first != model).any()
    other = after_round(study, model, OptimiserState(), run="2" * 32, round_number=0)
    assert (other != first).any()


def test_the_risk_model_is_fitted_behind_the_last_round():
    study = study_of(plan_of(), NAMES)
    model = parameters_of(build(study)).numpy()
    risk = sum(p.numel() for p in gan.adversaries(build(study)).risk.parameters())
    moved = [
        after_round(study, model, OptimiserState(), run="1" * 32, round_number=number)
        for number in range(study.rounds.count)
    ]
    assert [(one[-risk:] != model[-risk:]).any() for one in moved] == [False, True]


def test_another_family_keeps_its_model():
    study = study_of(study_plan("risk", "mlp", hidden=(4,)), NAMES)
    model = parameters_of(build(study)).numpy()
    assert after_round(study, model, OptimiserState(), run="1" * 32, round_number=0) is model
    assert study.made_from is None
    assert digest_of_model(study, model) == model_digest(model)


def test_classes_are_drawn_evenly_whatever_patients_have():
    study = study_of(plan_of(label=CLASSES), NAMES)
    labels, noise = drawn(study, 3000, torch.Generator().manual_seed(1))
    assert noise.shape == (3000, MADE["latent"])
    assert np.bincount(labels.numpy()).tolist() == pytest.approx([1000] * 3, abs=100)


def ward(seed, patients=150):
    """Older men are sick: a law that a generator has to pick up."""
    draw = np.random.default_rng(seed)
    age, male = draw.uniform(-1, 1, patients), draw.choice([-1.0, 1.0], patients)
    sick = draw.random(patients) < 1 / (1 + np.exp(-3.0 * age - 1.5 * male))
    place = draw.integers(0, 2, patients)
    features = np.stack([age, male, place == 0, place == 1, np.zeros(patients)], axis=1)
    return PatientRecords(
        features=torch.from_numpy(features).float(),
        labels=torch.from_numpy(sick).float(),
        offsets=np.arange(patients + 1),
    )


def test_what_learns_from_synthetic_records_ranks_real_patients():
    """Train on synthetic, test on real; oracle for the real ones: scikit-learn on the same rows."""
    plan = plan_of(
        hidden=(8,),
        synthesis={"hidden": [16], "batch": 64, "steps": 2, "learning_rate": 0.005, "average": 0.9}
        | {"risk_records": 1000},
        privacy={"mechanism": "none", "clip_norm_l2": 1.0, "sampling_rate": 0.5},
        training={
            "local_steps": 1,
            "learning_rate": 1.0,
            "expected_batch": 75.0,
            "server": {"name": "fedadam", "learning_rate": 0.03, "beta_1": 0.5},
        },
        rounds={"count": 30, "quorum": 3},
    )
    sites = {name: Site(ward(at), ward(10 + at)) for at, name in enumerate(NAMES)}
    found = score(plan, sites, Way.FEDERATED, seeded("gan")).whole["auroc"]["value"]
    real = score(plan, sites, Way.POOLED, seeded("gan")).whole["auroc"]["value"]
    train = [site.train for site in sites.values()]
    fitted = LogisticRegression().fit(
        np.concatenate([one.features.numpy() for one in train]),
        np.concatenate([one.labels.numpy() for one in train]),
    )
    held = [site.held_out for site in sites.values()]
    due = roc_auc_score(
        np.concatenate([one.labels.numpy() for one in held]),
        fitted.decision_function(np.concatenate([one.features.numpy() for one in held])),
    )
    assert real == pytest.approx(due, abs=0.02)
    assert real > 0.8
    assert real - 0.1 < found <= real + 0.02


def pictures(seed, patients=60):
    """Bright below where sick, above where not; noise, and a level of each picture's own."""
    draw = np.random.default_rng(seed)
    sick = draw.integers(0, 2, patients)
    slope = np.linspace(-0.5, 0.5, 18)[None, None, :, None]
    sign = np.where(sick == 1, 1.0, -1.0)[:, None, None, None]
    own = draw.normal(0, 0.3, (patients, 1, 1, 1)) + draw.normal(0, 0.2, (patients, 1, 18, 18))
    return PatientRecords(
        features=torch.from_numpy((sign * slope + own).clip(-1, 1)).float(),
        labels=torch.from_numpy(sick).float(),
        offsets=np.arange(patients + 1),
    )


@pytest.mark.slow
def test_what_learns_from_synthetic_pictures_ranks_real_ones():
    plan = plan_of(
        model="convolutional-gan",
        hidden=(6,),
        columns=image(18),
        synthesis={"latent": 8, "batch": 32, "learning_rate": 0.01, "average": 0.8}
        | {"risk_records": 300},
        privacy={"mechanism": "none", "clip_norm_l2": 1.0, "sampling_rate": 0.5},
        training={
            "local_steps": 1,
            "learning_rate": 1.0,
            "expected_batch": 30.0,
            "server": {"name": "fedadam", "learning_rate": 0.02, "beta_1": 0.5},
        },
        rounds={"count": 15, "quorum": 3},
    )
    sites = {name: Site(pictures(at), pictures(10 + at)) for at, name in enumerate(NAMES)}
    found = score(plan, sites, Way.FEDERATED, seeded("pictures"))
    assert found.whole["auroc"]["value"] > 0.85


def test_an_attacker_asks_the_part_that_saw_patients():
    study = study_of(plan_of(), NAMES)
    network, own = build(study), records_of(study)
    assert trained_part(network, study) is gan.adversaries(network).discriminator
    seen, loss = looked_at(own, study)
    losses = loss(trained_part(network, study)(seen.features), seen.labels)
    assert losses.shape == (len(own.features),)
    assert seen.offsets is own.offsets


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"label": EVENT}, "takes a label of kind binary or classes"),
        ({"columns": MOLECULE}, "no series and no fingerprints"),
        ({"columns": image(20)}, "family image needs an image column"),
        ({"statistics": {"epsilon": 1.0, "standardise": True}}, "statistics"),
        (
            {
                "training": {
                    "local_steps": 1,
                    "learning_rate": 1.0,
                    "expected_batch": 9.0,
                    "weighting": "patients",
                    "weight_unit": 5,
                    "weight_most": 5,
                }
            },
            "training.weighting patients",
        ),
    ],
)
def test_a_study_that_a_gan_does_not_fit_is_refused(changes, why):
    with pytest.raises(BadInput, match=why):
        plan_of(**changes)


def test_a_comparison_says_what_learns_from_whom():
    sites = {name: Site(ward(at), ward(10 + at)) for at, name in enumerate(NAMES)}
    for plan, due in ((plan_of(), SYNTHETIC), (study_plan("risk", "logistic-regression"), None)):
        found = compared(plan, [score(plan, sites, Way.POOLED, seeded("said"))])
        assert found.note == due
        assert (SYNTHETIC in page(found)) == (due is not None)
