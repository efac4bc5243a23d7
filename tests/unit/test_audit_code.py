"""Code digests: what a party says that it ran, in the report and against the study's pin."""

import hashlib
import json
from pathlib import Path

import pytest
from tests.support.federation_evidence import NAMES, Federation, federation
from typer.testing import CliRunner

import wardround
from wardround.audit.bundle import bundle_bytes, evidence_of
from wardround.audit.derive import derive_report, report_of
from wardround.audit.html import render_html
from wardround.audit.report_model import CodeFacts
from wardround.audit.verdicts import Failure
from wardround.audit.verify import verify_bytes
from wardround.canonical import canonical_bytes
from wardround.cli.main import app
from wardround.code_digest import OF_HOSPITAL, SHARED, code_digest, code_digests
from wardround.errors import BadInput

SHARED_CODE, CLIENT, SERVER, OTHER = "c" * 64, "d" * 64, "e" * 64, "f" * 64
CODE = {"wardround": SHARED_CODE, "wardround_client": CLIENT, "wardround_server": SERVER}
HOSPITALS = tuple(f"hospitals/{name}" for name in NAMES)


def code_of(fed: Federation) -> tuple[CodeFacts, ...]:
    return report_of(evidence_of(fed.parts())).run.code


def failures(fed: Federation) -> list[Failure]:
    report = canonical_bytes(derive_report(evidence_of(fed.parts())))
    found = verify_bytes(bundle_bytes(fed.parts(), report, identity=fed.coordinator.identity))
    return [failure for verdict in found.four for failure in verdict.failures]


def test_a_digest_is_that_of_the_sources_that_are_there():
    folder = Path(wardround.__file__).parent
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.py"))
    listed = [[name, hashlib.sha256((folder / name).read_bytes()).hexdigest()] for name in names]
    due = hashlib.sha256(json.dumps(listed, separators=(",", ":")).encode()).hexdigest()
    assert code_digest("wardround") == due
    assert "audit/verify.py" in names


def test_a_changed_or_renamed_source_gives_another_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.syspath_prepend(tmp_path)
    package = tmp_path / "small_package"
    package.mkdir()
    (package / "__init__.py").write_text("A = 1\n")
    first = code_digest("small_package")
    (package / "__init__.py").write_text("A = 2\n")
    second = code_digest("small_package")
    (package / "__init__.pyc").write_bytes(b"compiled")
    assert code_digest("small_package") == second
    (package / "more.py").write_text("")
    assert len({first, second, code_digest("small_package")}) == 3


def test_a_package_that_is_not_there_has_none():
    with pytest.raises(BadInput, match="no_such_package is not installed"):
        code_digest("no_such_package")


def test_the_command_prints_what_a_study_pins():
    done = CliRunner().invoke(app, ["audit", "code"])
    assert done.exit_code == 0
    assert f'[software]\nwardround = "{code_digest(SHARED)}"\n' in done.stdout
    as_json = json.loads(CliRunner().invoke(app, ["audit", "code", "--json"]).stdout)
    assert as_json.items() >= code_digests(OF_HOSPITAL).items()


def test_a_run_whose_parties_log_no_code_says_that_none_is_available():
    fed = federation(rounds=1)
    assert code_of(fed) == ()
    assert failures(fed) == []


def test_what_each_party_says_that_it_ran_is_in_the_report():
    found = {each.package: each for each in code_of(federation(rounds=1, code=CODE))}
    assert found["wardround"].parties == ("coordinator", *HOSPITALS)
    assert found["wardround_client"].parties == HOSPITALS
    assert found["wardround_server"].parties == ("coordinator",)
    assert {each.verdict for each in found.values()} == {"not pinned"}


def test_code_as_the_study_pins_it_verifies_and_the_report_says_so():
    fed = federation(rounds=1, code=CODE, changes={"software": CODE})
    assert failures(fed) == []
    assert {each.verdict for each in code_of(fed)} == {"pinned"}
    page = render_html(derive_report(evidence_of(fed.parts())), lang="de")
    assert "wie in der Studie festgelegt" in page


def test_other_code_than_the_study_pins_fails_for_every_party_that_ran_it():
    fed = federation(rounds=1, code={**CODE, "wardround": OTHER}, changes={"software": CODE})
    found = failures(fed)
    assert {failure.code for failure in found} == {"code-differs"}
    assert {failure.log for failure in found} == {"coordinator", *HOSPITALS}
    assert "says that it ran ffffffff, the study pins cccccccc" in found[0].reason
    assert "NOT THE PINNED" in {each.verdict for each in code_of(fed)}
    assert "NOT THE PINNED" in render_html(derive_report(evidence_of(fed.parts())))


def test_silence_about_code_that_the_study_pins_fails():
    found = failures(federation(rounds=1, changes={"software": {"wardround": SHARED_CODE}}))
    assert {failure.log for failure in found} == {"coordinator", *HOSPITALS}
    assert "does not say which code it ran" in found[0].reason
