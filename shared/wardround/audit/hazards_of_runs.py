"""Hazards of a run and of what surrounds it. Each asks the evidence one question."""

from collections.abc import Iterator

from wardround.audit.bodies import HospitalRefused, RoundClosed, RunEnded, RunJoined
from wardround.audit.body_groups import RoundCombined
from wardround.audit.evidence import Log, Record, ending, hospital_place
from wardround.audit.hazard_case import ACCOUNTS_AGREE, Case, Finding, sent
from wardround.audit.report_model import HospitalGuarantee, Origin, Status
from wardround.audit.steps import steps_of
from wardround.masking.round_spec import Purpose
from wardround.privacy.engine import ExactEvaluation
from wardround.protocol.messages import RefusalCode
from wardround.protocol.specs import standardises

_SAFE_COHORT = 3


def sums_are_of_many(case: Case) -> Finding:
    """How many hospitals' updates each opened sum is of."""
    opened = [attempt for attempt in case.attempts if attempt.counted]
    due = case.evidence.study.masking.minimum_hospitals
    below = [a for a in opened if len(a.survivors) < due]
    if below:
        text = f"{len(below)} sums were of fewer hospitals than the {due} that the study demands."
        return Finding(Status.FAIL, Origin.LOGGED, text, tuple(a.opened for a in below))
    small = [a for a in opened if len(a.survivors) < _SAFE_COHORT]
    if small:
        text = f"{len(small)} sums were of two hospitals: each can subtract its own part."
        return Finding(Status.REMARK, Origin.LOGGED, text, tuple(a.opened for a in small))
    if not opened:
        return Finding(Status.PASS, Origin.LOGGED, "No sum was opened.")
    least = min(len(a.survivors) for a in opened)
    return Finding(Status.PASS, Origin.LOGGED, f"Every sum was of at least {least} hospitals.")


def metrics_are_noised(case: Case) -> Finding:
    """The noise of every evaluation count, from the hospitals' logs."""
    found = [r for each in case.releases.values() for r in each if r.purpose is Purpose.EVALUATE]
    bare = [release for release in found if isinstance(release.engine, ExactEvaluation)]
    if case.evidence.study.evaluation.counts == "noised":
        if bare:
            text = f"{len(bare)} counts left without noise, though the study promises it."
            return Finding(Status.FAIL, Origin.LOGGED, text, sent(bare))
        text = "Evaluation counts carry noise, and their epsilon is charged."
        return Finding(Status.PASS, Origin.LOGGED if found else Origin.DECLARED, text)
    if not case.evidence.study.rounds.count:
        return Finding(Status.PASS, Origin.DECLARED, "The study evaluates no model.")
    text = (
        "Pooled counts of held-out patients were opened without noise, as the study says openly. "
        "They come on top of epsilon."
    )
    return Finding(Status.REMARK, Origin.LOGGED if bare else Origin.DECLARED, text, sent(bare))


def preprocessing_is_public(case: Case) -> Finding:
    """Where the scaling came from."""
    if standardises(case.evidence.study):
        counted = tuple(
            attempt.end
            for attempt in case.attempts
            if attempt.end and attempt.purpose is Purpose.STATISTICS and attempt.counted
        )
        if not counted:
            text = "The study scales by statistics, and the logs show none that were opened."
            return Finding(Status.FAIL, Origin.LOGGED, text)
        text = (
            "Scaling came from statistics that carry noise and are charged to every patient; "
            "missing codes come from the contract."
        )
        return Finding(Status.PASS, Origin.LOGGED, text, counted)
    text = "Scaling and missing codes come from the contract's declared ranges, not from the data."
    return Finding(Status.PASS, Origin.DECLARED, text)


def stopping_was_planned(case: Case) -> Finding:
    """The rounds that were closed, against the plan."""
    planned = case.evidence.study.rounds.count
    rounds = steps_of(case.attempts)
    closed = len(rounds)
    if closed > planned:
        text = f"{closed} rounds were closed, {planned} were planned: somebody went on."
        late = tuple(step.attempts[0].opened for step in rounds[planned:])
        return Finding(Status.FAIL, Origin.RECOMPUTED, text, late)
    if closed == planned:
        text = f"All {planned} planned rounds were run: nobody stopped at a good result."
        return Finding(Status.PASS, Origin.RECOMPUTED, text)
    text = f"{closed} of {planned} planned rounds were closed; the logs do not say who decided."
    return Finding(Status.REMARK, Origin.RECOMPUTED, text)


