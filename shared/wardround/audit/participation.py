"""Who was planned, who took part, who was missing and why: never "success" with somebody lost."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby

from wardround.audit.attempts import Attempt, Presence
from wardround.audit.bodies import (
    AttemptVoid,
    EvaluationClosed,
    HospitalJoined,
    HospitalMissed,
    HospitalRefused,
    RoundRefused,
    RunClosed,
    ShareRejected,
    UpdateReceived,
    UpdateRejected,
)
from wardround.audit.evidence import Evidence
from wardround.audit.report_model import (
    Absent,
    AttemptFacts,
    Incident,
    Participation,
    Place,
    Suspicion,
    recomputed,
)
from wardround.audit.steps import grouped_rounds, members_of_sums, steps_of
from wardround.masking.round_spec import Purpose, name_of
from wardround.robust.suspicion import suspected_of

_ENOUGH = 3
_NO_SPEC = "a message that is no round"
_NEVER_OPENED = "an attempt that was never opened"


def participation_of(evidence: Evidence, attempts: tuple[Attempt, ...]) -> Participation:
    """Section "who took part" of the report, from the coordinator's log."""
    planned = evidence.study.names()
    absent = tuple(_absent(evidence, attempts))
    completed = completed_hospitals(evidence, attempts)
    study = evidence.study
    closed = len(steps_of(attempts))
    counted = any(a.purpose is Purpose.STATISTICS and a.counted for a in attempts)
    lost = sorted({*planned} - {*completed} | {*_left_outside_attempts(evidence)})
    # A study that only counts has run when its statistics were opened.
    whole = closed == study.rounds.count and _ended(evidence) and (counted or closed > 0)
    return Participation(
        verdict="stopped early" if not whole else "somebody was missing" if lost else "everybody",
        headline=_headline(evidence, closed, completed, lost, whole=whole),
        planned=planned,
        completed=completed,
        absent=absent,
        suspected=(*_suspected(attempts), *_behind_flagged_groups(planned, attempts)),
        rounds_closed=recomputed(closed, f"of {evidence.study.rounds.count} planned"),
        attempts=tuple(_facts(groups, planned) for groups in _draws(attempts)),
    )


def completed_hospitals(evidence: Evidence, attempts: tuple[Attempt, ...]) -> tuple[str, ...]:
    """Hospitals that contributed to every sum that was opened, and to at least one."""
    sums = list(members_of_sums(attempts))
    return tuple(
        name for name in evidence.study.names() if sums and all(name in each for each in sums)
    )


def incidents_of(evidence: Evidence, attempts: Iterable[Attempt]) -> tuple[Incident, ...]:
    """Section D: refusals, rejected updates and shares, void attempts, in the log's order.

    Behind them is what a hospital refused and the coordinator's log does not tell.
    """
    names = {attempt.transcript: _label(attempt) for attempt in attempts}
    found = []
    for record in evidence.coordinator.records:
        body, place = record.body, Place(log=record.log, seq=record.seq)
        if isinstance(body, HospitalRefused):
            found.append(
                Incident(what="refused", party=body.hospital, reason=body.code, place=place)
            )
        elif isinstance(body, UpdateRejected):
            what = f"update rejected in {names[body.transcript]}"
            found.append(Incident(what=what, party=body.hospital, reason=body.reason, place=place))
        elif isinstance(body, ShareRejected):
            what = f"share rejected in {names[body.transcript]}"
            found.append(Incident(what=what, party=body.hospital, reason=body.reason, place=place))
        elif isinstance(body, AttemptVoid):
            what = f"{names[body.transcript]} void"
            found.append(Incident(what=what, party="all", reason=body.reason, place=place))
    return (*found, *_refused_in_silence(evidence, names))


