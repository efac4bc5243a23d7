"""`audit verify A B`: two bundles of one run tell one history, or the coordinator is exposed."""

import json
from pathlib import Path

import pytest
from tests.support.federation_evidence import Federation, federation
from typer.testing import CliRunner

from wardround.audit.bundle import bundle_bytes, evidence_of
from wardround.audit.compare import compare_bundles
from wardround.audit.derive import derive_report
from wardround.audit.standalone import run as run_alone
from wardround.audit.verify import verify_bytes
from wardround.canonical import canonical_bytes
from wardround.cli.audit import app

LEFT, RIGHT = "bergen", "zurich"


def bundle_of(fed: Federation, *, without: str = "") -> bytes:
    parts = fed.parts(without=frozenset({without}))
    report = canonical_bytes(derive_report(evidence_of(parts)))
    return bundle_bytes(parts, report, identity=fed.coordinator.identity)


def history(*, lost: str = "", software: str = "0.1.0") -> bytes:
    """A whole run under everybody's keys; `lost` handed over no log, says the coordinator."""
    fed = federation(rounds=1, software=software)
    if lost:
        body = {"transcript": None, "hospital": lost, "reason": "did not countersign: deadline"}
        fed.coordinator.append("hospital-missed", body, at=fed.tick())
    return bundle_of(fed, without=lost)


@pytest.fixture(scope="module")
def whole() -> bytes:
    return history()


@pytest.fixture(scope="module")
def split() -> dict[str, bytes]:
    """What two hospitals were shown: in each bundle the other one is lost."""
    return {
        LEFT: history(lost=RIGHT),
        RIGHT: history(lost=LEFT, software="0.1.1"),
    }


def codes(*bundles: bytes) -> list[tuple[str, str, int | None]]:
    verdict = compare_bundles([(f"{at}.zip", content) for at, content in enumerate(bundles)])
    return [(failure.code, failure.log, failure.seq) for failure in verdict.failures]


def test_two_histories_hold_by_themselves_and_not_together(split: dict[str, bytes]):
    assert all(verify_bytes(content).ok for content in split.values())
    assert ("history-split", "coordinator", 0) in codes(*split.values())


def test_a_hospitals_log_with_two_histories_is_named_too(split: dict[str, bytes]):
    assert ("history-split", "hospitals/coimbra", 3) in codes(*split.values())


def test_a_bundle_that_only_knows_more_is_no_contradiction(whole: bytes, split: dict[str, bytes]):
    assert codes(whole, split[LEFT]) == []
    assert codes(whole, whole) == []


def test_of_three_bundles_every_pair_is_compared(whole: bytes, split: dict[str, bytes]):
    found = compare_bundles([("a", whole), ("b", split[LEFT]), ("c", split[RIGHT])]).failures
    pairs = {failure.reason.split(" hold ")[0] for failure in found}
    assert pairs == {"a and c", "b and c"}


def test_bundles_of_two_runs_are_not_compared(whole: bytes):
    other = bundle_of(federation(rounds=2))
    assert codes(whole, other) == [("other-run", "1.zip", None)]
    thief = bundle_of(federation(rounds=1, keys="thief/"))
    assert codes(whole, thief) == [("other-run", "1.zip", None)]


def test_what_is_no_bundle_is_named(whole: bytes):
    assert codes(whole, b"no zip") == [("not-comparable", "1.zip", None)]
    assert codes(whole, whole[:-1]) == [("not-comparable", "1.zip", None)]


def test_the_command_takes_several_and_exits_with_7_when_they_part(
    whole: bytes, split: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    files = {"whole": whole, **split}
    paths = {name: str(tmp_path / f"{name}.zip") for name in files}
    for name, content in files.items():
        Path(paths[name]).write_bytes(content)
    same = CliRunner().invoke(app, ["verify", paths["whole"], paths[LEFT]])
    assert same.exit_code == 0
    assert "one history ok" in same.stdout
    parted = CliRunner().invoke(app, ["verify", paths[LEFT], paths[RIGHT], "--json"])
    assert parted.exit_code == 7
    said = json.loads(parted.stdout)
    assert [each["ok"] for each in said["bundles"]] == [True, True]
    assert (said["ok"], said["one_history"]["ok"]) == (False, False)
    assert run_alone(["verify", paths[LEFT], paths[RIGHT]]) == 7
    assert "coordinator, entry 0: history-split" in capsys.readouterr().out