def budget_was_not_reset(case: Case) -> Finding:
    """Each ledger's word for its data set, against this run."""
    spent = {entry.hospital: entry for entry in case.guarantee.hospitals}
    ends = {
        name: end
        for name, log in sorted(case.evidence.hospitals.items())
        if (end := ending(log, case.evidence.run)) and end.body.epsilon_dataset is not None
    }
    wrong = [
        end
        for name, end in ends.items()
        if (end.body.epsilon_dataset or 0.0) + ACCOUNTS_AGREE < (spent[name].epsilon.value or 0.0)
    ]
    if wrong:
        text = "A ledger counts less for its dataset than this run alone has spent."
        return Finding(Status.FAIL, Origin.LOGGED, text, tuple(wrong))
    if not ends:
        text = "No hospital's log says what its dataset has spent over all studies."
        return Finding(Status.REMARK, Origin.NOT_AVAILABLE, text)
    text = f"{len(ends)} ledgers count at least what this run spent, over all studies."
    return Finding(Status.PASS, Origin.LOGGED, text, tuple(ends.values()))


def tuning(case: Case) -> Finding:
    """Earlier runs of the study in the hospitals' logs, against their ledgers."""
    earlier = [end for log in case.evidence.hospitals.values() for end in _earlier_runs(case, log)]
    spent = {hospital_place(e.hospital): e for e in case.guarantee.hospitals}
    free = [end for end in earlier if not _counts_more(spent[end.log])]
    if free:
        text = (
            f"{len(free)} earlier runs of this study stand in the hospitals' logs, and the ledger "
            "of the data set counts no more than this run."
        )
        return Finding(Status.FAIL, Origin.RECOMPUTED, text, tuple(free))
    if earlier:
        text = (
            f"{len(earlier)} earlier runs of this study stand in the hospitals' logs; the ledgers "
            "count more than this run. Other studies on these patients cannot be seen here."
        )
        return Finding(Status.REMARK, Origin.LOGGED, text, tuple(earlier))
    text = (
        "No earlier run of this study stands in the hospitals' logs. Whether other settings were "
        "tried on these patients without being charged cannot be seen in the evidence of one run, "
        "and nobody declares it."
    )
    return Finding(Status.REMARK, Origin.NOT_AVAILABLE, text)


def _earlier_runs(case: Case, log: Log) -> Iterator[Record[RunEnded]]:
    """Runs of the same study that ended in this log before, and had spent something."""
    run, digest = case.evidence.run, case.evidence.study.digest
    others = {record.body.run for record in log.of(RunJoined) if record.body.study_digest == digest}
    for record in log.of(RunEnded):
        if record.body.run in others - {run} and record.body.epsilon:
            yield record


def _counts_more(entry: HospitalGuarantee) -> bool:
    """Whether the data set's ledger is above what this run alone has spent."""
    return (entry.epsilon_dataset.value or 0.0) > (entry.epsilon.value or 0.0) + ACCOUNTS_AGREE


def two_hospitals(_: Case) -> Finding:
    """REMARK by nature: no log may show whom two hospitals share."""
    text = (
        "A patient known to several hospitals is one patient at each: their epsilons add up, and "
        "no log shows who is shared."
    )
    return Finding(Status.REMARK, Origin.NOT_AVAILABLE, text)


def timing(case: Case) -> Finding:
    """FAIL where patients' data decided who took part; else a REMARK, as the logs show times."""
    stayed_out = tuple(
        record
        for record in case.evidence.coordinator.of(HospitalRefused)
        if record.body.code == RefusalCode.DATA
    )
    if stayed_out:
        text = (
            f"{len(stayed_out)} refusals say that a hospital's data were not ready: who took part "
            "depends on patients, and no noise covers it."
        )
        return Finding(Status.FAIL, Origin.LOGGED, text, stayed_out)
    answers = sum(len(attempt.received) for attempt in case.attempts)
    text = (
        f"Who took part and when it answered are visible to the coordinator and in the logs: "
        f"{answers} answers with their times."
    )
    return Finding(Status.REMARK, Origin.LOGGED, text)


def checkpoints_on_disk(case: Case) -> Finding:
    """The models between rounds: FAIL where no noise is in them, else what no log shows."""
    steps = tuple(
        record
        for record in case.evidence.coordinator.records
        if isinstance(record.body, RoundClosed | RoundCombined)
    )
    if steps and not case.has_noise:
        text = (
            f"The models of {len(steps)} rounds are without noise, and went to the coordinator's "
            "disk and to every hospital that was asked: their digests stand in its log."
        )
        return Finding(Status.FAIL, Origin.LOGGED, text, steps)
    text = "What a hospital keeps on its own disks is outside this evidence."
    return Finding(Status.REMARK, Origin.NOT_AVAILABLE, text)