def _refused_in_silence(evidence: Evidence, names: Mapping[str, str]) -> Iterator[Incident]:
    """Refusals by a hospital's own log alone: a coordinator does not write down what it tried.

    One line for all of one hospital and attempt with the same code.
    """
    told = Counter((r.body.hospital, r.body.code) for r in evidence.coordinator.of(HospitalRefused))
    silent: dict[tuple[str, str | None, str], list[Place]] = {}
    for name, log in sorted(evidence.hospitals.items()):
        for record in log.of(RoundRefused):
            body, place = record.body, Place(log=record.log, seq=record.seq)
            if told[name, body.code]:
                told[name, body.code] -= 1
                continue
            silent.setdefault((name, body.transcript, body.code), []).append(place)
    for (name, transcript, code), places in silent.items():
        where = _NO_SPEC if transcript is None else names.get(transcript, _NEVER_OPENED)
        yield Incident(
            what=f"refused in {where}; only its own log says so",
            party=name,
            reason=code if len(places) == 1 else f"{code}, {len(places)} times",
            place=places[0],
        )


def outcome_of(attempt: Attempt) -> str:
    """How an attempt ended: closed, void, or interrupted when the coordinator stopped in it."""
    if attempt.end is None:
        return "interrupted"
    return "closed" if attempt.counted else "void"


def _absent(evidence: Evidence, attempts: tuple[Attempt, ...]) -> Iterator[Absent]:
    joined = {record.body.hospital for record in evidence.coordinator.of(HospitalJoined)}
    refused = {r.body.hospital: r.body.code for r in evidence.coordinator.of(HospitalRefused)}
    outside = _left_outside_attempts(evidence)
    for name in evidence.study.names():
        if name not in joined:
            _, reason = outside.get(name, (0, "no answer was recorded"))
            if name in refused:
                reason = f"refused: {refused[name]}"
            yield Absent(hospital=name, since="never joined", reason=reason)
            continue
        yield from _absences(name, attempts)
        if name in outside:
            seq, reason = outside[name]
            ended = any(record.seq < seq for record in evidence.coordinator.of(RunClosed))
            since = "at the end" if ended else "between two rounds"
            yield Absent(hospital=name, since=since, reason=reason)


def _left_outside_attempts(evidence: Evidence) -> dict[str, tuple[int, str]]:
    """Hospitals whose last word is that they were missed outside an attempt: where, and why."""
    last: dict[str, tuple[int, str]] = {}
    for record in evidence.coordinator.records:
        body = record.body
        if isinstance(body, HospitalMissed) and body.transcript is None:
            last[body.hospital] = (record.seq, body.reason)
        elif isinstance(body, HospitalJoined | UpdateReceived):
            last.pop(body.hospital, None)
    return last


def _absences(name: str, attempts: tuple[Attempt, ...]) -> Iterator[Absent]:
    """One line per stretch of absence, not one per round."""
    quiet = {Presence.MISSED, Presence.REJECTED, Presence.NOT_ASKED}
    stretch: list[Attempt] = []
    for attempt in (*attempts, None):
        if attempt is not None and attempt.presence(name) is Presence.ELSEWHERE:
            continue  # its own group says what became of it
        if attempt is not None and name in attempt.vanished:
            yield Absent(hospital=name, since=_label(attempt), reason=_vanished(attempt, name))
        if attempt is not None and attempt.presence(name) in quiet:
            stretch.append(attempt)
            continue
        if stretch:
            yield _stretch(name, stretch)
        stretch = []


def _vanished(attempt: Attempt, name: str) -> str:
    reason = attempt.presence(name).value
    return f"{reason}; its update is in the sum" if attempt.has_summed(name) else reason


def _suspected(attempts: Iterable[Attempt]) -> Iterator[Suspicion]:
    """Who revealed what did not fit. A share is the word of two: who dealt it and who held it."""
    for attempt in attempts:
        for record in attempt.suspected:
            name, reason = record.body.hospital, record.body.reason
            yield Suspicion(hospital=name, since=_label(attempt), reason=reason)


def _behind_flagged_groups(
    planned: tuple[str, ...], attempts: tuple[Attempt, ...]
) -> Iterator[Suspicion]:
    """Who was in groups that lie far off more often than the random draw explains."""
    rounds = grouped_rounds(attempts)
    if not rounds:
        return
    last = max(step.attempts[0].spec.round for step in steps_of(attempts))
    since = f"{name_of(Purpose.TRAIN, 0)} to {name_of(Purpose.TRAIN, last)}"
    for found in suspected_of(rounds, planned):
        yield Suspicion(hospital=found.hospital, since=since, reason=found.in_words())


