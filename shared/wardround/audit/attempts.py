"""What happened in a run, attempt by attempt, from the coordinator's log and the hospitals'."""

from dataclasses import dataclass, field
from enum import StrEnum

from wardround.audit.bodies import (
    AttemptVoid,
    EvaluationClosed,
    HospitalMissed,
    HospitalVanished,
    ReleaseReserved,
    ReleaseSent,
    RoundClosed,
    RoundOpened,
    ShareRejected,
    StatisticsClosed,
    SurvivorsAgreed,
    SurvivorsSigned,
    UpdateReceived,
    UpdateRejected,
)
from wardround.audit.body_fields import Body
from wardround.audit.body_groups import GroupClosed, RoundCombined
from wardround.audit.evidence import EntryFault, Evidence, Log, Record, by_run
from wardround.errors import WardroundError
from wardround.masking.round_spec import Profile, Purpose, RoundSpec
from wardround.privacy.engine import Engine, parse_engine

Ending = RoundClosed | GroupClosed | EvaluationClosed | StatisticsClosed | AttemptVoid

_CLOSED_BY = {
    Purpose.STATISTICS: StatisticsClosed,
    Purpose.TRAIN: RoundClosed,
    Purpose.EVALUATE: EvaluationClosed,
}


class Presence(StrEnum):
    """What became of one hospital in one attempt."""

    SENT = "sent"
    UNSIGNED = "vanished before it signed"
    UNREVEALED = "vanished before it revealed"
    REJECTED = "rejected"
    MISSED = "missed"
    NOT_ASKED = "not asked"
    ELSEWHERE = "in another group"
    UNKNOWN = "unknown"


@dataclass(slots=True)
class Attempt:
    """One round-opened entry with all that follows it. `end` is None when nothing ended it.

    Of a round in groups it is one group; `combined` is the entry that its sum went into.
    """

    opened: Record[RoundOpened]
    spec: RoundSpec
    received: dict[str, Record[UpdateReceived]] = field(default_factory=dict)
    rejected: dict[str, Record[UpdateRejected]] = field(default_factory=dict)
    missed: dict[str, Record[HospitalMissed]] = field(default_factory=dict)
    vanished: dict[str, Record[HospitalVanished]] = field(default_factory=dict)
    suspected: list[Record[ShareRejected]] = field(default_factory=list)
    agreed: Record[SurvivorsAgreed] | None = None
    end: Record[Ending] | None = None
    combined: Record[RoundCombined] | None = None

    @property
    def transcript(self) -> str:
        """What names this attempt in every log."""
        return self.opened.body.transcript

    @property
    def counted(self) -> bool:
        """Whether its sum was opened."""
        return self.end is not None and not isinstance(self.end.body, AttemptVoid)

    @property
    def grouped(self) -> bool:
        """Whether it is one of several groups that are summed apart."""
        return len(self.spec.partition) > 1

    @property
    def survivors(self) -> tuple[str, ...]:
        """Whose updates are in its sum: the whole cohort with one trip, else those agreed on."""
        if self.spec.profile is Profile.ONE_TRIP:
            return self.spec.cohort
        return self.agreed.body.survivors if self.agreed else ()

    @property
    def trains(self) -> bool:
        """Whether it was for training, not for evaluation or statistics."""
        return self.spec.purpose is Purpose.TRAIN

    @property
    def purpose(self) -> Purpose:
        """What it was for."""
        return self.spec.purpose

    def has_summed(self, hospital: str) -> bool:
        """Whether its sum was opened with the update of `hospital` in it."""
        return self.counted and hospital in self.survivors and hospital in self.received

    def presence(self, hospital: str) -> Presence:
        """What became of `hospital`; UNKNOWN when it was asked and nothing says what followed."""
        if hospital in self.vanished:
            stage = self.vanished[hospital].body.stage
            return Presence.UNSIGNED if stage == "signed" else Presence.UNREVEALED
        if hospital in self.received:
            return Presence.SENT
        if hospital in self.rejected:
            return Presence.REJECTED
        if hospital in self.missed:
            return Presence.MISSED
        if hospital in self.spec.cohort:
            return Presence.UNKNOWN
        elsewhere = any(hospital in group for group in self.spec.partition)
        return Presence.ELSEWHERE if elsewhere else Presence.NOT_ASKED

    def reason(self, hospital: str) -> str:
        """Why no update of `hospital` was added, in the coordinator's words; else empty."""
        lost = self.rejected.get(hospital) or self.missed.get(hospital)
        return lost.body.reason if lost else ""


