"""MONAI's DenseNet as a study's network: built with GroupNorm, clipped patient by patient."""

import importlib.util
import subprocess
import sys
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
from tests.support.study_plans import CLASSES, image, study_plan
from torch import nn

from wardround.errors import BadInput
from wardround.models.losses import class_loss
from wardround.models.monai_networks import densenet, groups
from wardround.models.networks import build

OF_121 = (6, 12, 24, 16)


def installed(test):
    """Loading MONAI takes seconds: these run in make test-all."""
    there = importlib.util.find_spec("monai") is not None
    return pytest.mark.slow(
        pytest.mark.skipif(not there, reason="MONAI is not here: install wardround[monai]")(test)
    )


def study(hidden=(1, 2), side=16):
    return study_plan("image", "monai-densenet", hidden=hidden, columns=image(side), label=CLASSES)


@installed
def test_it_is_densenet_121_as_published_but_for_the_norm():
    model = densenet((1, 64, 64), OF_121, 1)
    # 7,978,856 of three channels and 1,000 classes (Huang et al. 2017), here of one and one.
    due = 7_978_856 - 2 * 64 * 7 * 7 - 999 * (1_024 + 1)
    assert sum(parameter.numel() for parameter in model.parameters()) == due == 6_948_609
    norms = [layer for layer in model.modules() if isinstance(layer, nn.GroupNorm)]
    assert len(norms) == 1 + 2 * sum(OF_121) + 3 + 1
    assert {norm.num_groups for norm in norms} == {32}
    assert not any(isinstance(layer, nn.BatchNorm2d | nn.Dropout) for layer in model.modules())
    assert model(torch.zeros(2, 1, 64, 64)).shape == (2, 1)


@installed
@pytest.mark.parametrize("counts", [(1, 1, 1), (2, 1)])
def test_the_engine_takes_every_layer_and_clips_as_the_definition_says(counts):
    model, patients = build(study()), belonging(counts)
    torch.manual_seed(1)
    features, labels = torch.randn(3, 1, 16, 16), torch.tensor([0.0, 2.0, 1.0])
    gradients = per_patient_gradients(model, features, labels, patients, class_loss)
    norms = torch.cat([g.flatten(1) for g in gradients.values()], dim=1).norm(dim=1)
    clip = float(norms.min()) * 1.1
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a layer that is slow is warned of
        got = clipped_sum(model, features, labels, patients, class_loss, clip_norm_l2=clip)
    assert norms.max() > clip
    assert distance(got.values, clipped_by_definition(gradients, clip)) < 2e-5
    assert got.without_gradient == 0


@installed
def test_no_record_reaches_the_output_of_another_one():
    model = build(study()).eval()
    torch.manual_seed(1)
    images = torch.randn(3, 1, 16, 16)
    with torch.inference_mode():
        torch.testing.assert_close(model(images)[:1], model(images[:1]))


@installed
def test_loading_it_brings_no_torchvision_and_no_network():
    """In a process of its own: what MONAI loads besides, and that it asks for no download."""
    code = (
        "import socket, sys\n"
        "def refuse(*words, **more): raise OSError('a connection was tried')\n"
        "socket.socket.connect = refuse\n"
        "from wardround.models.monai_networks import densenet\n"
        "densenet((1, 16, 16), (1,), 1)\n"
        "print('torchvision' in sys.modules, 'monai' in sys.modules)\n"
    )
    path = [p for p in sys.path if p]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\nsys.path[:0] = {path!r}\n{code}"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["False", "True"]


def test_without_the_extra_the_study_says_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "monai"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "monai", None)
    with pytest.raises(BadInput, match=r"package monai.* is missing; install wardround\[monai\]"):
        build(study())


@pytest.mark.parametrize(("hidden", "least"), [((1,), 4), ((1, 1), 8), (OF_121, 32)])
def test_an_image_that_its_blocks_would_halve_away_is_refused(hidden, least):
    with pytest.raises(BadInput, match=f"{len(hidden)} dense blocks need {least} or more a side"):
        build(study(hidden, side=least - 1))


@pytest.mark.parametrize("hidden", [(1,), (1, 1, 1), (3, 5), (2, 2, 2), OF_121])
def test_its_groups_divide_the_channels_of_every_norm(hidden):
    width, found = 64, groups(hidden)
    for layers in hidden:
        assert all((width + 32 * layer) % found == 0 for layer in range(layers + 1))
        width = (width + 32 * layers) // 2
    assert 128 % found == 0  # between the two convolutions of a layer


def test_only_images_have_it_and_it_needs_its_blocks():
    with pytest.raises(BadInput, match="family image needs an image column"):
        study_plan("image", "monai-densenet", hidden=(1,))
    with pytest.raises(BadInput, match="`hidden` layer sizes belong to"):
        study(hidden=())
