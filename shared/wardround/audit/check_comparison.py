"""Recomputed, as far as it goes: what a rehearsal's comparison has to agree with.

Its numbers are stated: they come of all hospitals' records in one place, and cannot be computed
again from a log. Shown to be false are a comparison of another study, of other hospitals or other
patients than the run counted itself, and one that contradicts itself.
"""

from collections.abc import Iterator

from wardround.audit.attempts import Attempt
from wardround.audit.bodies import RunClosed
from wardround.audit.body_comparison import (
    LEFT_OUT,
    WAYS,
    WITH_NOISE,
    ComparisonStated,
    StatedWay,
    Way,
)
from wardround.audit.evidence import Evidence
from wardround.audit.results import evaluation_of
from wardround.audit.verdicts import Failure
from wardround.errors import BadInput
from wardround.evaluation.shown import patients_in
from wardround.evaluation.single import metric_of
from wardround.study.manifest import Mechanism, Study, StudyPlan

CODE = "comparison-differs"
_COUNTED_ONCE = {"auroc", "c_index"}  # a patient may lack some of several labels
_SHARES = {"auroc", "c_index", "macro_auroc"}


def ways_due(study: StudyPlan) -> tuple[Way, ...]:
    """The ways that a comparison of this study has; without noise in it there is none with DP."""
    private = study.privacy.mechanism is not Mechanism.NONE
    return tuple(way for way in WAYS if private or way != "federated with DP")


def comparison_faults(evidence: Evidence, attempts: tuple[Attempt, ...]) -> Iterator[Failure]:
    """One failure for each thing that does not fit, at the entry that says so."""
    closed = evidence.coordinator.last(RunClosed)
    for at, record in enumerate(evidence.coordinator.of(ComparisonStated)):
        faults = list(_faults(record.body, evidence))
        if at:
            faults.append("a second comparison in one run")
        if closed is not None and record.seq > closed.seq:
            faults.append("it was stated after the run's end")
        faults += _other_patients(record.body, evidence, attempts)
        for reason in faults:
            yield Failure(CODE, record.log, record.seq, reason)


def _faults(body: ComparisonStated, evidence: Evidence) -> Iterator[str]:
    study = evidence.study
    if body.run != evidence.run:
        yield "it is of another run"
    if not study.rounds.count:
        yield "the study trains nothing that could be compared"
    if body.metric != metric_of(study):
        yield f"its metric is {body.metric}, the study's label has {metric_of(study)}"
    if tuple(each.way for each in body.ways) != ways_due(study):
        yield "its ways are not those of the study"
    for each in body.ways:
        yield from _faults_of_way(each, body, study)
    if body.metric in _SHARES and any(min(n.value or 0, n.low or 0) < 0 for n in body.numbers()):
        yield f"a {body.metric} below 0"
    if body.next_hospital is not None and _known(body.of(LEFT_OUT)) < body.next_hospital.hospitals:
        yield "the next hospital's prediction rests on more hospitals than were left out"


def _faults_of_way(each: StatedWay, body: ComparisonStated, study: Study) -> Iterator[str]:
    if tuple(sorted(each.hospitals)) != study.names():
        yield f"{each.way}: its hospitals are not those of the study"
    noised = each.way in WITH_NOISE and study.privacy.mechanism is not Mechanism.NONE
    if each.epsilon != (study.privacy.epsilon if noised else None):
        yield f"{each.way}: its epsilon is not the study's"
    parts = sum(own.patients for own in each.hospitals.values())
    once = body.metric in _COUNTED_ONCE
    if each.whole.patients > parts or (once and each.whole.patients != parts):
        yield f"{each.way}: {each.whole.patients} patients, those of its hospitals are {parts}"
    first = body.ways[0]
    if each.way != LEFT_OUT and {n: own.patients for n, own in each.hospitals.items()} != {
        n: own.patients for n, own in first.hospitals.items()
    }:
        yield f"{each.way}: it was scored on other patients than {first.way}"


def _known(left_out: StatedWay | None) -> int:
    return (
        0 if left_out is None else sum(own.value is not None for own in left_out.hospitals.values())
    )


def _other_patients(
    body: ComparisonStated, evidence: Evidence, attempts: tuple[Attempt, ...]
) -> Iterator[str]:
    """Exact counts of all hospitals say how many were held out: a comparison scores the same."""
    try:
        measured = evaluation_of(evidence, attempts, {})
    except BadInput:
        return  # `counts-differ` names it
    everybody = set(measured.hospitals) == set(evidence.study.names())
    if measured.metrics is None or measured.counts != "exact" or not everybody:
        return
    counted, first = patients_in(measured.metrics), body.ways[0]
    if first.way != LEFT_OUT and first.whole.patients != counted:
        yield f"scored on {first.whole.patients} patients, the run held out {counted}"
