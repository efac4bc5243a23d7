"""From the evidence to the report: a pure function, the same bytes for whoever computes it."""

from itertools import pairwise

from wardround.audit.attempts import Attempt, Release, attempts_of, releases_of
from wardround.audit.bodies import HospitalJoined, RunClosed, StudyOpened
from wardround.audit.body_comparison import ComparisonStated
from wardround.audit.code_facts import code_of
from wardround.audit.comparisons import comparison_of
from wardround.audit.datasheets import datasheets_of
from wardround.audit.dpia import dpia_of
from wardround.audit.empirical_report import (
    engine_audits_of,
    model_attacks_of,
    noise_audits_of,
)
from wardround.audit.evidence import COORDINATOR, Evidence, Log, approval
from wardround.audit.guarantee import (
    Charge,
    charge_of_log,
    charge_without_log,
    guarantee_of,
)
from wardround.audit.hazard_case import Case
from wardround.audit.hazards import hazards_of
from wardround.audit.outflow import not_protected, outflow_of
from wardround.audit.participation import incidents_of, participation_of
from wardround.audit.report_model import (
    ColumnFacts,
    Guarantee,
    GuaranteeClass,
    HospitalData,
    LogFacts,
    ModelAttack,
    Report,
    RosterEntry,
    RunFacts,
    StudyFacts,
    moment,
)
from wardround.audit.results import evaluation_of
from wardround.audit.statistics import statistics_of
from wardround.canonical import Json
from wardround.privacy import accounting
from wardround.study.contract import Column


def derive_report(evidence: Evidence, *, accountant: str | None = None) -> Json:
    """Every fact of the report, from the signed study, the logs and the keys alone.

    Deterministic: no clock, no randomness, no file; numbers are rounded so that the last bits of
    a machine's arithmetic do not show. `accountant` is the installed one unless given: a verifier
    repeats the one that the report names. Raises BadInput when the evidence contradicts itself.
    """
    return report_of(evidence, accountant=accountant).to_json()


def report_of(evidence: Evidence, *, accountant: str | None = None) -> Report:
    """`derive_report` as a typed value."""
    attempts = attempts_of(evidence)
    releases = releases_by_hospital(evidence, attempts)
    charges = charges_of(evidence, attempts, releases)
    by = accountant or accounting.accountant()
    guarantee = guarantee_of(evidence, charges, accountant=by)
    evaluation = evaluation_of(evidence, attempts, releases)
    case = Case(
        evidence=evidence,
        attempts=attempts,
        releases=releases,
        guarantee=guarantee,
        evaluation=evaluation,
    )
    hazards = hazards_of(case)
    attacks, datasheets = model_attacks_of(evidence), datasheets_of(evidence)
    return Report(
        schema="wardround.report/1",
        study=_study_facts(evidence),
        run=_run_facts(evidence),
        guarantee=guarantee,
        engine_audits=engine_audits_of(evidence),
        noise_audits=noise_audits_of(evidence),
        model_attacks=attacks,
        outflow=outflow_of(evidence, attempts, releases),
        participation=participation_of(evidence, attempts),
        evaluation=evaluation,
        comparison=comparison_of(evidence),
        statistics=statistics_of(evidence, attempts, charges),
        datasheets=datasheets,
        not_protected=_not_protected(evidence, guarantee, attacks, datasheets),
        hazards=hazards,
        incidents=incidents_of(evidence, attempts),
        dpia=dpia_of(evidence, guarantee, hazards),
        logs=_log_facts(evidence),
        without_log=evidence.without_log,
    )


def _not_protected(
    evidence: Evidence,
    guarantee: Guarantee,
    attacks: tuple[ModelAttack, ...],
    datasheets: tuple[HospitalData, ...],
) -> tuple[str, ...]:
    return not_protected(
        evidence.study,
        without_noise=guarantee.kind is GuaranteeClass.NONE,
        attacked=any(said.run == evidence.run and said.verdicts for said in attacks),
        described=bool(datasheets),
        compared=evidence.coordinator.last(ComparisonStated) is not None,
    )


