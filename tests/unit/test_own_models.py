"""A model of one hospital alone, and the released one fine-tuned on its patients."""

import numpy as np
import pytest
import torch
from tests.support.gan_plans import PLANS
from tests.support.masked_hospitals import seeded
from tests.support.own_patients import drawn_patients
from tests.support.small_federation import write_study
from tests.support.study_plans import STUDIES, study_plan

from wardround.errors import BadInput
from wardround.evaluation.layouts import exact_layout_of
from wardround.models.networks import build, parameters_of
from wardround_client.comparison.sites import gather, study_of
from wardround_client.comparison.ways import Way, counts_of, score
from wardround_client.held_out import losses_of_patients
from wardround_client.personalisation.own_models import (
    Scope,
    Tuning,
    fine_tuned,
    head_of,
    network_of,
    train_alone,
    tuned_part,
    tuning_steps,
)

NAMES = ("alpha", "beta", "delta", "gamma")


def start_of(study):
    """A model that somebody trained, as far as fine-tuning can tell."""
    start = parameters_of(build(study)).numpy().copy()
    return start + np.random.default_rng(4).normal(scale=0.1, size=start.size).astype(np.float32)


SLOW = {"resnet"}  # half a minute


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in STUDIES]
)
def test_a_head_of_its_own_leaves_the_bytes_of_the_body_and_lowers_the_loss(name):
    study = STUDIES[name]()
    own, start = drawn_patients(study, 40, each=2), start_of(study)
    tuned = fine_tuned(study, start, own, seeded(name), steps=60, pull=0.0)
    size = sum(parameter.numel() for parameter in head_of(build(study)).parameters())
    assert 0 < size <= start.size
    assert tuned[:-size].tobytes() == start[:-size].tobytes()
    assert (tuned[-size:] != start[-size:]).any()
    before, after = (losses_of_patients(network_of(study, m), own, study) for m in (start, tuned))
    assert after.mean() < before.mean()
    whole = fine_tuned(study, start, own, seeded(name), scope=Scope.ALL, steps=5)
    if start.size > size:
        assert (whole[:-size] != start[:-size]).any()


def test_alone_is_what_a_comparison_says_of_each_hospital_alone(tmp_path):
    write_study(tmp_path, NAMES)
    found = gather(tmp_path / "study", tmp_path / "data", [])
    sites, randomness = found.sites(), seeded("alone")
    scored = score(found.plan, sites, Way.ALONE, seeded("alone"))
    study = study_of(found.plan, NAMES)
    layout = exact_layout_of(study)
    for name in NAMES:
        model = train_alone(study, sites[name].train, randomness)
        counts = counts_of(study, model, sites[name].held_out, layout)
        assert layout.metrics(counts, cell_noise_sd=0.0) == scored.hospitals[name]


@pytest.mark.parametrize(
    "override",
    [
        {
            "privacy": {
                "clipping": "adaptive",
                "adaptive_quantile": 0.5,
                "adaptive_count_noise": 9.0,
            }
        },
        {"privacy": {"patients_most": 20, "batch_most": 19}},
        {"masking": {"profile": "one-trip"}, "privacy": {"mechanism": "distributed"}},
        {
            "training": {"weighting": "patients", "weight_unit": 10, "weight_most": 100},
            "privacy": {"mechanism": "none"},
        },
        {"statistics": {"epsilon": 1.0, "standardise": True, "columns": ["age"]}},
    ],
)
def test_what_only_others_and_a_guarantee_ask_for_is_nothing_to_one_hospital_alone(override):
    base = study_plan(
        "risk",
        "logistic-regression",
        privacy={
            "mechanism": "local",
            "epsilon": 3.0,
            "delta": 1e-4,
            "clip_norm_l2": 1.0,
            "sampling_rate": 0.5,
        },
    )
    asked = {"statistics": None} if "statistics" not in override else {}
    value = base.to_json() | asked
    for table, keys in override.items():
        value[table] = {**(value.get(table) or {}), **keys}
    changed = type(base).model_validate(value)
    own = drawn_patients(base, 60)
    plain, other = (
        train_alone(study_of(plan, NAMES), own, seeded("x")) for plan in (base, changed)
    )
    assert plain.tobytes() == other.tobytes()
    assert plain.any()


