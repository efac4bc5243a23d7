"""Complete, where a study sums in groups: every group of a draw is there and goes into a step."""

from collections.abc import Iterator
from functools import partial
from itertools import groupby

from wardround.audit.attempts import Attempt
from wardround.audit.bodies import StudyOpened
from wardround.audit.body_groups import RoundCombined
from wardround.audit.evidence import Evidence, Record
from wardround.audit.verdicts import Failure
from wardround.study.robust import Robust


def check_groups(evidence: Evidence, attempts: tuple[Attempt, ...]) -> Iterator[Failure]:
    """All checks on rounds in groups; none for a study without."""
    plan = evidence.study.robust
    if plan is None:
        return
    grouped = [attempt for attempt in attempts if attempt.trains and attempt.grouped]
    for _, found in groupby(grouped, key=lambda a: (a.spec.session, a.spec.round, a.spec.attempt)):
        of_one = tuple(found)
        yield from _all_were_opened(evidence, of_one)
        yield from _all_are_combined(evidence, plan, of_one)


def _all_were_opened(evidence: Evidence, groups: tuple[Attempt, ...]) -> Iterator[Failure]:
    first = groups[0]
    cohorts = sorted(attempt.spec.cohort for attempt in groups)
    if cohorts == list(first.spec.partition) or _stopped_after(evidence, groups[-1].opened.seq):
        return
    reason = f"{len(set(cohorts))} of the {len(first.spec.partition)} groups of its draw were asked"
    yield Failure("group-hidden", first.opened.log, first.opened.seq, reason)


def _all_are_combined(
    evidence: Evidence, plan: Robust, groups: tuple[Attempt, ...]
) -> Iterator[Failure]:
    counted = [attempt for attempt in groups if attempt.counted]
    record = next((a.combined for a in groups if a.combined is not None), None)
    if record is not None:
        yield from _combined_rightly(plan, groups, record)
        return
    last = max(a.end.seq if a.end else a.opened.seq for a in groups)
    if len(counted) >= plan.fewest and not _stopped_after(evidence, last):
        reason = f"{len(counted)} of its groups were opened, and the model did not move"
        yield Failure("attempt-open", groups[0].opened.log, groups[0].opened.seq, reason)


def _combined_rightly(
    plan: Robust, groups: tuple[Attempt, ...], record: Record[RoundCombined]
) -> Iterator[Failure]:
    body, fail = record.body, partial(Failure, "groups-differ", record.log, record.seq)
    counted = sorted(attempt.transcript for attempt in groups if attempt.counted)
    void = sorted(attempt.transcript for attempt in groups if not attempt.counted)
    for ok, reason in (
        (list(body.transcripts) == counted, "its sums are not those of its groups that opened"),
        (list(body.void) == void, "its void groups are not those that did not open"),
        (body.rule == plan.rule.value, "its rule is not the study's"),
        (set(body.flagged) <= set(counted), "it flags what is no sum of it"),
        (list(body.flagged) == sorted(set(body.flagged)), "its flags are not sorted, once each"),
        (len(counted) >= plan.fewest, f"{len(counted)} groups opened, {plan.fewest} were due"),
    ):
        if not ok:
            yield fail(reason)


def _stopped_after(evidence: Evidence, seq: int) -> bool:
    """A coordinator that stopped in the middle says so by opening the study again."""
    return any(record.seq > seq for record in evidence.coordinator.of(StudyOpened))
