"""The first half of every step, whatever the mechanism: sample patients, clip, sum."""

import torch

from wardround.randomness import Randomness
from wardround_client.gradients.clipping import Clipping
from wardround_client.gradients.engine import PerPatient, PerRecordLoss
from wardround_client.training.plan import PatientRecords, TrainingPlan
from wardround_client.training.sampling import Batch, at_most, choose_records, sample_patients
from wardround_client.training.stages import ClippedSum


def draw(patients: PatientRecords, plan: TrainingPlan, randomness: Randomness) -> Batch:
    """Poisson over patients, cut to the plan's ceiling, then a chunk of each one's records."""
    sampled = sample_patients(patients.patients, rate=plan.sampling_rate, randomness=randomness)
    if plan.batch_most is not None:
        sampled = at_most(sampled, plan.batch_most, randomness=randomness)
    return choose_records(
        patients.offsets, sampled, most=plan.records_per_patient, randomness=randomness
    )


def clip(
    engine: PerPatient,
    patients: PatientRecords,
    batch: Batch,
    loss: PerRecordLoss,
    plan: TrainingPlan,
    *,
    clip_norm_l2: float | None,
    records_at_once: int,
) -> ClippedSum:
    """The sum of one clipped gradient for each patient of the batch.

    Clipped layer by layer where the plan says so; an adaptive clip norm is one over all of them.
    """
    records = torch.from_numpy(batch.records)
    return engine.clipped_sum(
        patients.features[records],
        patients.labels[records],
        torch.from_numpy(batch.patient_of_record),
        loss,
        clip_norm_l2=clip_norm_l2,
        clipping=Clipping.PER_LAYER if plan.clipping == "per-layer" else Clipping.FLAT,
        records_at_once=records_at_once,
    )
