"""The verifier in one file: alone in a process that has no other source of Wardround."""

import importlib.metadata
import json
import os
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from tests.support.federation_evidence import Federation, federation

from wardround.audit.bundle import write_bundle
from wardround.audit.container import pack, unpack
from wardround.audit.standalone import run

ROOT = Path(__file__).parents[2]
BUILD = runpy.run_path(str(ROOT / "deploy" / "verifier" / "build.py"))
REQUIREMENTS = [
    line
    for line in (ROOT / "deploy" / "verifier" / "requirements.txt").read_text().splitlines()
    if not line.startswith("#")
]
HEAVY = {"torch", "flwr", "pandas", "opacus", "typst", "typer", "jinja2"}

# Python without its site-packages, the file, and a folder with what requirements.txt names.
CHILD = """
import atexit, json, runpy, sys
file, libraries, *arguments = sys.argv[1:]
sys.path += [libraries]
sys.path.insert(0, file)
def loaded():
    import wardround
    print(json.dumps({"from": wardround.__file__, "modules": sorted(sys.modules)}), file=sys.stderr)
atexit.register(loaded)
sys.argv = [file, *arguments]
runpy.run_path(file, run_name="__main__")
"""


@pytest.fixture(scope="module")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("built") / "wardround-verify.pyz"
    BUILD["write"](path, BUILD["modules_of"](BUILD["ENTRY"]))
    return path


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `pip install --target` of the requirements gives: links to these libraries alone."""
    folder, due, done = tmp_path_factory.mktemp("libraries"), list(REQUIREMENTS), set()
    while due:
        wanted = Requirement(due.pop())
        here = wanted.marker is None or wanted.marker.evaluate({"extra": ""})
        if wanted.name in done or not here:
            continue
        done.add(wanted.name)
        found = importlib.metadata.distribution(wanted.name)
        due += found.requires or ()
        for top in {path.parts[0] for path in found.files or ()} - {"..", "__pycache__"}:
            source = Path(str(found.locate_file(top)))
            if source.exists() and not (folder / top).exists():
                (folder / top).symlink_to(source)
    return folder


@pytest.fixture(scope="module")
def fed() -> Federation:
    return federation(rounds=2)


@pytest.fixture(scope="module")
def bundle(fed: Federation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "bundle.zip"
    write_bundle(path, fed.parts(), identity=fed.coordinator.identity)
    return path


def tampered(bundle: Path, folder: Path) -> Path:
    members = unpack(bundle.read_bytes())
    log = bytearray(members["logs/coordinator.jsonl"])
    log[1000] ^= 1
    path = folder / "tampered.zip"
    path.write_bytes(pack({**members, "logs/coordinator.jsonl": bytes(log)}))
    return path


def alone(verifier: Path, libraries: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-S", "-c", CHILD, verifier, libraries, *arguments]
    return subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        check=False,
        cwd=verifier.parent,
        env={"PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"},
    )


def test_it_verifies_alone_from_its_own_modules_and_loads_no_heavy_library(
    verifier: Path, libraries: Path, bundle: Path, fed: Federation
):
    key = fed.coordinator.identity.fingerprint
    done = alone(verifier, libraries, "verify", bundle, "--coordinator-key", key, "--json")
    assert done.returncode == 0, done.stderr
    said, loaded = json.loads(done.stdout), json.loads(done.stderr)
    assert (said["ok"], said["pinned"]) == (True, ["coordinator"])
    assert loaded["from"].startswith(str(verifier))
    assert HEAVY & set(loaded["modules"]) == set()
    assert not any(name.startswith("wardround_") for name in loaded["modules"])


def test_a_tampered_bundle_ends_with_exit_code_7_and_names_the_log(
    verifier: Path, libraries: Path, bundle: Path, tmp_path: Path
):
    done = alone(verifier, libraries, "verify", tampered(bundle, tmp_path))
    assert done.returncode == 7, done.stderr
    assert re.search(
        r"^intact +FAILED\n +logs/coordinator\.jsonl: member-differs", done.stdout, re.MULTILINE
    )


def test_the_same_sources_give_the_same_bytes(verifier: Path, tmp_path: Path):
    again, modules = (
        [tmp_path / "one.pyz", tmp_path / "two.pyz"],
        BUILD["modules_of"](BUILD["ENTRY"]),
    )
    for path in again:
        BUILD["write"](path, modules)
    assert again[0].read_bytes() == again[1].read_bytes()
    assert os.access(verifier, os.X_OK)


def test_it_holds_the_audit_and_no_server_client_console_or_model(verifier: Path):
    modules = BUILD["modules_of"](BUILD["ENTRY"])
    assert {"wardround.audit.verify", "wardround.privacy.accounting"} <= set(modules)
    foreign = ("wardround.cli", "wardround.models", "wardround.audit.html", "wardround.audit.pdf")
    assert [name for name in modules if name.startswith(foreign)] == []


def test_the_requirements_are_what_it_imports_in_the_ranges_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(REQUIREMENTS) <= set(project["dependencies"])
    named = {re.split(r"[<>=]", line)[0].replace("-", "_") for line in REQUIREMENTS}
    assert named == BUILD["libraries_of"](BUILD["modules_of"](BUILD["ENTRY"]))


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["verify", "nothing.zip"], 4),
        (["verify"], 4),
        (["verify", "nothing.zip", "--coordinator-key", "short"], 4),
        (["prove", "nothing.zip"], 4),
        (["--help"], 0),
    ],
)
def test_what_cannot_be_read_is_bad_input_as_on_the_command_line(
    arguments: list[str], code: int, capsys: pytest.CaptureFixture[str]
):
    assert run(arguments) == code
    assert "Traceback" not in "".join(capsys.readouterr())


def test_a_wrong_pin_fails_and_the_right_roster_holds(
    bundle: Path, fed: Federation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    roster = {name: party.identity.fingerprint for name, party in fed.hospitals.items()}
    file = tmp_path / "roster.json"
    file.write_text(json.dumps(roster))
    assert run(["verify", str(bundle), "--roster", str(file)]) == 0
    assert "bergen (pinned)" in capsys.readouterr().out
    assert run(["verify", str(bundle), "--coordinator-key", "0" * 64]) == 7
    assert "pinned-key-differs" in capsys.readouterr().out
