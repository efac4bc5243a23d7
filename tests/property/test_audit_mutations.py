"""Every kind of damage to a bundle fails the verification, each under its own name.

Two attackers: one without keys (whoever carried the file), and one with the coordinator's or a
hospital's key, who signs again after changing what the log says.
"""

import json
from dataclasses import replace

import pytest
from tests.support.federation_evidence import (
    RUN,
    end_and_countersign,
    federation,
)
from tests.support.forgeries import (
    VICTIM,
    Forgery,
    engine,
    honest,
    honest_bundle,
    of_type,
    only,
    reported,
    rewritten,
    sealed,
    set_to,
    under_report,
)
from tests.support.forgeries_parties import FORGERIES

from wardround.audit.bundle import bundle_bytes, evidence_of
from wardround.audit.check_authentic import Pins
from wardround.audit.container import unpack
from wardround.audit.derive import derive_report
from wardround.audit.verify import verify_bytes
from wardround.canonical import canonical_bytes
from wardround.evidence.export import write_export


@pytest.mark.parametrize("forgery", FORGERIES, ids=lambda forgery: forgery.name)
def test_a_forgery_fails_under_its_own_name(forgery: Forgery):
    bundle = forgery.forge(honest(forgery.lost).fork())
    failure = only(verify_bytes(bundle), forgery.verdict, forgery.code)
    assert failure.reason
    if forgery.place:
        assert failure.log == forgery.place


def test_what_a_forger_wrote_moves_no_cursor_over_the_verdicts():
    """CSI as one character (ECMA-48) and a turned direction: JSON does not escape them."""
    change = set_to(title="Risk \x9b1A\x9b2Krecomputed  ok \u202e")
    forged = reported(lambda report: change(report["study"]))(honest().fork())
    failure = only(verify_bytes(forged), "recomputed", "report-differs")
    assert "\x9b" in failure.reason
    text = "\n".join(verify_bytes(forged).lines())
    assert "\\u009b1A\\u009b2Krecomputed" in text
    assert all(letter.isprintable() for letter in text.replace("\n", ""))


def test_a_failure_names_the_log_and_the_entry():
    fed = honest().fork()
    bundle = sealed(replace(fed, coordinator=fed.coordinator).parts())
    assert verify_bytes(bundle).ok
    failure = only(verify_bytes(engine(noise_multiplier=0.4)(fed)), "recomputed", "engine-weaker")
    assert (failure.log, failure.seq) == (
        f"hospitals/{VICTIM}",
        of_type(fed.hospitals[VICTIM], "release-sent"),
    )


def test_an_under_reported_epsilon_is_named_with_both_numbers():
    failure = only(
        verify_bytes(reported(under_report)(honest().fork())), "recomputed", "report-differs"
    )
    assert "guarantee.epsilon.value" in failure.reason
    assert "0.5" in failure.reason


def test_two_bundles_with_two_histories_expose_the_coordinator():
    """Each hospital's log holds the history it was shown: one of the two does not fit it."""
    told = honest().fork()
    rewritten(told.coordinator, "evaluation-closed", set_to(sum_digest="2" * 64))
    end_and_countersign(told, (VICTIM,))
    mixed = replace(
        honest().fork().parts(),
        hospitals={**honest().parts().hospitals, VICTIM: told.hospitals[VICTIM].export()},
    )
    failure = only(verify_bytes(sealed(mixed)), "complete", "history-differs")
    assert failure.log == f"hospitals/{VICTIM}"


def test_a_forgery_with_all_keys_new_fails_only_against_a_pinned_fingerprint():
    """That is why the verifier prints which fingerprints its answer rests on."""
    thief = federation(rounds=2, keys="thief/")
    parts = thief.parts()
    report = canonical_bytes(derive_report(evidence_of(parts)))
    forged = bundle_bytes(parts, report, identity=thief.coordinator.identity)
    assert verify_bytes(forged).ok
    pins = Pins(coordinator=honest().coordinator.identity.fingerprint)
    only(verify_bytes(forged, pins=pins), "authentic", "pinned-key-differs")
    rests_on = dict(verify_bytes(forged).rests_on)
    assert rests_on["coordinator"] == thief.coordinator.identity.fingerprint


def test_a_pinned_roster_that_differs_is_named():
    roster = {n: p.identity.fingerprint for n, p in honest().hospitals.items()}
    assert verify_bytes(honest_bundle(), pins=Pins(hospitals=roster)).ok
    other = {**roster, VICTIM: "0" * 64}
    verdicts = verify_bytes(honest_bundle(), pins=Pins(hospitals=other))
    assert VICTIM in only(verdicts, "authentic", "pinned-key-differs").reason


def test_a_run_with_a_lost_hospital_verifies_and_names_it():
    parts = honest(lost=True).parts(without=frozenset({VICTIM}))
    report = derive_report(evidence_of(parts))
    assert verify_bytes(sealed(parts)).ok
    assert VICTIM in report["participation"]["headline"]
    assert report["participation"]["verdict"] == "somebody was missing"
    assert report["without_log"] == [VICTIM]


def test_a_log_left_as_it_was_still_verifies_after_the_forgeries():
    assert (
        write_export(honest().coordinator.entries)
        == unpack(honest_bundle())["logs/coordinator.jsonl"]
    )
    assert json.loads(unpack(honest_bundle())["report.json"])["run"]["run"] == RUN
