"""An officer decides about a report on the command line, with the hospital's key and log."""

import json
from dataclasses import replace

import pytest
from tests.support.forgeries import honest_bundle
from tests.support.hospitals import NAMES, Ward
from tests.support.memory_runs import Federation

from wardround.audit.attach import attach
from wardround.audit.bundle import bundle_bytes, evidence_of, read_bundle, write_bundle
from wardround.audit.container import pack, unpack
from wardround.audit.derive import derive_report
from wardround.audit.verify import verify_bytes
from wardround.canonical import canonical_bytes
from wardround.cli import main as cli
from wardround.evidence.checkpoint import checkpoint_of, sign_checkpoint
from wardround.evidence.dsse import Envelope
from wardround.evidence.entry import Entry, head_of
from wardround.evidence.export import read_export, write_export

HARBOUR, LAKESIDE, NORTHSIDE = NAMES


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that only counts, its bundle, and the hospitals' directories."""
    ward = Ward.make(tmp_path_factory.mktemp("ward"))
    federation = Federation(ward, rounds__count=1)
    model, session = federation.run().train_and_evaluate()
    evidence = federation.close(model, session)
    bundle = ward.folder / "bundle.zip"
    write_bundle(bundle, evidence, identity=ward.coordinator.identity())
    yield ward, bundle, federation
    ward.close()


def said(capsys, *arguments, code=0):
    ended = cli.run([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    assert ended == code, captured.err
    return captured.out if code == 0 else captured.err


def home(ward, name):
    return ("--dir", ward[name].home.directory, "--officer", "Dr Ada")


def signed_off(ward, federation, name):
    with ward[name].home.log(federation.study.digest) as log:
        return [e for e in log.entries() if e.type == "report-signed-off"]


def test_an_officer_approves_and_the_decision_is_logged_signed_and_attached(
    finished, tmp_path, capsys
):
    ward, bundle, federation = finished
    file = tmp_path / "harbour.dsse.json"
    text = said(
        capsys, "review", "sign-off", bundle, *home(ward, HARBOUR), "--approve", "--out", file
    )
    assert "authentic   ok" in text
    assert f"{HARBOUR}, Dr Ada: approve" in text
    (entry,) = signed_off(ward, federation, HARBOUR)
    assert (entry.body["decision"], entry.body["officer"]) == ("approve", "Dr Ada")
    content, (decided,) = attach(bundle.read_bytes(), [file.read_bytes()])
    assert decided.hospital == HARBOUR
    assert verify_bytes(content).ok


def test_the_same_decision_again_is_signed_alike_and_another_one_is_refused(
    finished, tmp_path, capsys
):
    ward, bundle, federation = finished
    given = ("review", "sign-off", bundle, *home(ward, LAKESIDE))
    first, second = tmp_path / "1.json", tmp_path / "2.json"
    said(capsys, *given, "--remark", "fine for now", "--out", first)
    said(capsys, *given, "--remark", "fine for now", "--out", second)
    payloads = {Envelope.from_bytes(f.read_bytes(), what="x").payload for f in (first, second)}
    assert len(payloads) == 1
    assert len(signed_off(ward, federation, LAKESIDE)) == 1
    assert "decided already" in said(capsys, *given, "--refuse", "no", code=4)
    assert len(signed_off(ward, federation, LAKESIDE)) == 1


def test_a_report_that_does_not_verify_is_refused_but_never_approved(finished, tmp_path, capsys):
    ward, bundle, federation = finished
    forged = tmp_path / "forged.zip"
    members = unpack(bundle.read_bytes())
    report = members["report.json"].replace(b'"planned"', b'"promised"', 1)
    parts, identity = read_bundle(bundle).parts, ward.coordinator.identity()
    forged.write_bytes(bundle_bytes(parts, report, identity=identity))
    given = ("review", "sign-off", forged, *home(ward, NORTHSIDE))
    assert "not recomputed" in said(capsys, *given, "--approve", code=7)
    assert signed_off(ward, federation, NORTHSIDE) == []
    file = tmp_path / "no.json"
    answer = said(capsys, *given, "--refuse", "it was changed", "--out", file, "--json")
    assert json.loads(answer)["decision"] == "refuse"
    assert len(signed_off(ward, federation, NORTHSIDE)) == 1


def test_a_copy_that_is_not_what_its_manifest_says_is_not_decided_about(finished, tmp_path, capsys):
    """A refusal of it would be a valid refusal of the whole one."""
    ward, bundle, federation = finished
    changed = tmp_path / "changed.zip"
    changed.write_bytes(pack({**unpack(bundle.read_bytes()), "VERIFY.md": b"trust me"}))
    before = len(signed_off(ward, federation, NORTHSIDE))
    given = ("review", "sign-off", changed, *home(ward, NORTHSIDE), "--refuse", "no")
    assert "ask for a whole copy" in said(capsys, *given, code=7)
    assert len(signed_off(ward, federation, NORTHSIDE)) == before


def test_a_bundle_with_another_log_of_this_hospital_is_not_approved(finished, tmp_path, capsys):
    """Only the hospital itself can see that: the log is signed with its own, stolen key."""
    ward, bundle, _ = finished
    parts = read_bundle(bundle).parts
    entries: list[Entry] = []
    for entry in read_export(parts.hospitals[NORTHSIDE].entries):
        body = entry.body | ({"epsilon_budget": 11.0} if entry.type == "run-ended" else {})
        entries.append(replace(entry, body=body, previous=head_of(entries)))
    identity = ward[NORTHSIDE].home.identity()
    note = sign_checkpoint(identity, checkpoint_of(entries, actor=NORTHSIDE), lasting=True)
    export = replace(parts.hospitals[NORTHSIDE], entries=write_export(entries), checkpoint=note)
    other = replace(parts, hospitals={**parts.hospitals, NORTHSIDE: export})
    report = canonical_bytes(derive_report(evidence_of(other)))
    forged = tmp_path / "other-log.zip"
    forged.write_bytes(bundle_bytes(other, report, identity=ward.coordinator.identity()))
    given = ("review", "sign-off", forged, *home(ward, NORTHSIDE))
    assert verify_bytes(forged.read_bytes()).ok
    assert "not the one that we hold" in said(capsys, *given, "--approve", code=7)


@pytest.mark.parametrize(
    "words", [(), ("--approve", "--refuse", "x"), ("--remark", "a", "--refuse", "b")]
)
def test_exactly_one_decision_is_due(finished, words, capsys):
    ward, bundle, _ = finished
    given = ("review", "sign-off", bundle, *home(ward, NORTHSIDE))
    assert "one of --approve" in said(capsys, *given, *words, code=4)


def test_a_remark_of_two_lines_is_refused_before_it_is_logged(finished, capsys):
    ward, bundle, federation = finished
    before = len(signed_off(ward, federation, NORTHSIDE))
    given = ("review", "sign-off", bundle, *home(ward, NORTHSIDE), "--remark", "a\nb")
    assert "one line" in said(capsys, *given, code=4)
    assert len(signed_off(ward, federation, NORTHSIDE)) == before


def test_a_bundle_of_another_coordinator_is_not_this_hospitals_to_decide(
    finished, tmp_path, capsys
):
    ward, _, _ = finished
    other = tmp_path / "other.zip"
    other.write_bytes(honest_bundle())
    given = ("review", "sign-off", other, *home(ward, HARBOUR), "--refuse", "not ours")
    assert "signed" in said(capsys, *given, code=4)
