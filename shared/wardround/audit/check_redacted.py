"""A redacted bundle: all proofs that are left, and a plain word about what cannot be computed."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

from wardround.audit.attempts import Attempt, attempts_of
from wardround.audit.bodies import COORDINATOR_TYPES, HOSPITAL_TYPES, RoundOpened
from wardround.audit.body_fields import read_body
from wardround.audit.bundle import (
    COORDINATOR_LOG,
    ENTRIES,
    HOSPITAL_LOGS,
    REPORT,
    Bundle,
    bundle_of,
)
from wardround.audit.check_authentic import (
    Pins,
    check_entries_signed,
    check_roster,
    check_signatures,
)
from wardround.audit.check_sign_offs import check_sign_offs
from wardround.audit.check_survivors import check_signed_survivors
from wardround.audit.check_timestamps import FoundStamps, check_time_stamps, written_after
from wardround.audit.container import MANIFEST, SIGN_OFFS, manifest_faults
from wardround.audit.countersign import verify_countersignature
from wardround.audit.evidence import (
    COORDINATOR,
    EntryFault,
    Evidence,
    Log,
    Record,
    hospital_place,
)
from wardround.audit.redact import REDACTED
from wardround.audit.sign_off import SignOff
from wardround.audit.statement import STATEMENT
from wardround.audit.uploads import is_upload
from wardround.audit.verdicts import BUNDLE, Failure
from wardround.canonical import Json, parse_canonical
from wardround.errors import BadInput, VerificationFailed, WardroundError
from wardround.evidence.checkpoint import Checkpoint, parse_checkpoint, verify_checkpoint
from wardround.evidence.dsse import Envelope
from wardround.evidence.entry import FIRST_PREVIOUS, MAX_ENTRY_BYTES, Entry, entry_digest
from wardround.evidence.merkle import leaf_hash, root_of_hashes
from wardround.study.files import read_signed_study
from wardround.study.manifest import Study

_WITHHELD_BYTES = 256


@dataclass(frozen=True, slots=True)
class ShownLog:
    """A log with gaps: its leaves' hashes, and the entries that are shown, by number."""

    place: str
    leaves: tuple[bytes, ...]
    shown: Mapping[int, Entry]

    def head(self, size: int) -> str | None:
        """The head at this size, or None where the entry that it is of is withheld."""
        if size == 0:
            return FIRST_PREVIOUS
        entry = self.shown.get(size - 1)
        return None if entry is None else entry_digest(entry.to_bytes())

    def bodies(self, kind: str) -> Iterator[tuple[int, Json]]:
        """Number and body of each entry of one type that is shown."""
        return ((seq, e.body) for seq, e in sorted(self.shown.items()) if e.type == kind)


@dataclass(slots=True)
class RedactedFindings:
    """What holds and what does not in a redacted bundle."""

    bundle: Bundle
    authentic: list[Failure]
    intact: list[Failure]
    complete: list[Failure]
    sign_offs: tuple[SignOff, ...] = ()
    stamps: FoundStamps = field(default_factory=FoundStamps)
    withheld: int = 0


