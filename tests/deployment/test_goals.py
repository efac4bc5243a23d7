"""What the main job has to reach, on the data it is for: real processes, TLS, noise and all."""

from pathlib import Path

import pytest
from tests.support.small_federation import wardround

from wardround.canonical import Json

REPOSITORY = Path(__file__).parents[2]
HEART = REPOSITORY / "deploy" / "studies" / "heart_disease"
HEART_DATA = REPOSITORY.parent / "shared" / "data" / "heart_disease_uci"
WITHOUT_NOISE = """\
epsilon_budget = 10.0
delta_max = 1e-4
mechanisms = ["local", "none"]
allow_exact_evaluation = true
"""
needs_heart_data = pytest.mark.skipif(
    not HEART_DATA.is_dir(), reason="skipped: ../shared/data not present"
)
pytestmark = pytest.mark.federation


def outcome(*words: object) -> Json:
    done = wardround(*words, "--json", timeout_s=280)
    assert done.code == 0, done.err
    found: Json = done.json
    assert found["verified"] is True
    assert found["hospitals_completed"] == found["hospitals_planned"] == 4
    return found


def test_the_demo_reaches_an_auroc_of_097_at_epsilon_3(tmp_path: Path) -> None:
    found = outcome("demo", "--out", tmp_path / "run")
    privacy = found["privacy"]
    assert (privacy["unit"], privacy["delta"]) == ("patient", 1e-4)
    assert 0 < privacy["epsilon"] <= 3
    assert found["metrics"]["auroc"] >= 0.97


@needs_heart_data
def test_four_real_hospitals_reach_an_auroc_of_080_at_epsilon_3(tmp_path: Path) -> None:
    found = outcome("rehearse", HEART, "--data", HEART_DATA, "--out", tmp_path / "run")
    assert set(found["metrics"]["per_hospital"]) == {"cleveland", "hungarian", "switzerland", "va"}
    assert 0 < found["privacy"]["epsilon"] <= 3
    assert found["metrics"]["auroc"] >= 0.80


@pytest.mark.slow
@needs_heart_data
def test_without_noise_the_four_reach_083_and_the_report_is_loud(tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(WITHOUT_NOISE)
    found = outcome(
        *("rehearse", HEART, "--data", HEART_DATA, "--out", tmp_path / "run"),
        *("--set", "privacy.mechanism=none", "--policy", policy),
    )
    assert found["privacy"]["epsilon"] is None
    assert found["metrics"]["auroc"] >= 0.83
    assert "NO FORMAL GUARANTEE" in Path(found["report"]).read_text()


@pytest.mark.slow
def test_the_network_learns_from_ct_slices_at_epsilon_8(tmp_path: Path) -> None:
    found = outcome("demo", "--study", "ct", "--out", tmp_path / "run")
    assert 0 < found["privacy"]["epsilon"] <= 8
    assert found["metrics"]["auroc"] >= 0.75
