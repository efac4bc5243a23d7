"""The engine's audits at the hospitals: what their entries must say, and what the report says.

A count of right names and a sum of squares are the hospital's word. All that follows from them is
computed again here, and so is the rule that had to be fixed before.
"""

import math
from collections.abc import Iterator, Mapping

from wardround.audit.attempts import Release
from wardround.audit.bodies import (
    EngineAudited,
    EngineAuditRegistered,
    NoiseMeasured,
)
from wardround.audit.body_fields import Body
from wardround.audit.evidence import Evidence, Log, Record, by_run
from wardround.audit.verdicts import Failure
from wardround.errors import BadInput
from wardround.privacy.coins import coins, coins_commitment, flags_of
from wardround.privacy.engine import Trained
from wardround.privacy.engine_audit import AuditRule, judge
from wardround.privacy.noise_measured import VALUES_A_STEP, noise_measured
from wardround.study.dry_run import dry_run_rule
from wardround.study.manifest import Study

# A bound is searched to one per cent of noise, and the last bits of two computers differ.
_RELATIVE, _ABSOLUTE = 0.03, 2e-3
_JUDGED = ("epsilon_claimed", "epsilon_f_dp", "epsilon_steinke", "p_of_claim", "power")
_MEASURED = ("sigma_ratio", "sigma_ratio_low", "sigma_ratio_high", "p_value", "shortfall_seen")


def audits_of(log: Log, run: str) -> tuple[Record[EngineAudited], ...]:
    """The finished dry runs of this run; more than one where sessions were opened again."""
    return tuple(record for record in log.of(EngineAudited) if record.body.run == run)


def audits_begun(log: Log, run: str) -> int:
    """How many dry runs were registered; one without an outcome is shown, not hidden."""
    return sum(record.body.run == run for record in log.of(EngineAuditRegistered))


def noise_of(log: Log, run: str) -> Record[NoiseMeasured] | None:
    """What the hospital measured of its noise at the end of this run, or None."""
    found = [record for record in log.of(NoiseMeasured) if record.body.run == run]
    return found[-1] if found else None


def empirical_faults(
    evidence: Evidence, releases: Mapping[str, tuple[Release, ...]]
) -> Iterator[Failure]:
    """Audits whose rule was not the study's, or whose numbers and verdicts do not follow."""
    for name, log in sorted(evidence.hospitals.items()):
        yield from _dry_runs(evidence.study, log)
        steps = sum(
            release.engine.steps
            for release in releases.get(name, ())
            if isinstance(release.engine, Trained)
        )
        yield from _noise_measured(evidence.run, log, steps)


def _noise_measured(run: str, log: Log, steps: int) -> Iterator[Failure]:
    for record, here in by_run(log, run):
        body = record.body
        if isinstance(body, NoiseMeasured) and body.run == run:
            yield from _failures("noise-measured-differs", record, _noise(body, steps))
        elif isinstance(body, NoiseMeasured) and here:
            reason = "it names another run than the one that the hospital was in"
            yield Failure("noise-measured-differs", record.log, record.seq, reason)


def _dry_runs(study: Study, log: Log) -> Iterator[Failure]:
    registered: dict[tuple[str, str], EngineAuditRegistered] = {}
    for record in log.records:
        body = record.body
        if isinstance(body, EngineAuditRegistered):
            registered[body.run, str(body.session)] = body
            if _rule(body) != dry_run_rule(study):
                reason = "its rule is not the one that follows from the study"
                yield Failure("audit-rule-differs", record.log, record.seq, reason)
        elif isinstance(body, EngineAudited):
            before = registered.pop((body.run, str(body.session)), None)
            if before is None:
                reason = "no rule was registered before this dry run"
                yield Failure("audit-unregistered", record.log, record.seq, reason)
            else:
                yield from _failures("audit-differs", record, _outcome(study, before, body))


def _failures(code: str, record: Record[Body], reasons: Iterator[str]) -> Iterator[Failure]:
    return (Failure(code, record.log, record.seq, reason) for reason in reasons)


def _rule(registered: EngineAuditRegistered) -> AuditRule:
    rule = registered.rule
    return AuditRule(
        noise_multiplier=rule.noise_multiplier,
        sampling_rate=rule.sampling_rate,
        steps=rule.steps,
        canaries=rule.canaries,
        named=rule.named,
    )


def _outcome(study: Study, registered: EngineAuditRegistered, body: EngineAudited) -> Iterator[str]:
    """Every way in which an outcome does not follow from its seed, its names and its rule."""
    rule = _rule(registered)
    if rule != dry_run_rule(study) or study.privacy.delta is None:
        return  # the registration is named already, and no other rule is computed with
    if coins_commitment(bytes.fromhex(body.seed)) != registered.coins_commitment:
        yield "its seed does not open the commitment that was registered"
    right = _right(rule, body)
    if right is None:
        yield f"it does not name {rule.named} canaries in and {rule.named} others out"
        return
    if body.right != right:
        yield f"it counts {body.right} right names, seed and names give {right}"
    if body.delta != study.privacy.delta:
        yield "it is for another delta than the study's"
    outcome = judge(rule, right, delta=study.privacy.delta)
    yield from _numbers(body, outcome, _JUDGED)
    if body.verdict != outcome.verdict.value:
        yield f"its verdict is {body.verdict}, its numbers give {outcome.verdict.value}"


def _right(rule: AuditRule, body: EngineAudited) -> int | None:
    """The right names, counted again; None for what are no names by the rule."""
    packed = (bytes.fromhex(body.named_in), bytes.fromhex(body.named_out))
    if any(len(flags) != -(-rule.canaries // 8) for flags in packed):
        return None
    inside, outside = (flags_of(flags, rule.canaries) for flags in packed)
    if not (inside.sum() == outside.sum() == rule.named) or (inside & outside).any():
        return None
    members = coins(bytes.fromhex(body.seed), rule.canaries)
    return int((inside & members).sum() + (outside & ~members).sum())


def _noise(body: NoiseMeasured, steps: int) -> Iterator[str]:
    try:
        measured = noise_measured(body.coordinates, body.sum_of_squares_over_variance)
    except BadInput as error:
        yield str(error)
        return
    if body.coordinates > VALUES_A_STEP * steps:
        yield f"it measured {body.coordinates} values, {steps} steps have {VALUES_A_STEP * steps}"
    yield from _numbers(body, measured, _MEASURED)
    if body.verdict != measured.verdict.value:
        yield f"its verdict is {body.verdict}, its numbers give {measured.verdict.value}"


def _numbers(body: Body, due: object, names: tuple[str, ...]) -> Iterator[str]:
    for name in names:
        came, here = getattr(body, name), getattr(due, name)
        if not math.isclose(came, here, rel_tol=_RELATIVE, abs_tol=_ABSOLUTE):
            yield f"{name}: it says {came:.4g}, its counts give {here:.4g}"
