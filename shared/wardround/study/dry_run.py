"""The rule by which every hospital of a study audits its engine: from public numbers alone."""

from wardround.privacy.engine_audit import AuditRule, audit_rule
from wardround.study.manifest import Mechanism, Study

# Hospitals of the sum that a dry run simulates where the noise is shared.
MOST_SIMULATED = 3


def dry_run_rule(study: Study) -> AuditRule | None:
    """What is fixed before a dry run; None where nothing is claimed that could be audited."""
    privacy = study.privacy
    if privacy.mechanism is Mechanism.NONE or privacy.delta is None or not study.rounds.count:
        return None
    return audit_rule(
        study.noise_multiplier(), privacy.sampling_rate, hospitals=simulated_hospitals(study)
    )


def simulated_hospitals(study: Study) -> int:
    """How many hospitals a dry run sums: several where each adds a share of the noise.

    Never more than the study counts as honest, and no more than three: a share is the same code.
    """
    if study.privacy.mechanism is not Mechanism.DISTRIBUTED:
        return 1
    return max(1, min(len(study.roster) - study.privacy.colluders, MOST_SIMULATED))
