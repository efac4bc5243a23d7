"""`rehearse --compare` and `--leave-out` as processes: what they add, which is no evidence."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from tests.support.masked_hospitals import seeded
from tests.support.small_federation import read_json, wardround, write_study

from wardround.audit.container import read_file, unpack
from wardround_client.comparison.result import MARK
from wardround_client.comparison.sites import gather, study_of
from wardround_client.comparison.training import trained
from wardround_client.comparison.ways import Way

pytestmark = [pytest.mark.federation, pytest.mark.slow]

NAMES = ("alpha", "beta", "delta", "gamma")
NO_NOISE_ALLOWED = """
epsilon_budget = 10.0
delta_max = 1e-3
mechanisms = ["none"]
allow_exact_evaluation = true
empirical_audit = false
"""
ALL_IN_EVERY_BATCH = ("privacy.mechanism=none", "privacy.sampling_rate=0.999999999")


def rehearse(folder: Path, *words: str):
    return wardround(
        *("rehearse", folder / "study", "--data", folder / "data", "--out", folder / "out"),
        *("--json", *words),
        timeout_s=280,
    )


def test_the_comparison_stands_beside_the_report_and_its_training_is_the_real_ones(
    tmp_path: Path,
) -> None:
    write_study(tmp_path, NAMES)
    (tmp_path / "study" / "policy.toml").write_text(NO_NOISE_ALLOWED)
    settings = [word for each in ALL_IN_EVERY_BATCH for word in ("--set", each)]
    done = rehearse(tmp_path, "--compare", *settings)
    assert done.code == 0, done.err
    out = tmp_path / "out"
    said = read_json(out / "comparison.json")
    ways = {line["way"]: line["whole"]["value"] for line in said["lines"]}
    assert done.json["comparison"]["ways"] == ways
    # Without noise and chance one process and a federation of processes make one model.
    assert ways[Way.FEDERATED] == pytest.approx(ways["this rehearsal"], abs=1e-6)
    assert Way.PRIVATE not in ways
    real = load_file(out / "model.safetensors")
    vector = np.concatenate([real["weight"].reshape(-1), real["bias"]])
    found = gather(tmp_path / "study", tmp_path / "data", ALL_IN_EVERY_BATCH)
    trains = {name: site.train for name, site in found.sites().items()}
    again = trained(study_of(found.plan, NAMES), trains, seeded("again"))
    np.testing.assert_allclose(vector, again, atol=1e-6)
    # It is no evidence: neither report nor bundle knows of it.
    members = unpack(read_file(out / "bundle.zip"))
    everything = b"".join([*members.values(), (out / "report.json").read_bytes()])
    assert MARK.encode() not in everything
    assert not any("comparison" in name for name in members)
    assert MARK in (out / "comparison.html").read_text()


def test_a_hospital_that_is_left_out_takes_no_part_and_the_model_is_scored_there(
    tmp_path: Path,
) -> None:
    write_study(tmp_path, NAMES)
    done = rehearse(tmp_path, "--leave-out", "gamma")
    assert done.code == 0, done.err
    assert done.json["hospitals_planned"] == 3
    assert not (tmp_path / "out" / "hospitals" / "gamma").exists()
    found = done.json["left_out"]
    assert (found["hospital"], found["patients"]) == ("gamma", 160)
    low, high = found["interval"]
    assert 0.5 < low < found["value"] < high <= 1
    written = read_json(Path(found["file"]))
    assert written["mark"] == MARK
    assert written["metrics"]["auroc"]["value"] == found["value"]
    took_part = wardround(
        *("compare", tmp_path / "study", "--data", tmp_path / "data", "--out", tmp_path),
        *("--run", tmp_path / "out", "--left-out", "alpha"),
    )
    assert took_part.code == 4
    assert "alpha: it took part in this run" in took_part.err


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--leave-out", "omega"], "describes alpha, beta, delta, gamma"),
        (["--leave-out", "alpha", "--compare"], "--leave-out is for one alone"),
        (["--leave-out", "alpha", "--set", "rounds.quorum=4"], "the quorum is 4"),
    ],
)
def test_what_cannot_be_left_out_is_refused(tmp_path: Path, words: list[str], why: str) -> None:
    write_study(tmp_path, NAMES)
    done = rehearse(tmp_path, *words)
    assert done.code == 4
    assert why in json.loads(done.out.splitlines()[-1])["message"]
    assert not any((tmp_path / "out").glob("*"))
