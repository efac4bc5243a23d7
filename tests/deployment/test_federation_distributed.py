"""Noise in the sum between real processes, from the study to the verified report."""

import math
from pathlib import Path

import pytest
from tests.support.small_federation import bundle_log, wardround, write_study

pytestmark = pytest.mark.federation


def test_a_rehearsal_with_noise_in_the_sum_ends_with_a_report_that_verifies(tmp_path: Path) -> None:
    names = ["alpha", "beta", "gamma"]
    write_study(tmp_path, names)
    changes = ("privacy.mechanism=distributed", "training.local_steps=1", "privacy.colluders=1")
    done = wardround(
        *("rehearse", tmp_path / "study", "--data", tmp_path / "data", "--out", tmp_path / "out"),
        *(word for change in changes for word in ("--set", change)),
        "--json",
        timeout_s=240.0,
    )
    assert done.code == 0, done.err
    assert done.json["verified"] is True
    assert done.json["privacy"]["mechanism"] == "distributed"
    assert done.json["privacy"]["guarantee"] == "FORMAL DP"
    assert all(0 < spent <= 3.0 for spent in done.json["privacy"]["epsilon_per_hospital"].values())
    bundle = Path(done.json["bundle"])
    opened = [e["body"] for e in bundle_log(bundle) if e["type"] == "round-opened"]
    trained = [body for body in opened if body["spec"]["purpose"] == "train"]
    for name in names:
        sent = [e["body"] for e in bundle_log(bundle, name) if e["type"] == "release-sent"]
        shares = [body["engine"] for body in sent if body["engine"]["mechanism"] == "distributed"]
        assert len(shares) == len(trained) == 3
        assert {engine["honest"] for engine in shares} == {2}
        assert all(math.sqrt(engine["share_variance"]) >= 1024 for engine in shares)
    page = Path(done.json["report"]).read_text()
    assert "no more than 1 of the hospitals pool what they know with the coordinator" in page
    assert "Holds against everybody" not in page
    verified = wardround("audit", "verify", bundle)
    assert verified.code == 0, verified.out
