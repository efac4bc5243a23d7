"""A hospital's training in one round: local steps of per-patient DP-SGD, then the difference."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.optim.sgd import sgd

from wardround.errors import BadInput
from wardround.models.networks import parameters_of
from wardround.randomness import Randomness
from wardround.study.training import ADAM_BETA_1, ADAM_BETA_2, ADAM_EPSILON
from wardround_client.gradients.engine import RECORDS_AT_ONCE, PerRecordLoss, per_patient
from wardround_client.training.adaptive import AdaptiveClip
from wardround_client.training.drift import Drift, Vector
from wardround_client.training.plan import PatientRecords, StepSizes, TrainingPlan
from wardround_client.training.report import SALT_BYTES, EngineReport, StepDone, report_steps
from wardround_client.training.sampling import Batch
from wardround_client.training.stages import (
    ClearUpdate,
    ClippedSum,
    NoisedUpdate,
    RawUpdate,
    add_noise,
    noised,
    without_noise,
)
from wardround_client.training.step import clip, draw, look_up


def train(
    model: nn.Module,
    patients: PatientRecords,
    loss: PerRecordLoss,
    plan: TrainingPlan,
    sizes: StepSizes,
    *,
    randomness: Randomness,
    correction: Vector | None = None,
    records_at_once: int = RECORDS_AT_ONCE,
) -> tuple[NoisedUpdate | ClearUpdate, EngineReport]:
    """Take `plan.local_steps` steps from the model's parameters; return what changed.

    The update is final minus starting parameters, flat float32 in `named_parameters` order, and
    under mechanism "local" differentially private on its own. The report says what was done, step
    by step, not what was planned. The model is left with the final parameters. Raises BadInput
    for a model that mixes patients (BatchNorm), and for more patients than the study allows for.
    (Abadi et al. 2016, Alg. 1)
    """
    if plan.mechanism == "distributed":
        raise BadInput("training: mechanism distributed takes one step, not local ones")
    plan.refuse_too_many(patients.patients)
    start = parameters_of(model).clone()
    drift = Drift.of(model, sizes, correction)
    descend = _optimiser(drift.trainable, sizes)
    steps: list[StepDone] = []
    adaptive, clip_norm_l2 = _adaptive_clip(plan, sizes), plan.clip_norm_l2
    model.train()
    with per_patient(model) as engine:
        for _ in range(plan.local_steps):
            batch = draw(patients, plan, randomness)
            clipped = clip(
                engine,
                look_up(patients, batch, sizes.augmentation, randomness),
                loss,
                plan,
                clip_norm_l2=clip_norm_l2,
                records_at_once=records_at_once,
            )
            total, done = _noise(clipped, batch, plan, sizes, randomness)
            steps.append(done)
            clip_norm_l2 = _next_clip_norm(adaptive, clipped, batch, randomness)
            _set_gradients(drift.trainable, drift.corrected(total / sizes.expected_batch))
            descend()
    raw = RawUpdate((parameters_of(model) - start).numpy())
    report = report_steps(steps, plan, salt=randomness(SALT_BYTES))
    return _declared(raw, steps, report), report


def _declared(
    raw: RawUpdate, steps: list[StepDone], report: EngineReport
) -> NoisedUpdate | ClearUpdate:
    if report.engine.mechanism == "local":
        return noised(raw, [step.noise for step in steps])
    return without_noise(raw)


def _optimiser(trainable: Sequence[nn.Parameter], sizes: StepSizes) -> Callable[[], object]:
    """Takes a step along the gradients. Begun anew in every attempt: it remembers no other's steps.

    Under mechanism local all that it sees are noised sums, over which any computation is
    post-processing: Adam's moments cost nothing, and its step, which is not linear, is none that a
    clip has to hold for. A state kept at the hospital from round to round would be as private, but
    a hospital that missed a round would step with stale moments, and an attempt would no longer
    follow from study, model and records alone. (Kingma and Ba 2015; Wang et al. 2021, "Local
    adaptivity in federated learning", who restart it as well)
    """
    if sizes.optimiser == "adam":
        return torch.optim.Adam(
            trainable,
            lr=sizes.learning_rate,
            betas=(ADAM_BETA_1, ADAM_BETA_2),
            eps=ADAM_EPSILON,
            weight_decay=sizes.weight_decay,
        ).step
    return _descent(trainable, sizes)


def _descent(trainable: Sequence[nn.Parameter], sizes: StepSizes) -> Callable[[], object]:
    """PyTorch's SGD as a function: its class loads a compiler, over a second in every hospital."""
    momenta: list[Tensor | None] = [None] * len(trainable)

    @torch.no_grad()
    def step() -> None:
        sgd(
            list(trainable),
            [parameter.grad for parameter in trainable if parameter.grad is not None],
            momenta,
            weight_decay=sizes.weight_decay,
            momentum=sizes.momentum,
            lr=sizes.learning_rate,
            dampening=0.0,
            nesterov=False,
            maximize=False,
        )

    return step


def _noise(
    clipped: ClippedSum,
    batch: Batch,
    plan: TrainingPlan,
    sizes: StepSizes,
    randomness: Randomness,
) -> tuple[Tensor, StepDone]:
    done = StepDone(
        batch_size=batch.patients,
        clip_norm_l2=clipped.clip_norm_l2,
        noise=None,
        probe=None,
        without_gradient=clipped.without_gradient,
    )
    if plan.mechanism == "none":
        return clipped.values, done
    # An empty sample gets noise as well: a step without would tell that nobody was drawn.
    private = add_noise(
        clipped,
        noise_multiplier=plan.gradient_noise_multiplier,
        expected_batch=sizes.expected_batch,
        randomness=randomness,
    )
    noise = replace(private.done, count_noise=plan.adaptive_count_noise)
    return private.values, replace(done, noise=noise, probe=private.probe)


def _adaptive_clip(plan: TrainingPlan, sizes: StepSizes) -> AdaptiveClip | None:
    """None for a clip norm that stays where it is."""
    quantile, count_noise = plan.adaptive_quantile, plan.adaptive_count_noise
    if quantile is None or count_noise is None or plan.clip_norm_l2 is None:
        return None
    return AdaptiveClip(
        quantile=quantile,
        count_noise=count_noise,
        most_l2=plan.clip_norm_l2,
        expected_batch=sizes.expected_batch,
    )


def _next_clip_norm(
    adaptive: AdaptiveClip | None, clipped: ClippedSum, batch: Batch, randomness: Randomness
) -> float | None:
    """The same again, unless it is adaptive."""
    if adaptive is None or clipped.clip_norm_l2 is None:
        return clipped.clip_norm_l2
    return adaptive.after(
        clipped.clip_norm_l2,
        within=clipped.within_clip,
        sampled=batch.patients,
        randomness=randomness,
    )


def _set_gradients(trainable: Sequence[nn.Parameter], values: Tensor) -> None:
    start = 0
    for parameter in trainable:
        end = start + parameter.numel()
        parameter.grad = values[start:end].reshape(parameter.shape)
        start = end