@dataclass(slots=True)
class Release:
    """One release of one hospital: reserved, then perhaps sent."""

    reserved: Record[ReleaseReserved]
    sent: Record[ReleaseSent] | None = None
    engine: Engine | None = None

    @property
    def transcript(self) -> str:
        """The attempt it was for."""
        return self.reserved.body.transcript

    @property
    def trains(self) -> bool:
        """Whether it was for training, not for evaluation or statistics."""
        return self.purpose is Purpose.TRAIN

    @property
    def purpose(self) -> Purpose:
        """What it was reserved for."""
        return Purpose(self.reserved.body.purpose)


def attempts_of(evidence: Evidence) -> tuple[Attempt, ...]:
    """Every attempt of the run, in the order of the coordinator's log.

    Raises EntryFault for a malformed spec, a transcript that is not the spec's hash, a transcript
    that is unknown or opened twice, a second word about one hospital, and any word after the end.
    """
    found: dict[str, Attempt] = {}
    for record in evidence.coordinator.records:
        if isinstance(record.body, RoundOpened):
            attempt = _opened(Record(record.log, record.seq, record.time, record.body))
            if attempt.transcript in found:
                raise EntryFault(record.log, record.seq, "the same attempt was opened before")
            found[attempt.transcript] = attempt
        elif isinstance(record.body, RoundCombined):
            _combine(found, Record(record.log, record.seq, record.time, record.body))
        else:
            _follow(found, record)
    return tuple(found.values())


def releases_of(log: Log, run: str, transcripts: frozenset[str]) -> tuple[Release, ...]:
    """A hospital's releases of this run: those for a known transcript, and those after it joined.

    What is of another run (`by_run`) counts where its transcript is one of `transcripts`. Raises
    EntryFault for a release that was sent but not reserved, sent twice, or sent for another
    transcript than reserved.
    """
    found: dict[str, Release] = {}
    for record, here in by_run(log, run):
        body = record.body
        if not isinstance(body, ReleaseReserved | ReleaseSent):
            continue
        if not here and body.transcript not in transcripts:
            continue
        if isinstance(body, ReleaseReserved):
            _reserve(found, Record(record.log, record.seq, record.time, body))
        else:
            _send(found, Record(record.log, record.seq, record.time, body))
    return tuple(found.values())


def signed_sets(
    log: Log, run: str, transcripts: frozenset[str]
) -> tuple[Record[SurvivorsSigned], ...]:
    """The sets of survivors that a hospital signed in this run, by its own log."""
    found = []
    for record, here in by_run(log, run):
        body = record.body
        if isinstance(body, SurvivorsSigned) and (here or body.transcript in transcripts):
            found.append(Record(record.log, record.seq, record.time, body))
    return tuple(found)


def _opened(record: Record[RoundOpened]) -> Attempt:
    try:
        spec = RoundSpec.from_json(record.body.spec)
    except (WardroundError, TypeError) as error:
        raise EntryFault(record.log, record.seq, str(error)) from error
    if spec.transcript().hex() != record.body.transcript:
        raise EntryFault(record.log, record.seq, "the transcript is not the hash of its spec")
    return Attempt(record, spec)


def _follow(found: dict[str, Attempt], record: Record[Body]) -> None:
    body = record.body
    transcript = getattr(body, "transcript", None)
    if transcript is None:
        return
    attempt = _under_way(found, transcript, record)
    if isinstance(body, Ending):
        _end(attempt, Record(record.log, record.seq, record.time, body))
    elif isinstance(body, UpdateReceived | UpdateRejected | HospitalMissed):
        _answer(attempt, Record(record.log, record.seq, record.time, body))
    elif isinstance(body, SurvivorsAgreed):
        _agree(attempt, Record(record.log, record.seq, record.time, body))
    elif isinstance(body, HospitalVanished):
        _vanish(attempt, Record(record.log, record.seq, record.time, body))
    elif isinstance(body, ShareRejected):
        _suspect(attempt, Record(record.log, record.seq, record.time, body))


