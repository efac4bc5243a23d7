"""A hospital's weight and training loss, which ride in the masked vector before its update."""

import math

import torch
from torch import nn

from wardround.errors import WardroundError
from wardround.masking.round_spec import RoundSpec
from wardround.models.family import family_of
from wardround.protocol.weighting import LOSS_STEPS, weight_of
from wardround.study.manifest import Study
from wardround_client.training.plan import PatientRecords
from wardround_client.training.stages import ClearUpdate, weighted

_RECORDS_AT_ONCE = 256


def training_loss(network: nn.Module, patients: PatientRecords, study: Study) -> float:
    """Mean loss per record of the model as it came, over the training patients; 0 without any.

    Records go through in parts, which bounds the memory. The network is left in mode evaluation.
    """
    family, total, records = family_of(study), 0.0, len(patients.features)
    loss = family.loss(study)
    network.eval()
    with torch.inference_mode():
        for start in range(0, records, _RECORDS_AT_ONCE):
            part = slice(start, start + _RECORDS_AT_ONCE)
            features, labels = patients.features[part], patients.labels[part]
            losses = loss(network(features), family.targets(features, labels))
            total += float(losses.double().sum())
    return total / max(1, records)


def weigh(
    update: ClearUpdate, *, patients: int, loss: float, study: Study, spec: RoundSpec
) -> ClearUpdate:
    """[w, w x loss, w x update], such that the pass that scales and rounds gives whole lanes.

    A scale is a power of two and a weight small, so its lane is exact; that of the loss is rounded
    to float32, and cut at the limit as every lane is. Raises WardroundError when the loss is not
    finite.
    """
    if not math.isfinite(loss):
        raise WardroundError("training loss: it is not finite; a smaller step size is due")
    weight = weight_of(patients, study)
    head = (weight / spec.scale, round(weight * loss * LOSS_STEPS) / spec.scale)
    return weighted(update, weight=weight, head=head)
