"""Bundles whose members a dishonest coordinator changed, listed and signed; and its report."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace

from tests.support.federation_evidence import RUN, Federation, Party, new_identity
from tests.support.forgeries import VICTIM, Forgery, honest, honest_report, log_bytes, sealed
from tests.support.forgeries_members import (
    COORDINATOR_LOG,
    COORDINATOR_NOTE,
    LOG,
    NOTE,
    another_run,
    as_json,
    members,
    relisted,
    resealed,
)

from wardround.audit.container import MANIFEST, MANIFEST_SIGNATURE, pack
from wardround.audit.countersign import countersign
from wardround.audit.evidence import hospital_place
from wardround.canonical import Json, canonical_bytes
from wardround.evidence.checkpoint import Checkpoint, checkpoint_of, sign_checkpoint

HIS = hospital_place(VICTIM)
MALFORMED = ("intact", "container-malformed", "bundle")
Note = Callable[[Party], str]


def keys() -> Iterator[Forgery]:
    """keys.json: whose keys, how many, how written."""
    thief = new_identity("thief").public_key.hex()
    roster = ("authentic", "roster-differs", "keys.json")
    ways: dict[str, tuple[Callable[[Json], object], tuple[str, str, str]]] = {
        "another coordinator": (
            lambda v: v.update(coordinator=thief),
            ("authentic", "study-signature", "study.json"),
        ),
        "another hospital": (lambda v: v["hospitals"].update({VICTIM: thief}), roster),
        "keys of two exchanged": (exchanged, roster),
        "a hospital less": (lambda v: v["hospitals"].pop(VICTIM), roster),
        "a hospital more": (lambda v: v["hospitals"].update(oslo=thief), roster),
        "a hospital renamed": (
            lambda v: v["hospitals"].update(oslo=v["hospitals"].pop(VICTIM)),
            roster,
        ),
        "upper case": (lambda v: v.update(coordinator=thief.upper()), MALFORMED),
        "a short key": (lambda v: v.update(coordinator=thief[2:]), MALFORMED),
        "a number": (lambda v: v.update(coordinator=7), MALFORMED),
        "a field more": (lambda v: v.update(authority=thief), MALFORMED),
        "no coordinator": (lambda v: v.pop("coordinator"), MALFORMED),
        "a list": (lambda v: v.update(hospitals=[]), MALFORMED),
    }
    for way, (change, due) in ways.items():
        yield relisted("keys.json", as_json(change), way, *due)


def exchanged(value: Json) -> None:
    found = value["hospitals"]
    found["bergen"], found[VICTIM] = found[VICTIM], found["bergen"]


def studies() -> Iterator[Forgery]:
    """study.json: a study that nobody signed, or signed otherwise."""
    due = ("authentic", "study-signature", "study.json")
    ways: dict[str, Callable[[Json], object]] = {
        "another epsilon": lambda v: v["study"]["privacy"].update(epsilon=9.0),
        "another purpose": lambda v: v["study"].update(purpose="To sell it."),
        "a hospital less": lambda v: v["study"]["roster"].pop(),
        "an unknown field": lambda v: v["study"].update(sponsor="nobody"),
        "a key of a thief": lambda v: v.update(key=new_identity("thief").public_key.hex()),
        "a signature of zeros": zeroed_study,
        "a field more": lambda v: v.update(note="x"),
        "no signature": lambda v: v.pop("signature"),
    }
    for way, change in ways.items():
        yield relisted("study.json", as_json(change), way, *due)
    other = another_run()["study.json"]
    differs = ("complete", "other-study", "coordinator")
    yield relisted("study.json", lambda _: other, "of another run", *differs)


def zeroed_study(value: Json) -> None:
    value["signature"] = "0" * len(value["signature"])


def countersignatures() -> Iterator[Forgery]:
    """countersignatures.json: whose word, about what."""
    signed = ("authentic", "countersignature", "countersignatures.json")
    missing = ("complete", "countersignature-missing", HIS)
    ways: dict[str, tuple[Callable[[Json], object], tuple[str, str, str]]] = {
        "one left out": (lambda v: v.pop(VICTIM), missing),
        "all left out": (lambda v: v.clear(), missing),
        "that of another": (lambda v: v.update({VICTIM: v["bergen"]}), signed),
        "a stranger's": (
            lambda v: v.update(oslo=v[VICTIM]),
            ("authentic", "roster-differs", "hospitals/oslo"),
        ),
        "zeros": (zeroed, signed),
        "no checkpoint": (lambda v: v[VICTIM].update(checkpoint=""), signed),
        "checkpoint of no text": (lambda v: v[VICTIM].update(checkpoint=7), MALFORMED),
        "upper case": (
            lambda v: v[VICTIM].update(signature=v[VICTIM]["signature"].upper()),
            MALFORMED,
        ),
        "a field more": (lambda v: v[VICTIM].update(remark="ok"), MALFORMED),
        "a list": (lambda v: v.update({VICTIM: []}), MALFORMED),
        "for another study": (signed_again(study="f" * 64), signed),
        "for another run": (signed_again(run="9" * 32), signed),
        "an earlier history": (
            signed_again(entries=9),
            ("complete", "after-the-end", "coordinator"),
        ),
        "another history": (signed_again(head="f" * 64), ("complete", "history-differs", HIS)),
        "a head of a thief": (signed_again(thief=True), signed),
    }
    for way, (change, due) in ways.items():
        yield relisted("countersignatures.json", as_json(change), way, *due)


def zeroed(value: Json) -> None:
    value[VICTIM]["signature"] = "0" * len(value[VICTIM]["signature"])


def signed_again(
    *, study: str = "", run: str = "", entries: int = 0, head: str = "", thief: bool = False
) -> Callable[[Json], object]:
    """The hospital signs under something else."""

    def change(value: Json) -> None:
        fed = honest()
        party = fed.coordinator
        checkpoint = checkpoint_of(party.entries[: entries or None], actor="coordinator")
        if head:
            checkpoint = replace(checkpoint, head=head)
        signer = new_identity("thief") if thief else party.identity
        note = sign_checkpoint(signer, checkpoint)
        word = countersign(
            fed.hospitals[VICTIM].identity,
            study_digest=study or fed.study.digest,
            run=run or RUN,
            checkpoint=note,
        )
        value[VICTIM] = {"checkpoint": word.checkpoint, "signature": word.signature}

    return change


def notes() -> Iterator[Forgery]:
    """Checkpoints of both kinds of log, signed by their party unless said otherwise."""
    for member, who, place in (
        (COORDINATOR_NOTE, "coordinator", "coordinator"),
        (NOTE, VICTIM, HIS),
    ):
        signed = ("authentic", "checkpoint-signature", place)
        ways: dict[str, tuple[Note, tuple[str, str, str]]] = {
            "of a thief": (lambda p: noted(p, thief=True), signed),
            "of another party": (lambda p: noted(p, origin="wardround/zurich"), signed),
            "root of zeros": (
                lambda p: noted(p, root=bytes(32)),
                ("intact", "root-differs", place),
            ),
            "another head": (lambda p: noted(p, head="f" * 64), ("intact", "head-differs", place)),
            "an old head": (lambda p: noted(p, entries=6), ("intact", "not-signed", place)),
            "a later size": (lambda p: noted(p, size=999), ("intact", "truncated", place)),
            "text": (lambda _: "no note\n", ("intact", "checkpoint-malformed", place)),
            "nothing": (lambda _: "", ("intact", "checkpoint-malformed", place)),
            "a line more": (
                lambda p: p.checkpoint() + "more\n",
                ("intact", "checkpoint-malformed", place),
            ),
            "a signature cut": (
                lambda p: p.checkpoint()[:-9] + "\n",
                ("intact", "checkpoint-malformed", place),
            ),
            "a size with a zero": (
                lambda p: p.checkpoint().replace("\n", "\n0", 1),
                ("intact", "checkpoint-malformed", place),
            ),
        }
        for way, (change, due) in ways.items():
            yield note(member, who, way, change, due)


def note(member: str, who: str, way: str, change: Note, due: tuple[str, str, str]) -> Forgery:
    def forge(fed: Federation) -> bytes:
        party = fed.coordinator if who == "coordinator" else fed.hospitals[who]
        return resealed({**members(), member: change(party).encode()})

    return Forgery(f"resealed/{member}/{way}", forge, due[0], due[1], place=due[2])


def noted(party: Party, *, thief: bool = False, entries: int = 0, **parts: object) -> str:
    checkpoint = checkpoint_of(party.entries[: entries or None], actor=party.name)
    changed: Checkpoint = replace(checkpoint, **parts)
    return sign_checkpoint(new_identity("thief") if thief else party.identity, changed)


def statements() -> Iterator[Forgery]:
    """statement.dsse.json: another envelope."""
    signed = ("authentic", "report-signature", "statement.dsse.json")
    about = ("authentic", "statement-differs", "statement.dsse.json")
    other = another_run()["statement.dsse.json"]
    ways: dict[str, tuple[Callable[[bytes], bytes], tuple[str, str, str]]] = {
        "of another run": (lambda _: other, about),
        "another payload": (as_json(lambda v: v.update(payload="e30=")), signed),
        "another payload type": (as_json(lambda v: v.update(payloadType="text/plain")), signed),
        "no signature": (as_json(lambda v: v.update(signatures=[])), signed),
        "a signature twice": (as_json(lambda v: v["signatures"].extend(v["signatures"])), signed),
        "a signature of zeros": (
            as_json(lambda v: v["signatures"][0].update(sig="AAAA")),
            signed,
        ),
        "a field more": (as_json(lambda v: v.update(note="x")), signed),
    }
    for way, (change, due) in ways.items():
        yield relisted("statement.dsse.json", change, way, *due)


def manifests() -> Iterator[Forgery]:
    """manifest.json, signed by the coordinator, that does not list what is there."""
    ways: dict[str, tuple[Callable[[Json], object], str]] = {
        "another schema": (lambda v: v.update(schema="wardround.bundle/2"), MANIFEST),
        "a field more": (lambda v: v.update(note="x"), MANIFEST),
        "a member twice": (lambda v: v["members"].insert(0, v["members"][0]), MANIFEST),
        "another order": (lambda v: v["members"].reverse(), MANIFEST),
        "an object": (lambda v: v.update(members={}), MANIFEST),
        "a member without size": (lambda v: v["members"][0].pop("bytes"), MANIFEST),
        "a size in text": (lambda v: v["members"][0].update(bytes="7"), MANIFEST),
        "another size": (lambda v: v["members"][0].update(bytes=7), "VERIFY.md"),
        "another digest": (lambda v: v["members"][0].update(sha256="f" * 64), "VERIFY.md"),
        "a member less": (lambda v: v["members"].pop(0), "VERIFY.md"),
        "a member more": (
            lambda v: v["members"].append({"name": "z", "bytes": 0, "sha256": "f" * 64}),
            "z",
        ),
    }
    for way, (change, place) in ways.items():
        yield listing(way, as_json(change), place)
    yield listing("a space", lambda content: content.replace(b":", b": ", 1), MANIFEST)


def listing(way: str, change: Callable[[bytes], bytes], place: str) -> Forgery:
    def forge(fed: Federation) -> bytes:
        found = members()
        manifest = change(found[MANIFEST])
        signature = (
            fed.coordinator.identity.sign_lasting(b"bundle", manifest).hex().encode() + b"\n"
        )
        return pack({**found, MANIFEST: manifest, MANIFEST_SIGNATURE: signature})

    return Forgery(f"resealed/{MANIFEST}/{way}", forge, "intact", "member-differs", place=place)


def logs() -> Iterator[Forgery]:
    """Lines of a log that are not what was signed; one moment, number or text spelt otherwise."""
    # Line 3 is not the last one: a change that keeps its form shows at the next entry's chain.
    ways: dict[str, tuple[Callable[[bytes], bytes], str]] = {
        "a number as 3.0": (lambda x: x.replace(b'"seq":3', b'"seq":3.0'), "malformed"),
        "a number as 3e0": (lambda x: x.replace(b'"seq":3', b'"seq":3e0'), "malformed"),
        "a number as text": (lambda x: x.replace(b'"seq":3', b'"seq":"3"'), "malformed"),
        "a number as true": (lambda x: x.replace(b'"seq":3', b'"seq":true'), "malformed"),
        "a number below zero": (lambda x: x.replace(b'"seq":3', b'"seq":-3'), "malformed"),
        "a number beyond 2^53": (
            lambda x: x.replace(b'"seq":3', b'"seq":9007199254740993'),
            "malformed",
        ),
        "not a number": (lambda x: x.replace(b'"seq":3', b'"seq":NaN'), "malformed"),
        "a key twice": (lambda x: x[:1] + b'"seq":3,' + x[1:], "malformed"),
        "a field more": (lambda x: x[:1] + b'"a":1,' + x[1:], "malformed"),
        "a field less": (lambda x: x.replace(b'"seq":3,', b""), "malformed"),
        "keys in another order": (key_first, "not-canonical"),
        "a space behind": (lambda x: x + b" ", "not-canonical"),
        "a carriage return": (lambda x: x + b"\r", "not-canonical"),
        "a byte order mark": (lambda x: b"\xef\xbb\xbf" + x, "malformed"),
        "an escaped letter": (lambda x: x.replace(b'"actor"', b'"\\u0061ctor"'), "not-canonical"),
        "bytes that are no text": (lambda x: x.replace(b'"2026', b'"\xff026'), "malformed"),
        "a moment in another zone": (lambda x: x.replace(b'00Z"', b'+01:00"'), "malformed"),
        "a day that is none": (lambda x: x.replace(b"-03-02T", b"-02-30T"), "malformed"),
        "another moment": (lambda x: x.replace(b"2026-", b"2025-"), "chain-broken"),
        "another type": (lambda x: x.replace(b'"type":"', b'"type":"x'), "chain-broken"),
        "a type with a capital": (lambda x: x.replace(b'"type":"', b'"type":"X'), "malformed"),
        "another party": (
            lambda x: x.replace(f'"actor":"{VICTIM}"'.encode(), b'"actor":"zurich"', 1).replace(
                b'"actor":"coordinator"', b'"actor":"zurich"', 1
            ),
            "actors-mixed",
        ),
        "another chain": (lambda x: previous(x, b"f" * 64), "chain-broken"),
        "a chain in capitals": (lambda x: previous(x, b"F" * 64), "malformed"),
        "no line": (lambda _: b"", "malformed"),
        "half a line": (lambda x: x[:40], "malformed"),
    }
    for member, who in ((COORDINATOR_LOG, "coordinator"), (LOG, VICTIM)):
        place = who if who == "coordinator" else HIS
        for way, (change, code) in ways.items():
            act = log_bytes(who, lambda lines, c=change: [*lines[:3], c(lines[3]), *lines[4:]])
            yield Forgery(f"resealed/{member}/{way}", act, "intact", code, place=place)


def previous(line: bytes, digest: bytes) -> bytes:
    return line.replace(json.loads(line)["previous"].encode(), digest)


def key_first(line: bytes) -> bytes:
    return json.dumps(dict(reversed(json.loads(line).items())), separators=(",", ":")).encode()


def further_logs() -> Iterator[Forgery]:
    """A log too many, and one in another's place."""
    strange = {LOG.replace(VICTIM, "oslo"): LOG, NOTE.replace(VICTIM, "oslo"): NOTE}
    wholes: dict[str, tuple[dict[str, str], tuple[str, str, str]]] = {
        "a stranger's": (strange, ("authentic", "roster-differs", "hospitals/oslo")),
        "the coordinator's in its place": (
            {LOG: COORDINATOR_LOG, NOTE: COORDINATOR_NOTE},
            ("intact", "log-swapped", HIS),
        ),
        "another's in its place": (
            {LOG: LOG.replace(VICTIM, "zurich"), NOTE: NOTE.replace(VICTIM, "zurich")},
            ("intact", "log-swapped", HIS),
        ),
        "its own in the coordinator's": (
            {COORDINATOR_LOG: LOG, COORDINATOR_NOTE: NOTE},
            ("intact", "log-swapped", "coordinator"),
        ),
    }
    for way, (taken, due) in wholes.items():
        yield whole_log(way, taken, due)


