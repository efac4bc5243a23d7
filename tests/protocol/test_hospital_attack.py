"""A hospital whose policy asks for it attacks the final model before it hands over its log."""

import pytest
from tests.support.forgeries import only
from tests.support.hospitals import NAMES, Ward
from tests.support.memory_runs import Federation

from wardround.audit.attack_rows import attack_rows
from wardround.audit.bodies import HOSPITAL_TYPES
from wardround.audit.bundle import bundle_bytes, evidence_of
from wardround.audit.derive import derive_report, report_of
from wardround.audit.html import render_html
from wardround.audit.verify import verify_bytes
from wardround.canonical import canonical_bytes
from wardround.protocol.halves import model_digest
from wardround_client.attacks import at_closing
from wardround_client.attacks.at_closing import FinalAttack
from wardround_client.ledger import Purpose

HARBOUR, LAKESIDE, NORTHSIDE = NAMES


@pytest.fixture
def ward(tmp_path):
    ward = Ward.make(tmp_path)
    ward[HARBOUR].set_policy(attack_test="true")
    yield ward
    ward.close()


def run(ward, **changes):
    federation = Federation(ward, **{"rounds__deadline_s": 60.0, **changes})
    model, session = federation.run().train_and_evaluate()
    return federation, model, federation.close(model, session)


def own_entries(ward, federation):
    return ward[HARBOUR].log_entries(federation.study)


def test_policy_on_the_verdicts_are_in_log_ledger_report_and_a_bundle_that_verifies(ward):
    federation, model, parts = run(ward)
    kinds = [kind for kind, _ in own_entries(ward, federation)]
    assert kinds[-3:] == ["attack-tested", "noise-measured", "run-ended"]
    (body,) = [body for kind, body in own_entries(ward, federation) if kind == "attack-tested"]
    tested = HOSPITAL_TYPES["attack-tested"].model_validate(body)
    assert (tested.model, tested.shadows) == (model_digest(model), 4)
    assert tested.verdict == "INCONCLUSIVE"  # 40 patients
    assert "membership: likelihood ratio" in tested.verdicts
    hospital = ward[HARBOUR].hospital
    (session,) = hospital.sessions.values()
    again = FinalAttack(HARBOUR, hospital.times, hospital.randomness)
    assert again.entry(session, model) is None  # once, however often the run is closed
    ward[HARBOUR].stop()
    with ward[HARBOUR].home.ledger("fever-harbour") as ledger:
        (release,) = [r for r in ledger.exact_releases() if r.purpose is Purpose.ATTACK_TEST]
        assert (release.units, release.done is not None) == (40, True)
        assert not ledger.training_was_exact()

    evidence = evidence_of(parts)
    report = report_of(evidence)
    content = canonical_bytes(derive_report(evidence))
    bundle = bundle_bytes(parts, content, identity=ward.coordinator.identity())
    found = verify_bytes(bundle)
    assert found.ok, list(found.lines())
    rows = {row.hospital: row for row in attack_rows(report)}
    assert rows[HARBOUR].verdict == "INCONCLUSIVE"
    assert rows[HARBOUR].said.epsilon_claimed.value == federation.study.privacy.epsilon
    for name in (LAKESIDE, NORTHSIDE):
        assert rows[name].verdict == "NOT RUN"
        assert rows[name].why == "the hospital's policy does not ask for it"
    page = render_html(report.to_json())
    assert "could have gone unseen" in page
    assert "policy does not ask for it" in page.replace("&#39;", "'")


def test_a_hospital_that_forges_its_verdict_is_found(ward, monkeypatch):
    skipped = FinalAttack.entry
    forged_to = {
        "verdicts": {"membership: loss threshold": "INCONCLUSIVE"},
        "verdict": "PASS",
        "skipped": None,
    }

    def forged(self, session, model):
        kind, body = skipped(self, session, model)
        return kind, body | forged_to

    monkeypatch.setattr(FinalAttack, "entry", forged)
    _, _, parts = run(ward, rounds__deadline_s=5.0)
    content = canonical_bytes(derive_report(evidence_of(parts)))
    found = verify_bytes(bundle_bytes(parts, content, identity=ward.coordinator.identity()))
    failure = only(found, "recomputed", "attack-differs")
    assert failure.log == f"hospitals/{HARBOUR}"
    assert "its attacks give INCONCLUSIVE" in failure.reason


@pytest.mark.parametrize(
    ("deadline_s", "breaks", "why"), [(5.0, False, "no time"), (60.0, True, "failed")]
)
def test_what_was_asked_for_and_not_done_is_said_and_costs_no_run(
    ward, monkeypatch, deadline_s, breaks, why
):
    def broken(*_, **__):
        raise RuntimeError("patient 7")

    if breaks:
        monkeypatch.setattr(at_closing, "attack", broken)
    federation, _, parts = run(ward, rounds__deadline_s=deadline_s)
    (body,) = [body for kind, body in own_entries(ward, federation) if kind == "attack-tested"]
    assert (body["skipped"], body["verdicts"], body["verdict"]) == (why, {}, "INCONCLUSIVE")
    assert HARBOUR in parts.countersignatures
    content = canonical_bytes(derive_report(evidence_of(parts)))
    assert verify_bytes(bundle_bytes(parts, content, identity=ward.coordinator.identity())).ok
    ward[HARBOUR].stop()
    with ward[HARBOUR].home.ledger("fever-harbour") as ledger:
        assert all(r.purpose is not Purpose.ATTACK_TEST for r in ledger.exact_releases())
