"""`audit verify`: four verdicts on a bundle, offline, without torch, flwr or trust."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from wardround.audit.attempts import attempts_of
from wardround.audit.bundle import Bundle, bundle_of
from wardround.audit.check_attacks import attack_faults
from wardround.audit.check_authentic import Pins, check_parties, check_roster, check_signatures
from wardround.audit.check_comparison import comparison_faults
from wardround.audit.check_complete import check_both_sides, check_opening, unsent_remarks
from wardround.audit.check_control import check_control
from wardround.audit.check_data import data_faults
from wardround.audit.check_groups import check_groups
from wardround.audit.check_intact import check_members, read_logs
from wardround.audit.check_recomputed import check_numbers, check_report
from wardround.audit.check_redacted import check_redacted
from wardround.audit.check_rounds import check_rounds
from wardround.audit.check_sign_offs import check_sign_offs
from wardround.audit.check_survivors import check_signed_survivors, check_survivors
from wardround.audit.check_timestamps import FoundStamps, check_time_stamps, written_after
from wardround.audit.code_facts import code_faults
from wardround.audit.container import read_file, unpack
from wardround.audit.derive import releases_by_hospital
from wardround.audit.empirical import empirical_faults
from wardround.audit.evidence import COORDINATOR, EntryFault, Evidence
from wardround.audit.redact import is_redacted
from wardround.audit.replay import replay
from wardround.audit.sign_off import SignOff
from wardround.audit.verdicts import BUNDLE, WITHHELD, Failure, Verdict, Verdicts
from wardround.errors import BadInput, BadSignature
from wardround.identity import fingerprint
from wardround.study.files import read_signed_study
from wardround.study.manifest import Study

NO_PINS = Pins()


def verify_bundle(path: Path, *, pins: Pins = NO_PINS) -> Verdicts:
    """Check everything that a bundle claims; never raises for what the bundle holds.

    A verdict that could not be reached because an earlier one failed is not ok, and says so.
    Raises BadInput only when the file cannot be read at all.
    """
    return verify_bytes(read_file(path), pins=pins)


def verify_bytes(content: bytes, *, pins: Pins = NO_PINS) -> Verdicts:
    """`verify_bundle` for a bundle in memory."""
    found = _Findings(pins)
    try:
        members = unpack(content)
        if is_redacted(members):
            return _check_redacted(members, found)
        found.intact += check_members(members)
        bundle = bundle_of(members)
    except BadInput as error:
        found.intact.append(Failure("container-malformed", BUNDLE, None, str(error)))
        return found.verdicts(None)
    found.authentic += check_signatures(bundle, pins)
    found.sign_offs, faults = check_sign_offs(bundle)
    found.authentic += faults
    found.stamps = check_time_stamps(bundle, pins)
    found.authentic += found.stamps.failures
    _check_contents(bundle, found)
    return found.verdicts(bundle)


def _check_redacted(members: Mapping[str, bytes], found: "_Findings") -> Verdicts:
    left = check_redacted(members, found.pins)
    found.authentic += left.authentic
    found.intact += left.intact
    found.sign_offs, found.stamps = left.sign_offs, left.stamps
    reason = f"redacted, not recomputed: {left.withheld} entries withheld"
    found.complete += [*left.complete, Failure(WITHHELD, BUNDLE, None, reason)]
    found.recomputed.append(Failure(WITHHELD, BUNDLE, None, reason))
    return found.verdicts(left.bundle)


class _Findings:
    """Failures as they are found, by verdict."""

    def __init__(self, pins: Pins) -> None:
        self.pins = pins
        self.authentic: list[Failure] = []
        self.intact: list[Failure] = []
        self.complete: list[Failure] = []
        self.recomputed: list[Failure] = []
        self.remarks: list[str] = []
        self.sign_offs: tuple[SignOff, ...] = ()
        self.stamps = FoundStamps()
        self.reached = False

    def verdicts(self, bundle: Bundle | None) -> Verdicts:
        """The four verdicts. What was not reached is not ok."""
        for failures in self._not_reached(bundle):
            reason = "not reached: what it needs is damaged or malformed"
            failures.append(Failure("not-reached", BUNDLE, None, reason))
        return Verdicts(
            authentic=Verdict("authentic", tuple(self.authentic)),
            intact=Verdict("intact", tuple(self.intact)),
            complete=Verdict("complete", tuple(self.complete)),
            recomputed=Verdict("recomputed", tuple(self.recomputed)),
            rests_on=_rests_on(bundle),
            pinned=self._pinned(),
            remarks=(*self.remarks, *self.stamps.remarks),
            sign_offs=self.sign_offs,
            time_stamps=self.stamps.said,
        )

    def _not_reached(self, bundle: Bundle | None) -> list[list[Failure]]:
        unsure = [] if self.reached else [self.complete, self.recomputed]
        if bundle is None:
            unsure.append(self.authentic)
        return [failures for failures in unsure if not failures]

    def _pinned(self) -> frozenset[str]:
        parties = {COORDINATOR} if self.pins.coordinator else set()
        return frozenset(parties | set(self.pins.hospitals or {}))


def _check_contents(bundle: Bundle, found: _Findings) -> None:
    """Study, logs, then what they say together; stops where the next step has nothing to read."""
    study = _study(bundle)
    coordinator, hospitals, damage = read_logs(bundle)
    found.intact += damage
    if coordinator is not None:
        times = ((record.seq, record.time) for record in coordinator.records)
        found.authentic += written_after(found.stamps.held, times)
    if study is not None:
        found.authentic += check_roster(study, bundle)
    if study is None or coordinator is None or len(hospitals) < len(bundle.parts.hospitals):
        return
    evidence = Evidence(
        study=study,
        keys=bundle.parts.hospital_keys,
        coordinator_key=bundle.parts.coordinator_key,
        coordinator=coordinator,
        hospitals=hospitals,
        countersigned=frozenset(bundle.parts.countersignatures),
    )
    try:
        _check_evidence(bundle, evidence, found)
    except EntryFault as fault:
        found.complete.append(Failure("entry-contradicts", fault.log, fault.seq, fault.reason))
    except BadInput as error:
        found.complete.append(Failure("evidence-contradicts", BUNDLE, None, str(error)))


def _check_evidence(bundle: Bundle, evidence: Evidence, found: _Findings) -> None:
    attempts = attempts_of(evidence)
    releases = releases_by_hospital(evidence, attempts)
    found.authentic += check_parties(evidence, bundle, attempts)
    found.authentic += check_signed_survivors(evidence, attempts)
    found.complete += check_opening(evidence)
    found.complete += code_faults(evidence)
    found.complete += check_rounds(evidence, attempts)
    found.complete += check_groups(evidence, attempts)
    found.complete += check_survivors(evidence, attempts)
    found.complete += check_control(evidence, attempts, releases)
    found.complete += check_both_sides(evidence, attempts, releases, bundle)
    found.remarks += unsent_remarks(releases)
    found.recomputed += check_numbers(evidence, attempts, releases)
    found.recomputed += empirical_faults(evidence, releases)
    found.recomputed += attack_faults(evidence)
    found.recomputed += data_faults(evidence, attempts)
    found.recomputed += comparison_faults(evidence, attempts)
    found.recomputed += check_report(evidence, bundle.report)
    replayed = replay(evidence, attempts, bundle.parts.uploads)
    found.recomputed += replayed.failures
    found.remarks.append(replayed.remark())
    found.reached = True


def _study(bundle: Bundle) -> Study | None:
    try:
        return read_signed_study(bundle.parts.signed_study, signer=bundle.parts.coordinator_key)
    except (BadInput, BadSignature):
        return None  # `authentic` names it


def _rests_on(bundle: Bundle | None) -> tuple[tuple[str, str], ...]:
    if bundle is None:
        return ()
    keys: Iterable[tuple[str, bytes]] = sorted(bundle.parts.hospital_keys.items())
    hospitals = tuple((name, fingerprint(key)) for name, key in keys)
    return ((COORDINATOR, fingerprint(bundle.parts.coordinator_key)), *hospitals)
