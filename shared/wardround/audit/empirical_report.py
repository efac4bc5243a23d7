"""What the report says of the engine's audits: the claim, and what an attack on it could show."""

from collections.abc import Iterable

from wardround.audit.bodies import AttackTested, EngineAudited, NoiseMeasured
from wardround.audit.empirical import audits_begun, audits_of, noise_of
from wardround.audit.evidence import Evidence, Log, Record
from wardround.audit.report_model import (
    EngineAudit,
    Figure,
    ModelAttack,
    NoiseAudit,
    Place,
    logged,
    not_available,
)

_DIGITS = 4
_WORST_FIRST = ("VIOLATION", "INCONCLUSIVE", "PASS")
_NOT_RUN = "the hospital's log has no dry run for this run: its policy may have switched it off"
_NOT_MEASURED = "the hospital's log has no measurement of its noise"


def engine_audits_of(evidence: Evidence) -> tuple[EngineAudit, ...]:
    """One for each hospital whose log is there; of several dry runs the worst."""
    return tuple(
        _audit(name, log, evidence.run) for name, log in sorted(evidence.hospitals.items())
    )


def noise_audits_of(evidence: Evidence) -> tuple[NoiseAudit, ...]:
    """One for each hospital whose log is there."""
    return tuple(
        _noise(name, noise_of(log, evidence.run))
        for name, log in sorted(evidence.hospitals.items())
    )


def model_attacks_of(evidence: Evidence) -> tuple[ModelAttack, ...]:
    """What the hospitals' logs say of attacks on released models, by hospital and in order."""
    unclaimed = "the study made no promise: the model was held against no leak at all"
    return tuple(
        ModelAttack(
            hospital=name,
            run=record.body.run,
            verdict=record.body.verdict,
            verdicts=dict(record.body.verdicts),
            shadows=record.body.shadows,
            skipped=record.body.skipped,
            epsilon_claimed=logged(record.body.epsilon_claimed, unclaimed)
            if record.body.epsilon_claimed is None
            else logged(round(record.body.epsilon_claimed, _DIGITS)),
            place=Place(log=record.log, seq=record.seq),
        )
        for name, log in sorted(evidence.hospitals.items())
        for record in log.of(AttackTested)
    )


def audit_counts(audits: Iterable[EngineAudit]) -> list[tuple[int, str]]:
    """What came of all dry runs, the worst first; empty when there were none.

    >>> audit_counts([])
    []
    """
    found = [str(audit.verdict) for audit in audits]
    counts = [(found.count(verdict), verdict) for verdict in _WORST_FIRST]
    return [(count, verdict) for count, verdict in counts if count]


def _audit(hospital: str, log: Log, run: str) -> EngineAudit:
    done = audits_of(log, run)
    worst = min(done, key=lambda record: _WORST_FIRST.index(record.body.verdict), default=None)
    return EngineAudit(
        hospital=hospital,
        verdict="NOT RUN" if worst is None else worst.body.verdict,
        dry_runs=len(done),
        without_outcome=audits_begun(log, run) - len(done),
        named=_named(worst),
        right=_of(worst, "right"),
        epsilon_claimed=_of(worst, "epsilon_claimed"),
        epsilon_f_dp=_of(worst, "epsilon_f_dp"),
        epsilon_steinke=_of(worst, "epsilon_steinke"),
        power=_of(worst, "power"),
        place=_place(worst),
    )


def _named(record: Record[EngineAudited] | None) -> Figure:
    if record is None:
        return not_available(_NOT_RUN)
    packed = bytes.fromhex(record.body.named_in) + bytes.fromhex(record.body.named_out)
    return logged(float(sum(byte.bit_count() for byte in packed)))


def _of(record: Record[EngineAudited] | None, name: str) -> Figure:
    if record is None:
        return not_available(_NOT_RUN)
    return logged(round(float(getattr(record.body, name)), _DIGITS))


def _noise(hospital: str, record: Record[NoiseMeasured] | None) -> NoiseAudit:
    def of(name: str) -> Figure:
        if record is None:
            return not_available(_NOT_MEASURED)
        return logged(round(float(getattr(record.body, name)), _DIGITS))

    return NoiseAudit(
        hospital=hospital,
        verdict="NOT MEASURED" if record is None else record.body.verdict,
        coordinates=of("coordinates"),
        sigma_ratio=of("sigma_ratio"),
        sigma_ratio_low=of("sigma_ratio_low"),
        sigma_ratio_high=of("sigma_ratio_high"),
        shortfall_seen=of("shortfall_seen"),
        place=_place(record),
    )


def _place(record: Record[EngineAudited] | Record[NoiseMeasured] | None) -> Place | None:
    return None if record is None else Place(log=record.log, seq=record.seq)
