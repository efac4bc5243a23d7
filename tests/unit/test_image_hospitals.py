"""Hospitals that an image study meets: another scanner, one class only, five patients."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image
from tests.support.masked_hospitals import seeded
from tests.support.study_plans import image, study_value

from wardround.study.files import checked
from wardround.study.manifest import StudyPlan
from wardround_client.comparison.result import figure
from wardround_client.comparison.sites import Gathered
from wardround_client.comparison.ways import Way, score
from wardround_client.data.check import Verdict, check
from wardround_client.data.description import read_description
from wardround_client.data.encoding import encode
from wardround_client.data.reading import read_records


def x_rays(count, side, seed, most=255):
    """Pictures whose lower half is brighter where the label is 1; black at the rim."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    pixels = random.uniform(0.1, 0.5, (count, side, side))
    pixels[labels == 1, side // 2 :] += 0.4
    pixels[:, :2] = 0.0
    return (pixels * most).round(), labels


def described(name, rows, files):
    return f"""schema = "wardround.dataset/1"
hospital = "{name}"
dataset = "scans-{name}"
title = "Scans of {name}"
{rows}
[label]
source = "sick"
positive_when = "==1"

[images]
{files}

[[columns]]
column = "scan"
source = "{"row" if "npz" in rows else "file"}"
"""


def arrays(folder, name, pixels, labels, kind=np.uint8):
    np.savez(folder / f"{name}.npz", images=pixels.astype(kind), sick=labels.astype(np.int64))
    rows = f'format = "npz"\npath = "{name}.npz"\narrays = ["sick"]\n\n[patient]\nsource = "row"\n'
    return described(name, rows, f'folder = "{name}.npz"\narray = "images"')


def pictures(folder, name, pixels, labels):
    """PNG files in a .zip: sizes that differ from file to file."""
    with zipfile.ZipFile(folder / f"{name}.zip", "w") as archive:
        for row, (plane, label) in enumerate(zip(pixels, labels, strict=True)):
            buffer = io.BytesIO()
            tall = Image.fromarray(plane.astype(np.uint8)).resize((40 + row % 3, 50))
            tall.save(buffer, "PNG")
            archive.writestr(f"{row}_{label}.png", buffer.getvalue())
    rows = (
        f'format = "files"\npath = "{name}.zip"\npattern = "{{patient}}_{{sick}}.png"\n\n'
        '[patient]\nsource = "patient"\n'
    )
    return described(name, rows, f'folder = "{name}.zip"')


@pytest.fixture
def ward(tmp_path):
    """Descriptions and data: four hospitals, each with something of its own."""
    folder, data = tmp_path / "hospitals", tmp_path / "data"
    folder.mkdir()
    data.mkdir()
    single = (x_rays(60, 16, 3)[0][1::2], np.ones(30, dtype=np.int64))
    texts = {
        "large": arrays(data, "large", *x_rays(80, 16, 1)),
        "other": pictures(data, "other", *x_rays(60, 16, 2)),
        "single": arrays(data, "single", *single),
        "tiny": arrays(data, "tiny", *x_rays(5, 24, 4)),
    }
    for name, text in texts.items():
        (folder / f"{name}.toml").write_text(text)
    return folder, data


def plan(mechanism="none"):
    value = study_value(
        "image",
        "small-cnn",
        columns=image(16),
        task={
            "family": "image",
            "model": "small-cnn",
            "hidden": [4],
            "augmentation": {"shift_pixels": 1, "brightness": 0.05, "copies": 2},
        },
        privacy={
            "mechanism": mechanism,
            "epsilon": 8.0,
            "delta": 1e-4,
            "clip_norm_l2": 1.0,
            "sampling_rate": 0.5,
        },
        training={"local_steps": 1, "learning_rate": 2.0, "expected_batch": 15.0},
        rounds={"count": 15, "quorum": 3},
    )
    return checked(StudyPlan, value, what="study")


def checks(ward):
    folder, data = ward
    contract = plan().contract
    return {
        path.stem: check(read_description(path), contract, data)
        for path in sorted(folder.glob("*.toml"))
    }


def test_each_is_told_honestly_what_it_is(ward):
    found = checks(ward)
    verdicts = {name: own.verdict for name, own in found.items()}
    assert verdicts == {
        "large": Verdict.READY,
        "other": Verdict.READY,
        "single": Verdict.READY_WITH_REMARKS,
        "tiny": Verdict.READY,
    }
    assert {name: own.patients for name, own in found.items()} == {
        "large": 80,
        "other": 60,
        "single": 30,
        "tiny": 5,
    }
    assert "one class only" in found["single"].remarks[0]
    assert "AUROC will be NA" in found["single"].remarks[0]


def test_a_scanner_with_another_range_of_pixels_is_remarked(ward):
    """12 bits where 8 are due: all but the black rim lies over the window."""
    folder, data = ward
    text = arrays(data, "other", *x_rays(60, 16, 2, most=4095), kind=np.uint16)
    (folder / "other.toml").write_text(text)
    found = checks(ward)
    assert found["other"].verdict is Verdict.READY_WITH_REMARKS
    (remark,) = found["other"].remarks
    assert "60 of 60 images that were looked at have most of their pixels outside 0..255" in remark
    assert "another scanner" in remark
    assert found["large"].verdict is Verdict.READY


def test_a_picture_that_is_broken_is_a_fault_and_no_remark(ward):
    _, data = ward
    with zipfile.ZipFile(data / "other.zip", "a") as archive:
        archive.writestr("900_1.png", b"no picture")
    found = checks(ward)["other"]
    assert found.verdict is Verdict.NOT_READY
    assert any("neither PNG nor JPEG" in fault for fault in found.to_fix)


def gathered(own, ward):
    folder, data = ward
    found = [read_description(path) for path in sorted(folder.glob("*.toml"))]
    return Gathered(
        own,
        {
            one.hospital: encode(read_records(one, own.contract, data), own.contract)
            for one in found
        },
        {one.hospital: one.dataset for one in found},
    )


@pytest.mark.parametrize("mechanism", ["none", "distributed"])
def test_a_federation_of_them_trains_and_says_na_where_nothing_can_be_said(ward, mechanism):
    own = plan(mechanism)
    way = Way.FEDERATED if mechanism == "none" else Way.PRIVATE
    scored = score(own, gathered(own, ward).sites(), way, seeded(mechanism))
    found = {name: figure(metrics) for name, metrics in scored.hospitals.items()}
    assert figure(scored.whole).value is not None
    assert found["single"].value is None
    assert found["tiny"].patients < 5
    assert sum(one.patients for one in found.values()) == figure(scored.whole).patients
    if mechanism == "none":
        assert min(found["large"].value, found["other"].value) > 0.8
