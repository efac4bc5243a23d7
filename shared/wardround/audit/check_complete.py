"""Complete: nothing was left out, and both sides tell the same story."""

from collections.abc import Iterator

from wardround.audit.attempts import Attempt, Presence, Release
from wardround.audit.bodies import (
    CheckpointWitnessed,
    HospitalJoined,
    HospitalMissed,
    HospitalRefused,
    HospitalVanished,
    RunClosed,
    StudyOpened,
    UpdateReceived,
    UpdateRejected,
)
from wardround.audit.bundle import Bundle
from wardround.audit.evidence import (
    COORDINATOR,
    Evidence,
    Log,
    Record,
    approval,
    by_run,
    ending,
    hospital_place,
    joins,
)
from wardround.audit.verdicts import Failure
from wardround.errors import BadInput
from wardround.evidence.checkpoint import Checkpoint, parse_checkpoint

_AFTER_THE_END = (HospitalMissed, CheckpointWitnessed)

Releases = dict[str, tuple[Release, ...]]


def check_both_sides(
    evidence: Evidence, attempts: tuple[Attempt, ...], releases: Releases, bundle: Bundle
) -> Iterator[Failure]:
    """All checks that compare the coordinator's log with the hospitals'."""
    yield from _missing_logs(evidence)
    for name, log in sorted(evidence.hospitals.items()):
        yield from _agreed_before(evidence, name, log)
        yield from _witnessed(evidence, log)
        yield from _answered_what_it_saw(evidence, log, attempts, releases[name])
        yield from _witnessed_by_coordinator(evidence, name, log)
        yield from _ended(evidence, name, log, bundle)
        yield from _paired(name, attempts, releases[name])


def lost_hospitals(evidence: Evidence) -> frozenset[str]:
    """Hospitals of the roster about which the coordinator's log ends with: it was not there."""
    last: dict[str, bool] = dict.fromkeys(evidence.study.names(), False)
    for record in evidence.coordinator.records:
        body = record.body
        if isinstance(body, HospitalJoined | UpdateReceived):
            last[body.hospital] = True
        elif isinstance(body, HospitalMissed | HospitalVanished | UpdateRejected | HospitalRefused):
            last[body.hospital] = False
    return frozenset(name for name, present in last.items() if not present)


def unsent_remarks(releases: Releases) -> Iterator[str]:
    """Reserved and not sent: no failure, but the reader should know. They count as spent."""
    for name, found in sorted(releases.items()):
        for release in found:
            if release.sent is None:
                yield (
                    f"{hospital_place(name)}, entry {release.reserved.seq}: release reserved, no "
                    "word that it was sent; it counts as spent"
                )


def _missing_logs(evidence: Evidence) -> Iterator[Failure]:
    lost = lost_hospitals(evidence)
    for name in evidence.without_log:
        if name not in lost:
            reason = (
                "its log is not in the bundle, and the coordinator's log does not say that it "
                "was lost"
            )
            yield Failure("log-missing", hospital_place(name), None, reason)


def _agreed_before(evidence: Evidence, name: str, log: Log) -> Iterator[Failure]:
    joined = joins(log, evidence.run)
    announced = [r for r in evidence.coordinator.of(HospitalJoined) if r.body.hospital == name]
    if announced and not joined:
        reason = "the coordinator's log says that it joined, its own does not"
        yield Failure("join-missing", log.party, None, reason)
    own = {str(record.body.session) for record in joined}
    for record in announced:
        if joined and str(record.body.session) not in own:
            reason = f"{name} joined this session by the coordinator's log, not by its own"
            yield Failure("join-missing", COORDINATOR, record.seq, reason)
    for join in joined:
        if join.body.study_digest != evidence.study.digest:
            reason = "it joined under another study than the bundle's"
            yield Failure("other-study", log.party, join.seq, reason)
    approved = approval(log, evidence.study.digest)
    if joined and (approved is None or approved.seq > joined[0].seq):
        reason = "it joined before its officer had approved this study's digest"
        yield Failure("not-approved", log.party, joined[0].seq, reason)


def _heads_seen(evidence: Evidence, log: Log) -> tuple[Record[CheckpointWitnessed], ...]:
    """The heads of the coordinator's log that this hospital saw in this run."""
    found = []
    for record, here in by_run(log, evidence.run):
        body = record.body
        if isinstance(body, CheckpointWitnessed) and here and body.actor == COORDINATOR:
            found.append(Record(record.log, record.seq, record.time, body))
    return tuple(found)


def _witnessed(evidence: Evidence, log: Log) -> Iterator[Failure]:
    """What the hospital saw of the coordinator's log must be the start of the one in the bundle."""
    heads, seen = evidence.coordinator.heads, _heads_seen(evidence, log)
    for record in seen:
        body = record.body
        if body.size >= len(heads):
            reason = (
                f"it saw {body.size} entries of the coordinator's log, the bundle has "
                f"{len(heads) - 1}"
            )
            yield Failure("history-shortened", log.party, record.seq, reason)
        elif heads[body.size] != body.head:
            reason = f"it saw another history of the coordinator's first {body.size} entries"
            yield Failure("history-differs", log.party, record.seq, reason)
    if joins(log, evidence.run) and not seen:
        reason = "it never witnessed the coordinator's log"
        yield Failure("never-witnessed", log.party, None, reason)


