"""Mechanism distributed: one step, as integers, with this hospital's share of the noise.

The guarantee is that of the sum: of the noise that is claimed a hospital adds a part, and only
inside the masks do the parts come together. So the steps that follow on un-summed noise, which
local training takes, have no place here. (Kairouz et al. 2021)
"""

import numpy as np
import numpy.typing as npt
from torch import nn

from wardround.errors import BadInput, WardroundError
from wardround.masking.quantise import quantise
from wardround.privacy.noise_shares import StepScale, share_variance
from wardround.randomness import Randomness
from wardround_client.gradients.engine import RECORDS_AT_ONCE, PerRecordLoss, per_patient
from wardround_client.training.plan import PatientRecords, StepSizes, TrainingPlan
from wardround_client.training.report import SALT_BYTES, EngineReport, StepDone, report_share
from wardround_client.training.stages import ClippedLanes, ClippedSum, NoisedLanes, add_share
from wardround_client.training.step import clip, draw, look_up


def one_step(
    model: nn.Module,
    patients: PatientRecords,
    loss: PerRecordLoss,
    plan: TrainingPlan,
    sizes: StepSizes,
    *,
    scale: float,
    limit: int,
    randomness: Randomness,
) -> tuple[NoisedLanes, EngineReport]:
    """Take one step of per-patient gradients; return it in lanes, noised for a masked sum.

    The step is -learning_rate * (sum of clipped gradients) / expected_batch, times `scale`,
    rounded, clamped so that its noise stays within `limit`. The noise is discrete Gaussian, so
    large that the shares of `plan.honest` hospitals make `plan.noise_multiplier` against the
    lanes' sensitivity, rounding included. One lane for every parameter, in `named_parameters`
    order. The model's parameters stay as they are: the step is taken where the sum is opened.
    Raises BadInput for what is not one step without memory, and as `train` does.
    """
    _refuse_more_than_a_step(plan, sizes)
    plan.refuse_too_many(patients.patients)
    model.train()
    with per_patient(model) as engine:
        batch = draw(patients, plan, randomness)
        clipped = clip(
            engine,
            look_up(patients, batch, sizes.augmentation, randomness),
            loss,
            plan,
            clip_norm_l2=plan.clip_norm_l2,
            records_at_once=RECORDS_AT_ONCE,
        )
    lanes = to_lanes(model, clipped, sizes, scale=scale, limit=limit)
    variance = share_variance(
        plan.noise_multiplier, sensitivity_lanes=lanes.sensitivity_lanes, honest=plan.honest
    )
    # An empty sample gets its share as well: a sum with less noise would tell of it.
    shared = add_share(lanes, share_variance=variance, randomness=randomness)
    step = StepDone(
        batch_size=batch.patients,
        clip_norm_l2=clipped.clip_norm_l2,
        noise=None,
        probe=shared.probe,
        without_gradient=clipped.without_gradient,
    )
    return shared, report_share(step, lanes, shared, plan, salt=randomness(SALT_BYTES))


def _refuse_more_than_a_step(plan: TrainingPlan, sizes: StepSizes) -> None:
    if plan.mechanism != "distributed":
        raise BadInput(f"one step: mechanism {plan.mechanism} came, distributed was due")
    if sizes.momentum != 0.0 or sizes.weight_decay != 0.0:
        raise BadInput("one step: momentum and weight decay are 0 with mechanism distributed")
    if sizes.optimiser != "sgd":
        raise BadInput(f"one step: optimiser {sizes.optimiser} came, sgd was due: it is linear")
    if sizes.proximal != 0.0:
        raise BadInput("one step: proximal is 0 with mechanism distributed: nothing is pulled back")


def to_lanes(
    model: nn.Module, clipped: ClippedSum, sizes: StepSizes, *, scale: float, limit: int
) -> ClippedLanes:
    """The step that a clipped sum makes, rounded to integers whose sensitivity is known."""
    if clipped.clip_norm_l2 is None:
        raise WardroundError("lanes: the sum is not clipped, so no noise protects it")
    step = clipped.values.double().numpy() * (-sizes.learning_rate / sizes.expected_batch)
    bound = StepScale(
        learning_rate=sizes.learning_rate,
        clip_norm_l2=clipped.clip_norm_l2,
        expected_batch=sizes.expected_batch,
    )
    whole = _with_frozen(model, step)
    return ClippedLanes(
        values=quantise(whole, scale=scale, limit=limit),
        sensitivity_lanes=bound.sensitivity_lanes(scale=scale, lanes=len(whole)),
        limit=limit,
    )


def _with_frozen(model: nn.Module, step: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """One value for every parameter: 0 where it is frozen."""
    trained = np.concatenate(
        [np.full(p.numel(), p.requires_grad, dtype=np.bool_) for p in model.parameters()]
    )
    whole = np.zeros(len(trained), dtype=np.float64)
    whole[trained] = step
    return whole
