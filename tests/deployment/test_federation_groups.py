"""Nine real hospital processes in three groups, from the study to the verified report."""

from pathlib import Path

import pytest
from tests.support.small_federation import bundle_log, wardround, write_study

pytestmark = [pytest.mark.federation, pytest.mark.slow]

NINE = tuple(f"ward-{letter}" for letter in "abcdefghi")
CHANGES = (
    "robust.groups=3",
    "robust.rule=median",
    "rounds.quorum=9",
    "privacy.mechanism=distributed",
    "training.local_steps=1",
    "privacy.colluders=1",
)


def test_a_rehearsal_in_groups_ends_with_a_report_that_verifies(tmp_path: Path) -> None:
    write_study(tmp_path, NINE)
    done = wardround(
        *("rehearse", tmp_path / "study", "--data", tmp_path / "data", "--out", tmp_path / "out"),
        *(word for change in CHANGES for word in ("--set", change)),
        "--json",
        timeout_s=500.0,
    )
    assert done.code == 0, done.err
    assert done.json["verified"] is True
    assert done.json["hospitals_completed"] == 9
    assert done.json["privacy"]["guarantee"] == "FORMAL DP"
    log = bundle_log(Path(done.json["bundle"]))
    combined = [entry["body"] for entry in log if entry["type"] == "round-combined"]
    assert [len(body["transcripts"]) for body in combined] == [3, 3, 3]
    drawn = [e["body"]["spec"] for e in log if e["type"] == "round-opened"]
    trained = [spec for spec in drawn if spec["purpose"] == "train"]
    assert {len(spec["cohort"]) for spec in trained} == {3}
    assert len({str(spec["partition"]) for spec in trained}) == 3  # another draw for each round
    for name in NINE:
        sent = [e["body"] for e in bundle_log(Path(done.json["bundle"]), name)]
        shares = [body["engine"] for body in sent if "engine" in body]
        assert {e["honest"] for e in shares if e["mechanism"] == "distributed"} == {2}
    assert (
        "summed in 3 random groups of at least 3 hospitals" in Path(done.json["report"]).read_text()
    )
