"""Every kind of damage to a bundle fails the verification, each under its own name.

Two attackers: one without keys (whoever carried the file), and one with the coordinator's or a
hospital's key, who signs again after changing what the log says.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import pytest
from tests.support.federation_evidence import (
    NAMES,
    RUN,
    Federation,
    Party,
    end_and_countersign,
    federation,
    new_identity,
    study_of,
)

from wardround.audit.bundle import LogExport, RunEvidence, bundle_bytes, evidence_of
from wardround.audit.check_authentic import Pins
from wardround.audit.container import MANIFEST, MANIFEST_SIGNATURE, pack, unpack
from wardround.audit.derive import derive_report
from wardround.audit.verdicts import Failure, Verdicts
from wardround.audit.verify import verify_bytes
from wardround.canonical import Json, canonical_bytes
from wardround.errors import WardroundError
from wardround.evidence.checkpoint import checkpoint_of, sign_checkpoint
from wardround.evidence.entry import Entry
from wardround.evidence.export import write_export
from wardround.masking.round_spec import RoundSpec
from wardround.study.files import sign_study

VICTIM = "leiden"
Change = Callable[[Json], None]


@lru_cache(maxsize=4)
def honest(lost: bool = False) -> Federation:
    return federation(rounds=2, lost={VICTIM: (1, "deadline")} if lost else None)


@lru_cache(maxsize=2)
def honest_report() -> bytes:
    return canonical_bytes(derive_report(evidence_of(honest().parts())))


@lru_cache(maxsize=2)
def honest_bundle() -> bytes:
    return bundle_bytes(honest().parts(), honest_report(), identity=honest().coordinator.identity)


def sealed(parts: RunEvidence, *, report: bytes | None = None) -> bytes:
    """What a dishonest coordinator hands out: the report follows from the changed logs."""
    if report is None:
        try:
            report = canonical_bytes(derive_report(evidence_of(parts)))
        except WardroundError:
            report = honest_report()
    return bundle_bytes(parts, report, identity=honest().coordinator.identity)


def only(verdicts: Verdicts, verdict: str, code: str) -> Failure:
    assert not verdicts.ok
    failures = {v.name: v.failures for v in verdicts.four}[verdict]
    found = [failure for failure in failures if failure.code == code]
    assert found, f"{code} not in {[str(f) for v in verdicts.four for f in v.failures]}"
    return found[0]


def of_type(party: Party, kind: str, nth: int = 0) -> int:
    return [entry.seq for entry in party.entries if entry.type == kind][nth]


def edited(entry: Entry, change: Change) -> Entry:
    body = json.loads(json.dumps(entry.body))
    change(body)
    return replace(entry, body=body)


def set_to(**fields: object) -> Change:
    return lambda body: body.update(fields)


def rewritten(party: Party, kind: str, change: Change, nth: int = 0) -> None:
    """A party with its key changes one entry and chains the rest anew."""
    seq = of_type(party, kind, nth)
    changed = list(party.entries)
    changed[seq] = edited(changed[seq], change)
    party.rewrite(changed)


def without(party: Party, kind: str, nth: int = 0) -> None:
    seq = of_type(party, kind, nth)
    party.rewrite([entry for entry in party.entries if entry.seq != seq])


def everywhere(fed: Federation, old: str, new: str) -> None:
    """Replace a text in all logs, whoever wrote it; all sign again."""
    for party in (fed.coordinator, *fed.hospitals.values()):
        texts = [json.dumps(entry.body).replace(old, new) for entry in party.entries]
        bodies = [json.loads(text) for text in texts]
        party.rewrite(
            [replace(entry, body=b) for entry, b in zip(party.entries, bodies, strict=True)]
        )


def respecified(fed: Federation, nth: int, **fields: object) -> None:
    """Open the nth attempt under another spec, in all logs."""
    seq = of_type(fed.coordinator, "round-opened", nth)
    body = fed.coordinator.entries[seq].body
    spec = RoundSpec.from_json({**body["spec"], **fields})
    rewritten(fed.coordinator, "round-opened", set_to(spec=spec.to_json()), nth)
    everywhere(fed, body["transcript"], spec.transcript().hex())


# --- whoever carried the file, without a key ---


def members() -> dict[str, bytes]:
    return unpack(honest_bundle())


MEMBERS = (
    "study.json",
    "keys.json",
    "countersignatures.json",
    "report.json",
    "report.signature",
    "VERIFY.md",
    "logs/coordinator.jsonl",
    "logs/coordinator.checkpoint",
    f"logs/hospitals/{VICTIM}.jsonl",
    f"logs/hospitals/{VICTIM}.checkpoint",
)


def test_an_honest_bundle_passes_all_four():
    verdicts = verify_bytes(honest_bundle())
    assert verdicts.ok, [str(f) for v in verdicts.four for f in v.failures]
    assert set(members()) >= set(MEMBERS)


@pytest.mark.parametrize("name", MEMBERS)
@pytest.mark.parametrize("where", [0.0, 0.37, 1.0])
def test_one_changed_byte_of_a_member_is_named(name: str, where: float):
    changed = members()
    content = bytearray(changed[name])
    content[round(where * (len(content) - 1))] ^= 0x01
    failure = only(
        verify_bytes(pack({**changed, name: bytes(content)})), "intact", "member-differs"
    )
    assert failure.log == name


def test_a_changed_manifest_is_named():
    changed = members()
    manifest = changed[MANIFEST].replace(b'"bytes":', b'"bytes":1', 1)
    verdicts = verify_bytes(pack({**changed, MANIFEST: manifest}))
    only(verdicts, "intact", "member-differs")
    only(verdicts, "authentic", "manifest-signature")


def test_a_changed_manifest_signature_is_named():
    changed = members()
    signature = bytearray(changed[MANIFEST_SIGNATURE])
    signature[5] = ord("0") if signature[5] != ord("0") else ord("1")
    verdicts = verify_bytes(pack({**changed, MANIFEST_SIGNATURE: bytes(signature)}))
    only(verdicts, "authentic", "manifest-signature")


@pytest.mark.parametrize("name", [*MEMBERS, MANIFEST, MANIFEST_SIGNATURE])
def test_a_missing_member_is_named(name: str):
    changed = members()
    del changed[name]
    verdicts = verify_bytes(pack(changed))
    reasons = [str(failure) for v in verdicts.four for failure in v.failures]
    assert not verdicts.ok
    assert any(name in reason for reason in reasons)


def test_an_added_member_is_named():
    verdicts = verify_bytes(pack({**members(), "logs/extra.txt": b"x"}))
    assert only(verdicts, "intact", "member-differs").log == "logs/extra.txt"


# --- with the coordinator's or a hospital's key ---


@dataclass(frozen=True)
class Forgery:
    """A name, what is done, and the verdict and code that must come."""

    name: str
    forge: Callable[[Federation], bytes]
    verdict: str
    code: str
    lost: bool = False
    place: str = ""


def log_bytes(name: str, change: Callable[[list[bytes]], list[bytes]]) -> Callable:
    """Change the lines of one log and nothing else; the checkpoint stays."""

    def forge(fed: Federation) -> bytes:
        parts = fed.parts()
        export = parts.coordinator if name == "coordinator" else parts.hospitals[name]
        lines = export.entries.split(b"\n")[:-1]
        entries = b"".join(line + b"\n" for line in change(lines))
        forged = replace(export, entries=entries)
        if name == "coordinator":
            return sealed(replace(parts, coordinator=forged))
        return sealed(replace(parts, hospitals={**parts.hospitals, name: forged}))

    return forge


def on_lines(change: Callable[[list[bytes]], None]) -> Callable[[list[bytes]], list[bytes]]:
    def apply(lines: list[bytes]) -> list[bytes]:
        change(lines)
        return lines

    return apply


def swap(lines: list[bytes]) -> None:
    lines[4], lines[5] = lines[5], lines[4]


def edit_middle(lines: list[bytes]) -> None:
    lines[3] = lines[3].replace(b'"actor":', b'"actor":', 1).replace(b"2026-", b"2025-", 1)


def edit_last(lines: list[bytes]) -> None:
    lines[-1] = lines[-1].replace(b"2026-", b"2025-", 1)


def take_number(lines: list[bytes]) -> None:
    twin = json.loads(lines[5])
    twin["seq"] = 4
    lines[5] = canonical_bytes(twin)


def acting(act: Callable[[Federation], None]) -> Callable[[Federation], bytes]:
    """Let a party change its log under its own key, then seal."""

    def forge(fed: Federation) -> bytes:
        act(fed)
        return sealed(fed.parts())

    return forge


def hospital(kind: str, change: Change, nth: int = 0) -> Callable[[Federation], bytes]:
    return acting(lambda fed: rewritten(fed.hospitals[VICTIM], kind, change, nth))


def coordinator(kind: str, change: Change, nth: int = 0) -> Callable[[Federation], bytes]:
    return acting(lambda fed: rewritten(fed.coordinator, kind, change, nth))


def engine(**fields: object) -> Callable[[Federation], bytes]:
    return hospital("release-sent", lambda body: body["engine"].update(fields))


def swapped_logs(fed: Federation) -> bytes:
    parts = fed.parts()
    logs = dict(parts.hospitals)
    logs["bergen"], logs[VICTIM] = logs[VICTIM], logs["bergen"]
    return sealed(replace(parts, hospitals=logs))


def other_checkpoint(change: Callable[[Federation], str]) -> Callable[[Federation], bytes]:
    def forge(fed: Federation) -> bytes:
        parts = fed.parts()
        forged = LogExport(entries=parts.hospitals[VICTIM].entries, checkpoint=change(fed))
        return sealed(replace(parts, hospitals={**parts.hospitals, VICTIM: forged}))

    return forge


def wrong_root(fed: Federation) -> str:
    party = fed.hospitals[VICTIM]
    honest_one = checkpoint_of(party.entries, actor=VICTIM)
    return sign_checkpoint(party.identity, replace(honest_one, root=bytes(32)))


def old_checkpoint(fed: Federation) -> str:
    party = fed.hospitals[VICTIM]
    return sign_checkpoint(party.identity, checkpoint_of(party.entries[:6], actor=VICTIM))


def checkpoint_of_another_key(fed: Federation) -> str:
    entries = fed.hospitals[VICTIM].entries
    return sign_checkpoint(new_identity("thief"), checkpoint_of(entries, actor=VICTIM))


def rolled_back(fed: Federation) -> None:
    party = fed.hospitals[VICTIM]
    party.entries = party.entries[:6]


def study_of_another_key(fed: Federation) -> bytes:
    parts = fed.parts()
    return sealed(replace(parts, signed_study=sign_study(fed.study, new_identity("thief"))))


def weaker_study(fed: Federation) -> bytes:
    study = study_of(rounds=2, changes={"privacy": {"epsilon": 9.0}})
    parts = fed.parts()
    signed = sign_study(study, fed.coordinator.identity)
    return sealed(replace(parts, signed_study=signed))


def other_hospital_key(fed: Federation) -> bytes:
    parts = fed.parts()
    keys = {**parts.hospital_keys, VICTIM: new_identity("thief").public_key}
    return sealed(replace(parts, hospital_keys=keys))


def hospital_left_out_of_keys(fed: Federation) -> bytes:
    parts = fed.parts()
    keys = {name: key for name, key in parts.hospital_keys.items() if name != VICTIM}
    return sealed(replace(parts, hospital_keys=keys))


def dropped_silently(fed: Federation) -> bytes:
    return sealed(fed.parts(without=frozenset({VICTIM})))


def reported(change: Change) -> Callable[[Federation], bytes]:
    def forge(fed: Federation) -> bytes:
        report = json.loads(honest_report())
        change(report)
        return sealed(fed.parts(), report=canonical_bytes(report))

    return forge


def under_report(report: Json) -> None:
    report["guarantee"]["epsilon"]["value"] = 0.5


def better_auroc(report: Json) -> None:
    report["evaluation"]["metrics"]["auroc"]["value"] = 0.9999


def hide_absence(report: Json) -> None:
    report["participation"]["planned"] = ["bergen", "coimbra", "zurich"]


def report_not_canonical(fed: Federation) -> bytes:
    return sealed(fed.parts(), report=honest_report().replace(b":", b": ", 1))


def report_signed_by_another(fed: Federation) -> bytes:
    content = unpack(sealed(fed.parts()))
    thief = unpack(bundle_bytes(fed.parts(), honest_report(), identity=new_identity("thief")))
    return pack({**content, "report.signature": thief["report.signature"]})


def late_approval(fed: Federation) -> None:
    party = fed.hospitals[VICTIM]
    first, *rest = party.entries
    party.rewrite([*rest, first])


def split_view(fed: Federation) -> None:
    """The coordinator showed this hospital another history than the one in the bundle."""
    rewritten(fed.hospitals[VICTIM], "checkpoint-witnessed", set_to(head="5" * 64), nth=1)


def history_cut(fed: Federation) -> None:
    fed.coordinator.entries = fed.coordinator.entries[:-2]


def swapped_signature(fed: Federation) -> None:
    first = of_type(fed.coordinator, "update-received", 0)
    other = fed.coordinator.entries[first + 1].body["signature"]
    rewritten(fed.coordinator, "update-received", set_to(signature=other))


def other_run_key(fed: Federation) -> None:
    seq = of_type(fed.coordinator, "hospital-joined", 1)
    key = fed.coordinator.entries[seq].body["run_key"]
    rewritten(fed.coordinator, "hospital-joined", set_to(run_key={**key, "session": "ef" * 16}), 1)


def other_directory(fed: Federation) -> None:
    respecified(fed, 0, directory_digest="7" * 64)


def fewer_in_the_minimum(fed: Federation) -> None:
    respecified(fed, 0, minimum=2)


def skipped_round(fed: Federation) -> None:
    respecified(fed, 0, round=1)


def unknown_model(fed: Federation) -> None:
    respecified(fed, 1, model_digest="8" * 64)


def update_left_out(fed: Federation) -> None:
    without(fed.coordinator, "update-received", 0)


def counts_and_digest(fed: Federation) -> None:
    """Counts and digest changed together: what is left is that hospitals saw another history."""
    seq = of_type(fed.coordinator, "evaluation-closed")
    body = fed.coordinator.entries[seq].body
    rewritten(
        fed.coordinator,
        "evaluation-closed",
        lambda b: b.update(counts=[c + (i == 99) for i, c in enumerate(body["counts"])]),
    )


def countersigned_for_another_run(fed: Federation) -> bytes:
    parts = fed.parts()
    signed = dict(parts.countersignatures)
    signed[VICTIM] = replace(signed[VICTIM], signature=signed["bergen"].signature)
    return sealed(replace(parts, countersignatures=signed))


def not_countersigned(fed: Federation) -> bytes:
    parts = fed.parts()
    signed = {n: s for n, s in parts.countersignatures.items() if n != VICTIM}
    return sealed(replace(parts, countersignatures=signed))


def one_more_round(fed: Federation) -> None:
    seq = of_type(fed.coordinator, "round-opened", 0)
    entry = fed.coordinator.entries[seq]
    spec = RoundSpec.from_json({**entry.body["spec"], "attempt": 9})
    body = {"transcript": spec.transcript().hex(), "spec": spec.to_json()}
    fed.coordinator.append("round-opened", body, at=fed.tick())


def hidden_attempt(fed: Federation) -> None:
    """The hospital answered an attempt that the coordinator left out of its log."""
    party = fed.hospitals[VICTIM]
    seq = of_type(party, "release-reserved", 1)
    extra = [edited(party.entries[seq], set_to(release="77" * 16, transcript="6" * 64))]
    party.rewrite([*party.entries[: seq + 2], *extra, *party.entries[seq + 2 :]])


def answered_twice(fed: Federation) -> None:
    party = fed.hospitals[VICTIM]
    seq = of_type(party, "release-reserved", 1)
    pair = [edited(e, set_to(release="77" * 16)) for e in party.entries[seq : seq + 2]]
    party.rewrite([*party.entries[: seq + 2], *pair, *party.entries[seq + 2 :]])


def second_run(fed: Federation) -> None:
    seq = of_type(fed.coordinator, "study-opened")
    entry = fed.coordinator.entries[seq]
    extra = edited(entry, set_to(run="9" * 32))
    fed.coordinator.rewrite([*fed.coordinator.entries, extra])


def absence_unnamed(fed: Federation) -> None:
    without(fed.coordinator, "hospital-missed")


def dropped_a_round(fed: Federation) -> None:
    without(fed.coordinator, "round-closed", 1)


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
    assert write_export(honest().coordinator.entries) == members()["logs/coordinator.jsonl"]
    assert json.loads(members()["report.json"])["run"]["run"] == RUN
