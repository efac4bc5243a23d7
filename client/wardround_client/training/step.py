"""The first half of every step, whatever the mechanism: sample patients, clip, sum."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from wardround.randomness import Randomness
from wardround.study.task import Augmentation
from wardround_client.gradients.clipping import Clipping
from wardround_client.gradients.engine import PerPatient, PerRecordLoss
from wardround_client.training.augmentation import augmented, repeated
from wardround_client.training.plan import PatientRecords, TrainingPlan
from wardround_client.training.sampling import Batch, at_most, choose_records, sample_patients
from wardround_client.training.stages import ClippedSum


@dataclass(frozen=True, slots=True)
class Drawn:
    """What a step's gradients are of: records sorted by patient, as the network sees them."""

    features: Tensor = field(repr=False)
    labels: Tensor = field(repr=False)
    patient_of_record: Tensor = field(repr=False)


def draw(patients: PatientRecords, plan: TrainingPlan, randomness: Randomness) -> Batch:
    """Poisson over patients, cut to the plan's ceiling, then a chunk of each one's records."""
    sampled = sample_patients(patients.patients, rate=plan.sampling_rate, randomness=randomness)
    if plan.batch_most is not None:
        sampled = at_most(sampled, plan.batch_most, randomness=randomness)
    return choose_records(
        patients.offsets, sampled, most=plan.records_per_patient, randomness=randomness
    )


def look_up(
    patients: PatientRecords,
    batch: Batch,
    augmentation: Augmentation | None,
    randomness: Randomness,
) -> Drawn:
    """The batch's records; images are changed as the study says, in copies of their patient's.

    Without an augmentation nothing is drawn here.
    """
    if augmentation is not None:
        batch = repeated(batch, augmentation.copies)
    records = torch.from_numpy(batch.records)
    features = patients.features[records]
    if augmentation is not None:
        features = augmented(features, augmentation, randomness)
    labels, patient_of_record = patients.labels[records], torch.from_numpy(batch.patient_of_record)
    if patients.beside is not None:
        features, labels = patients.beside(features, labels)
        patient_of_record = patient_of_record.repeat_interleave(2)
    return Drawn(features, labels, patient_of_record)


def clip(
    engine: PerPatient,
    drawn: Drawn,
    loss: PerRecordLoss,
    plan: TrainingPlan,
    *,
    clip_norm_l2: float | None,
    records_at_once: int,
) -> ClippedSum:
    """The sum of one clipped gradient for each patient of the batch.

    Clipped layer by layer where the plan says so; an adaptive clip norm is one over all of them.
    """
    return engine.clipped_sum(
        drawn.features,
        drawn.labels,
        drawn.patient_of_record,
        loss,
        clip_norm_l2=clip_norm_l2,
        clipping=Clipping.PER_LAYER if plan.clipping == "per-layer" else Clipping.FLAT,
        records_at_once=records_at_once,
    )
