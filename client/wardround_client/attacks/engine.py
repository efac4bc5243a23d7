"""The study's engine on synthetic canaries, as before every run, but with nothing logged."""

from wardround.privacy.coins import SEED_BYTES, coins
from wardround.privacy.engine_audit import judge
from wardround.randomness import Randomness
from wardround.study.dry_run import dry_run_rule, simulated_hospitals
from wardround.study.manifest import Study
from wardround_client.attacks.outcome import CanaryTest
from wardround_client.empirical.dry_run import name_canaries
from wardround_client.plans import step_sizes, training_plan


def attack_engine(study: Study, *, randomness: Randomness) -> CanaryTest | None:
    """One dry run; None for a study that claims nothing. No patient is touched."""
    rule = dry_run_rule(study)
    if rule is None or study.privacy.delta is None:
        return None
    seed = randomness(SEED_BYTES)
    plan = training_plan(study, hospitals=simulated_hospitals(study) + study.privacy.colluders)
    names = name_canaries(plan, step_sizes(study), rule, seed=seed, randomness=randomness)
    right = names.right(coins(seed, rule.canaries))
    outcome = judge(rule, right, delta=study.privacy.delta)
    return CanaryTest(named=2 * rule.named, right=right, outcome=outcome)