def check_redacted(members: Mapping[str, bytes], pins: Pins) -> RedactedFindings:
    """Check all that a redacted bundle still proves.

    Raises BadInput when its members are malformed, as `bundle_of` does.
    """
    logs = {n.removesuffix(REDACTED): c for n, c in members.items() if n.endswith(REDACTED)}
    whole = {name: content for name, content in members.items() if not name.endswith(REDACTED)}
    filled = {REPORT: b"", **whole, **{stem + ENTRIES: b"" for stem in logs}}
    bundle = bundle_of(filled)
    found = RedactedFindings(bundle, [], list(_members(members, logs)), [])
    # Without the report the statement is compared with the manifest: `_attested`.
    ours = (f for f in check_signatures(bundle, pins) if f.code != "statement-differs")
    found.authentic += [*ours, *_attested(members)]
    if REPORT in members:
        found.sign_offs, faults = check_sign_offs(bundle)
        found.authentic += faults
    found.stamps = check_time_stamps(bundle, pins)
    found.authentic += found.stamps.failures
    shown = {}
    for stem, content in logs.items():
        try:
            shown[stem] = _read(stem, content, parse_checkpoint(_note(bundle, stem)))
        except WardroundError as error:
            found.intact.append(Failure("redacted-log-differs", _place(stem), None, str(error)))
    found.withheld = sum(len(log.leaves) - len(log.shown) for log in shown.values())
    found.intact += _bodies(shown)
    coordinator = shown.get(COORDINATOR_LOG)
    if coordinator is not None:
        found.authentic += _parties(bundle, coordinator)
        times = ((seq, entry.time) for seq, entry in coordinator.shown.items())
        found.authentic += written_after(found.stamps.held, times)
        found.complete += _histories(shown, coordinator)
        _check_entries(bundle, shown, coordinator, found)
    return found


def _members(members: Mapping[str, bytes], logs: Mapping[str, bytes]) -> Iterator[Failure]:
    """The manifest's members are there as it says, but for the logs', the report and uploads."""
    stand_ins = {stem + ENTRIES for stem in logs} | {REPORT}
    stand_ins |= {name for name in _listed(members) if is_upload(name)}
    present = {n: c for n, c in members.items() if not n.endswith(REDACTED)}
    for name, reason in manifest_faults(present):
        if name not in stand_ins or name in present:
            yield Failure("member-differs", name, None, reason)
    for stem in logs:
        if stem + ENTRIES not in _listed(members) or stem + ENTRIES in present:
            yield Failure("member-differs", stem + REDACTED, None, "it stands for no missing log")
    for name in present:
        if name.endswith(ENTRIES) and name.removesuffix(ENTRIES) not in logs:
            yield Failure("member-differs", name, None, "a whole log in a redacted bundle")
    if REPORT not in members and any(name.startswith(SIGN_OFFS) for name in members):
        yield Failure("member-differs", SIGN_OFFS, None, "sign-offs without the report")


def _listed(members: Mapping[str, bytes]) -> dict[str, str]:
    try:
        value = json.loads(members[MANIFEST])
        listed = {entry["name"]: entry["sha256"] for entry in value["members"]}
    except (KeyError, TypeError, ValueError, RecursionError):
        return {}  # `manifest_faults` names it
    texts = all(isinstance(part, str) for entry in listed.items() for part in entry)
    return listed if texts else {}


def _attested(members: Mapping[str, bytes]) -> Iterator[Failure]:
    """The statement is about the report that the manifest lists."""

    def check() -> None:
        payload = Envelope.from_bytes(members[STATEMENT], what=STATEMENT).payload
        value = parse_canonical(payload, what=STATEMENT, limit_bytes=len(payload))
        try:
            subjects = {s["name"]: s["digest"]["sha256"] for s in value["subject"]}
        except (KeyError, TypeError) as error:
            raise BadInput("its subject is not a list of names and digests") from error
        if subjects.get(REPORT) != _listed(members).get(REPORT):
            raise VerificationFailed("it is about another report than the manifest's")

    yield from _failed("statement-differs", STATEMENT, check)


def _read(stem: str, content: bytes, checkpoint: Checkpoint) -> ShownLog:
    """The leaves of a redacted log, which have to have the root that was signed."""
    if not content.endswith(b"\n"):
        raise BadInput("the last line has no end")
    leaves, shown, previous = [], {}, FIRST_PREVIOUS
    for seq, line in enumerate(content.split(b"\n")[:-1]):
        hidden = _withheld(line)
        leaves.append(leaf_hash(line) if hidden is None else hidden)
        if hidden is None:
            shown[seq] = _entry(line, seq, checkpoint.actor, previous)
        previous = "" if hidden is not None else entry_digest(line)
    if len(leaves) != checkpoint.size:
        raise VerificationFailed(f"{len(leaves)} entries, {checkpoint.size} were signed")
    if root_of_hashes(leaves) != checkpoint.root:
        raise VerificationFailed("its leaves do not have the root that was signed")
    return ShownLog(_place(stem), tuple(leaves), shown)


