"""Complete, round by round: each attempt is the study's, follows the last one, and has an end."""

from collections.abc import Iterator
from dataclasses import replace

from wardround.audit.attempts import Attempt, Presence
from wardround.audit.bodies import (
    HospitalJoined,
    RoundClosed,
    RunClosed,
    StudyOpened,
)
from wardround.audit.evidence import COORDINATOR, Evidence
from wardround.audit.steps import steps_of
from wardround.audit.verdicts import Failure
from wardround.canonical import Json
from wardround.errors import ProtocolViolation
from wardround.masking.partition import Partition
from wardround.masking.quantise import largest_limit
from wardround.masking.round_spec import Purpose, RoundSpec
from wardround.protocol.specs import (
    asked_in,
    bits_of,
    evaluation_layout,
    partition_in,
    standardises,
    statistics_layout,
    threshold_in,
    training_scale,
)
from wardround.study.manifest import Study


def check_rounds(evidence: Evidence, attempts: tuple[Attempt, ...]) -> Iterator[Failure]:
    """All checks on the coordinator's rounds."""
    for attempt in attempts:
        yield from _spec_is_the_studys(evidence, attempt)
        yield from _has_an_end(evidence, attempt)
    yield from _in_order(attempts)
    yield from _statistics_come_first(evidence.study, attempts)
    yield from _model_moves_with_the_rounds(evidence, attempts)
    yield from _made_of_what_was_trained(evidence, attempts)
    yield from _end_agrees(evidence, attempts)


def _spec_is_the_studys(evidence: Evidence, attempt: Attempt) -> Iterator[Failure]:
    study, spec = evidence.study, attempt.spec
    members = {
        record.body.hospital
        for record in evidence.coordinator.of(HospitalJoined)
        if record.body.session == spec.session and record.seq < attempt.opened.seq
    }
    scale = training_scale(study, len(spec.cohort), spec.lanes) if attempt.trains else 1.0
    threshold = threshold_in(study, spec.purpose, len(spec.cohort))
    bits = bits_of(study, spec.purpose)
    asked = asked_in(spec)
    for ok, reason in (
        (spec.study_digest == study.digest, "it is for another study"),
        (spec.run == evidence.run, "it is for another run"),
        (set(asked) <= set(study.names()), "its cohort is not within the roster"),
        (set(asked) <= members, "its cohort is not within those who joined the session"),
        (len(asked) >= study.rounds.quorum, "its cohort is below the study's quorum"),
        (spec.minimum >= study.masking.minimum_hospitals, "its minimum is below the study's"),
        (spec.profile is study.profile_of(spec.purpose), "its profile is not the study's"),
        (spec.threshold == threshold, "its threshold is not the study's"),
        (spec.bits == bits, "its lanes are wider or narrower than the study's"),
        (spec.partition == _partition_due(study, spec), "its partition is not the study's draw"),
        (spec.limit == largest_limit(len(spec.cohort), bits), "its lane limit is not the study's"),
        (spec.scale == scale, "its scale is not the study's"),
        (attempt.trains or spec.lanes == _lanes_due(study, spec.purpose), "its lanes are not"),
        (spec.round <= _last_round(study, spec.purpose), "the study has fewer rounds"),
    ):
        if not ok:
            yield Failure("spec-differs", attempt.opened.log, attempt.opened.seq, reason)


def _partition_due(study: Study, spec: RoundSpec) -> Partition | None:
    """The draw of those asked; None where they do not fill the study's groups."""
    try:
        return partition_in(
            study,
            spec.purpose,
            asked_in(spec),
            directory_digest=spec.directory_digest,
            round_number=spec.round,
            attempt=spec.attempt,
        )
    except ProtocolViolation:
        return None


def _lanes_due(study: Study, purpose: Purpose) -> int:
    if purpose is Purpose.EVALUATE:
        return evaluation_layout(study).lanes
    return 0 if study.statistics is None else statistics_layout(study).lanes


def _last_round(study: Study, purpose: Purpose) -> int:
    """The number that a round of this purpose has at most; -1 where the study has none."""
    if purpose is Purpose.STATISTICS:
        return -1 if study.statistics is None else 0
    return study.rounds.count or -1


def _has_an_end(evidence: Evidence, attempt: Attempt) -> Iterator[Failure]:
    opened = attempt.opened
    if attempt.end is None:
        # A coordinator that stopped in the middle says so by opening the study again.
        resumed = any(r.seq > opened.seq for r in evidence.coordinator.of(StudyOpened))
        if not resumed:
            yield Failure("attempt-open", opened.log, opened.seq, "this attempt has no end")
        return
    absent = any(attempt.presence(name) is not Presence.SENT for name in attempt.spec.cohort)
    named = attempt.missed or attempt.rejected or attempt.vanished
    if not attempt.counted and absent and not named:
        reason = "the attempt is void, and nothing says who was missing"
        yield Failure("absence-unnamed", attempt.end.log, attempt.end.seq, reason)


