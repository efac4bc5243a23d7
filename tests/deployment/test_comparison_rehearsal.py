"""`rehearse --compare` and `--leave-out` as processes: what they add, stated or no evidence."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file
from tests.support.masked_hospitals import seeded
from tests.support.small_federation import read_json, wardround, write_study

from wardround.audit.container import pack, read_file, unpack
from wardround.audit.verify import verify_bytes
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
allow_own_models_beside = true
empirical_audit = false
"""
ALL_IN_EVERY_BATCH = ("privacy.mechanism=none", "privacy.sampling_rate=0.999999999")
BESIDE = 'evaluation.beside=["local-only", "personalised"]'


def rehearse(folder: Path, *words: str):
    return wardround(
        *("rehearse", folder / "study", "--data", folder / "data", "--out", folder / "out"),
        *("--json", *words),
        timeout_s=280,
    )


def test_the_comparison_stands_in_the_report_and_its_training_is_the_real_ones(
    tmp_path: Path,
) -> None:
    write_study(tmp_path, NAMES)
    (tmp_path / "study" / "policy.toml").write_text(NO_NOISE_ALLOWED)
    settings = [word for each in (*ALL_IN_EVERY_BATCH, BESIDE) for word in ("--set", each)]
    done = rehearse(tmp_path, "--compare", *settings)
    assert done.code == 0, done.err
    out = tmp_path / "out"
    said = read_json(out / "comparison.json")
    ways = {line["way"]: line["whole"]["value"] for line in said["lines"]}
    assert done.json["comparison"]["ways"] == ways
    report = read_json(out / "report.json")
    # Without noise and chance one process and a federation of processes make one model.
    measured = report["evaluation"]["metrics"]["auroc"]["value"]
    assert ways[Way.FEDERATED] == pytest.approx(measured, abs=1e-6)
    assert Way.PRIVATE not in ways
    real = load_file(out / "model.safetensors")
    vector = np.concatenate([real["weight"].reshape(-1), real["bias"]])
    found = gather(tmp_path / "study", tmp_path / "data", ALL_IN_EVERY_BATCH)
    trains = {name: site.train for name, site in found.sites().items()}
    again = trained(study_of(found.plan, NAMES), trains, seeded("again"))
    np.testing.assert_allclose(vector, again, atol=1e-6)
    # The coordinator signed it as its statement; every hospital countersigned that log.
    stated = report["comparison"]
    assert stated["origin"] == "LOGGED"
    assert {each["way"]: each["whole"]["value"] for each in stated["ways"]} == ways
    page = (out / "report.html").read_text()
    assert page.index("Stated, not verified") < page.index("the next hospital")
    # Alone is the same in the federation's masked sum, where the hospitals trained it themselves.
    alone, personalised = report["evaluation"]["beside"]
    assert (alone["way"], personalised["way"]) == (Way.ALONE, "personalised")
    counted = alone["metrics"][0]["estimate"]["value"]
    assert counted == pytest.approx(ways[Way.ALONE], abs=2e-3)
    assert "What did joining give?" in page
    assert not [*out.glob("hospitals/*/models-beside/*")]
    assert MARK in (out / "comparison.html").read_text()
    assert done.json["verified"]
    # One digit of it changed, and the bundle is none any more.
    members = unpack(read_file(out / "bundle.zip"))
    log = members["logs/coordinator.jsonl"]
    at = log.index(b'"made_of"')
    digit = at + log[at:].index(b'"value":0.') + len(b'"value":0.')
    other = b"1" if log[digit : digit + 1] != b"1" else b"2"
    changed = log[:digit] + other + log[digit + 1 :]
    forged = verify_bytes(pack({**members, "logs/coordinator.jsonl": changed}))
    assert not forged.intact.ok


def test_what_cannot_be_compared_is_said_before_anybody_starts(tmp_path: Path) -> None:
    write_study(tmp_path, NAMES)
    only_statistics = ("--set", "rounds.count=0", "--set", "statistics.epsilon=1.0")
    done = rehearse(tmp_path, "--compare", *only_statistics)
    assert done.code == 4, done.out
    message = json.loads(done.out.splitlines()[-1])["message"]
    assert "the study trains nothing that could be compared" in message
    assert not any((tmp_path / "out").glob("*"))


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
