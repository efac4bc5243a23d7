"""VERIFY.md of a real bundle, followed to the letter: OpenSSL and Python's standard library."""

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.federation_evidence import NAMES, Federation, federation

from wardround.audit.attach import attach
from wardround.audit.bundle import bundle_bytes, evidence_of
from wardround.audit.container import manifest_of, pack, unpack
from wardround.audit.derive import derive_report
from wardround.audit.sign_off import Decision, SignedBytes, SignOff, sign_off
from wardround.canonical import canonical_bytes

MOST_LINES = 57


def sealed(fed: Federation) -> bytes:
    parts = fed.parts()
    report = canonical_bytes(derive_report(evidence_of(parts)))
    return bundle_bytes(parts, report, identity=fed.coordinator.identity)


@pytest.fixture(scope="module")
def fed() -> Federation:
    return federation(rounds=2)


@pytest.fixture(scope="module")
def honest(fed: Federation) -> bytes:
    return sealed(fed)


def follow(bundle: bytes, folder: Path) -> tuple[bool, str]:
    """Do what the bundle's own VERIFY.md says; whether all of it held, and what was said."""
    (folder / "bundle.zip").write_bytes(bundle)
    guide = unpack(bundle)["VERIFY.md"].decode()
    lines = [line.strip() for line in re.findall(r"^    (\S.*)$", guide, re.MULTILINE)]
    commands = [line for line in lines if line.startswith(("python3 ", "awk "))]
    assert len(commands) == 4
    openssl = re.findall(r"^```sh\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL)
    assert len(openssl) == 1
    here = re.sub(r"^python3 ", f"{sys.executable} -I -S ", "\n".join(commands), flags=re.MULTILINE)
    done = subprocess.run(
        ["bash", "-e", "-c", f"{here}\n{openssl[0]}"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode == 0, done.stdout + done.stderr


def test_an_honest_bundle_holds_and_the_fingerprints_are_printed(
    fed: Federation, honest: bytes, tmp_path: Path
):
    held, said = follow(honest, tmp_path)
    assert held, said
    assert said.endswith("hashes ok\nsignatures ok\n")
    for name in NAMES:
        assert f"{fed.hospitals[name].identity.fingerprint} {name}\n" in said
    assert f"{fed.coordinator.identity.fingerprint} coordinator\n" in said


def test_every_signature_is_given_to_openssl(honest: bytes, tmp_path: Path):
    follow(honest, tmp_path)
    names = {path.stem for path in (tmp_path / "signed").glob("*.key")}
    assert {"manifest", "study", "statement", "checkpoint-of-the-coordinator"} <= names
    assert {f"countersigned-{name}" for name in NAMES} <= names
    log = unpack(honest)["logs/coordinator.jsonl"].decode()
    signed = log.count('"type":"update-received"') + log.count('"type":"hospital-joined"')
    signed += len(NAMES) * log.count('"type":"survivors-agreed"')
    assert sum(name.startswith("entry-") for name in names) == signed > len(NAMES)


def test_the_first_program_has_some_fifty_lines(honest: bytes):
    guide = unpack(honest)["VERIFY.md"].decode()
    program = re.search(r"^```python hashes\.py\n(.*?)^```$", guide, re.MULTILINE | re.DOTALL)
    assert program is not None
    assert len([line for line in program[1].splitlines() if line]) <= MOST_LINES


Members = dict[str, bytes]


def byte_changed(name: str, *, after: bytes = b"") -> Callable[[Members], None]:
    def change(members: Members) -> None:
        content = bytearray(members[name])
        # A digit for another: the JSON stays JSON, so that the checks have to find it.
        start = content.index(after) + len(after)
        at = next(at for at in range(start, len(content)) if chr(content[at]).isdigit())
        content[at] = ord("1") if content[at] != ord("1") else ord("2")
        members[name] = bytes(content)

    return change


def with_new_manifest(change: Callable[[Members], None]) -> Callable[[Members], None]:
    """Somebody who cannot sign, and lists the changed members anew."""

    def changed(members: Members) -> None:
        change(members)
        own = {"manifest.json", "manifest.signature"}
        kept = {name: content for name, content in members.items() if name not in own}
        members["manifest.json"] = manifest_of(kept)

    return changed


def signed_off(fed: Federation, bundle: bytes) -> bytes:
    members = unpack(bundle)
    about = SignedBytes.of(members["report.json"], members["manifest.json"])
    word = SignOff(
        hospital="leiden",
        officer="Dr Ada",
        decision=Decision.APPROVE,
        remark=None,
        signed_at="2026-04-01T09:00:00.000000Z",
    )
    return attach(bundle, [sign_off(fed.hospitals["leiden"].identity, word, about)])[0]


def test_a_hospitals_sign_off_is_checked_too(fed: Federation, honest: bytes, tmp_path: Path):
    bundle = signed_off(fed, honest)
    held, said = follow(bundle, tmp_path)
    assert held, said
    assert (tmp_path / "signed" / "sign-off-leiden.signature").stat().st_size == 64
    members = unpack(bundle)
    name = "sign-offs/leiden.dsse.json"
    members["sign-offs/zurich.dsse.json"] = members.pop(name)
    (tmp_path / "again").mkdir()
    held, said = follow(pack(members), tmp_path / "again")
    assert not held
    assert "wrong signature: signed/sign-off-zurich.key" in said


def last_lines_cut(members: Members) -> None:
    lines = members["logs/hospitals/leiden.jsonl"].splitlines(keepends=True)
    members["logs/hospitals/leiden.jsonl"] = b"".join(lines[:-2])


def member_added(members: Members) -> None:
    members["more.json"] = b"{}"


CHANGES: dict[str, tuple[Callable[[Members], None], str]] = {
    "report": (byte_changed("report.json"), "report.json is not what the manifest says"),
    "log": (byte_changed("logs/coordinator.jsonl"), "logs/coordinator.jsonl is not what"),
    "member": (member_added, "not the files of the manifest"),
    "manifest": (byte_changed("manifest.json", after=b'"sha256":"'), "is not what the manifest"),
    "report and manifest": (
        with_new_manifest(byte_changed("report.json")),
        "statement.dsse.json attests another report",
    ),
    "log and manifest": (
        with_new_manifest(byte_changed("logs/hospitals/leiden.jsonl")),
        "leiden.jsonl: not what its checkpoint signed",
    ),
    "tail and manifest": (
        with_new_manifest(last_lines_cut),
        "leiden.jsonl: not what its checkpoint signed",
    ),
    "key and manifest": (
        with_new_manifest(byte_changed("keys.json", after=b'"bergen":"')),
        "not the roster's keys",
    ),
    "study and manifest": (
        with_new_manifest(byte_changed("study.json", after=b'"study":')),
        "another study",
    ),
    "manifest's signature": (byte_changed("manifest.signature"), "signed/manifest.key"),
    "countersignature and manifest": (
        with_new_manifest(byte_changed("countersignatures.json", after=b'"signature":"')),
        "wrong signature: signed/countersigned-",
    ),
}


@pytest.mark.parametrize(("change", "reason"), CHANGES.values(), ids=CHANGES)
def test_a_changed_byte_is_found(
    honest: bytes, tmp_path: Path, change: Callable[[Members], None], reason: str
):
    members = unpack(honest)
    change(members)
    held, said = follow(pack(members), tmp_path)
    assert not held
    assert reason in said, said


def test_a_history_that_a_hospital_did_not_see_is_found(fed: Federation, tmp_path: Path):
    """A coordinator with its real key, which signs a shorter log of its own making."""
    forger = fed.fork()
    entries = forger.coordinator.entries
    forger.coordinator.rewrite([entry for entry in entries if entry.type != "run-closed"][:-1])
    held, said = follow(sealed(forger), tmp_path)
    assert not held
    assert "saw another history of the coordinator" in said, said


def test_a_hospital_that_signed_for_another_sum_is_found(fed: Federation, tmp_path: Path):
    """Its own log, under its own key, names other survivors than the coordinator's."""
    forger = fed.fork()
    party = forger.hospitals["zurich"]
    party.rewrite(
        [
            replace(entry, body={**entry.body, "survivors": ["bergen", "coimbra", "zurich"]})
            if entry.type == "survivors-signed"
            else entry
            for entry in party.entries
        ]
    )
    held, said = follow(sealed(forger), tmp_path)
    assert not held
    assert "zurich signed no such sum" in said, said
