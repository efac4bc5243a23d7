"""The installed networks: shapes, sizes, a public start, and parameters as one vector."""

import numpy as np
import pytest
import torch
from tests.support.hospitals import study_json
from torch import nn

from wardround.errors import BadInput
from wardround.models.networks import binary_loss, build, load_parameters, parameters_of
from wardround.study.contract import Column, ColumnKind, Contract
from wardround.study.files import checked
from wardround.study.manifest import StudyPlan

IMAGE = {
    "name": "scan",
    "kind": "image",
    "description": "CT slice",
    "range": [-1000, 400],
    "shape": [1, 32, 32],
}


def plan(**changes):
    return checked(StudyPlan, study_json(**changes), what="study")


def images(side=32, **changes):
    column = IMAGE | {"shape": [1, side, side]}
    task = {"family": "image", "model": "reference-cnn"}
    return plan(task=task, contract__columns=[column], **changes)


STUDIES = {
    "logistic regression": (plan, 3),
    "mlp": (lambda: plan(task__model="mlp", task__hidden=[8, 4]), 2 * 8 + 8 + 8 * 4 + 4 + 4 + 1),
    "reference cnn": (images, 320 + 18_496 + 36_928 + 64 * 16 * 64 + 64 + 65),
}


@pytest.mark.parametrize("name", STUDIES)
def test_a_network_gives_one_logit_per_record_and_has_the_size_of_its_plan(name):
    make, parameters = STUDIES[name]
    study = make()
    model = build(study)
    assert model(torch.zeros(5, *study.contract.input_shape())).shape == (5, 1)
    assert parameters_of(model).shape == (parameters,)
    assert parameters_of(model).dtype == torch.float32


@pytest.mark.parametrize("name", STUDIES)
def test_the_start_is_the_same_everywhere_and_leaves_torchs_generator_alone(name):
    study = STUDIES[name][0]()
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = parameters_of(build(study))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert torch.equal(parameters_of(build(study)), first)


def test_the_start_depends_on_the_studys_name_and_on_no_other_setting():
    first = parameters_of(build(images()))
    assert torch.equal(parameters_of(build(images(privacy__epsilon=1.0))), first)
    assert not torch.equal(parameters_of(build(images(name="other"))), first)


@pytest.mark.parametrize("name", STUDIES)
def test_no_network_has_a_layer_that_mixes_patients(name):
    model = build(STUDIES[name][0]())
    mixing = (nn.modules.batchnorm._BatchNorm, nn.Dropout)
    assert not any(isinstance(module, mixing) for module in model.modules())
    assert not list(model.buffers())


def test_parameters_are_read_back_as_they_were_written():
    model = build(images())
    vector = torch.arange(parameters_of(model).numel(), dtype=torch.float32)
    load_parameters(model, vector)
    assert torch.equal(parameters_of(model), vector)


@pytest.mark.parametrize("shape", [(2,), (4,), (3, 1), ()])
def test_a_vector_of_another_size_is_refused_and_the_model_is_left_as_it_was(shape):
    model = build(plan())
    with pytest.raises(BadInput, match="model: 3 parameters are due"):
        load_parameters(model, torch.ones(shape))
    assert torch.equal(parameters_of(model), torch.zeros(3))


def test_images_that_are_too_small_for_the_cnn_are_refused():
    build(images(18))
    with pytest.raises(BadInput, match="18 pixels or more, 17 came"):
        build(images(17))


def test_the_loss_is_cross_entropy_of_each_record():
    logits = torch.tensor([[0.0], [2.0], [-3.0]])
    labels = torch.tensor([1.0, 0.0, 1.0])
    chance = 1 / (1 + np.exp([0.0, -2.0, 3.0]))
    due = -np.where(labels, np.log(chance), np.log1p(-chance))
    np.testing.assert_allclose(binary_loss(logits, labels).numpy(), due, rtol=1e-6)


def test_features_are_named_in_the_order_of_the_models_input():
    column = {"description": "x", "may_be_missing": True}
    contract = Contract(
        patient_key="id",
        label={"name": "sick", "description": "x", "positive": "yes"},
        columns=(
            Column(name="age", kind=ColumnKind.CONTINUOUS, range=(0, 1), **column),
            Column(name="male", kind=ColumnKind.BINARY, description="x"),
            Column(name="ward", kind=ColumnKind.CATEGORICAL, categories=("a", "b"), **column),
        ),
    )
    names = ("age", "age is missing", "male", "ward=a", "ward=b", "ward is missing")
    assert contract.features() == names
    assert contract.input_shape() == (6,)
    assert contract.image is None
    assert images().contract.input_shape() == (1, 32, 32)
