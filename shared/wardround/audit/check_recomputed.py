"""Recomputed: every number comes out again, from the evidence and two accountants."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from wardround.audit.attempts import Attempt, Release
from wardround.audit.bodies import EvaluationClosed, StatisticsClosed
from wardround.audit.bundle import REPORT
from wardround.audit.check_bracket import check_brackets
from wardround.audit.derive import charges_of, derive_report
from wardround.audit.evidence import Evidence, ending, hospital_place
from wardround.audit.guarantee import Charge, planned_mechanism
from wardround.audit.shares import share_faults
from wardround.audit.verdicts import Failure
from wardround.canonical import Json, canonical_bytes, parse_canonical
from wardround.errors import BadInput
from wardround.masking.round_spec import Purpose, RoundSpec
from wardround.masking.update import update_digest
from wardround.privacy.engine import (
    DistributedEngine,
    Engine,
    ExactEvaluation,
    GaussianEvaluation,
    StatisticsEngine,
    Trained,
    TrainingEngine,
)
from wardround.privacy.mechanism import Exact, SampledGaussian
from wardround.study.manifest import Mechanism, Privacy, Study

# Two computers differ in the last bits of a convolution; a report prints four decimals.
TOLERANCE = 2e-4
NOISE_TOLERANCE = 1e-9
REPORT_LIMIT_BYTES = 64 << 20
_ACCOUNTANT = re.compile(
    r"dp-accounting [0-9A-Za-z.+]{1,30} PLD, pessimistic, grid 0\.001( or finer)?"
)
_MOST_DIFFERENCES = 5

_ENGINES: dict[Purpose, tuple[type[Engine], ...]] = {
    Purpose.TRAIN: (TrainingEngine, DistributedEngine),
    Purpose.EVALUATE: (ExactEvaluation, GaussianEvaluation),
    Purpose.STATISTICS: (StatisticsEngine,),
}
_COUNTED = {Purpose.EVALUATE: "counts", Purpose.STATISTICS: "statistics"}

Releases = dict[str, tuple[Release, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeastNoise:
    """The noise multipliers that the study needs, for updates and for counts."""

    training: float
    counts: float
    statistics: float

    @classmethod
    def of(cls, study: Study) -> "LeastNoise":
        """By the accountant, from the study's constants."""
        purposes = (Purpose.TRAIN, Purpose.EVALUATE, Purpose.STATISTICS)
        # A study that only counts has no training to plan.
        planned = [
            planned_mechanism(study, each)
            if study.rounds.count or each is not Purpose.TRAIN
            else Exact()
            for each in purposes
        ]
        noise = [p.noise_multiplier if isinstance(p, SampledGaussian) else 0.0 for p in planned]
        return cls(training=noise[0], counts=noise[1], statistics=noise[2])


def check_numbers(
    evidence: Evidence, attempts: tuple[Attempt, ...], releases: Releases
) -> Iterator[Failure]:
    """Engines, epsilons, budgets and counts."""
    charges = charges_of(evidence, attempts, releases)
    least = LeastNoise.of(evidence.study)
    specs = {attempt.transcript: attempt.spec for attempt in attempts}
    for name, found in sorted(releases.items()):
        yield from _engines(evidence.study, found, least, specs)
        yield from _epsilons(evidence, name, charges[name])
    for attempt in attempts:
        yield from _sum_of_counts(attempt)


def check_report(evidence: Evidence, report: bytes) -> Iterator[Failure]:
    """report.json is what anybody derives from the evidence, byte for byte.

    Its epsilons have to lie between the ends that other accountants give, too.
    """
    try:
        came = parse_canonical(report, what=REPORT, limit_bytes=REPORT_LIMIT_BYTES)
    except BadInput as error:
        yield Failure("report-malformed", REPORT, None, str(error))
        return
    yield from check_brackets(evidence, came)
    try:
        due = derive_report(evidence, accountant=_accountant(came))
    except BadInput as error:
        yield Failure("report-not-derivable", REPORT, None, str(error))
        return
    if canonical_bytes(due) != report:
        for path, there, here in list(_differences(came, due, ""))[:_MOST_DIFFERENCES]:
            reason = f"{path}: the report says {there}, the evidence gives {here}"
            yield Failure("report-differs", REPORT, None, reason)


def _engines(
    study: Study,
    releases: tuple[Release, ...],
    least: LeastNoise,
    specs: Mapping[str, RoundSpec],
) -> Iterator[Failure]:
    for release in releases:
        if release.sent is None or release.engine is None:
            continue
        reasons = list(_weaker(study, release, least))
        spec = specs.get(release.transcript)
        ours = spec is not None and spec.purpose is release.purpose
        ours = ours and isinstance(release.engine, _ENGINES[release.purpose])
        if ours and spec and isinstance(release.engine, DistributedEngine | StatisticsEngine):
            reasons += share_faults(study, spec, release.engine)
        for reason in reasons:
            yield Failure("engine-weaker", release.sent.log, release.sent.seq, reason)


def _weaker(study: Study, release: Release, least: LeastNoise) -> Iterator[str]:
    engine, privacy = release.engine, study.privacy
    if not isinstance(engine, _ENGINES[release.purpose]):
        yield "its engine is of another purpose than the release"
        return
    if not isinstance(engine, Trained):
        due = least.counts if release.purpose is Purpose.EVALUATE else least.statistics
        noise = 0.0 if isinstance(engine, ExactEvaluation) else engine.noise_multiplier
        if noise < due - NOISE_TOLERANCE:
            yield f"{_COUNTED[release.purpose]} left with noise {noise:g}, the study needs {due:g}"
        return
    yield from _other_mechanism(privacy, engine)
    for name, did, most in (
        ("sampling rate", engine.sampling_rate, privacy.sampling_rate),
        ("steps", engine.steps, study.training.local_steps),
        ("records per patient", engine.records_per_patient, privacy.records_per_patient),
        ("clip norm", _clip_norm_l2(engine), privacy.clip_norm_l2),
    ):
        if did > most:
            yield f"{name} was {did:g}, the study allows {most:g}"
    if engine.noise_multiplier < least.training - NOISE_TOLERANCE:
        yield f"noise multiplier was {engine.noise_multiplier:g}, it needs {least.training:g}"


