"""The study synthetic: a real rehearsal of a GAN, its evidence, and records from its model."""

import csv
import io
import json
from pathlib import Path

import pytest
from tests.benchmarks.bench_models_studies import DATA, FOLDERS
from tests.support.small_federation import wardround

from wardround.study.files import read_study_plan
from wardround.study.manifest import FamilyName, Mechanism

STUDY, HEART = FOLDERS / "synthetic", DATA / "heart_disease_uci"

needs_data = pytest.mark.skipif(not HEART.is_dir(), reason="skipped: ../shared/data not present")


def test_the_study_is_a_private_gan_of_the_columns_that_heart_disease_has():
    plan = read_study_plan(STUDY / "study.toml")
    assert plan.task.family is FamilyName.GAN
    assert plan.contract == read_study_plan(FOLDERS / "heart_disease" / "study.toml").contract
    assert plan.privacy.mechanism is Mechanism.DISTRIBUTED
    assert plan.privacy.unit == "patient"
    assert plan.noise_multiplier() > 0.5
    assert "Not for decisions about patients" in plan.purpose


@needs_data
@pytest.mark.federation
@pytest.mark.slow
def test_a_rehearsal_leaves_evidence_and_records_that_say_they_are_synthetic(tmp_path: Path):
    out = tmp_path / "out"
    done = wardround("rehearse", STUDY, "--data", HEART, "--out", out, "--json", timeout_s=280)
    assert done.code == 0, done.err
    report = json.loads((out / "report.json").read_text())
    plan = read_study_plan(STUDY / "study.toml")
    assert 0 < report["guarantee"]["epsilon"]["value"] <= plan.privacy.epsilon
    # A risk model that has seen no patient ranks held-out ones of all four hospitals.
    assert report["evaluation"]["metrics"]["auroc"]["value"] > 0.7
    checked = wardround("audit", "verify", out / "bundle.zip", "--json")
    assert checked.code == 0, checked.err
    drawn = tmp_path / "drawn"
    model, signed = out / "model.safetensors", out / "study.signed.json"
    made = wardround(
        *("synthesise", model, "--study", signed, "--out", drawn, "--records", 400, "--json")
    )
    assert made.code == 0, made.err
    assert "a limit, not none" in made.json["protection"].lower()
    rows = list(csv.DictReader(io.StringIO((drawn / "synthetic.csv").read_text())))
    assert len(rows) == 400
    assert {row["synthetic"] for row in rows} == {"1"}
    assert {row["heart_disease"] for row in rows} == {"0", "1"}
    for column in plan.contract.columns:
        there = {row[column.name] for row in rows} - {""}
        assert there <= set(column.categories or there)
        if column.range:
            low, high = column.range
            assert all(low <= float(value) <= high for value in there)
    assert len({tuple(row.values())[2:] for row in rows}) > 50  # not one record again and again