def _answered_what_it_saw(
    evidence: Evidence,
    log: Log,
    attempts: tuple[Attempt, ...],
    releases: tuple[Release, ...],
) -> Iterator[Failure]:
    """An attempt is in the coordinator's log before a hospital works for it, not written later."""
    opened = {attempt.transcript: attempt.opened.seq for attempt in attempts}
    seen = _heads_seen(evidence, log)
    for release in releases:
        at = opened.get(release.transcript)
        sizes = (r.body.size for r in seen if r.seq < release.reserved.seq)
        if at is not None and max(sizes, default=0) <= at:
            reason = "it worked for an attempt that no head it had seen of the log holds"
            yield Failure("attempt-unseen", log.party, release.reserved.seq, reason)


def _witnessed_by_coordinator(evidence: Evidence, name: str, log: Log) -> Iterator[Failure]:
    """What the coordinator saw of the hospital's log must be the start of the one in the bundle."""
    for record in evidence.coordinator.of(CheckpointWitnessed):
        body = record.body
        if body.actor != name:
            continue
        if body.size >= len(log.heads):
            reason = f"it saw {body.size} entries of {name}'s log, the bundle has fewer"
            yield Failure("history-shortened", COORDINATOR, record.seq, reason)
        elif log.heads[body.size] != body.head:
            reason = f"it saw another history of {name}'s first {body.size} entries"
            yield Failure("history-differs", COORDINATOR, record.seq, reason)


def _ended(evidence: Evidence, name: str, log: Log, bundle: Bundle) -> Iterator[Failure]:
    signed = bundle.parts.countersignatures.get(name)
    if signed is None and name in lost_hospitals(evidence):
        return
    end = ending(log, evidence.run)
    if end is None:
        yield Failure("end-missing", log.party, None, "its log has no run-ended for this run")
    elif end.body.coordinator_head not in evidence.coordinator.heads:
        reason = "it ended the run under another history of the coordinator's log"
        yield Failure("history-differs", log.party, end.seq, reason)
    if signed is None:
        reason = "it did not countersign the coordinator's log"
        yield Failure("countersignature-missing", log.party, None, reason)
        return
    try:
        checkpoint = parse_checkpoint(signed.checkpoint)
    except BadInput:
        return  # `authentic` names it
    yield from _countersigned_this_history(evidence, log.party, checkpoint)
    if end is not None and end.body.coordinator_head != checkpoint.head:
        reason = "it ended the run under another head of the coordinator's log than it signed"
        yield Failure("history-differs", log.party, end.seq, reason)


def _countersigned_this_history(
    evidence: Evidence, place: str, checkpoint: Checkpoint
) -> Iterator[Failure]:
    heads = evidence.coordinator.heads
    if checkpoint.size >= len(heads) or heads[checkpoint.size] != checkpoint.head:
        reason = "it countersigned another history of the coordinator's log"
        yield Failure("history-differs", place, None, reason)
        return
    for record in evidence.coordinator.records[checkpoint.size :]:
        if not isinstance(record.body, _AFTER_THE_END):
            reason = f"written after {place} countersigned the end of the run"
            yield Failure("after-the-end", COORDINATOR, record.seq, reason)


def _paired(
    name: str, attempts: tuple[Attempt, ...], releases: tuple[Release, ...]
) -> Iterator[Failure]:
    by_transcript = {attempt.transcript: attempt for attempt in attempts}
    sent: dict[str, Release] = {}
    for release in releases:
        attempt = by_transcript.get(release.transcript)
        yield from _release_fits(name, release, attempt)
        if release.sent is not None:
            if release.transcript in sent:
                reason = "it answered the same attempt twice"
                yield Failure("answered-twice", release.sent.log, release.sent.seq, reason)
            sent[release.transcript] = release
    for attempt in attempts:
        received = attempt.received.get(name)
        if received is None:
            continue
        answer = sent.get(attempt.transcript)
        if answer is None or answer.sent is None:
            reason = f"an update of {name} was received that its own log does not know"
            yield Failure("release-missing", received.log, received.seq, reason)
        elif received.body.header.get("update_digest") != answer.sent.body.update_digest:
            reason = f"the update received is not the one that {name} sent"
            yield Failure("update-differs", answer.sent.log, answer.sent.seq, reason)


def _release_fits(name: str, release: Release, attempt: Attempt | None) -> Iterator[Failure]:
    record = release.sent or release.reserved
    if attempt is None:
        reason = "it was asked for an attempt that the coordinator's log does not know"
        yield Failure("attempt-hidden", record.log, record.seq, reason)
        return
    if name not in attempt.spec.cohort:
        reason = "it answered an attempt whose cohort it is not in"
        yield Failure("attempt-hidden", record.log, record.seq, reason)
    if release.purpose is not attempt.purpose:
        reason = "reserved for another purpose than the attempt's"
        yield Failure("purpose-differs", record.log, release.reserved.seq, reason)
    unexplained = attempt.presence(name) is Presence.UNKNOWN and attempt.counted
    if release.sent is not None and unexplained:
        reason = "it sent an update, and the coordinator's log is silent about it"
        yield Failure("update-hidden", record.log, record.seq, reason)


def check_opening(evidence: Evidence) -> Iterator[Failure]:
    """One run, of this study, with an end that says what the rounds say."""
    for record in evidence.coordinator.of(StudyOpened):
        if record.body.study_digest != evidence.study.digest:
            reason = "it opened another study than the bundle's"
            yield Failure("other-study", record.log, record.seq, reason)
        if record.body.run != evidence.run:
            yield Failure("other-run", record.log, record.seq, "a second run in one log")
    if evidence.coordinator.last(RunClosed) is None:
        yield Failure("end-missing", COORDINATOR, None, "the run has no end (run-closed)")