def _other_mechanism(privacy: Privacy, engine: Trained) -> Iterator[str]:
    if privacy.mechanism is Mechanism.NONE:
        return
    if engine.mechanism == "none":
        yield "an update left without noise, the study asks for it"
    elif engine.mechanism != privacy.mechanism.value:
        yield f"its mechanism was {engine.mechanism}, the study says {privacy.mechanism}"
    if engine.clipping != privacy.clipping:
        yield f"clipping was {engine.clipping}, the study says {privacy.clipping}"
    if engine.truncation < privacy.truncation:
        yield (
            f"it counts batches as cut with probability {engine.truncation:g}, the study's sizes "
            f"give {privacy.truncation:g}"
        )


def _clip_norm_l2(engine: Trained) -> float:
    """The clip norm that a study limits: an adaptive one moves, and the noise moves with it."""
    return 0.0 if engine.clipping == "adaptive" else engine.clip_norm_l2 or 0.0


def _epsilons(evidence: Evidence, name: str, charge: Charge) -> Iterator[Failure]:
    delta, ceiling = evidence.study.privacy.delta, evidence.study.privacy.epsilon
    place, plan = hospital_place(name), evidence.study.statistics
    if delta is not None and plan is not None:
        counted = charge.statistics_epsilon(delta)
        if counted > plan.epsilon + TOLERANCE:
            reason = f"statistics spent {counted:.4f}, the study's ceiling is {plan.epsilon:g}"
            yield Failure("epsilon-over-ceiling", place, None, reason)
    if delta is None or ceiling is None:
        return
    trained = charge.training_epsilon(delta)
    whole, bracket = charge.epsilons(delta)
    if trained > ceiling + TOLERANCE:
        reason = f"training spent {trained:.4f}, the study's ceiling is {ceiling:g}"
        yield Failure("epsilon-over-ceiling", place, None, reason)
    if whole > bracket + TOLERANCE:
        reason = f"PLD gives {whole:.4f}, above the bound {bracket:.4f} by RDP"
        yield Failure("accountants-disagree", place, None, reason)
    if not any(isinstance(release, Exact) for release in charge.training):
        yield from _own_account(evidence, name, whole)


def _own_account(evidence: Evidence, name: str, epsilon: float) -> Iterator[Failure]:
    """The hospital's ledger may count more than this run's releases give, never less."""
    place, end = hospital_place(name), ending(evidence.hospitals[name], evidence.run)
    if end is None:
        return
    if end.body.delta != evidence.study.privacy.delta:
        yield Failure("delta-differs", place, end.seq, "its account is for another delta")
    for what, value in (("run", end.body.epsilon), ("dataset", end.body.epsilon_dataset)):
        # None is no claim: a ledger with releases without noise has no epsilon to name.
        if value is not None and value < epsilon - TOLERANCE:
            reason = f"it says {value:g} for the {what}, its own releases give {epsilon:.4f}"
            yield Failure("epsilon-under-reported", place, end.seq, reason)
    spent, budget = end.body.epsilon_dataset, end.body.epsilon_budget
    if spent is not None and budget is not None and spent > budget + TOLERANCE:
        reason = f"its dataset has spent {spent:.4f} of a budget of {budget:.4f}"
        yield Failure("budget-overrun", place, end.seq, reason)


def _sum_of_counts(attempt: Attempt) -> Iterator[Failure]:
    end = attempt.end
    if end is None or not isinstance(end.body, EvaluationClosed | StatisticsClosed):
        return
    logged = end.body.counts if isinstance(end.body, EvaluationClosed) else end.body.sums
    counts = np.array(logged, dtype=np.int64)
    fits = counts.size == attempt.spec.lanes and np.abs(counts).max(initial=0) < 2**31
    if not fits or update_digest(counts.astype(np.int32)) != end.body.sum_digest:
        reason = "the logged counts are not the sum whose digest was logged"
        yield Failure("counts-differ", end.log, end.seq, reason)


def _accountant(report: Json) -> str | None:
    """The report's accountant, so that another version of it still gives the same bytes."""
    guarantee = report.get("guarantee")
    named = guarantee.get("accountant") if isinstance(guarantee, dict) else None
    return named if isinstance(named, str) and _ACCOUNTANT.fullmatch(named) else None


def _differences(came: object, due: object, path: str) -> Iterator[tuple[str, str, str]]:
    if isinstance(came, Mapping) and isinstance(due, Mapping):
        for key in sorted({*came, *due}):
            below = f"{path}.{key}" if path else str(key)
            yield from _differences(came.get(key), due.get(key), below)
    elif isinstance(came, list) and isinstance(due, list) and len(came) == len(due):
        for at, (there, here) in enumerate(zip(came, due, strict=True)):
            yield from _differences(there, here, f"{path}[{at}]")
    elif canonical_bytes(came) != canonical_bytes(due):
        yield path, _short(came), _short(due)


def _short(value: object) -> str:
    text = canonical_bytes(value).decode()
    return text if len(text) <= 80 else text[:77] + "..."
