"""Series at hospitals that are not like others: much missing, five patients, nobody died."""

import numpy as np
import pytest
from tests.support.described_data import description
from tests.support.masked_hospitals import seeded
from tests.support.study_plans import study_plan

from wardround_client.comparison.result import figure
from wardround_client.comparison.sites import Gathered
from wardround_client.comparison.ways import Way, score
from wardround_client.data.check import Verdict, check
from wardround_client.data.encoding import encode
from wardround_client.data.reading import read_records

PULSE = {"name": "pulse", "kind": "series", "description": "x", "unit": "/min", "range": [0, 200]}
HEAT = {"name": "heat", "kind": "series", "description": "x", "unit": "Cel", "range": [33, 41]}
SOURCES = [
    {"column": "pulse", "source": "HR", "unit": "/min"},
    {"column": "heat", "source": "Temp", "unit": "Cel"},
]
LONG = {
    "key": "id",
    "record": "stay",
    "time": "t",
    "variable": "what",
    "value": "v",
}
STEPS = 6
PATIENTS = {"whole": 120, "sparse": 60, "few": 5, "single": 40}
PLAN = study_plan(
    "series",
    "gru",
    hidden=(4,),
    columns=[PULSE, HEAT],
    grid={"steps": STEPS, "step": 1.0, "unit": "h"},
    privacy={
        "mechanism": "distributed",
        "epsilon": 8.0,
        "delta": 1e-4,
        "clip_norm_l2": 1.0,
        "sampling_rate": 0.5,
    },
    training={"local_steps": 1, "learning_rate": 4.0, "expected_batch": 30.0},
    rounds={"count": 12, "quorum": 3},
)


def lines_of(hospital, random):
    """The hospital's two tables: a fast pulse goes with the outcome."""
    main, long = ["id,y"], ["stay,t,what,v"]
    for number in range(PATIENTS[hospital]):
        ill = 0 if hospital == "single" else number % 2
        patient = f"{hospital}-{number}"
        main.append(f"{patient},{ill}")
        unseen = hospital == "sparse" and number % 5 < 2  # 40 % have no pulse at all
        for step in range(STEPS):
            if not unseen and not (hospital == "sparse" and random.random() < 0.4):
                long.append(f"{patient},{step}.5,HR,{random.normal(70 + 60 * ill, 10):.0f}")
            long.append(f"{patient},{step}.2,Temp,{random.normal(37, 0.5):.1f}")
    return main, long


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory):
    """Each hospital's description and folder."""
    found, random = {}, np.random.default_rng(6)
    for name in PATIENTS:
        folder = tmp_path_factory.mktemp(name)
        main, long = lines_of(name, random)
        (folder / "main.csv").write_text("\n".join(main) + "\n")
        (folder / "long.csv").write_text("\n".join(long) + "\n")
        described = description(
            {"source": "y", "positive_when": ">0"},
            SOURCES,
            series=LONG | {"path": "long.csv"},
            hospital=name,
            dataset=f"{name}-all",
        )
        found[name] = described, folder
    return found


@pytest.fixture(scope="module")
def gathered(hospitals):
    encoded = {
        name: encode(read_records(described, PLAN.contract, folder), PLAN.contract)
        for name, (described, folder) in hospitals.items()
    }
    return Gathered(PLAN, encoded, {name: f"{name}-all" for name in encoded})


def test_the_check_says_what_is_so_and_keeps_nobody_out(hospitals):
    seen = {
        name: check(described, PLAN.contract, folder)
        for name, (described, folder) in hospitals.items()
    }
    assert {found.patients for found in seen.values()} == {120, 60, 5, 40}
    assert [found.to_fix for found in seen.values()] == [()] * 4
    missing = {name: found.columns[0].missing for name, found in seen.items()}
    assert missing == {"whole": "0", "sparse": "24", "few": "0", "single": "0"}
    assert (seen["few"].positive, seen["few"].negative) == ("<5", "<5")
    assert seen["whole"].verdict is Verdict.READY
    assert seen["single"].verdict is Verdict.READY_WITH_REMARKS
    assert "one class only; training goes on" in str(seen["single"].remarks)


def test_what_was_not_measured_is_no_number(gathered):
    pulse, unseen = (gathered.encoded["sparse"].features[:, :, place] for place in (0, 1))
    assert (unseen.mean(axis=1) == 1).sum() == 24
    assert (pulse[unseen.mean(axis=1) == 1] == 0).all()
    assert 0.4 + 0.6 * 0.3 < unseen.mean() < 0.4 + 0.6 * 0.5
    assert np.isfinite(gathered.encoded["sparse"].features).all()


@pytest.mark.parametrize("way", [Way.FEDERATED, Way.PRIVATE, Way.ALONE, Way.LEFT_OUT])
def test_every_way_ends_with_a_number_or_says_that_there_is_none(gathered, way):
    scored = score(PLAN, gathered.sites(), way, seeded(f"unlike {way}"))
    own = {name: figure(metrics) for name, metrics in scored.hospitals.items()}
    assert own["single"].value is None
    assert own["few"].patients <= 5
    assert own["few"].value is None or 0 <= own["few"].value <= 1
    assert 0 <= own["whole"].value <= 1
    if way is Way.FEDERATED:
        assert figure(scored.whole).value > 0.9
        assert own["whole"].value > own["sparse"].value  # 40 % say nothing there
