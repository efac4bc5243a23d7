"""The dry run: the study's own engine, on canaries, and the attack whose rule was fixed before."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from wardround.errors import BadInput
from wardround.privacy.coins import Flags, coins
from wardround.privacy.engine_audit import AuditRule, score
from wardround.privacy.noise_shares import StepScale, noise_share
from wardround.randomness import Randomness
from wardround.study.dry_run import MOST_SIMULATED
from wardround_client.empirical.canaries import CanaryModel, canary_loss, canary_patients
from wardround_client.training import distributed, local
from wardround_client.training.plan import StepSizes, TrainingPlan

Values = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """Whom the attack named in and whom out; on the rest it passed."""

    inside: Flags = field(repr=False)
    outside: Flags = field(repr=False)

    def right(self, members: Flags) -> int:
        """How many names are right."""
        return int((self.inside & members).sum() + (self.outside & ~members).sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class DryRun:
    """What is the same in every step: the plan, how far a step goes, who is in.

    The clip norm is held still and no batch is cut: both are accounted for beside the noise, and
    a count of names cannot tell them from it. Momentum, weight decay, Adam and a proximal term only
    process what is private already. Raises BadInput for a plan that claims nothing.
    """

    plan: TrainingPlan
    sizes: StepSizes
    members: Flags = field(repr=False)
    randomness: Randomness = field(repr=False)

    def __post_init__(self) -> None:
        if self.plan.mechanism == "none":
            raise BadInput("dry run: mechanism none claims nothing that could be audited")
        if self.plan.clipping == "adaptive" or self.plan.batch_most is not None:
            raise BadInput("dry run: a still clip norm and whole batches were due")

    @property
    def step(self) -> StepScale:
        """How far one canary moves its weight."""
        return StepScale(
            learning_rate=self.sizes.learning_rate,
            clip_norm_l2=self.plan.clip_norm_l2 or 0.0,
            expected_batch=self.sizes.expected_batch,
        )


def name_canaries(
    plan: TrainingPlan,
    sizes: StepSizes,
    rule: AuditRule,
    *,
    seed: bytes,
    randomness: Randomness,
) -> Names:
    """Train on canaries by `plan` for the rule's steps, then name them by the rule.

    Who is in comes from `seed`; sampling and noise come from `randomness`, as in training.
    """
    run = DryRun(
        plan=replace(
            plan,
            clipping="flat" if plan.clipping == "adaptive" else plan.clipping,
            adaptive_quantile=None,
            adaptive_count_noise=None,
            patients_most=None,
            batch_most=None,
        ),
        sizes=replace(
            sizes,
            momentum=0.0,
            weight_decay=0.0,
            optimiser="sgd",
            proximal=0.0,
            augmentation=None,
        ),
        members=coins(seed, rule.canaries),
        randomness=randomness,
    )
    moved = _summed(run, rule.steps) if plan.mechanism == "distributed" else _local(run, rule.steps)
    scores = np.zeros(rule.canaries)
    for moves in moved:
        scores += score(moves / run.step.one_patient, rule).sum(axis=0)
    return _names(scores, rule)


def _names(scores: Values, rule: AuditRule) -> Names:
    """The highest scores are named in, the lowest out."""
    order = np.argsort(scores, kind="stable")
    inside, outside = np.zeros((2, rule.canaries), dtype=np.bool_)
    outside[order[: rule.named]] = True
    inside[order[-rule.named :]] = True
    return Names(inside=inside, outside=outside)


def _local(run: DryRun, steps: int) -> Iterator[Values]:
    """What each release of the study's length did to the weights [steps, canaries]."""
    patients = canary_patients(
        run.members,
        clip_norm_l2=run.step.clip_norm_l2,
        records_per_patient=run.plan.records_per_patient,
    )
    for start in range(0, steps, run.plan.local_steps):
        length = min(run.plan.local_steps, steps - start)
        model = CanaryModel(len(run.members))
        local.train(
            model,
            patients,
            canary_loss,
            replace(run.plan, local_steps=length),
            run.sizes,
            randomness=run.randomness,
        )
        yield model.moves().double().numpy()


def _summed(run: DryRun, steps: int) -> Iterator[Values]:
    """What the opened sum of each step is, over hospitals among which the canaries are dealt."""
    hospitals = min(run.plan.honest, MOST_SIMULATED)
    plan, canaries = replace(run.plan, honest=hospitals), len(run.members)
    share = noise_share(
        plan.noise_multiplier,
        run.step,
        most_change=run.step.one_patient,
        hospitals=hospitals,
        honest=hospitals,
        lanes=canaries,
    )
    dealt = [
        canary_patients(
            run.members & (np.arange(canaries) % hospitals == hospital),
            clip_norm_l2=run.step.clip_norm_l2,
            records_per_patient=plan.records_per_patient,
        )
        for hospital in range(hospitals)
    ]
    model = CanaryModel(canaries)
    for _ in range(steps):
        total = np.zeros(canaries, dtype=np.int64)
        for patients in dealt:
            noised, _ = distributed.one_step(
                model,
                patients,
                canary_loss,
                plan,
                run.sizes,
                scale=share.scale,
                limit=share.limit,
                randomness=run.randomness,
            )
            total += noised.values
        yield total[np.newaxis] / share.scale
