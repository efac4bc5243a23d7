"""Clipped sums over patients, part by part: the engine that training drives."""

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from wardround.errors import BadInput
from wardround_client.gradients.clipping import Clipping, check_clip_norm, factors
from wardround_client.gradients.layers import Layers
from wardround_client.gradients.linear import merged
from wardround_client.gradients.patients import Patients
from wardround_client.gradients.probe import probe
from wardround_client.gradients.tape import Tape, recording
from wardround_client.gradients.uses import Use, unshared
from wardround_client.training.stages import ClippedSum

PerRecordLoss = Callable[[Tensor, Tensor], Tensor]
"""Outputs and labels of n records -> n losses, one a record, not reduced."""

RECORDS_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Part:
    """What the patients of one part add: all sums in one row, and each parameter's place in it."""

    values: Tensor = field(repr=False)
    sums: dict[int, Tensor] = field(repr=False)
    within_clip: int = field(repr=False)
    without_gradient: int = field(repr=False)


class PerPatient:
    """Per-patient gradients of one model, for many steps. Made by `per_patient`."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self.tape = Tape()
        self._layers = Layers.of(model, self.tape)
        self._trainable = [p for p in model.parameters() if p.requires_grad]
        self._sizes = [p.numel() for p in self._trainable]
        self._layer_of = {
            id(p): place for place, own in enumerate(self._layers.clipped_together) for p in own
        }
        wide = any(p.dtype == torch.float64 for p in self._trainable)
        self._dtype = torch.float64 if wide else torch.float32
        # Convolutions are fastest with the channels last, but PyTorch's group norm loses up to
        # three digits there where a mean is large beside its deviation.
        normed = any(isinstance(layer, nn.GroupNorm) for layer in model.modules())
        self._layout = torch.contiguous_format if normed else torch.channels_last
        self._probed = False

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Layers leave their uses on the tape inside; they are as they were at the end."""
        with recording(self._layers.recorded):
            yield

    def clipped_sum(
        self,
        features: Tensor,
        labels: Tensor,
        patient_of_record: Tensor,
        loss: PerRecordLoss,
        *,
        clip_norm_l2: float | None,
        clipping: Clipping = Clipping.FLAT,
        records_at_once: int = RECORDS_AT_ONCE,
    ) -> ClippedSum:
        """Sum one gradient per patient, each scaled to L2 norm <= clip_norm_l2 in all.

        `patient_of_record` is sorted and counts the patients of the batch from 0 without a gap.
        The result has the trainable parameters in `named_parameters` order. A zero gradient stays
        zero, one that is not finite (or whose square is not) counts as zero, no record at all
        gives zeros: the sensitivity to one patient is clip_norm_l2, whatever the records hold.
        `records_at_once` bounds the memory: so many records are in a pass (more only for one
        patient's). With `clipping` per layer each of L layers is clipped to
        clip_norm_l2 / sqrt(L). (Abadi et al. 2016, Alg. 1; Bu et al. 2022)
        """
        check_clip_norm(clip_norm_l2)
        if records_at_once < 1:
            raise BadInput(f"records at once: {records_at_once} came, 1 or more was due")
        patients = Patients.of(patient_of_record)
        if not patients.count or not self._trainable:
            return ClippedSum(values=self._zeros(), clip_norm_l2=clip_norm_l2)
        if not self._probed:
            probe(self._model, self.tape, self._layers, features, labels, loss)
            self._probed = True
        values: Tensor | None = None
        within = without = 0
        for _, records, own in patients.parts(records_at_once):
            part = self._part(
                (features[records], labels[records]), own, loss, clip_norm_l2, clipping
            )
            values = part.values if values is None else values.double().add_(part.values)
            within, without = within + part.within_clip, without + part.without_gradient
        return ClippedSum(
            values=self._zeros() if values is None else values.to(self._dtype),
            clip_norm_l2=clip_norm_l2,
            without_gradient=without,
            within_clip=within,
        )

    @torch.no_grad()
    def _part(
        self,
        records: tuple[Tensor, Tensor],
        patients: Patients,
        loss: PerRecordLoss,
        clip_norm_l2: float | None,
        clipping: Clipping,
    ) -> Part:
        without = 0
        # Gradients of gradients are nobody's: only the forward pass is recorded.
        while patients.count:
            with self.tape.batch(patients):
                uses = self._backward(records, patients, loss)
            if not uses:
                return Part(self._zeros(), {}, patients.count, without)
            done = self.clip(uses, clip_norm_l2, clipping)
            if isinstance(done, Part):
                return replace(done, without_gradient=without) if without else done
            # 0 * NaN is NaN: patients without a finite gradient are taken out, not weighted.
            without += patients.count - int(done.sum())
            kept = patients.of_records(done)
            records = (records[0][kept], records[1][kept])
            patients = Patients.of(_renumbered(patients.patient_of_record[kept]))
        return Part(self._zeros(), {}, 0, without)

    def clip(
        self, uses: list[Use], clip_norm_l2: float | None, clipping: Clipping = Clipping.FLAT
    ) -> Part | Tensor:
        """The clipped sums of uses that share no parameter.

        Where a patient's gradient is not finite: instead, [patients], whose is.
        """
        if clipping is Clipping.FLAT:
            uses = merged(uses)
        squares = [use.squared_norms() for use in uses]
        total = functools.reduce(torch.add, squares)
        if not math.isfinite(total.sum().item()):
            return total.isfinite()
        return self._sum(uses, squares, total, clip_norm_l2, clipping)

    def _backward(
        self, records: tuple[Tensor, Tensor], patients: Patients, loss: PerRecordLoss
    ) -> list[Use]:
        features, labels = records
        if features.dim() == 4:
            features = features.contiguous(memory_format=self._layout)
        with torch.enable_grad():
            losses = loss(self._model(features), labels)
            if losses.shape != (patients.records,):
                raise BadInput(f"loss: one a record was due, shape {tuple(losses.shape)} came")
            # A gradient is linear in its loss: weighting the loss averages the patient's records.
            weights = torch.ones_like(losses)
            if not patients.one_each:
                weights /= patients.of_records(torch.tensor(patients.counts))
            uses = self.tape.backward(losses, weights)
        return unshared(uses)

    def _sum(
        self,
        uses: list[Use],
        squares: list[Tensor],
        total: Tensor,
        clip_norm_l2: float | None,
        clipping: Clipping,
    ) -> Part:
        if clipping is Clipping.FLAT or clip_norm_l2 is None:
            scale = factors(total, clip_norm_l2)
            whole, of_use = scale, [scale.to(self._dtype)] * len(uses)
        else:
            scales = self._layer_factors(uses, squares, clip_norm_l2)
            whole = torch.stack(list(scales.values())).amin(dim=0)
            of_use = [scales[self._place(use)].to(self._dtype) for use in uses]
        values, places = self._places()
        sums: dict[int, Tensor] = {}
        for use, own in zip(uses, of_use, strict=True):
            into = [places.pop(id(parameter)) for parameter in use.parameters]
            # Written at once: a layer's own sum is gone before the next one's comes.
            torch._foreach_copy_(into, use.weighted_sum(own))
            sums.update((id(p), place) for p, place in zip(use.parameters, into, strict=True))
        for place in places.values():
            place.zero_()
        return Part(values, sums, int(torch.count_nonzero(whole == 1)), 0)

    def _layer_factors(
        self, uses: list[Use], squares: list[Tensor], clip_norm_l2: float
    ) -> dict[int, Tensor]:
        """Each layer has its share of the clip norm: L of C/sqrt(L) are within C together.

        L counts the model's layers, used or not: it is public. (McMahan et al. 2018)
        """
        share = clip_norm_l2 / len(self._layers.clipped_together) ** 0.5
        totals: dict[int, Tensor] = {}
        for use, own in zip(uses, squares, strict=True):
            place = self._place(use)
            totals[place] = totals[place] + own if place in totals else own
        return {place: factors(total, share) for place, total in totals.items()}

    def _place(self, use: Use) -> int:
        return self._layer_of[id(use.parameters[0])]

    def _places(self) -> tuple[Tensor, dict[int, Tensor]]:
        """Room for all sums in one row, and in it that of each parameter, in its shape."""
        values = torch.empty(sum(self._sizes), dtype=self._dtype)
        parts = values.split_with_sizes(self._sizes)
        return values, {
            id(p): part.view(p.shape) for p, part in zip(self._trainable, parts, strict=True)
        }

    def _zeros(self) -> Tensor:
        return torch.zeros(sum(self._sizes), dtype=self._dtype)


def _renumbered(patient_of_record: Tensor) -> Tensor:
    numbers: Tensor = torch.unique_consecutive(patient_of_record, return_inverse=True)[1]
    return numbers


@contextmanager
def per_patient(model: nn.Module) -> Iterator[PerPatient]:
    """An engine for many steps of one model, which is as it was before at the end.

    Raises BadInput, with the layer's name, for BatchNorm and for what has no gradient per record;
    warns of layers that are slow. Which parameters are trained is settled here.
    """
    engine = PerPatient(model)
    with engine.recording():
        yield engine
