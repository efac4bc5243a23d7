"""Studies of response, treatment and beats: what their hospitals' files become, and real runs."""

import json

import numpy as np
import pandas as pd
import pytest
from tests.benchmarks.bench_models_studies import DATA, FOLDERS
from tests.support.small_federation import wardround

from wardround_client.comparison.sites import gather

DRUGS, TRIAL, BEATS, LEUKAEMIA = (
    FOLDERS / name
    for name in ("drug_response", "treatment_choice", "ecg_beats", "leukemia_expression")
)
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="skipped: ../shared/data not present")


@needs_data
@pytest.mark.slow
def test_drug_responses_and_mutations_are_those_of_the_two_files():
    """Oracle: pandas on the two matrices, cell line by cell line."""
    folder = DATA / "gdsc1_response"
    responses = pd.read_csv(folder / "cell_drug_lnic50.csv.gz", index_col=0)
    mutations = pd.read_csv(folder / "cell_mutation_ge5pct.csv.gz", index_col=0)
    gathered = gather(DRUGS, folder)
    label = gathered.plan.contract.label
    drugs = [one.description.split("CID ")[1].split(")")[0] for one in label.targets]
    columns = gathered.plan.contract.columns
    genes = [one.description.split("Entrez ")[1].rstrip(")") for one in columns]
    assert (len(drugs), len(set(genes))) == (12, 40)
    seen = set()
    for own in gathered.encoded.values():
        lines = [int(key) for key in own.patients]
        seen |= set(lines)
        np.testing.assert_allclose(own.features, mutations.loc[lines, genes], atol=1e-6)
        np.testing.assert_allclose(own.labels * 8, responses.loc[lines, drugs], atol=1e-5)
    assert seen == set(responses.index)


@needs_data
def test_the_trial_has_its_hospitals_arms_and_outcomes():
    folder = DATA / "survival_multisite"
    table = pd.read_csv(folder / "indo_rct.csv")
    gathered = gather(TRIAL, folder)
    arm = gathered.plan.contract.features().index("indomethacin")
    sites = {"michigan": "1_UM", "indiana": "2_IU", "kentucky": "3_UK", "case": "4_Case"}
    for hospital, own in gathered.encoded.items():
        due = table[table.site == sites[hospital]].set_index("id").loc[map(int, own.patients)]
        assert len(due) == own.patient_count
        assert ((own.features[:, arm] > 0) == (due.rx == "1_indomethacin").to_numpy()).all()
        assert ((own.labels > 0.5) == (due.outcome == "1_yes").to_numpy()).all()
        assert set(own.features[:, arm].tolist()) <= {-1.0, 1.0}
    assert sum(own.patient_count for own in gathered.encoded.values()) == 602


@needs_data
def test_every_fourth_sample_of_a_beat_is_a_step_of_its_series():
    beats = np.loadtxt(DATA / "ecg" / "ECG5000_TRAIN.txt")
    gathered = gather(BEATS, DATA / "ecg")
    total = 0
    for own in gathered.encoded.values():
        rows = [int(key) - 1 for key in own.patients]
        due = np.clip(beats[rows, 1::4] / 6, -1, 1)
        np.testing.assert_allclose(own.features[:, :, 0], due, atol=1e-6)
        assert (own.features[:, :, 1] == 0).all()
        assert ((own.labels > 0.5) == (beats[rows, 0] > 1)).all()
        total += own.patient_count
    assert total == 500


@needs_data
@pytest.mark.slow
def test_the_leukaemias_are_told_by_named_markers_of_all_38_patients():
    table = pd.read_csv(DATA / "golub_leukemia" / "golub_train_38x3051.csv")
    gathered = gather(LEUKAEMIA, DATA / "golub_leukemia")
    probes = [c.description.split("probe ")[1].rstrip(")") for c in gathered.plan.contract.columns]
    total = 0
    for own in gathered.encoded.values():
        due = table.iloc[[int(key) - 1 for key in own.patients]]
        np.testing.assert_allclose(own.features * 4, due[probes], atol=1e-5)
        assert ((own.labels > 0.5) == (due.label == "AML").to_numpy()).all()
        total += own.patient_count
    assert total == 38


SETS = {
    DRUGS: "gdsc1_response",
    TRIAL: "survival_multisite",
    BEATS: "ecg",
    LEUKAEMIA: "golub_leukemia",
}


@needs_data
@pytest.mark.slow
@pytest.mark.parametrize("study", SETS, ids=lambda path: path.name)
def test_a_real_federation_runs_the_study_and_a_hospital_can_ask_its_model(study, tmp_path):
    data, out = DATA / SETS[study], tmp_path / "out"
    short = ("--set", "rounds.count=3")
    done = wardround(
        *("rehearse", study, "--data", data, "--out", out, *short, "--json"), timeout_s=900
    )
    assert done.code == 0, done.err
    assert done.json["verified"] is True
    report = json.loads((out / "report.json").read_text())
    metrics = report["evaluation"]["metrics"]
    described = sorted((study / "hospitals").glob("*.toml"))[1]
    asked = wardround(
        *(
            "predict",
            "--dir",
            out / "hospitals" / described.stem,
            "--study",
            report["study"]["name"],
        ),
        *("--description", described, "--data", data, "--report", out / "report.json", "--json"),
        timeout_s=300,
    )
    assert asked.code == 0, asked.err
    everybody = asked.json["patients"]
    patients = [one for one in everybody if one["abstained"] is None]
    # Of a tenth of 38 patients a noised model may leave nothing that could be said of anybody.
    assert patients or (study == LEUKAEMIA and everybody)
    kinds = {one["choice"]["kind"] if "choice" in one else None for one in patients}
    if study == DRUGS:
        assert kinds == {"ranking"}
        assert len(metrics["targets"]) == 12
    elif study == TRIAL:
        assert kinds == {"treatment"}
        arms = metrics["treatment"]["allocation"]
        assert arms["untreated"] + arms["treated"] == metrics["patients"]
        assert "Would choosing the treatment" in (out / "report.html").read_text()
    else:
        assert kinds <= {None}
        assert metrics["auroc"] is not None
