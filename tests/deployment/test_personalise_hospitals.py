"""Four real hospitals end a study, and each is told what joining gave it. One has hardly a no."""

import stat
from pathlib import Path

import pytest
from sklearn.metrics import roc_auc_score
from tests.support.small_federation import wardround

from wardround_client.approval import approved_study, find_study
from wardround_client.cli.predict import support_for
from wardround_client.home import HospitalHome

pytestmark = [pytest.mark.federation, pytest.mark.slow]

REPOSITORY = Path(__file__).resolve().parents[2]
STUDY = REPOSITORY / "deploy" / "studies" / "heart_disease"
DATA = REPOSITORY.parent / "shared" / "data" / "heart_disease_uci"
HOSPITALS = ("cleveland", "hungarian", "switzerland", "va")


@pytest.mark.skipif(not DATA.is_dir(), reason="skipped: ../shared/data not present")
@pytest.mark.timeout(1500)
def test_four_hospitals_are_told_what_joining_gave_each(tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = wardround("rehearse", STUDY, "--data", DATA, "--out", out, timeout_s=600)
    assert done.code == 0, done.err
    told = {}
    for hospital in HOSPITALS:
        home = out / "hospitals" / hospital
        before = _charged(home)
        words = ("--dir", home, "--study", "heart-disease", "--json")
        done = wardround("personalise", *words, timeout_s=300)
        assert done.code == 0, done.err
        assert _charged(home) == before > 20  # a model that stays is no release
        told[hospital] = done.json
        for path in Path(done.json["page"]).parent.iterdir():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    for hospital, found in told.items():
        support = support_for(out / "hospitals" / hospital, "heart-disease", None)
        outcomes = support.calibration.outcomes
        auroc = roc_auc_score(outcomes.truth > 0.5, outcomes.outputs[:, 0])
        first = found["rows"][0]
        assert first["values"]["federated"]["value"] == pytest.approx(auroc, abs=1e-6)
        assert found["patients"]["held_out"] == len(outcomes.truth)
        assert found["choice"]["patients"] == found["patients"]["trained_on"]
    # Two patients of 31 without the disease: numbers, but no interval and no verdict.
    few = told["switzerland"]
    assert few["patients"]["held_out"] - few["patients"]["positives"] < 5
    assert all(gain["difference"]["low"] is None for gain in few["rows"][0]["gains"])
    assert few["verdict"].startswith("What joining gave cannot be told from 31 held-out patients")
    for hospital in ("cleveland", "hungarian"):
        gain = told[hospital]["rows"][0]["gains"][0]["difference"]
        assert gain["low"] < gain["value"] < gain["high"]


def _charged(directory: Path) -> int:
    """How many releases the ledger of the hospital's data set has."""
    home = HospitalHome(directory)
    approved = approved_study(home, find_study(home, "heart-disease"))
    with home.ledger(approved.description.dataset) as ledger:
        return len(ledger.releases())
