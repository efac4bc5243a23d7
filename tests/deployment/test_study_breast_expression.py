"""The study breast_expression: an ARFF file read as SciPy reads it, and a real federation on it."""

import json

import numpy as np
import pytest
from scipy.io import arff
from tests.benchmarks.bench_models_studies import DATA, FOLDERS
from tests.support.small_federation import wardround

from wardround_client.comparison.sites import gather
from wardround_client.data.description import read_description
from wardround_client.data.reading import read_records

STUDY = FOLDERS / "breast_expression"
SOURCE = DATA / "gse7390_breast_expression"
FILE = "breast_cancer_GSE7390-metastasis.arff"
GRADES = {"well differentiated": "1", "intermediate": "2", "poorly differentiated": "3"}
pytestmark = pytest.mark.skipif(not SOURCE.is_dir(), reason="skipped: ../shared/data not present")


def test_every_patient_is_at_one_hospital_with_the_values_of_the_file():
    """Oracle: SciPy's reader of ARFF, patient by patient."""
    table, kinds = arff.loadarff(SOURCE / FILE)
    probes = [name for name in kinds.names() if name.startswith("X2")]
    gathered = gather(STUDY, SOURCE)
    contract = gathered.plan.contract
    named = [c.description.split("probe ")[1].rstrip(")") for c in contract.columns[4:]]
    assert named == [probe.removeprefix("X") for probe in probes]
    features = contract.features()
    first = features.index(contract.columns[4].name)
    seen = []
    for own in gathered.encoded.values():
        rows = table[[int(key) - 1 for key in own.patients]]
        seen += own.patients
        due = np.stack([rows[probe] for probe in probes], axis=1) / 8 - 1
        np.testing.assert_allclose(own.features[:, first:], due, atol=1e-6)
        age = own.features[:, features.index("age")]
        np.testing.assert_allclose(age * 20.5 + 40.5, rows["age"], atol=1e-4)
        assert ((own.features[:, features.index("er")] > 0) == (rows["er"] == b"positive")).all()
        grades = [GRADES.get(grade.decode()) for grade in rows["grade"]]
        for grade in "123":
            has = own.features[:, features.index(f"grade={grade}")] > 0
            assert list(has) == [one == grade for one in grades]
        np.testing.assert_array_equal(own.labels[:, 0], rows["t.tdm"])
        assert ((own.labels[:, 1] == 1) == (rows["e.tdm"] == b"1")).all()
    assert sorted(map(int, seen)) == list(range(1, 199))


def test_the_numbers_of_the_purpose_are_those_of_the_records():
    gathered = gather(STUDY, SOURCE)
    times, events = np.concatenate([one.labels for one in gathered.encoded.values()]).T
    horizon = gathered.plan.contract.label.time.horizon
    assert len(times) == 198
    assert (events.sum(), ((times < horizon) & (events == 1)).sum()) == (51, 41)
    assert "51 had a metastasis, 41 of\nthem within ten years" in gathered.plan.purpose
    described = read_description(STUDY / "hospitals" / "second.toml")
    found = read_records(described, gathered.plan.contract, SOURCE)
    assert found.remarks == ("no patient key: every row counts as another patient, as declared",)


@pytest.mark.slow
def test_a_real_federation_runs_the_study_and_a_hospital_can_ask_its_model(tmp_path):
    out = tmp_path / "out"
    short = ("--set", "rounds.count=3")
    done = wardround(
        *("rehearse", STUDY, "--data", SOURCE, "--out", out, *short, "--json"), timeout_s=900
    )
    assert done.code == 0, done.err
    assert done.json["verified"] is True
    report = json.loads((out / "report.json").read_text())
    assert report["evaluation"]["metrics"]["c_index"]["value"] is not None
    asked = wardround(
        *("predict", "--dir", out / "hospitals" / "second", "--study", report["study"]["name"]),
        *("--description", STUDY / "hospitals" / "second.toml", "--data", SOURCE),
        *("--report", out / "report.json", "--json"),
        timeout_s=300,
    )
    assert asked.code == 0, asked.err
    assert len(asked.json["patients"]) == 52
