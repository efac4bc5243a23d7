"""Every kind of damage to a bundle fails the verification, each under its own name.

Two attackers: one without keys (whoever carried the file), and one with the coordinator's or a
hospital's key, who signs again after changing what the log says.
"""

import json
from dataclasses import replace

import pytest
from tests.support.federation_evidence import (
    NAMES,
    RUN,
    end_and_countersign,
    federation,
)
from tests.support.forgeries import (
    VICTIM,
    Forgery,
    absence_unnamed,
    acting,
    answered_twice,
    better_auroc,
    checkpoint_of_another_key,
    coordinator,
    countersigned_for_another_run,
    counts_and_digest,
    dropped_a_round,
    dropped_silently,
    edit_last,
    edit_middle,
    engine,
    fewer_in_the_minimum,
    hidden_attempt,
    hide_absence,
    history_cut,
    honest,
    honest_bundle,
    hospital,
    hospital_left_out_of_keys,
    late_approval,
    log_bytes,
    not_countersigned,
    of_type,
    old_checkpoint,
    on_lines,
    one_more_round,
    only,
    other_checkpoint,
    other_directory,
    other_hospital_key,
    other_names,
    other_run_key,
    report_not_canonical,
    report_signed_by_another,
    reported,
    rewritten,
    rolled_back,
    sealed,
    second_run,
    set_to,
    skipped_round,
    split_view,
    study_of_another_key,
    swap,
    swapped_logs,
    swapped_signature,
    take_number,
    under_report,
    unknown_model,
    update_left_out,
    weaker_study,
    without,
    wrong_root,
)

from wardround.audit.bundle import bundle_bytes, evidence_of
from wardround.audit.check_authentic import Pins
from wardround.audit.container import unpack
from wardround.audit.derive import derive_report
from wardround.audit.verify import verify_bytes
from wardround.canonical import canonical_bytes
from wardround.evidence.export import write_export