def _under_way(found: dict[str, Attempt], transcript: str, record: Record[Body]) -> Attempt:
    attempt = found.get(transcript)
    if attempt is None:
        raise EntryFault(record.log, record.seq, "no attempt with this transcript was opened")
    if attempt.end is not None:
        raise EntryFault(record.log, record.seq, "this attempt had ended before")
    return attempt


def _end(attempt: Attempt, record: Record[Ending]) -> None:
    closed_by = GroupClosed if attempt.grouped else _CLOSED_BY[attempt.purpose]
    if not isinstance(record.body, (AttemptVoid, closed_by)):
        raise EntryFault(record.log, record.seq, "not the end of an attempt with this purpose")
    attempt.end = record


def _combine(found: dict[str, Attempt], record: Record[RoundCombined]) -> None:
    for transcript in record.body.transcripts:
        attempt = found.get(transcript)
        if attempt is None or attempt.end is None or not isinstance(attempt.end.body, GroupClosed):
            raise EntryFault(record.log, record.seq, "no group with this transcript was closed")
        if attempt.combined is not None:
            raise EntryFault(record.log, record.seq, "the sum of this group was combined before")
        attempt.combined = record


def _agree(attempt: Attempt, record: Record[SurvivorsAgreed]) -> None:
    if attempt.agreed is not None:
        raise EntryFault(record.log, record.seq, "its survivors were agreed on before")
    if attempt.spec.profile is Profile.ONE_TRIP:
        raise EntryFault(record.log, record.seq, "with one trip nobody agrees on survivors")
    attempt.agreed = record


def _vanish(attempt: Attempt, record: Record[HospitalVanished]) -> None:
    name = record.body.hospital
    if name not in attempt.received:
        raise EntryFault(record.log, record.seq, f"{name} vanished, and no update of it had come")
    if name in attempt.vanished:
        raise EntryFault(record.log, record.seq, f"{name} was recorded as vanished before")
    attempt.vanished[name] = record


def _suspect(attempt: Attempt, record: Record[ShareRejected]) -> None:
    name = record.body.hospital
    if name not in attempt.spec.cohort:
        raise EntryFault(record.log, record.seq, f"{name} is not in the cohort of this attempt")
    attempt.suspected.append(record)


def _answer(
    attempt: Attempt, record: Record[UpdateReceived | UpdateRejected | HospitalMissed]
) -> None:
    name = record.body.hospital
    if name not in attempt.spec.cohort:
        raise EntryFault(record.log, record.seq, f"{name} is not in the cohort of this attempt")
    # A rejected update is followed by the word that its hospital is missing.
    rejected = name in attempt.rejected and isinstance(record.body, HospitalMissed)
    if attempt.presence(name) is not Presence.UNKNOWN and not rejected:
        raise EntryFault(record.log, record.seq, f"{name} was recorded for this attempt before")
    body = record.body
    if isinstance(body, UpdateReceived):
        attempt.received[name] = Record(record.log, record.seq, record.time, body)
    elif isinstance(body, UpdateRejected):
        attempt.rejected[name] = Record(record.log, record.seq, record.time, body)
    else:
        attempt.missed[name] = Record(record.log, record.seq, record.time, body)


def _reserve(found: dict[str, Release], record: Record[ReleaseReserved]) -> None:
    name = str(record.body.release)
    if name in found:
        raise EntryFault(record.log, record.seq, f"release {name} was reserved before")
    found[name] = Release(record)


def _send(found: dict[str, Release], record: Record[ReleaseSent]) -> None:
    name = str(record.body.release)
    release = found.get(name)
    if release is None:
        raise EntryFault(record.log, record.seq, f"release {name} was sent and never reserved")
    if release.sent is not None:
        raise EntryFault(record.log, record.seq, f"release {name} was sent before")
    if release.transcript != record.body.transcript:
        raise EntryFault(record.log, record.seq, f"release {name} was reserved for another attempt")
    try:
        release.engine = parse_engine(record.body.engine)
    except WardroundError as error:
        raise EntryFault(record.log, record.seq, str(error)) from error
    release.sent = record
