"""Records of a GAN's generator: what is drawn, and that every file says it is nobody's."""

import csv
import io
import json

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save
from tests.support.gan_plans import NAMES, PLANS, plan_of
from tests.support.masked_hospitals import seeded
from tests.support.study_plans import CLASSES, study_plan

from wardround.canonical import canonical_bytes
from wardround.cli.main import run
from wardround.models.networks import build, parameters_of
from wardround.models.released import read_released
from wardround.models.synthetic import MARK, protection, synthetic_records, table
from wardround_client.cli.review import in_words
from wardround_client.comparison.sites import study_of
from wardround_client.data.encoding import encode
from wardround_client.data.reading import Records


def released(folder, study):
    model = parameters_of(build(study)).numpy()
    path = folder / "model.safetensors"
    path.write_bytes(
        save({"model": model}, metadata={"study_digest": study.digest, "run": "4" * 32})
    )
    signed = folder / "study.json"
    signed.write_bytes(canonical_bytes({"study": study.to_json()}))
    return path, signed


def test_a_table_says_in_the_contracts_words_what_was_drawn(tmp_path):
    """Read back as a hospital would read it: the same features again."""
    study = study_of(plan_of(), NAMES)
    path, _ = released(tmp_path, study)
    found = synthetic_records(
        read_released(path, study), study, records=40, randomness=seeded("rows")
    )
    header, *rows = table(found, study)
    assert header == ["synthetic", "patient", "sick", "age", "male", "ward"]
    frame = pd.DataFrame(rows, columns=header)
    assert set(frame.synthetic) == {"1"}
    assert frame.patient.is_unique
    assert set(frame.male) <= {"0", "1"}
    assert set(frame.ward) <= {"a", "b", ""}
    assert frame.age.astype(float).between(0, 100).all()
    values = pd.DataFrame(
        {
            "age": frame.age.astype(float),
            "male": frame.male.astype(float),
            "ward": frame.ward.replace("", None),
        }
    )
    back = encode(
        Records(
            patients=tuple(frame.patient),
            values=values,
            labels=frame.sick.to_numpy(dtype=np.int8),
            folder=tmp_path,
        ),
        study.contract,
    )
    np.testing.assert_allclose(back.features, found.features, atol=2e-3)
    np.testing.assert_array_equal(back.labels, found.labels)


def said(capsys, *arguments, code=0):
    """What the command says; its error where it ends with another code than 0."""
    assert run([str(one) for one in arguments]) == code
    captured = capsys.readouterr()
    return captured.err if code else captured.out


def test_every_file_of_a_command_says_that_it_is_synthetic(tmp_path, capsys):
    study = study_of(plan_of(), NAMES)
    path, signed = released(tmp_path, study)
    out = tmp_path / "out"
    said(capsys, "synthesise", path, "--study", signed, "--out", out, "--records", 7)
    assert sorted(one.name for one in out.iterdir()) == ["about.json", "synthetic.csv"]
    rows = list(csv.DictReader(io.StringIO((out / "synthetic.csv").read_text())))
    assert [row["synthetic"] for row in rows] == ["1"] * 7
    about = json.loads((out / "about.json").read_text())
    assert about["mark"] == MARK
    assert about["protection"] == protection(study)
    assert "WITHOUT differential privacy" in about["protection"]
    assert about["columns"][0]["unit"] == "a"
    assert about["study_digest"] == study.digest
    again = said(capsys, "synthesise", path, "--study", signed, "--out", out, code=4)
    assert "nothing is overwritten" in again


def test_a_private_generators_records_are_limited_not_harmless():
    plan = plan_of(
        privacy={
            "mechanism": "local",
            "epsilon": 3.0,
            "delta": 1e-4,
            "clip_norm_l2": 1.0,
            "sampling_rate": 0.5,
        }
    )
    said = protection(plan)
    assert "epsilon 3" in said
    assert "not none" in said
    assert "anonymous" in said


def test_every_picture_has_a_text_inside_that_says_so(tmp_path, capsys):
    image_of = pytest.importorskip("PIL.Image")
    study = study_of(PLANS["images in colour"](), NAMES)
    path, signed = released(tmp_path, study)
    out = tmp_path / "out"
    said(capsys, "synthesise", path, "--study", signed, "--out", out, "--records", 3)
    rows = list(csv.DictReader(io.StringIO((out / "synthetic.csv").read_text())))
    assert len(rows) == 3
    assert {row["finding"] for row in rows} <= set(CLASSES["classes"])
    for row in rows:
        with image_of.open(out / row["file"]) as picture:
            assert picture.size == (19, 19)
            assert picture.mode == "RGB"
            assert picture.text["Title"] == MARK
            assert study.digest in picture.text["Source"]


def test_no_records_come_from_a_model_of_another_family(tmp_path, capsys):
    study = study_of(study_plan("risk", "mlp", hidden=(4,)), NAMES)
    path, signed = released(tmp_path, study)
    out = tmp_path / "out"
    error = said(capsys, "synthesise", path, "--study", signed, "--out", out, code=4)
    assert "its family is risk, gan was due" in error
    assert not (tmp_path / "out").exists()


def test_an_officer_reads_what_can_be_drawn_from_the_model():
    said = in_words(study_of(plan_of(), NAMES))
    assert "whoever has the model can draw synthetic records" in said
    plain = study_of(study_plan("risk", "logistic-regression"), NAMES)
    assert "synthetic" not in in_words(plain)
