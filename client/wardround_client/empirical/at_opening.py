"""Before the first round of a session: whether this hospital's engine is what it claims to be."""

from collections.abc import Sequence

from wardround.canonical import Json
from wardround.privacy.coins import SEED_BYTES, coins, coins_commitment, packed_flags
from wardround.privacy.engine_audit import AuditOutcome, AuditRule, judge
from wardround.privacy.noise_measured import noise_measured
from wardround.privacy.verdict import Verdict
from wardround.protocol.messages import RefusalCode
from wardround.randomness import Randomness
from wardround.study.dry_run import dry_run_rule, simulated_hospitals
from wardround.study.manifest import Study
from wardround_client.empirical.dry_run import Names, name_canaries
from wardround_client.plans import step_sizes, training_plan
from wardround_client.refusal import StudyRefused
from wardround_client.training.noise import NoiseProbe
from wardround_client.witness import StudyEvidence


def audit_engine(
    study: Study, *, run: str, session: str, randomness: Randomness, evidence: StudyEvidence
) -> Verdict | None:
    """Run the engine on synthetic canaries, and log the rule before and the outcome after.

    No patient is touched, so nothing is charged; nothing of it is released. None for a study that
    claims nothing. Raises StudyRefused on a VIOLATION: an engine that leaks more than it claims
    takes part in nothing.
    """
    rule = dry_run_rule(study)
    if rule is None or study.privacy.delta is None:
        return None
    seed = randomness(SEED_BYTES)
    where: Json = {"run": run, "session": session}
    registered = {**where, "rule": _rule_body(rule), "coins_commitment": coins_commitment(seed)}
    evidence.append(("engine-audit-registered", registered))
    names = name_canaries(
        training_plan(study, hospitals=simulated_hospitals(study) + study.privacy.colluders),
        step_sizes(study),
        rule,
        seed=seed,
        randomness=randomness,
    )
    right = names.right(coins(seed, rule.canaries))
    outcome = judge(rule, right, delta=study.privacy.delta)
    audited = {
        **where,
        **_named_body(names, seed, right),
        "delta": study.privacy.delta,
        **_outcome_body(outcome),
    }
    evidence.append(("engine-audited", audited))
    if outcome.verdict is Verdict.VIOLATION:
        raise StudyRefused(
            RefusalCode.ENGINE,
            f"engine: {right} of {2 * rule.named} canaries were named rightly; with its claim of "
            f"epsilon {outcome.epsilon_claimed:.2f} that has probability {outcome.p_of_claim:.1e} "
            f"at most: it leaks as with epsilon {outcome.epsilon_f_dp:.2f} or more",
        )
    return outcome.verdict


def noise_entry(run: str, probes: Sequence[NoiseProbe]) -> tuple[str, Json] | None:
    """The entry on how much noise there was in this run; None where none was drawn."""
    probe = NoiseProbe.together(probes)
    if not probe.count:
        return None
    measured = noise_measured(probe.count, probe.sum_of_squares_over_variance)
    return "noise-measured", {
        "run": run,
        "coordinates": measured.coordinates,
        "sum_of_squares_over_variance": probe.sum_of_squares_over_variance,
        "sigma_ratio": measured.sigma_ratio,
        "sigma_ratio_low": measured.sigma_ratio_low,
        "sigma_ratio_high": measured.sigma_ratio_high,
        "p_value": measured.p_value,
        "shortfall_seen": measured.shortfall_seen,
        "verdict": measured.verdict.value,
    }


def _rule_body(rule: AuditRule) -> Json:
    return {
        "noise_multiplier": rule.noise_multiplier,
        "sampling_rate": rule.sampling_rate,
        "steps": rule.steps,
        "canaries": rule.canaries,
        "named": rule.named,
    }


def _named_body(names: Names, seed: bytes, right: int) -> Json:
    return {
        "units": "synthetic",
        "seed": seed.hex(),
        "named_in": packed_flags(names.inside).hex(),
        "named_out": packed_flags(names.outside).hex(),
        "right": right,
    }


def _outcome_body(outcome: AuditOutcome) -> Json:
    return {
        "epsilon_claimed": outcome.epsilon_claimed,
        "epsilon_f_dp": outcome.epsilon_f_dp,
        "epsilon_steinke": outcome.epsilon_steinke,
        "p_of_claim": outcome.p_of_claim,
        "power": outcome.power,
        "verdict": outcome.verdict.value,
    }
