"""Four real hospitals judge their data before anything is trained: real processes, real rows."""

import json
from pathlib import Path

import numpy as np
import pytest
from tests.support.small_federation import wardround

from wardround.canonical import Json
from wardround.study.files import read_study_plan
from wardround_client.data.description import read_description
from wardround_client.data.reading import read_records

REPOSITORY = Path(__file__).parents[2]
HEART = REPOSITORY / "deploy" / "studies" / "heart_disease"
HEART_DATA = REPOSITORY.parent / "shared" / "data" / "heart_disease_uci"
TELLING = """\
epsilon_budget = 10.0
delta_max = 1e-4
mechanisms = ["local", "distributed"]
allow_exact_evaluation = true
datasheet = "counts"
"""
ONLY_STATISTICS = ("rounds.count=0", "statistics.epsilon=3", "statistics.bins=0")
pytestmark = [
    pytest.mark.federation,
    pytest.mark.slow,
    pytest.mark.skipif(not HEART_DATA.is_dir(), reason="skipped: ../shared/data not present"),
]


def rows(name: str) -> dict[str, np.ndarray]:
    """A hospital's columns, read beside the federation."""
    contract = read_study_plan(HEART / "study.toml").contract
    found = read_records(read_description(HEART / f"hospitals/{name}.toml"), contract, HEART_DATA)
    return {"positive": np.asarray(found.labels)} | {
        column: found.values[column].to_numpy() for column in found.values
    }


def report_of_statistics(study: Path, data: Path, folder: Path) -> Json:
    """The report of a verified rehearsal that only counts, at hospitals that tell."""
    policy = folder / "policy.toml"
    policy.write_text(TELLING)
    settings = (word for each in ONLY_STATISTICS for word in ("--set", each))
    done = wardround(
        *("rehearse", study, "--data", data, "--out", folder / "run", "--json"),
        *settings,
        *("--policy", policy),
        timeout_s=280,
    )
    assert done.code == 0, done.err
    assert done.json["verified"] is True
    found: Json = json.loads((folder / "run" / "report.json").read_bytes())
    return found


def test_the_report_has_every_hospitals_verdict_and_each_sees_where_it_differs(
    tmp_path: Path,
) -> None:
    report = report_of_statistics(HEART, HEART_DATA, tmp_path)
    told = {sheet["hospital"]: sheet for sheet in report["datasheets"]}
    assert {name: sheet["patients"]["value"] for name, sheet in told.items()} == {
        "cleveland": 305,
        "hungarian": 295,
        "switzerland": 125,
        "va": 200,
    }
    assert {sheet["verdict"] for sheet in told.values()} == {"ready with remarks"}
    assert all(sheet["compared"] for sheet in told.values())
    # Eight Swiss patients are not sick: the word says "rare", and the count is hidden.
    swiss = told["switzerland"]
    assert swiss["reasons"][:2] == ["an outcome is rare", "much is missing"]
    assert [part["patients"]["value"] for part in swiss["outcomes"]] == [115, None]
    assert {part["of"]: part["patients"]["value"] for part in swiss["missing"]}[
        "cholesterol"
    ] == 125

    seen = wardround(
        *("data", "quality", "--dir", tmp_path / "run" / "hospitals" / "va"),
        *("--study", "heart-disease", "--json"),
        timeout_s=120,
    )
    assert seen.code == 0, seen.err
    others = [rows(name) for name in ("cleveland", "hungarian", "switzerland")]
    ages, sick = (np.concatenate([each[what] for each in others]) for what in ("age", "positive"))
    found = {(each["column"], each["what"]): each for each in seen.json["differences"]}
    assert found["age", "mean"]["own"] == pytest.approx(rows("va")["age"].mean(), abs=0.1)
    # Noise of one run in a million would miss this by more.
    assert found["age", "mean"]["others"] == pytest.approx(ages.mean(), abs=4)
    assert found["heart_disease", "positive"]["others"] == pytest.approx(sick.mean(), abs=0.12)


BRCA = REPOSITORY / "deploy" / "studies" / "brca_survival"
BRCA_DATA = REPOSITORY.parent / "shared" / "data" / "tcga_brca_survival"


def test_a_prognosis_is_counted_and_every_verdict_goes_with_the_counts_that_are_told(
    tmp_path: Path,
) -> None:
    """Six regions, most of whose patients are lost from sight: the verifier finds nothing wrong."""
    report = report_of_statistics(BRCA, BRCA_DATA, tmp_path)
    assert "a range is hardly used" in report["datasheets"][0]["reasons"]
    contract = read_study_plan(BRCA / "study.toml").contract
    paths = sorted((BRCA / "hospitals").glob("*.toml"))
    truth = np.concatenate(
        [read_records(read_description(path), contract, BRCA_DATA).labels for path in paths]
    )
    found = report["statistics"]["estimates"]
    noise, counts = found["noise_patients"], {one["outcome"]: one for one in found["outcomes"]}
    horizon = contract.label.time.horizon
    due = {
        "followed to the horizon": int((truth[:, 0] >= horizon).sum()),
        "event until 730 d": int(
            ((truth[:, 0] >= 365) & (truth[:, 0] < 730) & (truth[:, 1] == 1)).sum()
        ),
        "left until 365 d": int(((truth[:, 0] < 365) & (truth[:, 1] == 0)).sum()),
    }
    for name, patients in due.items():
        assert abs(counts[name]["value"] - patients) < 6 * noise, name
    assert 500 < found["follow_up"]["quantiles"][2]["value"] < 1500
