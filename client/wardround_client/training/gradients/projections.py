"""Weights that met one activation a position: sequences, attention, recurrent layers."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from wardround_client.training.gradients.patients import Patients
from wardround_client.training.gradients.uses import exact_enough, squared_rows

# Formed at once: what stays in a core's cache between the product and its norm.
FORMED_AT_ONCE_BYTES = 1 << 20
# Kept from the norms to the sum, each projection; beyond it the sum forms its product anew.
KEPT_BYTES = 1 << 28
# Forming costs reading and writing outputs x inputs values, a Gram matrix in float64 costs
# positions^2 x (inputs + outputs) products: how many of the latter one of the former is worth.
PRODUCTS_A_VALUE = 16


@dataclass(frozen=True, slots=True)
class Projection:
    """A layer computed `outputs = weight[rows] @ activations + bias[bias_rows]` at each position.

    `gradients` are those of the outputs, [records, positions, outputs]; the activations are
    [records, positions, inputs]. Both may be views with any strides. No `bias_rows`: as `rows`.
    """

    weight: nn.Parameter
    bias: nn.Parameter | None
    rows: Tensor
    gradients: Tensor = field(repr=False)
    activations: Tensor = field(repr=False)
    bias_rows: Tensor | None = None

    @property
    def trained(self) -> tuple[nn.Parameter, ...]:
        """Weight and bias, as far as they are there and not frozen."""
        return tuple(p for p in (self.weight, self.bias) if p is not None and p.requires_grad)

    @property
    def values(self) -> int:
        """How many values of the weight take part."""
        return self.gradients.shape[-1] * self.activations.shape[-1]

    def rows_of(self, parameter: nn.Parameter) -> Tensor:
        """Which rows of weight or bias the outputs belong to."""
        if parameter is self.weight or self.bias_rows is None:
            return self.rows
        return self.bias_rows

    def outer(self, gradients: Tensor, activations: Tensor) -> tuple[Tensor, ...]:
        """[patients, positions, ...] each -> the gradient of each trained parameter's rows."""
        return tuple(
            torch.bmm(gradients.mT, activations)
            if parameter is self.weight
            else gradients.sum(dim=1)
            for parameter in self.trained
        )

    def squared_norms(self, gradients: Tensor, activations: Tensor) -> Tensor:
        """By Gram matrices in float64: |sum_s g_s a_s^T|^2 = sum_st <g_s, g_t> <a_s, a_t>."""
        grads, acts = gradients.double(), activations.double()
        alike = acts.new_zeros(())
        if self.weight.requires_grad:
            alike = torch.bmm(acts, acts.mT)
        if self.bias is not None and self.bias.requires_grad:
            alike = alike + 1
        return (alike * torch.bmm(grads, grads.mT)).sum(dim=(1, 2))


class ProjectionsUse:
    """The projections of one layer call; together they meet the protocol of a Use.

    Each projection's norms come by the cheaper way: from per-patient gradients, formed in parts
    that fit the cache and kept for the sum, or from Gram matrices where the positions are few
    beside the weight's size. (Bu et al. 2022, section 3; Li et al. 2021, ghost norm)
    """

    def __init__(self, projections: Iterable[Projection], patients: Patients) -> None:
        self._projections = [p for p in projections if p.trained]
        self._patients = patients
        self._kept: dict[int, tuple[Tensor, ...]] = {}

    @property
    def parameters(self) -> tuple[nn.Parameter, ...]:
        """Each once, though several projections may have rows of it."""
        found = {id(p): p for projection in self._projections for p in projection.trained}
        return tuple(found.values())

    def squared_norms(self) -> Tensor:
        """The rows of different projections are different rows: their squares add up."""
        norms = torch.zeros(self._patients.count, dtype=torch.float64)
        for number in range(len(self._projections)):
            norms = norms + self._norms(number)
        return norms

    def weighted_sum(self, factors: Tensor) -> tuple[Tensor, ...]:
        """A matrix-vector product over what was kept, else one product over all positions."""
        sums = {id(p): factors.new_zeros(p.shape) for p in self.parameters}
        for number, projection in enumerate(self._projections):
            values = (
                (torch.tensordot(factors, formed, dims=1) for formed in self._kept[number])
                if number in self._kept
                else self._product(projection, factors)
            )
            for parameter, value in zip(projection.trained, values, strict=True):
                sums[id(parameter)].index_add_(0, projection.rows_of(parameter), value)
        return tuple(sums.values())

    def gradients(self) -> tuple[Tensor, ...]:
        """[patients, *shape] for each parameter."""
        formed: dict[int, Tensor] = {}
        for projection in self._projections:
            whole = slice(None)
            values = projection.outer(*self._together(projection, whole, self._patients))
            for parameter, value in zip(projection.trained, values, strict=True):
                if id(parameter) not in formed:
                    shape = (self._patients.count, *parameter.shape)
                    formed[id(parameter)] = value.new_zeros(shape)
                formed[id(parameter)].index_add_(1, projection.rows_of(parameter), value)
        return tuple(formed.values())

    def _norms(self, number: int) -> Tensor:
        projection, patients = self._projections[number], self._patients
        norms = torch.zeros(patients.count, dtype=torch.float64)
        if self._positions_are_few(projection):
            for here, gradients, activations in self._parts(projection):
                norms[here] = projection.squared_norms(gradients, activations)
            return norms
        kept = self._room(projection)
        for here, gradients, activations in self._parts(projection):
            for place, formed in enumerate(projection.outer(gradients, activations)):
                norms[here] += squared_rows(formed)
                if kept:
                    kept[place][here] = formed
        if kept:
            self._kept[number] = kept
        return norms

    def _positions_are_few(self, projection: Projection) -> bool:
        positions = projection.gradients.shape[1] * max(self._patients.counts)
        width = projection.gradients.shape[-1] + projection.activations.shape[-1]
        return positions**2 * width < PRODUCTS_A_VALUE * projection.values

    def _room(self, projection: Projection) -> tuple[Tensor, ...]:
        like = exact_enough(projection.gradients[:0])
        outputs, inputs = projection.gradients.shape[-1], projection.activations.shape[-1]
        count = self._patients.count
        if count * projection.values * like.element_size() > KEPT_BYTES:
            return ()
        return tuple(
            like.new_empty(count, outputs, *([inputs] if p is projection.weight else []))
            for p in projection.trained
        )

    def _parts(self, projection: Projection) -> Iterator[tuple[slice, Tensor, Tensor]]:
        size = exact_enough(projection.gradients[:0]).element_size()
        patients = max(1, FORMED_AT_ONCE_BYTES // (projection.values * size))
        most = max(self._patients.counts)
        for here, records, own in self._patients.parts(patients * most):
            yield here, *self._together(projection, records, own)

    def _together(
        self, projection: Projection, records: slice, patients: Patients
    ) -> tuple[Tensor, Tensor]:
        """A patient's records one after the other, as if they were one longer sequence."""
        both = (projection.gradients[records], projection.activations[records])
        gradients, activations = (
            patients.together(exact_enough(rows)).flatten(1, 2).contiguous() for rows in both
        )
        return gradients, activations

    def _product(self, projection: Projection, factors: Tensor) -> Iterator[Tensor]:
        weights = self._patients.of_records(factors)[:, None, None]
        rows = (exact_enough(projection.gradients) * weights).flatten(0, 1)
        for parameter in projection.trained:
            if parameter is projection.weight:
                yield rows.mT @ exact_enough(projection.activations).flatten(0, 1)
            else:
                yield rows.sum(dim=0)