def _stretch(name: str, attempts: list[Attempt]) -> Absent:
    reasons = [attempt.reason(name) or "not asked" for attempt in attempts]
    parts = [f"{why}, {len(list(same))} times" for why, same in groupby(reasons)]
    reason = "; then ".join(part.removesuffix(", 1 times") for part in parts)
    first, last = _label(attempts[0]), _label(attempts[-1])
    return Absent(
        hospital=name, since=first if first == last else f"{first} to {last}", reason=reason
    )


def _label(attempt: Attempt) -> str:
    """An attempt in words; people count rounds from 1."""
    again = f", attempt {attempt.spec.attempt}" if attempt.spec.attempt > 1 else ""
    return f"{name_of(attempt.purpose, attempt.spec.round)}{again}"


def _facts(groups: tuple[Attempt, ...], planned: tuple[str, ...]) -> AttemptFacts:
    """One attempt, of one cohort or of several groups."""
    first = groups[0]
    in_sum = {name for attempt in groups for name in planned if attempt.has_summed(name)}
    outcomes = {outcome_of(attempt) for attempt in groups}
    if len(groups) > 1:
        combined = any(attempt.combined is not None for attempt in groups)
        outcomes = {"closed"} if combined else outcomes - {"closed"} or {"interrupted"}
    return AttemptFacts.model_validate(
        {
            "round": first.spec.round,
            "attempt": first.spec.attempt,
            "purpose": first.spec.purpose.value,
            "outcome": min(outcomes),  # of a mixture: interrupted before void
            "reason": "; ".join(filter(None, map(_void_reason, groups))),
            "profile": first.spec.profile.value,
            "threshold": min(attempt.spec.threshold for attempt in groups),
            "in_sum": sorted(in_sum),
            "presence": {name: _presence(name, groups).value for name in planned},
            "place": Place(log=first.opened.log, seq=first.opened.seq),
        }
    )


def _presence(name: str, groups: tuple[Attempt, ...]) -> Presence:
    """What became of a hospital in the group that it was drawn into."""
    found = [attempt.presence(name) for attempt in groups]
    return next((each for each in found if each is not Presence.ELSEWHERE), Presence.NOT_ASKED)


def _draws(attempts: tuple[Attempt, ...]) -> Iterator[tuple[Attempt, ...]]:
    """The groups of one attempt together."""

    def draw(attempt: Attempt) -> tuple[object, ...]:
        spec = attempt.spec
        return spec.purpose, spec.session, spec.round, spec.attempt, spec.partition

    for _, groups in groupby(attempts, key=draw):
        yield tuple(groups)


def _void_reason(attempt: Attempt) -> str:
    if attempt.end is None:
        return "the coordinator stopped during this attempt"
    return attempt.end.body.reason if isinstance(attempt.end.body, AttemptVoid) else ""


def _ended(evidence: Evidence) -> bool:
    return evidence.coordinator.last(RunClosed) is not None


def _headline(
    evidence: Evidence, closed: int, completed: tuple[str, ...], lost: list[str], *, whole: bool
) -> str:
    planned = len(evidence.study.names())
    rounds = evidence.study.rounds.count
    if not whole:
        ended = f"{closed} of {rounds} rounds were closed"
        return f"The run stopped early: {ended}; {len(completed)} of {planned} hospitals were there"
    if not lost and not rounds:
        return f"All {planned} hospitals took part in the statistics"
    if not lost:
        evaluated = any(evidence.coordinator.of(EvaluationClosed))
        rest = "and in the evaluation" if evaluated else "but the model was not evaluated"
        return f"All {planned} hospitals took part in all {rounds} rounds {rest}"
    shown = ", ".join(lost[:_ENOUGH]) + (f" and {len(lost) - _ENOUGH} more" * (len(lost) > _ENOUGH))
    if set(lost) <= set(completed):
        return f"{shown} took part in every round, and handed over no log at the end"
    was = "was" if len(lost) == 1 else "were"
    there = planned - len(lost)
    return f"{there} of {planned} hospitals took part throughout; {shown} {was} missing"
