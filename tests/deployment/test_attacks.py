"""The attack tests on the demonstration's own model, at a hospital of a real federation."""

from pathlib import Path

import pytest
from tests.support.small_federation import wardround

pytestmark = [pytest.mark.federation, pytest.mark.slow]


def test_the_demonstration_at_its_claimed_epsilon_passes_every_attack(tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = wardround("demo", "--out", out, "--json", timeout_s=280)
    assert done.code == 0, done.err
    tested = wardround(
        *("audit", "test", "--dir", out / "hospitals" / "university", "--study", "breast-cancer"),
        *("--model", out / "model.safetensors", "--json"),
        timeout_s=120,
    )
    assert tested.code == 0, tested.out
    found = tested.json
    assert found["verdict"] == "PASS"
    assert found["claim"]["epsilon"] == 3.0
    assert {test["verdict"] for test in found["membership"]} == {"PASS"}
    raw, noised, masked = found["reconstruction"]
    assert raw["right"] == raw["trials"]
    assert raw["relative_error"] < 1e-5
    for reading in (noised, masked):
        assert reading["verdict"] == "PASS"
        assert abs(reading["correlation"]) < 4 * reading["correlation_error"] < 0.2
    assert found["canaries"]["outcome"]["verdict"] == "PASS"
