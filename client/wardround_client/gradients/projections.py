"""Weights that met one activation a position: sequences, attention, recurrent layers."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from wardround_client.gradients.patients import Patients
from wardround_client.gradients.uses import (
    exact_enough,
    gram_squares,
    product_of_runs,
    squared_rows,
    weighted_rows,
)

# Formed at once: what stays in a core's cache between the product and its norm.
FORMED_AT_ONCE_BYTES = 1 << 21
# Kept from the norms to the sum, each layer call; beyond it the sum forms its product anew.
KEPT_BYTES = 1 << 27
# Forming costs reading and writing outputs x inputs values, a Gram matrix in float64 costs
# positions^2 x (inputs + outputs) products: how many of the latter one of the former is worth.
PRODUCTS_A_VALUE = 16


@dataclass(frozen=True, slots=True)
class Projection:
    """A layer computed `outputs = weight[rows] @ activations + bias[bias_rows]` at each position.

    The outputs' gradients are the columns of `gradients`, [records, positions, ...], from
    `columns.start` on; the activations are [records, positions, inputs]. Both may be views with
    any strides. No `bias_rows`: as `rows`.
    """

    weight: nn.Parameter
    bias: nn.Parameter | None
    rows: Tensor
    gradients: Tensor = field(repr=False)
    columns: slice
    activations: Tensor = field(repr=False)
    bias_rows: Tensor | None = None

    @property
    def trained(self) -> tuple[nn.Parameter, ...]:
        """Weight and bias, as far as they are there and not frozen."""
        return tuple(p for p in (self.weight, self.bias) if p is not None and p.requires_grad)

    @property
    def values(self) -> int:
        """How many values of the weight take part."""
        return len(self.rows) * self.activations.shape[-1]

    def rows_of(self, parameter: nn.Parameter) -> Tensor:
        """Which rows of weight or bias the outputs belong to."""
        if parameter is self.weight or self.bias_rows is None:
            return self.rows
        return self.bias_rows

    def outer(self, part: "_Part", into: Sequence[Tensor] = ()) -> tuple[Tensor, ...]:
        """[patients, *rows] for each trained parameter, in `into` where that is given."""
        gradients, activations = part.together(self.gradients), part.together(self.activations)
        gradients = gradients[..., self.columns]
        places: Sequence[Tensor | None] = into or [None] * len(self.trained)
        return tuple(
            torch.bmm(gradients.mT, activations, out=place)
            if parameter is self.weight
            else torch.sum(gradients, dim=1, out=place)
            for parameter, place in zip(self.trained, places, strict=True)
        )

    def gram(self, part: "_Part") -> Tensor:
        """[patients]: squared norms, with nothing formed."""
        gradients, activations = part.together(self.gradients), part.together(self.activations)
        bias = self.bias is not None and self.bias.requires_grad
        weight = self.weight.requires_grad
        return gram_squares(gradients[..., self.columns], activations, weight=weight, bias=bias)

    def product(self, weights: Tensor) -> Iterator[Tensor]:
        """The sum over all records, each with its weight, for each trained parameter's rows."""
        own = exact_enough(self.gradients[..., self.columns])
        rows = own * weights[:, None, None]
        for parameter in self.trained:
            if parameter is self.weight:
                yield product_of_runs(rows, exact_enough(self.activations)).double()
            else:
                yield rows.sum(dim=(0, 1), dtype=torch.float64)

    def room(self, patients: int) -> tuple[Tensor, ...]:
        """Where the gradients of so many patients go."""
        like = exact_enough(self.gradients[:0])
        return tuple(like.new_empty(patients, *self._shape(p)) for p in self.trained)

    def _shape(self, parameter: nn.Parameter) -> tuple[int, ...]:
        outputs, inputs = len(self.rows), self.activations.shape[-1]
        return (outputs, inputs) if parameter is self.weight else (outputs,)


class _Part:
    """Some patients, each with the positions of its records one after the other."""

    def __init__(self, records: slice, patients: Patients) -> None:
        self._records = records
        self._patients = patients
        self._formed: dict[int, Tensor] = {}

    def together(self, rows: Tensor) -> Tensor:
        """[records, positions, ...] -> [patients, positions, ...], contiguous, made once."""
        if id(rows) not in self._formed:
            own = self._patients.together(exact_enough(rows[self._records]))
            self._formed[id(rows)] = own.flatten(1, 2).contiguous()
        return self._formed[id(rows)]


class ProjectionsUse:
    """The projections of one layer call; together they meet the protocol of a Use.

    Each projection's norms come by the cheaper way: from per-patient gradients, formed in parts
    that fit the cache and kept for the sum, or from Gram matrices where the positions are few
    beside the weight's size. The rows of different projections are different rows, so that their
    squares add up. (Bu et al. 2022, section 3; Li et al. 2021, ghost norm)
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
        """By forming and by Gram matrices, for as many patients at a time as the cache holds."""
        few = {id(p) for p in self._projections if self._positions_are_few(p)}
        formed = [p for p in self._projections if id(p) not in few]
        self._kept = self._rooms(formed)
        norms = torch.zeros(self._patients.count, dtype=torch.float64)
        for here, part in self._parts(formed or self._projections):
            for projection in self._projections:
                if id(projection) in few:
                    norms[here] += projection.gram(part)
                    continue
                into = [room[here] for room in self._kept.get(id(projection), ())]
                for values in projection.outer(part, into):
                    norms[here] += squared_rows(values)
        return norms

    def weighted_sum(self, factors: Tensor) -> tuple[Tensor, ...]:
        """One pass over what was kept, else one product over all positions."""
        sums = {id(p): factors.new_zeros(p.shape, dtype=torch.float64) for p in self.parameters}
        for projection in self._projections:
            kept = self._kept.get(id(projection))
            values = (
                projection.product(self._patients.of_records(factors))
                if kept is None
                else (weighted_rows(factors, formed) for formed in kept)
            )
            for parameter, value in zip(projection.trained, values, strict=True):
                sums[id(parameter)].index_add_(0, projection.rows_of(parameter), value)
        return tuple(sums.values())

    def gradients(self) -> tuple[Tensor, ...]:
        """[patients, *shape] for each parameter."""
        part = _Part(slice(None), self._patients)
        formed: dict[int, Tensor] = {}
        for projection in self._projections:
            for parameter, value in zip(projection.trained, projection.outer(part), strict=True):
                if id(parameter) not in formed:
                    shape = (self._patients.count, *parameter.shape)
                    formed[id(parameter)] = value.new_zeros(shape)
                formed[id(parameter)].index_add_(1, projection.rows_of(parameter), value)
        return tuple(formed.values())

    def _positions_are_few(self, projection: Projection) -> bool:
        positions = projection.gradients.shape[1] * max(self._patients.counts)
        width = len(projection.rows) + projection.activations.shape[-1]
        return positions**2 * width < PRODUCTS_A_VALUE * projection.values

    def _rooms(self, formed: Sequence[Projection]) -> dict[int, tuple[Tensor, ...]]:
        if self._patients.count * _bytes(formed) > KEPT_BYTES:
            return {}
        return {id(p): p.room(self._patients.count) for p in formed}

    def _parts(self, projections: Sequence[Projection]) -> Iterator[tuple[slice, _Part]]:
        patients = max(1, FORMED_AT_ONCE_BYTES // max(1, _bytes(projections)))
        for here, records, own in self._patients.parts(patients * max(self._patients.counts)):
            yield here, _Part(records, own)


def _bytes(projections: Sequence[Projection]) -> int:
    """What one patient's gradients take."""
    return sum(p.values * exact_enough(p.gradients[:0]).element_size() for p in projections)
