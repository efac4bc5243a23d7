"""The studies of tables in deploy/studies: what their hospitals' files become."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.benchmarks.bench_models_studies import FOLDERS, STUDIES

from wardround.study.files import read_study_plan
from wardround.study.manifest import Mechanism
from wardround_client.comparison.sites import gather
from wardround_client.data.description import read_description

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
EICU, FLAMBY = FOLDERS / "eicu_mortality", FOLDERS / "heart_disease_flamby"

needs_data = pytest.mark.skipif(not DATA.is_dir(), reason="skipped: ../shared/data not present")


def names():
    return sorted(path.parent.name for path in FOLDERS.glob("*/study.toml"))


@pytest.mark.parametrize("name", names())
def test_every_study_fits_its_hospitals_and_opens_with_one_of_them_missing(name):
    plan = read_study_plan(FOLDERS / name / "study.toml")
    described = [read_description(path) for path in (FOLDERS / name).glob("hospitals/*.toml")]
    assert [one.faults(plan.contract) for one in described] == [[]] * len(described)
    assert len({one.dataset for one in described}) == len(described)
    assert len(described) >= plan.rounds.quorum
    if name != FLAMBY.name:  # the benchmark's four, with as little noise as four can have
        assert plan.rounds.quorum < len(described)


def test_every_study_of_tables_is_in_the_benchmark():
    assert set(STUDIES) <= set(names())


@needs_data
def test_eicu_is_one_stay_of_each_patient_of_a_region_with_a_known_end():
    """Oracle: pandas on the same three files, joined and filtered by hand."""
    folder = DATA / "eicu_demo"
    stays = pd.read_csv(folder / "apacheapsvar.csv.gz")
    patients = pd.read_csv(folder / "patient.csv.gz")
    regions = pd.read_csv(folder / "hospital.csv.gz").fillna({"region": ""})
    whole = stays.merge(patients, on="patientunitstayid").merge(regions, on="hospitalid")
    known = whole[whole.hospitaldischargestatus.isin(["Alive", "Expired"])]
    gathered = gather(EICU, folder)
    total = 0
    for hospital, own in gathered.encoded.items():
        region = "" if hospital == "unknown" else hospital.capitalize()
        due = known[known.region == region].drop_duplicates("uniquepid")
        assert own.patients == tuple(sorted(due.uniquepid))
        ends = due.sort_values("uniquepid").hospitaldischargestatus == "Expired"
        assert own.labels.tolist() == ends.tolist()
        total += len(due)
    assert total == 1772
    assert sum(int(own.labels.sum()) for own in gathered.encoded.values()) == 167


@needs_data
def test_eicu_takes_minus_one_as_missing_and_over_89_as_90():
    folder = DATA / "eicu_demo"
    gathered = gather(EICU, folder)
    features = gathered.plan.contract.features()
    stays = pd.read_csv(folder / "apacheapsvar.csv.gz").merge(
        pd.read_csv(folder / "patient.csv.gz"), on="patientunitstayid"
    )
    first = stays.drop_duplicates("uniquepid").set_index("uniquepid")
    own = gathered.encoded["northeast"]
    truth = first.loc[list(own.patients)]
    ph = own.features[:, features.index("ph is missing")]
    assert ph.tolist() == (truth.ph == -1).tolist()
    assert 0.5 < ph.mean() < 1
    old = (truth.age == "> 89").to_numpy()
    assert (own.features[old, features.index("age")] == 1).all()
    assert old.sum() > 0
    assert np.abs(own.features).max() <= 1


@needs_data
def test_on_flambys_terms_there_are_740_patients_and_nothing_is_missing():
    gathered = gather(FLAMBY, DATA / "heart_disease_uci")
    sizes = {name: own.patient_count for name, own in gathered.encoded.items()}
    assert sizes == {"cleveland": 303, "hungarian": 261, "switzerland": 46, "va": 130}
    assert not any(column.may_be_missing for column in gathered.plan.contract.columns)
    sick = {name: int(own.labels.sum()) for name, own in gathered.encoded.items()}
    assert sick == {"cleveland": 139, "hungarian": 98, "switzerland": 45, "va": 101}


def test_the_epsilons_of_the_goals_are_true_ones():
    """Distributed noise, for a patient, at the epsilon and no more, spare attempts included."""
    for folder in (EICU, FLAMBY):
        plan = read_study_plan(folder / "study.toml")
        assert plan.privacy.mechanism is Mechanism.DISTRIBUTED
        assert (plan.privacy.epsilon, plan.privacy.unit) == (3.0, "patient")
        assert plan.privacy.delta <= 1e-4
        less = read_study_plan(folder / "study.toml", ["privacy.epsilon=6.0"])
        assert plan.noise_multiplier() > less.noise_multiplier() > 0