def whole_log(way: str, taken: dict[str, str], due: tuple[str, str, str]) -> Forgery:
    def forge(fed: Federation) -> bytes:
        found = members()
        return resealed({**found, **{target: found[source] for target, source in taken.items()}})

    return Forgery(f"resealed/{LOG}/{way}", forge, due[0], due[1], place=due[2])


# --- the report: a coordinator that prints another number under its own signature ---


def figures(value: object, path: str = "") -> Iterator[str]:
    """Every printed number and sentence; of a list the first, of a calibration one bin."""
    if isinstance(value, dict):
        for key in value:
            yield from figures(value[key], f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for at, item in enumerate(value[:1]):
            yield from figures(item, f"{path}.{at}")
    elif path.rpartition(".")[2] not in {"note", "noise_low", "noise_high"}:
        yield path


def another(value: object) -> object:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return f"{value} " if isinstance(value, str) else "a value"


def changed(report: Json, path: str) -> bytes:
    *above, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    here: object = report
    for key in above:
        here = here[key]
    here[last] = another(here[last])
    return canonical_bytes(report)


def reported(path: str) -> Forgery:
    def forge(fed: Federation) -> bytes:
        report = changed(json.loads(honest_report()), path)
        return sealed(fed.parts(), report=report)

    code = "report-differs"
    return Forgery(f"report/{path}", forge, "recomputed", code, place="report.json")
