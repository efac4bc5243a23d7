"""The study cifar10_reference: its images dealt to four, its network, its epochs, a rehearsal."""

import io
import json
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from tests.benchmarks.bench_models_studies import DATA, FOLDERS
from tests.benchmarks.plain_training import (
    BATCH,
    EPOCHS,
    PARAMETERS,
    accuracy_in_plain_pytorch,
    reference_network,
)
from tests.support.small_federation import wardround

from wardround.models.networks import build, parameters_of
from wardround.study.files import read_study_plan
from wardround_client.comparison.sites import Site
from wardround_client.data.description import read_description
from wardround_client.data.images import Images
from wardround_client.data.table import read_table
from wardround_client.policy import check_study, read_policy
from wardround_client.training.plan import PatientRecords

STUDY = FOLDERS / "cifar10_reference"
OWN_DATA = DATA / "cifar10_jpg_subset"
ARCHIVE = "cifar10_12k.zip"

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="skipped: ../shared/data not present")


@pytest.fixture(scope="module")
def plan():
    return read_study_plan(STUDY / "study.toml")


@pytest.fixture(scope="module")
def described():
    found = (read_description(path) for path in sorted((STUDY / "hospitals").glob("*.toml")))
    return {description.hospital: description for description in found}


def test_the_studys_network_is_that_of_plain_pytorch(plan):
    """Layer by layer: with the same parameters both say the same of an image."""
    ours, plain = build(plan), reference_network()
    assert parameters_of(ours).numel() == parameters_of(plain).numel() == PARAMETERS
    torch.nn.utils.vector_to_parameters(parameters_of(ours), plain.parameters())
    images = torch.rand(3, 3, 32, 32)
    torch.testing.assert_close(ours(images), plain(images))


def test_a_round_is_an_epoch_and_the_batches_of_the_hospitals_make_64(plan, described):
    privacy, training = plan.privacy, plan.training
    assert training.optimiser == "adam"
    assert plan.rounds.count == EPOCHS
    assert training.local_steps * privacy.sampling_rate == 1.0
    assert training.expected_batch * len(described) == BATCH
    check_study(read_policy(STUDY / "policy.toml"), plan)


@needs_data
def test_every_training_image_is_one_hospitals_and_no_test_image_is(described):
    files = {name: list(read_table(own, OWN_DATA)["file"]) for name, own in described.items()}
    dealt = [file for own in files.values() for file in own]
    with zipfile.ZipFile(OWN_DATA / ARCHIVE) as archive:
        due = [n for n in archive.namelist() if n.startswith("train/") and n.endswith(".jpg")]
    assert sorted(dealt) == sorted(due)
    assert len(dealt) == 10_000
    assert all(2_300 < len(own) < 2_700 for own in files.values())
    of_class = [file.split("/")[1] for file in files["first"]]
    assert min(of_class.count(name) for name in set(of_class)) > 200


@needs_data
def test_a_picture_is_read_as_pillow_reads_it(plan, described):
    own = described["second"]
    column = plan.contract.image
    name = read_table(own, OWN_DATA)["file"].iloc[7]
    with zipfile.ZipFile(OWN_DATA / ARCHIVE) as archive:
        due = np.asarray(Image.open(io.BytesIO(archive.read(name)))).transpose(2, 0, 1)
    with Images(OWN_DATA, own.images, column) as images:
        found = images.read(name)
    np.testing.assert_allclose((found + 1) * 127.5, due, atol=1e-3)


def test_plain_pytorch_learns_what_can_be_learned(plan):
    """Two colours are two classes; where the colour says nothing, nothing is learned."""
    random = np.random.default_rng(1)
    labels = random.integers(0, 2, 320)
    colours = np.where(labels[:, None, None, None] == 1, 0.8, -0.8)
    noise = random.normal(0, 0.2, (320, 3, 32, 32))

    def site(features):
        rows = PatientRecords(
            features=torch.tensor(features, dtype=torch.float32),
            labels=torch.tensor(labels, dtype=torch.float32),
            offsets=np.arange(321),
        )
        return {"one": Site(rows, rows)}

    assert accuracy_in_plain_pytorch(plan, site(colours + noise), seed=1, epochs=3) > 0.95
    assert accuracy_in_plain_pytorch(plan, site(noise), seed=1, epochs=1) < 0.8


@needs_data
@pytest.mark.slow
@pytest.mark.federation
@pytest.mark.timeout(1200)
def test_two_rounds_of_real_processes_learn_more_than_a_guess(tmp_path):
    out = tmp_path / "out"
    done = wardround(
        *("rehearse", STUDY, "--data", OWN_DATA, "--out", out, "--json"),
        *("--set", "rounds.count=2"),
        timeout_s=1100,
    )
    assert done.code == 0, done.err
    assert done.json["verified"]
    assert done.json["privacy"]["epsilon"] is None
    metrics = json.loads((out / "report.json").read_text())["evaluation"]["metrics"]
    assert 1_900 < metrics["patients"] < 2_100
    assert metrics["accuracy"]["low"] > 0.25  # of ten classes
