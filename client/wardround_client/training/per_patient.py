"""One clipped gradient per patient: the sum that has a known sensitivity.

Records of a patient are averaged before the ONE clip, so that a patient with many records counts
like a patient with one. Per-record gradients come from Opacus' GradSampleModule; its sampler,
normaliser, noise and accountant are not used (shared/decisions/0002).
"""

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from opacus import GradSampleModule
from torch import Tensor, nn

from wardround.errors import BadInput
from wardround_client.training.stages import ClippedSum

PerRecordLoss = Callable[[Tensor, Tensor], Tensor]
"""Outputs and labels of n records -> n losses, one a record, not reduced."""

RECORDS_AT_ONCE = 128
_BATCH_NORMS = (nn.modules.batchnorm._BatchNorm,)  # noqa: SLF001 - the base of all its kinds


def refuse_batch_norm(model: nn.Module) -> None:
    """Raise BadInput for a layer that mixes patients, naming it and what to put there."""
    for name, layer in model.named_modules():
        if isinstance(layer, _BATCH_NORMS):
            channels = layer.num_features
            groups = math.gcd(channels, 32)
            raise BadInput(
                f"model: layer {name or 'itself'} is {type(layer).__name__}, which mixes the "
                f"patients of a batch; put GroupNorm({groups}, {channels}) there"
            )


@contextmanager
def per_record(model: nn.Module) -> Iterator[GradSampleModule]:
    """Wrap a model so that its backward pass keeps one gradient a record; unwrap it at the end.

    Raises BadInput, with the layer's name, for BatchNorm and for what has no per-record gradient.
    """
    refuse_batch_norm(model)
    try:
        wrapped = GradSampleModule(model, loss_reduction="sum", strict=True)
    except NotImplementedError as error:
        raise BadInput(f"model: no gradient per record: {error}") from error
    try:
        with warnings.catch_warnings():
            # The data needs no gradient, and the hooks do not need it to.
            warnings.filterwarnings("ignore", message="Full backward hook is firing")
            yield wrapped
    finally:
        wrapped.zero_grad(set_to_none=True)
        wrapped.to_standard_module()


def clipped_sum(
    model: nn.Module,
    features: Tensor,
    labels: Tensor,
    patient_of_record: Tensor,
    loss: PerRecordLoss,
    *,
    clip_norm_l2: float | None,
    records_at_once: int = RECORDS_AT_ONCE,
) -> ClippedSum:
    """Sum one gradient per patient, each scaled to L2 norm <= clip_norm_l2 over all parameters.

    `patient_of_record` is sorted and counts the patients of the batch from 0 without a gap. The
    result has the trainable parameters in `named_parameters` order. A zero gradient stays zero,
    one that is not finite counts as zero, no record at all gives zeros: the sensitivity to one
    patient is clip_norm_l2, whatever the records hold. `records_at_once` bounds the memory: so
    many gradients exist at a time (more only for one patient's). (Abadi et al. 2016, Alg. 1)
    """
    if isinstance(model, GradSampleModule):
        return _sum_in_parts(
            model, (features, labels, patient_of_record), loss, clip_norm_l2, records_at_once
        )
    with per_record(model) as wrapped:
        return _sum_in_parts(
            wrapped, (features, labels, patient_of_record), loss, clip_norm_l2, records_at_once
        )


def _sum_in_parts(
    model: GradSampleModule,
    records: tuple[Tensor, Tensor, Tensor],
    loss: PerRecordLoss,
    clip_norm_l2: float | None,
    records_at_once: int,
) -> ClippedSum:
    if clip_norm_l2 is not None and not 0.0 < clip_norm_l2 < math.inf:
        raise BadInput(f"clip norm: {clip_norm_l2} came, more than 0 was due")
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    total = torch.zeros(sum(parameter.numel() for parameter in trainable))
    without_gradient = within_clip = 0
    for part in _parts(records[2], records_at_once):
        features, labels, patients = (tensor[part] for tensor in records)
        gradients = _per_patient(model, trainable, features, labels, patients - patients[0], loss)
        factors = _clip_factors(gradients, clip_norm_l2)
        without_gradient += int((factors == 0).sum())
        within_clip += int((factors == 1).sum())
        total += torch.cat([_weighted_sum(factors, gradient) for gradient in gradients])
    return ClippedSum(
        values=total,
        clip_norm_l2=clip_norm_l2,
        without_gradient=without_gradient,
        within_clip=within_clip,
    )


def _parts(patient_of_record: Tensor, records_at_once: int) -> Iterator[slice]:
    """Cut the records into runs of whole patients of about `records_at_once` records."""
    if records_at_once < 1:
        raise BadInput(f"records at once: {records_at_once} came, 1 or more was due")
    if patient_of_record.numel() == 0:
        return
    _, counts = torch.unique_consecutive(patient_of_record, return_counts=True)
    steps = patient_of_record.diff()
    if int(patient_of_record[0]) != 0 or not bool(((steps == 0) | (steps == 1)).all()):
        raise BadInput("batch: records are not sorted by patient, counted from 0 without a gap")
    start = end = 0
    for count in counts.tolist():
        if end > start and end + count - start > records_at_once:
            yield slice(start, end)
            start = end
        end += count
    yield slice(start, end)


def _per_patient(
    model: GradSampleModule,
    trainable: list[nn.Parameter],
    features: Tensor,
    labels: Tensor,
    patients: Tensor,
    loss: PerRecordLoss,
) -> list[Tensor]:
    """For each parameter [patients, values]: the mean gradient over each patient's records."""
    counts = torch.bincount(patients)
    model.zero_grad(set_to_none=True)
    losses = loss(model(features), labels)
    if losses.shape != patients.shape:
        raise BadInput(f"loss: one a record was due, shape {tuple(losses.shape)} came")
    # A gradient is linear in its loss: weighting the loss averages the patient's records.
    torch.autograd.backward((losses / counts[patients]).sum())
    gradients = []
    for parameter in trainable:
        sample = getattr(parameter, "grad_sample", None)
        if sample is None:
            # The loss does not depend on this parameter.
            gradients.append(torch.zeros(len(counts), parameter.numel()))
            continue
        rows = sample.reshape(len(patients), -1)
        if len(counts) != len(patients):
            rows = torch.zeros(len(counts), rows.shape[1]).index_add_(0, patients, rows)
        gradients.append(rows)
    model.zero_grad(set_to_none=True)
    return gradients


def _clip_factors(gradients: list[Tensor], clip_norm_l2: float | None) -> Tensor:
    """One factor a patient in float64: at most clip / norm; 0 where the norm is not finite."""
    squares = torch.stack(
        [torch.linalg.vector_norm(g, dim=1, dtype=torch.float64).square() for g in gradients]
    )
    norms = squares.sum(dim=0).sqrt()
    limit = torch.inf if clip_norm_l2 is None else clip_norm_l2
    factors = torch.where(norms > limit, limit / norms, torch.ones_like(norms))
    return torch.where(norms.isfinite(), factors, torch.zeros_like(norms))


def _weighted_sum(factors: Tensor, gradient: Tensor) -> Tensor:
    # 0 * NaN is NaN: a patient without a finite gradient is taken out, not weighted.
    kept = factors > 0
    if bool(kept.all()):
        return factors.to(gradient.dtype) @ gradient
    return factors[kept].to(gradient.dtype) @ gradient[kept]