def _statistics_come_first(study: Study, attempts: tuple[Attempt, ...]) -> Iterator[Failure]:
    """No more attempts than their epsilon covers, none after another round, and none left out."""
    plan, opened, others = study.statistics, False, False
    for attempt in attempts:
        at = attempt.opened
        if attempt.purpose is not Purpose.STATISTICS:
            if standardises(study) and not opened and not others:
                reason = "its features are scaled by statistics that were not opened before"
                yield Failure("round-order", at.log, at.seq, reason)
            others = True
            continue
        if others or opened:
            reason = "statistics were asked for after they were opened, or after another round"
            yield Failure("round-order", at.log, at.seq, reason)
        if plan is not None and attempt.spec.attempt > plan.attempts:
            reason = f"the epsilon of the statistics covers {plan.attempts} attempts"
            yield Failure("spec-differs", at.log, at.seq, reason)
        opened = opened or attempt.counted


def _in_order(attempts: tuple[Attempt, ...]) -> Iterator[Failure]:
    moved = [step.end.seq for step in steps_of(attempts)]
    last: Attempt | None = None
    evaluated = False
    for attempt in attempts:
        if attempt.purpose is Purpose.STATISTICS:
            continue
        opened, here = attempt.opened, _number(attempt)
        if attempt.trains and evaluated:
            yield Failure("round-order", opened.log, opened.seq, "training after the evaluation")
        due = sum(seq < opened.seq for seq in moved)
        if attempt.trains and attempt.spec.round != due:
            reason = f"round {attempt.spec.round + 1} was opened, round {due + 1} was due"
            yield Failure("round-order", opened.log, opened.seq, reason)
        if last and attempt.trains and here <= _number(last) and not _same_draw(attempt, last):
            reason = f"{attempt.spec.where} does not come after {last.spec.where}"
            yield Failure("round-order", opened.log, opened.seq, reason)
        last = attempt if last is None or here >= _number(last) else last
        evaluated = evaluated or not attempt.trains


def _number(attempt: Attempt) -> tuple[int, int]:
    return attempt.spec.round, attempt.spec.attempt


def _same_draw(one: Attempt, other: Attempt) -> bool:
    """Whether the two are groups of one attempt."""
    same = replace(one.spec, cohort=other.spec.cohort, **_by_size(other.spec)) == other.spec
    return one.grouped and same and one.spec.cohort != other.spec.cohort


def _by_size(spec: RoundSpec) -> Json:
    """What differs between groups of different sizes."""
    return {"threshold": spec.threshold, "scale": spec.scale, "limit": spec.limit}


def _model_moves_with_the_rounds(
    evidence: Evidence, attempts: tuple[Attempt, ...]
) -> Iterator[Failure]:
    steps = steps_of(attempts)
    for attempt in attempts:
        opened = attempt.opened
        left = [step.end.body.model_after for step in steps if step.end.seq < opened.seq]
        if left and attempt.spec.model_digest != left[-1]:
            reason = "it was opened with another model than the last round left"
            yield Failure("model-differs", opened.log, opened.seq, reason)
    for step in steps:
        end = step.end
        if {end.body.model_before} != {attempt.spec.model_digest for attempt in step.attempts}:
            reason = "it was closed with another model than it was opened with"
            yield Failure("model-differs", end.log, end.seq, reason)
    closed = evidence.coordinator.last(RunClosed)
    if closed is not None and steps and closed.body.model != steps[-1].end.body.model_after:
        reason = "the run's model is not the one that the last round left"
        yield Failure("model-differs", closed.log, closed.seq, reason)


def _made_of_what_was_trained(
    evidence: Evidence, attempts: tuple[Attempt, ...]
) -> Iterator[Failure]:
    """A GAN's rounds name what the coordinator made of the discriminator, and no others do."""
    due = evidence.study.made_from is not None
    for end in (step.end for step in steps_of(attempts)):
        made = isinstance(end.body, RoundClosed) and end.body.made is not None
        if made != due:
            has = "has" if made else "does not name"
            reason = f"it {has} a part of the model that the coordinator made, unlike the study"
            yield Failure("model-differs", end.log, end.seq, reason)


def _end_agrees(evidence: Evidence, attempts: tuple[Attempt, ...]) -> Iterator[Failure]:
    closed = evidence.coordinator.last(RunClosed)
    if closed is None:
        return
    rounds = len(steps_of(attempts))
    if closed.body.rounds != rounds:
        reason = f"it says {closed.body.rounds} rounds, {rounds} were closed"
        yield Failure("end-differs", closed.log, closed.seq, reason)
    sums = [step.survivors for step in steps_of(attempts)]
    sums += [frozenset(a.survivors) for a in attempts if a.counted and not a.trains]
    there = frozenset.intersection(*sums) if sums else frozenset()
    for name in sorted(there ^ set(closed.body.hospitals_completed)):
        said, was = ("does not say", "was") if name in there else ("says", "was not")
        reason = f"it {said} that {name} completed the run, and {name} {was} in every sum"
        yield Failure("end-differs", closed.log, closed.seq, reason)
    after = [r for r in evidence.coordinator.records if r.seq > closed.seq]
    if any(hasattr(record.body, "spec") for record in after):
        yield Failure("after-the-end", COORDINATOR, closed.seq, "an attempt after the run's end")
