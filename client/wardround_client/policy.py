"""The hospital's own policy: what it lets any study do, whatever the coordinator asks."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from wardround.canonical import Json, digest
from wardround.errors import RefusedByPolicy
from wardround.study.contract import Frozen
from wardround.study.files import checked, read_toml
from wardround.study.manifest import Mechanism, StudyPlan

DEFAULT_POLICY = """\
# What this hospital lets a study do. Change it before you approve a study.

# Privacy budget of each dataset, over all studies and for ever: (epsilon, delta), per patient.
epsilon_budget = 10.0
delta_max = 1e-4

# "local": noise is added here, before anything leaves, and nobody has to be trusted.
# "distributed": every hospital adds a share of the noise, and their sum carries all of it.
# "none" would allow studies without any noise.
mechanisms = ["local", "distributed"]

# With "distributed": a study has to hold even if so many hospitals, or more, pool what they know
# with the coordinator.
least_colluders = 1

# The fewest hospitals whose masked sum may be opened.
minimum_hospitals = 3

# Exact pooled counts of held-out patients (masked sums, no noise) for the final evaluation.
# Epsilon does not cover them; say false and only studies with noised counts are allowed.
allow_exact_evaluation = true

# Protect the patient with all records (false), or allow studies that protect single records.
allow_record_unit = false

# Count held-out patients' scores by models of this hospital's own as well, beside the study's: one
# trained here alone, one fine-tuned here. Neither has noise: the counts tell of training patients.
allow_own_models_beside = false

# Before a run, audit the privacy engine on synthetic canaries: about a second, no patient touched.
# An engine that leaks more than it claims takes part in nothing.
empirical_audit = true

# At the end of a run, attack the final model with your own patients, and let the log and so the
# report say how it went: a release of verdicts that no noise covers. Some seconds.
attack_test = false

# What the log, and so the report, may say of your data at the end of a run: "nothing"; the
# "verdict" (ready, ready with remarks, not ready, and why, in words of a fixed list); or also
# "counts" of patients, to the nearest 5, fewer than 11 hidden. No noise covers them.
datasheet = "nothing"
"""


class Policy(Frozen):
    """policy.toml of a hospital."""

    epsilon_budget: Annotated[float, Field(gt=0, le=1000)]
    delta_max: Annotated[float, Field(gt=0, lt=0.01)]
    mechanisms: tuple[Mechanism, ...]
    least_colluders: Annotated[int, Field(ge=0)] = 1
    minimum_hospitals: Annotated[int, Field(ge=2)] = 3
    allow_exact_evaluation: bool = False
    allow_record_unit: bool = False
    # Not in the digest at its default: policies from before keep theirs.
    allow_own_models_beside: bool = Field(default=False, exclude_if=lambda value: value is False)
    empirical_audit: bool = True
    attack_test: bool = False
    # Not in the digest at its default: policies from before keep theirs.
    datasheet: Literal["nothing", "verdict", "counts"] = Field(
        default="nothing", exclude_if=lambda value: value == "nothing"
    )

    def digest(self) -> str:
        """SHA-256 of the policy in force, for the evidence log."""
        value: Json = self.model_dump(mode="json")
        return digest(value)


def read_policy(path: Path) -> Policy:
    """Read policy.toml. Raises BadInput naming an unknown key and the nearest known one."""
    return checked(Policy, read_toml(path), what=path.name)


def check_study(policy: Policy, study: StudyPlan) -> None:
    """Raise RefusedByPolicy with everything in `study` that `policy` does not allow."""
    privacy = study.privacy
    faults = []
    if privacy.mechanism not in policy.mechanisms:
        allowed = ", ".join(policy.mechanisms)
        faults.append(f"privacy.mechanism {privacy.mechanism}: the policy allows {allowed}")
    shared = privacy.mechanism is Mechanism.DISTRIBUTED
    if shared and privacy.colluders < policy.least_colluders:
        faults.append(
            f"privacy.colluders {privacy.colluders}: the policy needs noise that holds against "
            f"{policy.least_colluders}"
        )
    if privacy.delta is not None and privacy.delta > policy.delta_max:
        faults.append(f"privacy.delta {privacy.delta:g}: the policy allows {policy.delta_max:g}")
    if privacy.unit != "patient" and not policy.allow_record_unit:
        faults.append("privacy.unit record: the policy protects patients, not single records")
    if study.masking.minimum_hospitals < policy.minimum_hospitals:
        faults.append(
            f"masking.minimum_hospitals {study.masking.minimum_hospitals}: "
            f"the policy needs {policy.minimum_hospitals}"
        )
    faults += _of_evaluation(policy, study)
    faults += _told_by_refusing(policy, study)
    if faults:
        raise RefusedByPolicy(f"study {study.name}: " + "; ".join(faults))


def _of_evaluation(policy: Policy, study: StudyPlan) -> list[str]:
    """A study that only asks for statistics evaluates nothing."""
    plan, faults = study.evaluation, []
    if plan.counts == "exact" and study.rounds.count and not policy.allow_exact_evaluation:
        faults.append("evaluation.counts exact: the policy allows noised counts only")
    if plan.beside and not policy.allow_own_models_beside:
        faults.append(
            f"evaluation.beside {', '.join(plan.beside)}: the policy lets no counts leave that "
            "models of this hospital's own gave (allow_own_models_beside)"
        )
    return faults


def _told_by_refusing(policy: Policy, study: StudyPlan) -> list[str]:
    """Who refuses to join for its data's sake tells the verdict on them."""
    if study.quality is None or not study.quality.refuse or policy.datasheet != "nothing":
        return []
    return [
        "quality.refuse: not to join tells that the data are not ready; the policy's `datasheet` "
        "lets no verdict leave"
    ]
