"""The study brca_survival: six regions read as they lie, and the same prognosis from counts."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.support.survival_oracles import harrell

from wardround.evaluation.layout import read_lanes
from wardround.evaluation.layouts import layout_of
from wardround.evaluation.patients import outcomes_of
from wardround.models.family import family_of, readings
from wardround.models.networks import build
from wardround.study.files import read_study_plan
from wardround_client.data.check import Verdict, check
from wardround_client.data.description import read_description
from wardround_client.data.encoding import encode
from wardround_client.data.reading import read_records
from wardround_client.data.split import split

REPOSITORY = Path(__file__).resolve().parents[2]
STUDY = REPOSITORY / "deploy" / "studies" / "brca_survival"
DATA = REPOSITORY.parent / "shared" / "data" / "tcga_brca_survival"
SIZES = {
    "northeast": 311,
    "south": 196,
    "west": 206,
    "midwest": 162,
    "europe": 162,
    "canada": 51,
}

pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason="the data set is not here")


@pytest.fixture(scope="module")
def plan():
    return read_study_plan(STUDY / "study.toml")


@pytest.fixture(scope="module")
def regions():
    found = (read_description(path) for path in sorted((STUDY / "hospitals").glob("*.toml")))
    return {description.hospital: description for description in found}


def test_every_region_has_its_patients_ready_and_no_other_ones(plan, regions):
    seen = {name: check(described, plan.contract, DATA) for name, described in regions.items()}
    assert {name: found.patients for name, found in seen.items()} == SIZES
    assert {found.verdict for found in seen.values()} == {Verdict.READY}
    patients = [
        key
        for described in regions.values()
        for key in read_records(described, plan.contract, DATA).patients
    ]
    assert len(set(patients)) == len(patients) == 1088


def test_the_counts_give_the_prognosis_that_the_records_do(plan, regions):
    train, held_out = [], []
    for described in regions.values():
        records = encode(read_records(described, plan.contract, DATA), plan.contract)
        parts = split(records, dataset=described.dataset, fraction=plan.evaluation.held_out)
        train.append(parts[0])
        held_out.append(parts[1])
    model, loss = build(plan), family_of(plan).loss(plan)
    features = torch.from_numpy(np.concatenate([part.features for part in train]))
    targets = torch.from_numpy(np.concatenate([part.labels for part in train]))
    optimiser = torch.optim.LBFGS(model.parameters(), max_iter=50)

    def closure():
        optimiser.zero_grad()
        ridge = sum((parameter**2).sum() for parameter in model.parameters())
        whole = loss(model(features), targets).mean() + 1e-3 * ridge
        whole.backward()
        return whole

    optimiser.step(closure)
    layout = layout_of(plan)
    own = [
        outcomes_of(
            plan.contract.label,
            part.offsets,
            part.labels,
            readings(model, torch.from_numpy(part.features), plan),
        )
        for part in held_out
    ]
    lanes = sum(layout.count(outcomes).lanes for outcomes in own)
    found = layout.metrics(read_lanes(lanes, layout), cell_noise_sd=0.0)
    times, events = np.concatenate([outcomes.truth for outcomes in own]).T
    horizon = plan.contract.label.time.horizon
    risks = np.concatenate([outcomes.outputs for outcomes in own])[:, -1]
    due = harrell(np.minimum(times, horizon), np.where(times >= horizon, 0, events), risks)
    assert due > 0.65
    assert found["c_index"]["value"] == pytest.approx(due, abs=1e-3)
    assert found["c_index_lower"] <= due <= found["c_index_upper"]
    assert found["patients"] == len(times) == 255
