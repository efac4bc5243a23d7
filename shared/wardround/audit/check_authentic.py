"""Authentic: who signed what."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial

from wardround.audit.attempts import Attempt
from wardround.audit.bodies import HospitalJoined
from wardround.audit.bundle import (
    COUNTERSIGNATURES,
    STUDY,
    Bundle,
    LogExport,
)
from wardround.audit.container import MANIFEST_PURPOSE, MANIFEST_SIGNATURE
from wardround.audit.countersign import Countersignature, verify_countersignature
from wardround.audit.evidence import COORDINATOR, Evidence, Record, hospital_place
from wardround.audit.statement import STATEMENT, check_statement
from wardround.audit.timestamp import Authorities
from wardround.audit.verdicts import Failure
from wardround.errors import WardroundError
from wardround.evidence.checkpoint import origin_of, verify_checkpoint
from wardround.evidence.dsse import open_envelope
from wardround.identity import fingerprint, verify_lasting
from wardround.masking.directory import Directory
from wardround.masking.run_key import SignedRunKey
from wardround.masking.update import UpdateHeader
from wardround.study.files import read_signed_study
from wardround.study.manifest import Study


@dataclass(frozen=True, slots=True, kw_only=True)
class Pins:
    """What the reader has from elsewhere; what is not given is not compared.

    Fingerprints, and the certificates of authorities that he trusts to stamp times.
    """

    coordinator: str | None = None
    hospitals: Mapping[str, str] | None = None
    time_stamping: Authorities | None = None


def check_signatures(bundle: Bundle, pins: Pins) -> Iterator[Failure]:
    """Whatever can be checked before a log is read."""
    parts = bundle.parts
    yield from _check_pins(bundle, pins)
    key = parts.coordinator_key
    yield from _failed(
        "study-signature", STUDY, lambda: read_signed_study(parts.signed_study, signer=key)
    )
    report = partial(open_envelope, bundle.statement, key, what=STATEMENT)
    manifest = _signed(key, MANIFEST_PURPOSE, bundle.manifest, bundle.manifest_signature)
    yield from _failed("report-signature", STATEMENT, report)
    about = partial(check_statement, bundle.statement, bundle.report)
    yield from _failed("statement-differs", STATEMENT, about)
    yield from _failed("manifest-signature", MANIFEST_SIGNATURE, manifest)
    yield from _check_checkpoint(COORDINATOR, COORDINATOR, parts.coordinator, key)
    for name, log in parts.hospitals.items():
        hospital_key = parts.hospital_keys.get(name, b"")
        yield from _check_checkpoint(hospital_place(name), name, log, hospital_key)


def check_roster(study: Study, bundle: Bundle) -> Iterator[Failure]:
    """The bundle's keys are the roster's, no more and no fewer, and so are its logs."""
    keys = bundle.parts.hospital_keys
    names = set(study.names())
    for name in sorted(names | set(keys)):
        if name not in keys or name not in names:
            where = "the bundle's keys" if name not in keys else "the roster"
            yield Failure("roster-differs", "keys.json", None, f"{name} is not in {where}")
        elif fingerprint(keys[name]) != study.fingerprint_of(name):
            reason = f"the key of {name} does not have the fingerprint of the signed roster"
            yield Failure("roster-differs", "keys.json", None, reason)
    for name in sorted({*bundle.parts.hospitals, *bundle.parts.countersignatures} - names):
        yield Failure("roster-differs", hospital_place(name), None, f"{name} is not on the roster")


def check_parties(
    evidence: Evidence, bundle: Bundle, attempts: tuple[Attempt, ...]
) -> Iterator[Failure]:
    """What hospitals signed inside the logs: updates, run keys, and the end of the run."""
    for attempt in attempts:
        yield from _check_directory(evidence, attempt)
    yield from check_entries_signed(evidence, attempts)
    for name, signed in sorted(bundle.parts.countersignatures.items()):
        check = partial(_check_countersignature, evidence, name, signed)
        yield from _failed("countersignature", COUNTERSIGNATURES, check, prefix=f"{name}: ")


def check_entries_signed(evidence: Evidence, attempts: tuple[Attempt, ...]) -> Iterator[Failure]:
    """The hospitals' signatures in single entries of the coordinator's log."""
    for attempt in attempts:
        for record in attempt.received.values():
            yield from _check_header(evidence, attempt, record.body.hospital)
    for joined in evidence.coordinator.of(HospitalJoined):
        yield from _check_run_key(evidence, joined)


def _check_countersignature(evidence: Evidence, name: str, signed: Countersignature) -> None:
    verify_countersignature(
        evidence.keys.get(name, b""),
        signed,
        study_digest=evidence.study.digest,
        run=evidence.run,
    )
    verify_checkpoint(signed.checkpoint, evidence.coordinator_key, lasting=True)


def _check_pins(bundle: Bundle, pins: Pins) -> Iterator[Failure]:
    came = fingerprint(bundle.parts.coordinator_key)
    if pins.coordinator is not None and came != pins.coordinator:
        reason = f"the coordinator's key is {came}, pinned is {pins.coordinator}"
        yield Failure("pinned-key-differs", "keys.json", None, reason)
    if pins.hospitals is None:
        return
    keys = {name: fingerprint(key) for name, key in bundle.parts.hospital_keys.items()}
    for name in sorted({*keys, *pins.hospitals}):
        if keys.get(name) != pins.hospitals.get(name):
            came = keys.get(name, "not in the bundle")
            reason = f"the key of {name} is {came}, pinned is {pins.hospitals.get(name, 'none')}"
            yield Failure("pinned-key-differs", "keys.json", None, reason)


def _check_checkpoint(place: str, actor: str, log: LogExport, key: bytes) -> Iterator[Failure]:
    def check() -> None:
        checkpoint = verify_checkpoint(log.checkpoint, key, lasting=True)
        if checkpoint.origin != origin_of(actor):
            raise WardroundError(f"it is {checkpoint.origin}'s, {origin_of(actor)}'s was due")

    yield from _failed("checkpoint-signature", place, check)


def _check_header(evidence: Evidence, attempt: Attempt, name: str) -> Iterator[Failure]:
    record = attempt.received[name]

    def check() -> None:
        header = UpdateHeader.from_json(record.body.header)
        signature, key = bytes.fromhex(record.body.signature), evidence.keys.get(name, b"")
        transcript, profile = attempt.transcript, attempt.spec.profile
        header.check(signature, key, hospital=name, transcript=transcript, profile=profile)

    yield from _failed("update-signature", record.log, check, seq=record.seq)


def _check_run_key(evidence: Evidence, record: Record[HospitalJoined]) -> Iterator[Failure]:
    def check() -> None:
        key = SignedRunKey.from_json(record.body.run_key)
        due = (record.body.hospital, evidence.run, record.body.session)
        if (key.hospital, key.run, key.session) != due:
            raise WardroundError("its run key is for another hospital, run or session")
        key.check(evidence.keys.get(record.body.hospital, b""))

    yield from _failed("run-key-signature", record.log, check, seq=record.seq)


def _check_directory(evidence: Evidence, attempt: Attempt) -> Iterator[Failure]:
    """Masks are bound to the run keys of the session: the spec must name exactly these."""
    spec = attempt.spec

    def check() -> None:
        entries = tuple(
            SignedRunKey.from_json(record.body.run_key)
            for record in evidence.coordinator.of(HospitalJoined)
            if record.body.session == spec.session and record.seq < attempt.opened.seq
        )
        keys = tuple(sorted(evidence.keys.items()))
        if _directory_digest(entries, spec.run, spec.session, keys) != spec.directory_digest:
            raise WardroundError("the spec names other run keys than those that were logged")

    yield from _failed("directory-differs", attempt.opened.log, check, seq=attempt.opened.seq)


@lru_cache(maxsize=64)
def _directory_digest(
    entries: tuple[SignedRunKey, ...], run: str, session: str, keys: tuple[tuple[str, bytes], ...]
) -> str:
    # All attempts of a session have one directory, and its signatures take a millisecond or two.
    directory = Directory.checked(entries, run=run, session=session, identity_keys=dict(keys))
    return directory.digest


def _signed(key: bytes, purpose: bytes, message: bytes, signature: bytes) -> Callable[[], None]:
    return lambda: verify_lasting(key, purpose, message, signature)


def _failed(
    code: str, place: str, check: Callable[[], object], *, seq: int | None = None, prefix: str = ""
) -> Iterator[Failure]:
    try:
        check()
    except WardroundError as error:
        yield Failure(code, place, seq, f"{prefix}{error}")
