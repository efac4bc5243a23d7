"""What hospitals said of their data: the words have to follow from each other and from the study.

The numbers are the hospital's word, and rounded: a reason is refuted only where no count that would
be told like this has it, or where every one has it.
"""

from collections.abc import Iterator

from wardround.audit.attempts import Attempt
from wardround.audit.bodies import RunEnded, RunJoined, StatisticsClosed
from wardround.audit.body_data import DataDescribed, DataNumbers
from wardround.audit.evidence import Evidence, Log
from wardround.audit.statistics import released_in
from wardround.audit.verdicts import Failure
from wardround.errors import BadInput
from wardround.protocol.specs import statistics_layout
from wardround.quality.assess import MUCH_MISSING
from wardround.quality.disclosure import FEW, bounds
from wardround.quality.numbers import add_up, may_lack, outcomes_of
from wardround.quality.plan import QualityPlan
from wardround.quality.verdict import Reason, in_order, verdict_of
from wardround.study.manifest import Study

CODE = "data-differs"
Held = tuple[bool, bool]


def data_faults(evidence: Evidence, attempts: tuple[Attempt, ...]) -> Iterator[Failure]:
    """Descriptions whose verdict, numbers, comparison or place in the log cannot be."""
    due = released_digest(evidence.study, attempts)
    for log in evidence.hospitals.values():
        for record in log.of(DataDescribed):
            if record.body.run != evidence.run:
                continue
            for reason in _faults(record.body, evidence.study, due):
                yield Failure(CODE, record.log, record.seq, reason)
        yield from _misplaced(log, evidence.run)


def released_digest(study: Study, attempts: tuple[Attempt, ...]) -> str | None:
    """The digest of the statistics that the run opened last, as hospitals compare with; or None."""
    ends = [
        (attempt, attempt.end.body)
        for attempt in attempts
        if attempt.end is not None and isinstance(attempt.end.body, StatisticsClosed)
    ]
    if study.statistics is None or not ends:
        return None
    attempt, closed = ends[-1]
    try:
        return released_in(attempt, closed, statistics_layout(study)).digest
    except BadInput:
        return None  # `check_report` names it: the report cannot be derived


def _faults(body: DataDescribed, study: Study, released: str | None) -> Iterator[str]:
    if body.reasons != in_order(body.reasons):
        yield "its reasons are not each once and in their order"
    due = verdict_of(body.reasons)
    if body.verdict is not due:
        yield f"its verdict is {body.verdict}, its reasons give {due}"
    if released is not None and body.compared_with != released:
        yield "it was not compared with the statistics that the run opened"
    if Reason.DIFFERS in body.reasons and body.compared_with is None:
        yield "it differs from others that it was not compared with"
    if body.numbers is not None:
        yield from _number_faults(body.numbers, body.reasons, study)


def _number_faults(
    numbers: DataNumbers, reasons: tuple[Reason, ...], study: Study
) -> Iterator[str]:
    contract, plan = study.contract, study.quality or QualityPlan()
    lengths = len(outcomes_of(contract.label)), len(may_lack(contract))
    if (len(numbers.outcomes), len(numbers.missing)) != lengths:
        yield "it counts other outcomes or columns than the study's contract has"
        return
    fewest, most = bounds(numbers.patients)
    outcomes = [bounds(said) for said in numbers.outcomes]
    missing = [bounds(said) for said in numbers.missing]
    if any(low > most for low, _ in (*outcomes, *missing)):
        yield "it counts more patients in a part than in the whole"
    if bounds(numbers.records)[1] < fewest:
        yield "it counts more patients than records"
    if add_up(contract.label) and not (
        sum(low for low, _ in outcomes) <= most and sum(high for _, high in outcomes) >= fewest
    ):
        yield "its outcomes do not add up to its patients"
    for reason, (surely, maybe) in _held(plan, (fewest, most), outcomes, missing).items():
        if (surely and reason not in reasons) or (not maybe and reason in reasons):
            yield f"its numbers and the reason `{reason}` do not go together"


def _held(
    plan: QualityPlan,
    patients: tuple[int, int],
    outcomes: list[tuple[int, int]],
    missing: list[tuple[int, int]],
) -> dict[Reason, Held]:
    """For each reason that follows from counts: whether it surely holds, and whether it may."""
    fewest, most = patients

    def rare(least: int) -> Held:
        return any(high < least for _, high in outcomes), any(low < least for low, _ in outcomes)

    def lacking(share: float) -> Held:
        surely = any(low > share * most for low, _ in missing)
        return surely, any(high > share * fewest for _, high in missing)

    return {
        Reason.TOO_FEW: (most < plan.least_patients, fewest < plan.least_patients),
        Reason.OUTCOME_TOO_RARE: rare(plan.least_per_outcome),
        Reason.OUTCOME_RARE: rare(FEW),
        Reason.TOO_MUCH_MISSING: lacking(plan.most_missing),
        Reason.MUCH_MISSING: lacking(MUCH_MISSING),
    }


def _misplaced(log: Log, run: str) -> Iterator[Failure]:
    """Once in a run, of that run, after the hospital joined and before it ended."""
    joined, described = False, False
    for record in log.records:
        body = record.body
        if isinstance(body, RunJoined | RunEnded) and body.run == run:
            joined = isinstance(body, RunJoined)
        elif isinstance(body, DataDescribed) and (joined or body.run == run):
            reason = _wrong_place(ours=body.run == run, joined=joined, described=described)
            if reason is not None:
                yield Failure(CODE, record.log, record.seq, reason)
            described = True


def _wrong_place(*, ours: bool, joined: bool, described: bool) -> str | None:
    if not ours:
        return "it names another run than the one that the hospital was in"
    if not joined:
        return "the hospital was not in the run"
    return "the run has two of them" if described else None