def test_fine_tuning_is_adam_on_the_mean_over_patients_and_the_pull():
    """Oracle: the gradient of a logistic regression by hand, in NumPy; patients weigh the same."""
    study = study_plan(
        "risk",
        "logistic-regression",
        privacy={
            "mechanism": "none",
            "clip_norm_l2": 1.0,
            "sampling_rate": 0.5,
            "records_per_patient": 9,
        },
    )
    one, many = drawn_patients(study, 20), drawn_patients(study, 20, each=3, seed=5)
    features = torch.cat([one.features, many.features])
    own = type(one)(
        features=features,
        labels=torch.cat([one.labels, many.labels]),
        offsets=np.concatenate([one.offsets, 20 + many.offsets[1:]]),
    )
    start = start_of(study)
    tuned = fine_tuned(study, start, own, seeded("x"), steps=30, learning_rate=0.05, pull=0.5)
    x = np.concatenate([features.numpy(), np.ones((80, 1))], axis=1).astype(float)
    weights = np.concatenate([np.full(20, 1 / 40), np.full(60, 1 / 120)])
    now, before = start.astype(float), start.astype(float)
    first, second = np.zeros(start.size), np.zeros(start.size)
    for number in range(1, 31):
        risk = 1 / (1 + np.exp(-(x @ now)))
        gradient = (weights * (risk - own.labels.numpy())) @ x + 0.5 * (now - before)
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        of_first, of_second = first / (1 - 0.9**number), second / (1 - 0.999**number)
        now = now - 0.05 * of_first / (np.sqrt(of_second) + 1e-8)
    np.testing.assert_allclose(tuned, now, atol=2e-4)
    assert np.abs(tuned - start).max() > 0.1


def test_the_harder_the_pull_the_nearer_the_released_model():
    study = STUDIES["mlp"]()
    own, start = drawn_patients(study, 30), start_of(study)
    far = [
        np.linalg.norm(
            fine_tuned(study, start, own, seeded("x"), scope=Scope.ALL, steps=200, pull=pull)
            - start
        )
        for pull in (0.0, 0.1, 10.0)
    ]
    assert far[0] > far[1] > far[2] > 0


@pytest.mark.parametrize("name", ["mlp", "small cnn", "gru", "deep hazards", "dense autoencoder"])
def test_the_head_learns_the_same_from_the_body_s_outputs_as_from_the_records(name):
    """As if every step ran the whole network, and each patient were scored by it."""
    study = STUDIES[name]()
    own, start = drawn_patients(study, 300, each=2), start_of(study)
    plain, apart = network_of(study, start), network_of(study, start)
    part, records = tuned_part(apart, study, own, Scope.HEAD)
    assert (part is apart) == (name == "dense autoencoder")
    assert len(records.features) == 600
    for network, seen in ((plain, own), (part, records)):
        for _ in tuning_steps(network, study, seen, Tuning(steps=25), seeded("x")):
            pass
    np.testing.assert_allclose(parameters_of(plain), parameters_of(apart), atol=1e-4)
    np.testing.assert_allclose(
        losses_of_patients(plain, own, study), losses_of_patients(part, records, study), atol=1e-4
    )


def test_a_head_that_is_not_last_or_used_twice_is_tuned_through_the_whole_network():
    study = STUDIES["mlp"]()
    own = drawn_patients(study, 20)
    head = torch.nn.Linear(own.features.shape[1], own.features.shape[1])
    for network in (
        torch.nn.Sequential(head, torch.nn.Tanh()),
        torch.nn.Sequential(head, torch.nn.ReLU(), head),
    ):
        assert tuned_part(network, study, own, Scope.HEAD) == (network, own)


def test_many_patients_are_drawn_and_each_as_likely():
    study = STUDIES["logistic regression"]()
    own, start = drawn_patients(study, 1000), start_of(study)
    one, two = (fine_tuned(study, start, own, seeded(seed), steps=40) for seed in "ab")
    assert (one != two).any()
    np.testing.assert_allclose(one, two, atol=0.1)
    few = drawn_patients(study, 128)
    one, two = (fine_tuned(study, start, few, seeded(seed), steps=40) for seed in "ab")
    assert one.tobytes() == two.tobytes()


def test_nobody_to_learn_from_and_a_gan_are_refused():
    study = STUDIES["mlp"]()
    nobody = drawn_patients(study, 0)
    with pytest.raises(BadInput, match="no training patients"):
        fine_tuned(study, start_of(study), nobody, seeded("x"))
    gan = PLANS["table"]()
    with pytest.raises(BadInput, match="a GAN is not personalised"):
        fine_tuned(gan, start_of(gan), drawn_patients(gan, 9), seeded("x"))
    with pytest.raises(BadInput, match="steps and pull"):
        Tuning(pull=-1.0)
    network = build(study)
    steps = tuning_steps(network, study, drawn_patients(study, 4), Tuning(steps=3), seeded("x"))
    assert list(steps) == [1, 2, 3]
