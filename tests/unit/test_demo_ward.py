"""The generated ward: the same bytes, the law that is written down, and the study that reads it."""

import csv
import hashlib

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from tests.benchmarks.bench_models_studies import FOLDERS
from tests.support.masked_hospitals import seeded

from wardround.errors import BadInput
from wardround_client.comparison.sites import gather
from wardround_client.comparison.ways import Way, score
from wardround_server.demo_data import write_generated
from wardround_server.demo_data.ward import WARDS, Ward, drawn, risk_of, write_ward


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ward")
    write_generated("generated_ward", folder)
    return folder


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def test_the_files_are_the_same_bytes_every_time(data, tmp_path):
    write_ward(tmp_path)
    assert digests(tmp_path) == digests(data)
    assert set(digests(data)) == {f"{ward.hospital}.csv" for ward in WARDS}


def test_deaths_follow_the_law_that_is_written_down():
    """Oracle: a logistic regression without penalty finds the law's weights again."""
    ward = Ward(hospital="x", patients=60_000, mean_age=65.0, infected=0.3, measured=1.0)
    draw = np.random.default_rng(1)
    patients = drawn(ward, draw)
    died = draw.random(ward.patients) < risk_of(patients)
    table = np.stack(
        [
            patients.age - 65.0,
            patients.male,
            patients.pressure - 80.0,
            patients.marker - 4.0,
            patients.infection,
        ],
        axis=1,
    )
    found = LogisticRegression(C=1e6, max_iter=1000).fit(table, died)
    assert found.coef_[0] == pytest.approx([0.05, 0.3, -0.04, 0.5, 1.2], abs=0.08)
    assert found.intercept_[0] == pytest.approx(-2.2, abs=0.08)
    assert np.abs(found.coef_[0] - [0.05, 0.3, -0.04, 0.7, 1.2]).max() > 0.08


def test_the_hospitals_differ_and_lose_the_marker_as_often_as_they_say(data):
    for ward in WARDS:
        with (data / f"{ward.hospital}.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == ward.patients
        measured = np.mean([row["marker"] != "" for row in rows])
        assert measured == pytest.approx(ward.measured, abs=0.08)
        assert 0.05 < np.mean([row["died"] == "1" for row in rows]) < 0.6


def test_the_study_comes_near_what_the_truth_itself_reaches(data):
    """No model ranks better than the true risk; four hospitals at epsilon 3 come near it."""
    ward = Ward(hospital="x", patients=60_000, mean_age=63.0, infected=0.28, measured=1.0)
    draw = np.random.default_rng(2)
    risks = risk_of(drawn(ward, draw))
    best = roc_auc_score(draw.random(len(risks)) < risks, risks)
    gathered = gather(FOLDERS / "generated_ward", data)
    assert {name: own.patient_count for name, own in gathered.encoded.items()} == {
        ward.hospital: ward.patients for ward in WARDS
    }
    found = score(gathered.plan, gathered.sites(), Way.PRIVATE, seeded("ward"))
    assert best - 0.1 < found.whole["auroc"]["value"] < best + 0.06


def test_a_study_without_a_generator_wants_its_data(tmp_path):
    with pytest.raises(BadInput, match="its data are due as --data"):
        write_generated("heart_disease", tmp_path)