def _withheld(line: bytes) -> bytes | None:
    if not line.startswith(b'{"withheld":'):
        return None
    value: Json = parse_canonical(line, what="withheld entry", limit_bytes=_WITHHELD_BYTES)
    leaf = value["withheld"]
    if len(value) != 1 or not isinstance(leaf, str) or len(leaf) != 64:
        raise BadInput("withheld entry: one leaf hash is due")
    try:
        return bytes.fromhex(leaf)
    except ValueError as error:
        raise BadInput("withheld entry: one leaf hash is due") from error


def _entry(line: bytes, seq: int, actor: str, previous: str) -> Entry:
    if len(line) > MAX_ENTRY_BYTES:
        raise BadInput(f"entry {seq}: too large")
    entry = Entry.from_bytes(line, position=seq)
    if (entry.seq, entry.actor) != (seq, actor) or (previous and entry.previous != previous):
        raise VerificationFailed(f"entry {seq}: not the next entry of {actor}'s log")
    return entry


def _parties(bundle: Bundle, coordinator: ShownLog) -> Iterator[Failure]:
    """Roster and countersignatures, over this run as the coordinator's first entry names it."""
    study = _study(bundle)
    if study is None:
        return  # `check_signatures` names it
    yield from check_roster(study, bundle)
    opened = coordinator.shown.get(0)
    run = str(opened.body.get("run")) if opened is not None else ""
    for name, signed in sorted(bundle.parts.countersignatures.items()):
        key = bundle.parts.hospital_keys.get(name, b"")
        check = partial(verify_countersignature, key, signed, study_digest=study.digest, run=run)
        yield from _failed("countersignature", hospital_place(name), check)
        check_history = partial(_countersigned, bundle, coordinator, signed.checkpoint)
        yield from _failed("history-differs", hospital_place(name), check_history)


def _countersigned(bundle: Bundle, coordinator: ShownLog, note: str) -> None:
    checkpoint = verify_checkpoint(note, bundle.parts.coordinator_key, lasting=True)
    if checkpoint.size > len(coordinator.leaves):
        raise VerificationFailed("it countersigned a longer log of the coordinator")
    if root_of_hashes(coordinator.leaves[: checkpoint.size]) != checkpoint.root:
        raise VerificationFailed("it countersigned another history of the coordinator's log")


def _bodies(shown: Mapping[str, ShownLog]) -> Iterator[Failure]:
    """What is shown has the form that its type has."""
    for stem, log in sorted(shown.items()):
        known = COORDINATOR_TYPES if stem == COORDINATOR_LOG else HOSPITAL_TYPES
        for seq, entry in sorted(log.shown.items()):
            try:
                read_body(entry, known)
            except BadInput as error:
                yield Failure("body-malformed", log.place, seq, str(error))


def _histories(shown: Mapping[str, ShownLog], coordinator: ShownLog) -> Iterator[Failure]:
    """Every head that a hospital saw is one of the coordinator's log, where its entry is shown."""
    for log in _of_hospitals(shown).values():
        for seq, body in log.bodies("checkpoint-witnessed"):
            size = body.get("size")
            if body.get("actor") != COORDINATOR:
                continue
            if type(size) is not int or not 0 <= size <= len(coordinator.leaves):
                reason = "it saw a longer log of the coordinator than the one in the bundle"
                yield Failure("history-shortened", log.place, seq, reason)
            elif coordinator.head(size) not in (None, body.get("head")):
                reason = "it saw another history of the coordinator's log"
                yield Failure("history-differs", log.place, seq, reason)


