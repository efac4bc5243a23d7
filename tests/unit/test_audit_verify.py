"""The verifier runs anywhere: without torch or flwr, offline, in seconds; and so does its CLI."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.federation_evidence import Federation, federation
from typer.testing import CliRunner

from wardround.audit.bundle import RunEvidence, read_bundle, write_bundle
from wardround.audit.container import unpack
from wardround.audit.verify import verify_bundle
from wardround.cli.audit import app
from wardround.errors import BadInput, VerificationFailed

HEAVY = ("torch", "flwr", "pandas", "opacus", "typst")
LONGEST_S = 5.0

CHILD = """
import sys, time
from pathlib import Path
from wardround.audit.verify import verify_bundle
verdicts = verify_bundle(Path(sys.argv[1]))
import json
print(json.dumps({"ok": verdicts.ok, "cpu_seconds": time.process_time(),
                  "heavy": [name for name in sys.argv[2].split() if name in sys.modules]}))
"""


@pytest.fixture(scope="module")
def run() -> Federation:
    return federation(rounds=30)


@pytest.fixture(scope="module")
def parts(run: Federation) -> RunEvidence:
    """Once: an ML-DSA-65 signature differs each time."""
    return run.parts()


@pytest.fixture(scope="module")
def bundle(run: Federation, parts: RunEvidence, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "bundle.zip"
    write_bundle(path, parts, identity=run.coordinator.identity)
    return path


def invoke(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout


def tampered(bundle: Path, folder: Path) -> Path:
    from wardround.audit.container import pack, unpack

    members = unpack(bundle.read_bytes())
    changed = bytearray(members["logs/coordinator.jsonl"])
    changed[1000] ^= 1
    path = folder / "tampered.zip"
    path.write_bytes(pack({**members, "logs/coordinator.jsonl": bytes(changed)}))
    return path


def test_thirty_rounds_verify_in_a_fresh_process_in_seconds_without_heavy_imports(bundle: Path):
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(bundle), " ".join(HEAVY)],
        capture_output=True,
        text=True,
        check=True,
    )
    said = json.loads(done.stdout)
    assert said["ok"]
    assert said["heavy"] == []
    assert said["cpu_seconds"] < LONGEST_S


def test_write_bundle_gives_the_same_bytes_twice_but_for_what_it_signs(
    run: Federation, parts: RunEvidence, bundle: Path, tmp_path: Path
):
    again = tmp_path / "again.zip"
    write_bundle(again, parts, identity=run.coordinator.identity)
    first, second = unpack(bundle.read_bytes()), unpack(again.read_bytes())
    differ = {name for name in first if first[name] != second[name]}
    assert differ == {"statement.dsse.json", "manifest.json", "manifest.signature"}
    assert first.keys() == second.keys()


def test_read_bundle_returns_what_was_written(parts: RunEvidence, bundle: Path):
    assert read_bundle(bundle).parts == parts


def test_read_bundle_refuses_a_changed_member(bundle: Path, tmp_path: Path):
    with pytest.raises(VerificationFailed, match=r"logs/coordinator\.jsonl"):
        read_bundle(tampered(bundle, tmp_path))


def test_nothing_is_written_when_the_evidence_contradicts_itself(run: Federation, tmp_path: Path):
    fed = run.fork()
    fed.coordinator.rewrite([e for e in fed.coordinator.entries if e.type != "round-opened"])
    with pytest.raises(BadInput):
        write_bundle(tmp_path / "b.zip", fed.parts(), identity=fed.coordinator.identity)
    assert list(tmp_path.iterdir()) == []


def test_verify_prints_four_verdicts_and_the_keys_it_rests_on(run: Federation, bundle: Path):
    code, text = invoke("verify", bundle)
    assert code == 0
    for name in ("authentic", "intact", "complete", "recomputed"):
        assert f"{name:<11} ok" in text
    assert run.coordinator.identity.fingerprint in text
    assert "No fingerprint was given" in text


def test_verify_with_the_pinned_key_says_so(run: Federation, bundle: Path):
    code, text = invoke("verify", bundle, "--coordinator-key", run.coordinator.identity.fingerprint)
    assert code == 0
    assert "(pinned)" in text
    assert "No fingerprint was given" not in text


def test_verify_with_a_roster_file_compares_every_hospital(
    run: Federation, bundle: Path, tmp_path: Path
):
    roster = {name: party.identity.fingerprint for name, party in run.hospitals.items()}
    file = tmp_path / "roster.json"
    file.write_text(json.dumps(roster))
    assert invoke("verify", bundle, "--roster", file)[0] == 0
    file.write_text(json.dumps({**roster, "bergen": "0" * 64}))
    assert invoke("verify", bundle, "--roster", file)[0] == 7


def test_a_wrong_pin_and_a_changed_byte_give_exit_code_7(bundle: Path, tmp_path: Path):
    code, text = invoke("verify", bundle, "--coordinator-key", "0" * 64)
    assert (code, "pinned-key-differs" in text) == (7, True)
    code, text = invoke("verify", tampered(bundle, tmp_path), "--json")
    assert code == 7
    said = json.loads(text)
    assert said["intact"]["failures"][0]["log"] == "logs/coordinator.jsonl"


def test_what_is_no_bundle_is_bad_input_or_fails(tmp_path: Path):
    with pytest.raises(BadInput, match="cannot be read"):
        verify_bundle(tmp_path / "nothing.zip")
    (tmp_path / "text.zip").write_text("hello")
    verdicts = verify_bundle(tmp_path / "text.zip")
    assert [verdict.ok for verdict in verdicts.four] == [False] * 4


@pytest.mark.parametrize("pin", ["abc", "G" * 64, "A" * 64])
def test_a_malformed_pin_is_bad_input(bundle: Path, pin: str):
    with pytest.raises(BadInput, match="64 lower-case hex"):
        invoke("verify", bundle, "--coordinator-key", pin)


def test_report_writes_a_page_with_the_verdicts_on_it(bundle: Path, tmp_path: Path):
    code, text = invoke("report", bundle, "--out", tmp_path / "out", "--json")
    assert code == 0
    page = Path(json.loads(text)["report"]).read_text()
    assert "Authentic: yes" in page
    assert (tmp_path / "out" / "report.json").exists()


def test_report_of_a_changed_bundle_is_written_in_red_and_exits_with_7(
    bundle: Path, tmp_path: Path
):
    code, _ = invoke("report", tampered(bundle, tmp_path), "--out", tmp_path / "out")
    assert code == 7
    page = (tmp_path / "out" / "report.html").read_text()
    assert "The bundle does not prove what it claims" in page
    assert "logs/coordinator.jsonl" in page


def test_log_and_export_read_a_partys_own_log(run: Federation, tmp_path: Path):
    from wardround.evidence.export import read_export
    from wardround.evidence.log import EvidenceLog

    party = run.hospitals["bergen"]
    folder = tmp_path / "evidence"
    folder.mkdir()
    entries = party.entries[:5]
    with EvidenceLog.open(folder / f"{'a' * 64}.sqlite", "bergen", party.identity) as log:
        log.append_many([(e.type, e.body) for e in entries], time=entries[0].time)
    code, text = invoke("log", "--dir", tmp_path)
    assert code == 0
    assert len(text.splitlines()) == 5
    assert "study-approved" in text
    code, text = invoke("export", "--dir", tmp_path, "--out", tmp_path / "log.jsonl", "--json")
    assert json.loads(text)["entries"] == 5
    assert len(read_export((tmp_path / "log.jsonl").read_bytes())) == 5


def test_a_directory_without_a_log_or_with_two_asks_which(tmp_path: Path):
    with pytest.raises(BadInput, match="no evidence log"):
        invoke("log", "--dir", tmp_path)
    (tmp_path / "evidence").mkdir()
    for name in ("a", "b"):
        (tmp_path / "evidence" / f"{name * 64}.sqlite").touch()
    with pytest.raises(BadInput, match="choose by --study"):
        invoke("log", "--dir", tmp_path)