def releases_by_hospital(
    evidence: Evidence, attempts: tuple[Attempt, ...]
) -> dict[str, tuple[Release, ...]]:
    """The releases of each hospital whose log is there, by name in order."""
    transcripts = frozenset(attempt.transcript for attempt in attempts)
    return {
        name: releases_of(log, evidence.run, transcripts)
        for name, log in sorted(evidence.hospitals.items())
    }


def charges_of(
    evidence: Evidence, attempts: tuple[Attempt, ...], releases: dict[str, tuple[Release, ...]]
) -> dict[str, Charge]:
    """What each hospital of the roster is charged, from its own log where it is there."""
    study = evidence.study
    charges = {name: charge_of_log(study, found) for name, found in releases.items()}
    for name in evidence.without_log:
        charges[name] = charge_without_log(study, name, attempts)
    return charges


def _study_facts(evidence: Evidence) -> StudyFacts:
    study = evidence.study
    return StudyFacts(
        name=study.name,
        title=study.title,
        purpose=study.purpose,
        contact=study.contact,
        digest=study.digest,
        family=study.task.family,
        model=study.task.model.value,
        label=f"{study.contract.label.name}: {study.contract.label.description}",
        features=len(study.contract.features()),
        columns=tuple(map(_column_facts, study.contract.columns)),
        registered=study.evaluation.registered.isoformat(),
        rounds_planned=study.rounds.count,
        attempts_covered=study.attempts,
        quorum=study.rounds.quorum,
        minimum_hospitals=study.masking.minimum_hospitals,
        coordinator_fingerprint=evidence.coordinator_fingerprint,
        roster=tuple(_roster_entry(evidence, name) for name in study.names()),
    )


def _column_facts(column: Column) -> ColumnFacts:
    return ColumnFacts(
        name=column.name,
        kind=column.kind.value,
        description=column.description,
        unit=column.unit,
        range=column.range,
        categories=len(column.categories),
        may_be_missing=column.may_be_missing,
    )


def _roster_entry(evidence: Evidence, name: str) -> RosterEntry:
    log = evidence.hospitals.get(name)
    approved = approval(log, evidence.study.digest) if log else None
    return RosterEntry(
        hospital=name,
        fingerprint=evidence.study.fingerprint_of(name),
        approved_by=approved.body.officer if approved else None,
        approved_at=moment(approved.time) if approved else None,
        policy_digest=approved.body.policy_digest if approved else None,
    )


def _run_facts(evidence: Evidence) -> RunFacts:
    opened = list(evidence.coordinator.of(StudyOpened))
    closed = evidence.coordinator.last(RunClosed)
    sessions = {str(record.body.session) for record in evidence.coordinator.of(HospitalJoined)}
    return RunFacts(
        run=evidence.run,
        opened_at=moment(opened[0].time),
        closed_at=moment(closed.time) if closed else None,
        software=tuple(sorted({_software(record.body) for record in opened})),
        code=code_of(evidence),
        sessions=len(sessions),
        model_digest=closed.body.model if closed else None,
    )


def _software(body: StudyOpened) -> str:
    if isinstance(body.software, str):
        return body.software
    return ", ".join(f"{name} {version}" for name, version in sorted(body.software.items()))


def _log_facts(evidence: Evidence) -> tuple[LogFacts, ...]:
    facts = [_facts_of_log(COORDINATOR, evidence.coordinator, countersigned=None)]
    for name, log in sorted(evidence.hospitals.items()):
        facts.append(_facts_of_log(log.party, log, countersigned=name in evidence.countersigned))
    return tuple(facts)


def _facts_of_log(party: str, log: Log, *, countersigned: bool | None) -> LogFacts:
    times = [record.time for record in log.records]
    back = [(earlier - later).total_seconds() for earlier, later in pairwise(times)]
    return LogFacts(
        party=party,
        entries=len(log.records),
        head=log.heads[-1],
        root=log.root,
        first_at=moment(times[0]) if times else None,
        last_at=moment(times[-1]) if times else None,
        clock_back_s=round(max([0.0, *back]), 3),
        countersigned=countersigned,
    )