def _check_entries(
    bundle: Bundle,
    shown: Mapping[str, ShownLog],
    coordinator: ShownLog,
    found: RedactedFindings,
) -> None:
    """What hospitals signed in the coordinator's entries, and what they say of it themselves."""
    study = _study(bundle)
    if study is None:
        return  # `check_signatures` names it
    try:
        evidence = Evidence(
            study=study,
            keys=bundle.parts.hospital_keys,
            coordinator_key=bundle.parts.coordinator_key,
            coordinator=_as_far_as_shown(coordinator),
            hospitals={},
            countersigned=frozenset(),
        )
        attempts = attempts_of(evidence)
        found.authentic += check_entries_signed(evidence, attempts)
        found.authentic += check_signed_survivors(evidence, attempts)
    except EntryFault as fault:
        found.complete.append(Failure("entry-contradicts", fault.log, fault.seq, fault.reason))
    except BadInput as error:
        found.complete.append(Failure("evidence-contradicts", BUNDLE, None, str(error)))
    else:
        found.complete += _one_story(_of_hospitals(shown), attempts)


def _as_far_as_shown(coordinator: ShownLog) -> Log:
    """The coordinator's log without what is withheld, and without entries that go on from it."""
    records, opened = [], set[str]()
    for seq, entry in sorted(coordinator.shown.items()):
        try:
            body = read_body(entry, COORDINATOR_TYPES)
        except BadInput as error:
            raise EntryFault(COORDINATOR, seq, str(error)) from error
        if isinstance(body, RoundOpened):
            opened.add(body.transcript)
        named = {getattr(body, "transcript", None), *getattr(body, "transcripts", ())} - {None}
        if named <= opened:
            records.append(Record(COORDINATOR, seq, entry.time, body))
    return Log(COORDINATOR, tuple(records), heads=(), root="")


def _one_story(
    hospitals: Mapping[str, ShownLog], attempts: tuple[Attempt, ...]
) -> Iterator[Failure]:
    """Updates and survivors, where both sides' entries about them are shown."""
    by_transcript = {attempt.transcript: attempt for attempt in attempts}
    for name, log in hospitals.items():
        for seq, body in log.bodies("release-sent"):
            attempt = by_transcript.get(str(body.get("transcript")))
            received = attempt.received.get(name) if attempt else None
            due = received.body.header.get("update_digest") if received else None
            if received and body.get("update_digest") != due:
                reason = f"the update received is not the one that {name} sent"
                yield Failure("update-differs", log.place, seq, reason)
        for seq, body in log.bodies("survivors-signed"):
            attempt = by_transcript.get(str(body.get("transcript")))
            agreed = attempt.agreed if attempt else None
            if agreed and body.get("survivors") != list(agreed.body.survivors):
                reason = "it signed other survivors than those that the coordinator's log says"
                yield Failure("survivors-differ", log.place, seq, reason)


def _of_hospitals(shown: Mapping[str, ShownLog]) -> dict[str, ShownLog]:
    return {
        stem.removeprefix(HOSPITAL_LOGS): log
        for stem, log in sorted(shown.items())
        if stem != COORDINATOR_LOG
    }


def _failed(code: str, place: str, check: Callable[[], None]) -> Iterator[Failure]:
    try:
        check()
    except WardroundError as error:
        yield Failure(code, place, None, str(error))


def _study(bundle: Bundle) -> Study | None:
    try:
        return read_signed_study(bundle.parts.signed_study, signer=bundle.parts.coordinator_key)
    except WardroundError:
        return None


def _note(bundle: Bundle, stem: str) -> str:
    if stem == COORDINATOR_LOG:
        return bundle.parts.coordinator.checkpoint
    return bundle.parts.hospitals[stem.removeprefix(HOSPITAL_LOGS)].checkpoint


def _place(stem: str) -> str:
    if stem == COORDINATOR_LOG:
        return COORDINATOR
    return hospital_place(stem.removeprefix(HOSPITAL_LOGS))
