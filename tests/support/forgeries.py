"""Forgers: who carried the file without a key, and parties that sign again what they changed."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

from tests.support.federation_evidence import (
    Federation,
    Party,
    federation,
    new_identity,
    study_of,
)

from wardround.audit.bundle import RunEvidence, bundle_bytes, evidence_of
from wardround.audit.container import pack, unpack
from wardround.audit.derive import derive_report
from wardround.audit.verdicts import Failure, Verdicts
from wardround.canonical import Json, canonical_bytes
from wardround.errors import WardroundError
from wardround.evidence.entry import Entry, head_of
from wardround.masking.round_spec import RoundSpec
from wardround.study.files import sign_study

VICTIM = "leiden"
Change = Callable[[Json], None]


@lru_cache(maxsize=4)
def honest(lost: bool = False) -> Federation:
    """Everybody to the end; or one lost, one vanished, one suspected, and a void attempt."""
    few = {"evaluation": {"bins": 10}}
    if not lost:
        told = {"audited": True, "described": True, "compared": True, "witnessed": True}
        return federation(rounds=2, changes=few, **told)
    return federation(
        rounds=2,
        lost={VICTIM: (1, "deadline")},
        vanished={"zurich": (0, "revealed")},
        suspected={"coimbra": (0, "its share of the keys of zurich does not fit")},
        void=(0,),
        changes=few,
        witnessed=True,
    )


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
    if "cohort" in fields:
        fields = {"partition": [fields["cohort"]], **fields}
    spec = RoundSpec.from_json({**body["spec"], **fields})
    rewritten(fed.coordinator, "round-opened", set_to(spec=spec.to_json()), nth)
    everywhere(fed, body["transcript"], spec.transcript().hex())


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


def rolled_back(fed: Federation) -> None:
    party = fed.hospitals[VICTIM]
    party.entries = party.entries[:6]


def weaker_study(fed: Federation) -> bytes:
    study = study_of(rounds=2, changes={"privacy": {"epsilon": 9.0}})
    parts = fed.parts()
    signed = sign_study(study, fed.coordinator.identity)
    return sealed(replace(parts, signed_study=signed))


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


def hide_absence(report: Json) -> None:
    report["participation"]["planned"] = ["bergen", "coimbra", "zurich"]


def report_not_canonical(fed: Federation) -> bytes:
    return sealed(fed.parts(), report=honest_report().replace(b":", b": ", 1))


def report_signed_by_another(fed: Federation) -> bytes:
    content = unpack(sealed(fed.parts()))
    thief = unpack(bundle_bytes(fed.parts(), honest_report(), identity=new_identity("thief")))
    return pack({**content, "statement.dsse.json": thief["statement.dsse.json"]})


def split_view(fed: Federation) -> None:
    """The coordinator showed this hospital another history than the one in the bundle."""
    rewritten(fed.hospitals[VICTIM], "checkpoint-witnessed", set_to(head="5" * 64), nth=1)


def history_cut(fed: Federation) -> None:
    fed.coordinator.entries = fed.coordinator.entries[:-2]


def swapped_signature(fed: Federation) -> None:
    second = of_type(fed.coordinator, "update-received", 1)
    other = fed.coordinator.entries[second].body["signature"]
    rewritten(fed.coordinator, "update-received", set_to(signature=other))


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
        lambda b: b.update(counts=[c + (i == 9) for i, c in enumerate(body["counts"])]),
    )


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


def other_names(fed: Federation) -> None:
    """The same canaries are named in and out: no count of right names follows."""
    body = fed.hospitals[VICTIM].entries[of_type(fed.hospitals[VICTIM], "engine-audited")].body
    rewritten(fed.hospitals[VICTIM], "engine-audited", set_to(named_out=body["named_in"], right=0))


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


def update_delayed(fed: Federation) -> None:
    """The update of one hospital came when its sum had been opened."""
    log = fed.coordinator
    late, end = of_type(log, "update-received", 2), of_type(log, "round-closed")
    entries = list(log.entries)
    log.rewrite([*entries[:late], *entries[late + 1 : end + 1], entries[late], *entries[end + 1 :]])


def worked_unseen(fed: Federation) -> None:
    """The hospital worked for an attempt before the coordinator had shown that it logged it."""
    without(fed.hospitals[VICTIM], "checkpoint-witnessed", 1)


def ended_early(fed: Federation) -> None:
    """The hospital ends the run under a head from its beginning, and countersigns the last one."""
    head = head_of(fed.coordinator.entries[:5])
    rewritten(fed.hospitals[VICTIM], "run-ended", set_to(coordinator_head=head))
