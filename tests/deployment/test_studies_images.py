"""The studies of images in deploy/studies: their data as they lie, and one real rehearsal each."""

import json

import numpy as np
import pandas as pd
import pytest
from tests.benchmarks.bench_models_studies import DATA, FOLDERS
from tests.support.small_federation import wardround

from wardround.study.files import read_study_plan
from wardround.study.manifest import Mechanism
from wardround_client.comparison.sites import gather
from wardround_client.data.check import Verdict, check
from wardround_client.data.description import read_description

CHEST, LUNG = FOLDERS / "chest_xray", FOLDERS / "lung_ct"
CHEST_DATA, LUNG_DATA = DATA / "pneumoniamnist", DATA / "iq_othnccd_lung_ct"

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="skipped: ../shared/data not present")


def rehearsed(study, data, out):
    done = wardround("rehearse", study, "--data", data, "--out", out, "--json", timeout_s=900)
    assert done.code == 0, done.err
    return json.loads((out / "report.json").read_text())


@pytest.mark.parametrize("folder", [CHEST, LUNG])
def test_both_add_noise_in_the_sum_for_a_patient_and_change_images_in_public_ranges(folder):
    plan = read_study_plan(folder / "study.toml")
    assert plan.privacy.mechanism is Mechanism.DISTRIBUTED
    assert (plan.privacy.epsilon, plan.privacy.unit) == (8.0, "patient")
    assert plan.task.augmentation is not None
    assert plan.noise_multiplier() > 0


@needs_data
@pytest.mark.slow
def test_every_training_x_ray_is_at_one_hospital_with_its_label():
    """Oracle: numpy on the .npz."""
    arrays = np.load(CHEST_DATA / "pneumoniamnist.npz")
    images, labels = arrays["train_images"], arrays["train_labels"].ravel()
    gathered = gather(CHEST, CHEST_DATA)
    rows = {name: [int(key) for key in own.patients] for name, own in gathered.encoded.items()}
    assert sorted(row for own in rows.values() for row in own) == list(range(4708))
    assert all(1100 < len(own) < 1250 for own in rows.values())
    for name, own in gathered.encoded.items():
        np.testing.assert_array_equal(own.labels, labels[rows[name]])
        pixels = (own.features[:, 0] + 1) * 127.5
        np.testing.assert_allclose(pixels, images[rows[name]], atol=1e-3)


@needs_data
@pytest.mark.slow
def test_every_group_of_like_slices_is_at_one_hospital_and_the_two_mixed_ones_at_none():
    """Oracle: pandas on the index; each new pixel is the mean over 6 x 6 of the file's."""
    index = pd.read_csv(LUNG_DATA / "index.csv")
    images = np.load(LUNG_DATA / "images_192.npz")["images"]
    mixed = index.groupby("leakgroup").label.nunique() > 1
    clean = index[~index.leakgroup.isin(mixed[mixed].index)]
    gathered = gather(LUNG, LUNG_DATA)
    groups = [int(key) for own in gathered.encoded.values() for key in own.patients]
    assert sorted(groups) == sorted(clean.leakgroup.unique())
    assert len(groups) == 115
    classes = gathered.plan.contract.label.classes
    for own in gathered.encoded.values():
        assert own.patient_count >= 20
        for place, key in enumerate(own.patients):
            mine = slice(own.offsets[place], own.offsets[place + 1])
            rows = clean[clean.leakgroup == int(key)]
            assert {classes[int(label)] for label in own.labels[mine]} == set(rows.label)
            coarse = images[rows.index].reshape(-1, 32, 6, 32, 6).mean(axis=(2, 4))
            np.testing.assert_allclose((own.features[mine, 0] + 1) * 127.5, coarse, atol=1e-2)


@needs_data
@pytest.mark.parametrize(("folder", "data"), [(CHEST, CHEST_DATA), (LUNG, LUNG_DATA)])
def test_every_hospital_of_the_image_studies_is_ready(folder, data):
    plan = read_study_plan(folder / "study.toml")
    for path in sorted(folder.glob("hospitals/*.toml")):
        found = check(read_description(path), plan.contract, data)
        assert found.verdict is not Verdict.NOT_READY, (path.name, found.to_fix)
        assert not [remark for remark in found.remarks if "scanner" in remark]


@needs_data
@pytest.mark.slow
@pytest.mark.federation
@pytest.mark.timeout(1200)
def test_a_real_rehearsal_of_the_chest_x_rays_reaches_its_goal_at_epsilon_8(tmp_path):
    report = rehearsed(CHEST, CHEST_DATA, tmp_path / "out")
    metrics = report["evaluation"]["metrics"]
    assert metrics["auroc"]["value"] >= 0.92
    assert 7 < report["guarantee"]["epsilon"]["value"] <= 8.0


@needs_data
@pytest.mark.slow
@pytest.mark.federation
@pytest.mark.timeout(1200)
def test_a_real_rehearsal_of_the_lung_ct_tells_each_classs_figures(tmp_path):
    """With so few patients and noise no figure is promised; that they are all there is."""
    report = rehearsed(LUNG, LUNG_DATA, tmp_path / "out")
    metrics = report["evaluation"]["metrics"]
    assert metrics["names"] == ["normal", "benign", "malignant"]
    confusion = np.array(metrics["confusion"])
    assert confusion.shape == (3, 3)
    assert confusion.sum() == metrics["patients"]
    recalls = np.diag(confusion) / confusion.sum(axis=1)
    assert metrics["balanced_accuracy"]["value"] == pytest.approx(recalls.mean(), abs=1e-6)
    assert [channel["auroc"] is not None for channel in metrics["channels"]] == [True] * 3
    assert 0 < report["guarantee"]["epsilon"]["value"] <= 8.0