FORGERIES = (
    Forgery("edit", log_bytes(VICTIM, on_lines(edit_middle)), "intact", "chain-broken"),
    Forgery("edit-last", log_bytes(VICTIM, on_lines(edit_last)), "intact", "head-differs"),
    Forgery(
        "repeat", log_bytes(VICTIM, lambda x: [*x[:4], x[3], *x[4:]]), "intact", "entry-repeated"
    ),
    Forgery("delete", log_bytes("coordinator", lambda x: x[:6] + x[7:]), "intact", "sequence-gap"),
    Forgery("reorder", log_bytes("coordinator", on_lines(swap)), "intact", "out-of-order"),
    Forgery("same-number", log_bytes(VICTIM, on_lines(take_number)), "intact", "sequence-taken"),
    Forgery("truncate", log_bytes("coordinator", lambda x: x[:-1]), "intact", "truncated"),
    Forgery("half-line", log_bytes(VICTIM, lambda x: [*x[:-1], x[-1][:9]]), "intact", "malformed"),
    Forgery(
        "space",
        log_bytes(VICTIM, lambda x: [*x[:-1], x[-1].replace(b":", b": ", 1)]),
        "intact",
        "not-canonical",
    ),
    Forgery(
        "two-spellings",
        log_bytes(VICTIM, lambda x: [x[0].replace(b'"seq":0', b'"seq":0e0'), *x[1:]]),
        "intact",
        "malformed",
    ),
    Forgery("swap-logs", swapped_logs, "intact", "log-swapped", place="hospitals/bergen"),
    Forgery("wrong-root", other_checkpoint(wrong_root), "intact", "root-differs"),
    Forgery("old-checkpoint", other_checkpoint(old_checkpoint), "intact", "not-signed"),
    Forgery(
        "stolen-checkpoint",
        other_checkpoint(checkpoint_of_another_key),
        "authentic",
        "checkpoint-signature",
    ),
    Forgery("roll-back", acting(rolled_back), "complete", "end-missing"),
    Forgery("study-key", study_of_another_key, "authentic", "study-signature", place="study.json"),
    Forgery("weaker-study", weaker_study, "complete", "other-study"),
    Forgery("other-key", other_hospital_key, "authentic", "roster-differs"),
    Forgery("key-left-out", hospital_left_out_of_keys, "authentic", "roster-differs"),
    Forgery("dropped", dropped_silently, "complete", "log-missing"),
    Forgery("epsilon-in-report", reported(under_report), "recomputed", "report-differs"),
    Forgery("metrics-in-report", reported(better_auroc), "recomputed", "report-differs"),
    Forgery("absence-in-report", reported(hide_absence), "recomputed", "report-differs"),
    Forgery("report-spelling", report_not_canonical, "recomputed", "report-malformed"),
    Forgery("report-key", report_signed_by_another, "authentic", "report-signature"),
    Forgery("late-approval", acting(late_approval), "complete", "not-approved"),
    Forgery(
        "other-approval",
        hospital("study-approved", set_to(study_digest="1" * 64)),
        "complete",
        "not-approved",
    ),
    Forgery(
        "joined-other",
        hospital("run-joined", set_to(study_digest="1" * 64)),
        "complete",
        "other-study",
    ),
    Forgery("split-view", acting(split_view), "complete", "history-differs"),
    Forgery(
        "rewritten-history",
        coordinator("study-opened", set_to(software="9.9")),
        "complete",
        "history-differs",
    ),
    Forgery("cut-history", acting(history_cut), "complete", "history-shortened"),
    Forgery("swapped-signature", acting(swapped_signature), "authentic", "update-signature"),
    Forgery(
        "forged-update",
        coordinator("update-received", lambda b: b["header"].update(update_digest="3" * 64)),
        "authentic",
        "update-signature",
    ),
    Forgery("run-key", acting(other_run_key), "authentic", "run-key-signature"),
    Forgery("directory", acting(other_directory), "authentic", "directory-differs"),
    Forgery(
        "transcript",
        coordinator("round-opened", lambda b: b["spec"].update(lanes=30)),
        "complete",
        "entry-contradicts",
    ),
    Forgery("minimum", acting(fewer_in_the_minimum), "complete", "spec-differs"),
    Forgery("round-number", acting(skipped_round), "complete", "round-order"),
    Forgery("model-sent", acting(unknown_model), "complete", "model-differs"),
    Forgery(
        "model-digest",
        coordinator("round-closed", set_to(model_after="4" * 64)),
        "complete",
        "model-differs",
    ),
    Forgery(
        "model-at-the-end",
        coordinator("run-closed", set_to(model="4" * 64)),
        "complete",
        "model-differs",
    ),
    Forgery("update-left-out", acting(update_left_out), "complete", "sum-without-hospital"),
    Forgery(
        "update-hidden",
        acting(update_left_out),
        "complete",
        "update-hidden",
        place="hospitals/bergen",
    ),
    Forgery(
        "release-erased",
        acting(lambda fed: without(fed.hospitals[VICTIM], "release-sent")),
        "complete",
        "release-missing",
    ),
    Forgery(
        "other-update",
        hospital("release-sent", set_to(update_digest="3" * 64)),
        "complete",
        "update-differs",
    ),
    Forgery(
        "purpose",
        hospital("release-reserved", set_to(purpose="evaluate")),
        "complete",
        "purpose-differs",
    ),
    Forgery("hidden-attempt", acting(hidden_attempt), "complete", "attempt-hidden"),
    Forgery("answered-twice", acting(answered_twice), "complete", "answered-twice"),
    Forgery(
        "sent-unreserved",
        acting(lambda fed: without(fed.hospitals[VICTIM], "release-reserved")),
        "complete",
        "entry-contradicts",
    ),
    Forgery("round-without-end", acting(dropped_a_round), "complete", "attempt-open"),
    Forgery(
        "no-end",
        acting(lambda fed: without(fed.coordinator, "run-closed")),
        "complete",
        "end-missing",
    ),
    Forgery(
        "rounds-at-the-end", coordinator("run-closed", set_to(rounds=9)), "complete", "end-differs"
    ),
    Forgery("second-run", acting(second_run), "complete", "other-run"),
    Forgery("one-more-round", acting(one_more_round), "complete", "after-the-end"),
    Forgery("countersignature", countersigned_for_another_run, "authentic", "countersignature"),
    Forgery("not-countersigned", not_countersigned, "complete", "countersignature-missing"),
    Forgery("noise", engine(noise_multiplier=0.4), "recomputed", "engine-weaker"),
    Forgery(
        "noise-and-ceiling", engine(noise_multiplier=0.4), "recomputed", "epsilon-over-ceiling"
    ),
    Forgery("clip", engine(clip_norm_l2=2.0), "recomputed", "engine-weaker"),
    Forgery("sampling", engine(sampling_rate=0.5), "recomputed", "engine-weaker"),
    Forgery("steps", engine(steps=400), "recomputed", "engine-weaker"),
    Forgery("records", engine(records_per_patient=7), "recomputed", "engine-weaker"),
    Forgery(
        "no-noise", engine(mechanism="none", noise_multiplier=0.0), "recomputed", "engine-weaker"
    ),
    Forgery(
        "own-account",
        hospital("run-ended", set_to(epsilon=0.1)),
        "recomputed",
        "epsilon-under-reported",
    ),
    Forgery(
        "own-ledger",
        hospital("run-ended", set_to(epsilon_dataset=0.1)),
        "recomputed",
        "epsilon-under-reported",
    ),
    Forgery("own-delta", hospital("run-ended", set_to(delta=0.1)), "recomputed", "delta-differs"),
    Forgery(
        "budget", hospital("run-ended", set_to(epsilon_budget=1.0)), "recomputed", "budget-overrun"
    ),
    Forgery(
        "audit-count", hospital("engine-audited", set_to(right=150)), "recomputed", "audit-differs"
    ),
    Forgery(
        "audit-bound",
        hospital("engine-audited", set_to(epsilon_f_dp=0.01)),
        "recomputed",
        "audit-differs",
    ),
    Forgery(
        "audit-verdict",
        hospital("engine-audited", set_to(verdict="PASS")),
        "recomputed",
        "audit-differs",
    ),
    Forgery("audit-names", acting(other_names), "recomputed", "audit-differs"),
    Forgery(
        "audit-coins",
        hospital("engine-audited", set_to(seed="5" * 64)),
        "recomputed",
        "audit-differs",
    ),
    Forgery(
        "audit-rule",
        hospital("engine-audit-registered", lambda b: b["rule"].update(steps=1)),
        "recomputed",
        "audit-rule-differs",
    ),
    Forgery(
        "audit-unregistered",
        acting(lambda fed: without(fed.hospitals[VICTIM], "engine-audit-registered")),
        "recomputed",
        "audit-unregistered",
    ),
    Forgery(
        "noise-measured",
        hospital("noise-measured", set_to(sum_of_squares_over_variance=500.0)),
        "recomputed",
        "noise-measured-differs",
    ),
    Forgery(
        "noise-verdict",
        hospital("noise-measured", set_to(verdict="PASS")),
        "recomputed",
        "noise-measured-differs",
    ),
    Forgery(
        "noise-values",
        hospital("noise-measured", set_to(coordinates=10**9)),
        "recomputed",
        "noise-measured-differs",
    ),
    Forgery("counts", acting(counts_and_digest), "recomputed", "counts-differ"),
    Forgery(
        "sum-digest",
        coordinator("evaluation-closed", set_to(sum_digest="2" * 64)),
        "recomputed",
        "counts-differ",
    ),
    Forgery(
        "unknown-type",
        acting(lambda fed: fed.hospitals[VICTIM].append("made-up", {}, at=fed.tick()) and None),
        "intact",
        "body-malformed",
    ),
    Forgery(
        "unknown-field", hospital("run-ended", set_to(patient="x")), "intact", "body-malformed"
    ),
    Forgery("absence-unnamed", acting(absence_unnamed), "complete", "absence-unnamed", lost=True),
    Forgery(
        "absent-completed",
        coordinator("run-closed", set_to(hospitals_completed=list(NAMES))),
        "complete",
        "end-differs",
        lost=True,
    ),
)


@pytest.mark.parametrize("forgery", FORGERIES, ids=lambda forgery: forgery.name)
def test_a_forgery_fails_under_its_own_name(forgery: Forgery):
    bundle = forgery.forge(honest(forgery.lost).fork())
    failure = only(verify_bytes(bundle), forgery.verdict, forgery.code)
    assert failure.reason
    if forgery.place:
        assert failure.log == forgery.place


def test_there_are_over_forty_kinds_of_forgery():
    assert len({forgery.name for forgery in FORGERIES}) == len(FORGERIES) > 40


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
