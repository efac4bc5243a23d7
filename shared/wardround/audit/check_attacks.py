"""Attacks on the released model by the hospitals: what their entries must say, and where.

The verdict of each attack is the hospital's word: it depends on patients. What follows from them,
from the study and from the place in the log is checked.
"""

from collections.abc import Iterator, Mapping

from wardround.audit.bodies import (
    AttackTested,
    CheckpointWitnessed,
    NoiseMeasured,
    RunClosed,
    RunEnded,
    RunJoined,
)
from wardround.audit.evidence import Evidence, Log, Record
from wardround.audit.verdicts import Failure
from wardround.study.manifest import Mechanism, Study

CODE = "attack-differs"
# What may stand between the attack on a run's final model and the hospital's own end of the run.
_BEFORE_THE_END = (NoiseMeasured, CheckpointWitnessed)


def attack_faults(evidence: Evidence) -> Iterator[Failure]:
    """Attacks whose verdict, claim, model or place in the log is not what it has to be."""
    closed = evidence.coordinator.last(RunClosed)
    model = closed.body.model if closed else None
    for _, log in sorted(evidence.hospitals.items()):
        for record in log.of(AttackTested):
            for reason in (
                *_of_itself(record.body),
                *(_of_run(record.body, evidence.study, model) if _is_of(record, evidence) else ()),
            ):
                yield Failure(CODE, record.log, record.seq, reason)
        for ended in log.of(RunEnded):
            if ended.body.run == evidence.run and ended.body.model not in {None, model}:
                reason = "the model that the hospital kept is not the one that the run ended with"
                yield Failure("model-differs", ended.log, ended.seq, reason)
        yield from _misplaced(log, evidence.run)


def verdict_of(verdicts: Mapping[str, str]) -> str:
    """The verdict on all attacks together.

    >>> verdict_of({"membership: loss threshold": "PASS", "canaries: engine": "INCONCLUSIVE"})
    'INCONCLUSIVE'
    >>> verdict_of({})
    'INCONCLUSIVE'
    """
    found = set(verdicts.values())
    for verdict in ("VIOLATION", "INCONCLUSIVE"):
        if verdict in found:
            return verdict
    return "PASS" if found else "INCONCLUSIVE"


def _is_of(record: Record[AttackTested], evidence: Evidence) -> bool:
    return record.body.run == evidence.run


def _of_itself(body: AttackTested) -> Iterator[str]:
    due = verdict_of(body.verdicts)
    if body.verdict != due:
        yield f"its verdict is {body.verdict}, its attacks give {due}"
    if (body.skipped is None) is not bool(body.verdicts):
        yield "it names attacks and says that none was run, or neither"


def _of_run(body: AttackTested, study: Study, model: str | None) -> Iterator[str]:
    private = study.privacy.mechanism is not Mechanism.NONE
    claim = (study.privacy.epsilon, study.privacy.delta) if private else (None, None)
    if (body.epsilon_claimed, body.delta) != claim:
        yield "it held the model against another claim than the study's"
    if body.model is not None and body.model != model:
        yield "the model that it attacked is not the one that the run ended with"


def _misplaced(log: Log, run: str) -> Iterator[Failure]:
    """An attack within the run names the final model, and nothing but the end comes after it."""
    joined, attacked = False, None
    for record in log.records:
        body = record.body
        if attacked is not None and not isinstance(body, (*_BEFORE_THE_END, RunEnded)):
            reason = "the run went on after the attack on its final model"
            yield Failure(CODE, record.log, record.seq, reason)
        if isinstance(body, RunJoined | RunEnded):
            joined, attacked = isinstance(body, RunJoined) and body.run == run, None
        elif isinstance(body, AttackTested) and joined and body.run == run:
            attacked = record
            if body.model is None:
                reason = "it does not say which model was attacked at the end of the run"
                yield Failure(CODE, record.log, record.seq, reason)
    if attacked is not None:
        yield Failure(CODE, attacked.log, attacked.seq, "no end of the run follows it")
