"""A hospital's training in one round: local steps of per-patient DP-SGD, then the difference."""

import hashlib
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from wardround.errors import BadInput, WardroundError
from wardround.models.networks import parameters_of
from wardround.privacy.engine import TrainingEngine
from wardround.privacy.mechanism import Exact, Mechanism, SampledGaussian
from wardround.randomness import Randomness
from wardround_client.training.per_patient import (
    RECORDS_AT_ONCE,
    PerRecordLoss,
    clipped_sum,
    per_record,
)
from wardround_client.training.sampling import (
    Batch,
    Indices,
    choose_records,
    sample_patients,
)
from wardround_client.training.stages import (
    ClearUpdate,
    ClippedSum,
    NoiseDone,
    NoisedUpdate,
    RawUpdate,
    add_noise,
    noised,
    without_noise,
)

SALT_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlan:
    """What sets the guarantee of one training release. All of it is public and the study's."""

    mechanism: Literal["local", "none"]
    noise_multiplier: float
    clip_norm_l2: float | None
    sampling_rate: float
    records_per_patient: int
    local_steps: int

    def __post_init__(self) -> None:
        if self.mechanism not in {"local", "none"}:
            raise BadInput(f"mechanism: {self.mechanism!r} came, local or none was due")
        if self.mechanism == "none" and self.noise_multiplier != 0.0:
            raise BadInput(f"mechanism none: noise {self.noise_multiplier} came, 0 was due")
        if self.mechanism == "local" and self.clip_norm_l2 is None:
            raise BadInput("mechanism local: a clip norm is due")
        if self.records_per_patient < 1:
            raise BadInput(f"records per patient: {self.records_per_patient}, 1 or more was due")
        noise = 1.0 if self.mechanism == "none" else self.noise_multiplier
        SampledGaussian(noise, self.sampling_rate, self.local_steps)

    @property
    def release(self) -> Mechanism:
        """What the ledger reserves for one release of this plan."""
        if self.mechanism == "none":
            return Exact()
        return SampledGaussian(self.noise_multiplier, self.sampling_rate, self.local_steps)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSizes:
    """How far a step goes: no effect on the guarantee.

    `expected_batch` is the study's fixed public normaliser. It is never the size of a batch or of
    the data, for then the step itself would tell neighbours apart.
    """

    learning_rate: float
    expected_batch: float
    momentum: float = 0.0
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if not (self.learning_rate > 0 and self.expected_batch > 0):
            raise BadInput("step sizes: learning rate and expected batch are above 0")
        if not 0 <= self.momentum < 1 or self.weight_decay < 0:
            raise BadInput("step sizes: momentum is in [0, 1), weight decay 0 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientRecords:
    """Records sorted by patient: patient p has records `offsets[p]` up to `offsets[p + 1]`."""

    features: Tensor = field(repr=False)
    labels: Tensor = field(repr=False)
    offsets: Indices = field(repr=False)

    def __post_init__(self) -> None:
        records = len(self.features)
        if len(self.labels) != records:
            raise BadInput(f"records: {records} features, {len(self.labels)} labels")
        ends = (int(self.offsets[0]), int(self.offsets[-1])) if len(self.offsets) else ()
        if ends != (0, records) or bool((np.diff(self.offsets) < 1).any()):
            raise BadInput("records: offsets rise from 0 to the number of records, by 1 or more")

    @property
    def patients(self) -> int:
        """How many patients there are. Private: neither q nor the normaliser comes from it."""
        return len(self.offsets) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineReport:
    """What was done in one release. `engine` travels; the opening of its commitment stays here."""

    engine: TrainingEngine
    batch_sizes: tuple[int, ...] = field(repr=False)
    salt: bytes = field(repr=False)
    without_gradient: int = field(repr=False)


@dataclass(frozen=True, slots=True)
class _Step:
    """What one step did."""

    batch_size: int
    clip_norm_l2: float | None
    noise: NoiseDone | None
    without_gradient: int


def train(
    model: nn.Module,
    patients: PatientRecords,
    loss: PerRecordLoss,
    plan: TrainingPlan,
    sizes: StepSizes,
    *,
    randomness: Randomness,
    records_at_once: int = RECORDS_AT_ONCE,
) -> tuple[NoisedUpdate | ClearUpdate, EngineReport]:
    """Take `plan.local_steps` steps from the model's parameters; return what changed.

    The update is final minus starting parameters, flat float32 in `named_parameters` order, and
    under mechanism "local" differentially private on its own. The report says what was done, step
    by step, not what was planned. The model is left with the final parameters. Raises BadInput
    for a model without per-record gradients (BatchNorm). (Abadi et al. 2016, Alg. 1)
    """
    start = parameters_of(model).clone()
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.SGD(
        trainable,
        lr=sizes.learning_rate,
        momentum=sizes.momentum,
        weight_decay=sizes.weight_decay,
    )
    steps: list[_Step] = []
    model.train()
    with per_record(model) as wrapped:
        for _ in range(plan.local_steps):
            batch = _draw(patients, plan, randomness)
            clipped = _clip(wrapped, patients, batch, loss, plan, records_at_once)
            total, noise = _noise(clipped, plan, randomness)
            _set_gradients(trainable, total / sizes.expected_batch)
            optimiser.step()
            steps.append(
                _Step(batch.patients, clipped.clip_norm_l2, noise, clipped.without_gradient)
            )
    raw = RawUpdate((parameters_of(model) - start).numpy())
    report = _report(steps, plan, salt=randomness(SALT_BYTES))
    if report.engine.mechanism == "local":
        return noised(raw, [step.noise for step in steps]), report
    return without_noise(raw), report


def _draw(patients: PatientRecords, plan: TrainingPlan, randomness: Randomness) -> Batch:
    sampled = sample_patients(patients.patients, rate=plan.sampling_rate, randomness=randomness)
    return choose_records(
        patients.offsets, sampled, most=plan.records_per_patient, randomness=randomness
    )


def _clip(
    model: nn.Module,
    patients: PatientRecords,
    batch: Batch,
    loss: PerRecordLoss,
    plan: TrainingPlan,
    records_at_once: int,
) -> ClippedSum:
    records = torch.from_numpy(batch.records)
    return clipped_sum(
        model,
        patients.features[records],
        patients.labels[records],
        torch.from_numpy(batch.patient_of_record),
        loss,
        clip_norm_l2=plan.clip_norm_l2,
        records_at_once=records_at_once,
    )


def _noise(
    clipped: ClippedSum, plan: TrainingPlan, randomness: Randomness
) -> tuple[Tensor, NoiseDone | None]:
    if plan.mechanism == "none":
        return clipped.values, None
    # An empty sample gets noise as well: a step without would tell that nobody was drawn.
    private = add_noise(clipped, noise_multiplier=plan.noise_multiplier, randomness=randomness)
    return private.values, private.done


def _set_gradients(trainable: list[nn.Parameter], values: Tensor) -> None:
    start = 0
    for parameter in trainable:
        end = start + parameter.numel()
        parameter.grad = values[start:end].reshape(parameter.shape)
        start = end


def commitment(batch_sizes: tuple[int, ...], salt: bytes) -> str:
    """SHA-256 over the salt and the batch sizes: binds the hospital to them, opens nothing."""
    sizes = ",".join(map(str, batch_sizes)).encode()
    return hashlib.sha256(b"wardround/1 batches\x00" + salt + sizes).hexdigest()


def _report(steps: list[_Step], plan: TrainingPlan, *, salt: bytes) -> EngineReport:
    noises = {step.noise for step in steps}
    clips = {step.clip_norm_l2 for step in steps}
    if len(noises) != 1 or len(clips) != 1:
        raise WardroundError("training: its steps differ in noise or clip norm")
    (noise,), (clip_norm_l2,) = noises, clips
    batch_sizes = tuple(step.batch_size for step in steps)
    engine = TrainingEngine(
        mechanism="none" if noise is None else "local",
        noise_multiplier=0.0 if noise is None else noise.noise_multiplier,
        clip_norm_l2=clip_norm_l2,
        sampling_rate=plan.sampling_rate,
        steps=len(steps),
        records_per_patient=plan.records_per_patient,
        batches_commitment=commitment(batch_sizes, salt),
    )
    return EngineReport(
        engine=engine,
        batch_sizes=batch_sizes,
        salt=salt,
        without_gradient=sum(step.without_gradient for step in steps),
    )
