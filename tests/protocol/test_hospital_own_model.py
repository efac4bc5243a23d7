"""A study with an own model at a hospital: approved, joined and logged, or refused by name."""

import pytest
from tests.support import own_models
from tests.support.federation_evidence import NAMES as PARTIES
from tests.support.federation_evidence import federation
from tests.support.hospitals import NAMES, Ward

from wardround.audit.bundle import bundle_bytes, evidence_of
from wardround.audit.derive import derive_report, report_of
from wardround.audit.verify import verify_bytes
from wardround.canonical import canonical_bytes
from wardround.code_digest import OF_HOSPITAL, code_digest, code_digests
from wardround.errors import BadInput
from wardround.protocol.messages import Joined, Refusal, RefusalCode
from wardround_client.cli.review import in_words

HARBOUR = NAMES[0]


@pytest.fixture
def package(tmp_path, monkeypatch):
    site = tmp_path / "site"
    own_models.install(site)
    monkeypatch.syspath_prepend(site)
    own_models.forget(monkeypatch)
    yield site / own_models.PACKAGE
    own_models.forget(monkeypatch)


@pytest.fixture
def ward(tmp_path):
    ward = Ward.make(tmp_path / "ward", NAMES[:2])
    yield ward
    ward.close()


def test_a_hospital_joins_says_which_version_it_has_and_trains_it(package, ward):
    talk = ward.talk(task=own_models.task())
    assert "own: ward-net of package ward_net, digest " in in_words(talk.study)
    talk.open()
    logged = dict(ward[HARBOUR].log_entries(talk.study))["run-joined"]["code_digest"]
    assert logged == code_digests(OF_HOSPITAL) | {"ward_net": code_digest("ward_net")}
    answer, vector = ward[HARBOUR].ask(talk.work(talk.spec()), talk.model)
    assert not isinstance(answer, Refusal), answer
    assert talk.model.size == 2 * 8 + 8 + 2 * 8 + 8 + 1 + 2
    assert len(vector) == 4 * talk.model.size  # masked, 32 bits a parameter


def test_a_hospital_with_another_version_does_not_approve(package, ward):
    study = ward.study(task=own_models.task(digest="0" * 64))
    with pytest.raises(BadInput, match="model ward-net: package ward_net has the digest"):
        ward[HARBOUR].approve(ward.signed(study))


def test_a_version_that_was_replaced_after_approval_refuses_the_run(package, ward, monkeypatch):
    talk = ward.talk(task=own_models.task())
    (package / "__init__.py").write_text(own_models.source() + "\n# newer\n")
    own_models.forget(monkeypatch)  # the daemon was started anew
    (ward[HARBOUR].data / "patients.csv").unlink()  # no record is read before
    answer, _ = ward[HARBOUR].ask(talk.open_message())
    assert answer == Refusal(code=RefusalCode.MODEL)
    (package / "__init__.py").write_text(own_models.source())
    own_models.forget(monkeypatch)
    answer, _ = ward[NAMES[1]].ask(talk.open_message())
    assert isinstance(answer, Joined)


# What the audit makes of it: the package is pinned by the study that names it.

OWN = {"name": "ward-net", "package": "ward_net", "digest": "a" * 64}
TASK = {"task": {"family": "risk", "model": "own", "own": OWN}}
OURS = {"wardround": "c" * 64, "wardround_client": "d" * 64, "wardround_server": "e" * 64}


def judged(code):
    fed = federation(rounds=1, changes=TASK, code=code)
    evidence = evidence_of(fed.parts())
    report = canonical_bytes(derive_report(evidence))
    verdicts = verify_bytes(bundle_bytes(fed.parts(), report, identity=fed.coordinator.identity))
    failures = [failure for verdict in verdicts.four for failure in verdict.failures]
    return {each.package: each for each in report_of(evidence).run.code}, failures


def test_parties_that_log_the_named_digest_verify_and_the_report_says_pinned():
    found, failures = judged(OURS | {"ward_net": "a" * 64})
    assert failures == []
    assert found["ward_net"].verdict == "pinned"
    assert found["ward_net"].parties == ("coordinator", *(f"hospitals/{n}" for n in PARTIES))
    assert found["wardround"].verdict == "not pinned"


@pytest.mark.parametrize("logged", [{}, {"ward_net": "b" * 64}])
def test_another_digest_of_it_or_none_fails_for_every_party(logged):
    _, failures = judged(OURS | logged)
    assert {failure.code for failure in failures} == {"code-differs"}
    assert len({failure.log for failure in failures}) == 1 + len(PARTIES)
    assert all(failure.reason.startswith("ward_net: it ") for failure in failures)
