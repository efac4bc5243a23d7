"""Groups of a prognosis on real data: brca_survival by age, beside its held-out rows."""

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from tests.benchmarks.bench_models_studies import DATA, FOLDERS
from tests.support.small_federation import wardround
from tests.support.survival_oracles import harrell

from wardround.models.family import readings
from wardround.models.networks import build
from wardround.study.files import read_study_plan
from wardround_client.data.description import read_description
from wardround_client.data.encoding import encode
from wardround_client.data.reading import read_records
from wardround_client.data.split import split

BRCA, BRCA_DATA = FOLDERS / "brca_survival", DATA / "tcga_brca_survival"
AGE = 60.0
FRACTION = 0.6

pytestmark = [
    pytest.mark.skipif(not DATA.is_dir(), reason="skipped: ../shared/data not present"),
    pytest.mark.slow,
    pytest.mark.federation,
]


def counted_apart(model):
    """Of every region that has five of either outcome in both groups: label, risk, whether old.

    With two groups a region tells both or none: the rule of the product, said again.
    """
    plan = read_study_plan(BRCA / "study.toml")
    network, horizon = build(plan), plan.contract.label.time.edges[-1]
    network.load_state_dict({name: torch.from_numpy(v) for name, v in load_file(model).items()})
    for path in sorted((BRCA / "hospitals").glob("*.toml")):
        description = read_description(path)
        records = read_records(description, plan.contract, BRCA_DATA)
        encoded = encode(records, plan.contract)
        held = split(encoded, dataset=description.dataset, fraction=FRACTION)[1]
        ages = records.values["age"].set_axis(list(records.patients)).loc[list(held.patients)]
        old, times = ages.to_numpy(float) >= AGE, np.minimum(held.labels[:, 0], horizon)
        events = held.labels[:, 1] * (held.labels[:, 0] < horizon)
        risks = readings(network, torch.from_numpy(held.features), plan)[:, -1]
        sizes = [(events[side] == value).sum() for side in (old, ~old) for value in (0, 1)]
        yield min(sizes) >= 5, np.stack([times, events, risks, old], axis=1)


@pytest.mark.timeout(900)
def test_the_groups_of_a_prognosis_are_those_of_the_regions_that_have_enough_deaths(tmp_path):
    asked = {
        "rounds.count": "3",
        "evaluation.held_out": str(FRACTION),
        "evaluation.subgroups": '[{column="age",edges=[60]}]',
        "evaluation.bins": "120",
        "evaluation.time_bins": "6",
    }
    done = wardround(
        *("rehearse", BRCA, "--data", BRCA_DATA, "--out", tmp_path / "out", "--json"),
        *(part for key, value in asked.items() for part in ("--set", f"{key}={value}")),
        timeout_s=800,
    )
    assert done.code == 0, done.err
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    (age,) = report["evaluation"]["subgroups"]
    regions = list(counted_apart(tmp_path / "out" / "model.safetensors"))
    told = np.concatenate([rows for enough, rows in regions if enough])
    assert 0 < len(told) < sum(len(rows) for _, rows in regions)
    for group, is_old in zip(age["groups"][:2], (0.0, 1.0), strict=True):
        times, events, risks, _ = told[told[:, 3] == is_old].T
        assert group["of_outcome"] == [(events == 0).sum(), events.sum()]
        metrics = {each["name"]: each["estimate"] for each in group["metrics"]}
        due = harrell(times, events, risks)
        # Noise may put risks close together: 120 bins and few deaths have moved it by 0.022.
        assert metrics["C-index"]["value"] == pytest.approx(due, abs=0.05)
        assert metrics["Mean predicted risk"]["value"] == pytest.approx(risks.mean(), abs=1e-5)
    assert wardround("audit", "verify", str(tmp_path / "out" / "bundle.zip")).code == 0
