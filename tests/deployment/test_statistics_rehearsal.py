"""Studies with statistics as a person rehearses them: real processes over TLS, bundle verified."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from tests.support.small_federation import bundle_log, read_json, wardround, write_study

pytestmark = [pytest.mark.federation, pytest.mark.slow]

NAMES = ("alpha", "beta", "gamma")


def rehearsed(folder: Path, *changes: str) -> tuple[dict, dict, Path]:
    write_study(folder, NAMES)
    out = folder / "out"
    words = [word for change in changes for word in ("--set", change)]
    done = wardround(
        *("rehearse", folder / "study", "--data", folder / "data", "--out", out, "--json", *words),
        timeout_s=280.0,
    )
    assert done.code == 0, done.err
    return done.json, read_json(out / "report.json"), out


def ages(folder: Path) -> np.ndarray:
    """The mean age of every patient of every hospital, from the files themselves."""
    found: dict[str, list[float]] = {}
    for path in (folder / "data").glob("*.csv"):
        header, *rows = path.read_text().split()
        place = {name: at for at, name in enumerate(header.split(","))}
        for row in rows:
            cells = row.split(",")
            key = f"{path.name} {cells[place['patient']]}"
            found.setdefault(key, []).append(float(cells[place["age"]]))
    return np.array([np.mean(values) for values in found.values()])


def test_a_study_that_scales_by_its_statistics_runs_to_a_verified_bundle(tmp_path: Path) -> None:
    outcome, report, out = rehearsed(
        tmp_path, "statistics.epsilon=5.0", "statistics.standardise=true", "rounds.count=2"
    )
    assert outcome["verified"]
    assert outcome["privacy"]["epsilon"] > 5.0
    kinds = [entry["type"] for entry in bundle_log(out / "bundle.zip")]
    assert kinds.count("statistics-closed") == 1
    assert kinds.index("statistics-closed") < kinds.index("round-closed")
    true, found = ages(tmp_path), report["statistics"]["estimates"]
    # Fresh noise in each run: wider than the printed interval, so that none fails by bad luck.
    assert abs(found["patients"]["value"] - len(true)) < 6 * found["noise_patients"]
    (age,) = [column for column in found["columns"] if column["name"] == "age"]
    assert abs(age["mean"]["value"] - true.mean()) < 2 * (age["mean"]["high"] - age["mean"]["low"])
    with safe_open(out / "model.safetensors", "numpy") as file:
        scales = json.loads(file.metadata()["standardisation"])["columns"]
    assert [scale["column"] for scale in scales] == ["age", "marker"]
    assert [round(scale["centre"], 4) for scale in scales] == [
        round(scale["centre"], 4) for scale in report["statistics"]["scales"]
    ]


def test_a_study_that_only_counts_ends_with_a_report_and_no_model(tmp_path: Path) -> None:
    outcome, report, out = rehearsed(tmp_path, "statistics.epsilon=1.0", "rounds.count=0")
    assert (outcome["verified"], outcome["model"], outcome["rounds"]) == (True, None, 0)
    assert outcome["privacy"]["epsilon"] <= 1.0
    assert outcome["privacy"]["covers"] == "all patients"
    assert not (out / "model.safetensors").exists()
    assert report["guarantee"]["headline"].endswith("were counted")
    assert "patients in numbers" in (out / "report.html").read_text()
    listed = wardround("model", "list", "--coordinator", out / "coordinator", "--json")
    assert json.loads(listed.out) == {"models": []}
    export = wardround(
        *("model", "export", report["study"]["name"], "--coordinator", out / "coordinator"),
        *("--out", tmp_path / "model"),
    )
    assert export.code == 4
    assert "statistics only" in export.err


def test_a_study_over_the_budget_is_refused_before_it_counts(tmp_path: Path) -> None:
    write_study(tmp_path, NAMES)
    done = wardround(
        *("rehearse", tmp_path / "study", "--data", tmp_path / "data", "--out", tmp_path / "out"),
        *("--set", "statistics.epsilon=40.0", "--set", "rounds.count=0", "--json"),
        timeout_s=200.0,
    )
    assert done.code == 6
    assert "would fit" in done.err + done.out
