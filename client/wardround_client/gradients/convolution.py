"""Convolutions: per-patient gradients formed from patches and kept, or norms without forming."""

from collections.abc import Iterator
from enum import StrEnum

import torch
from torch import Tensor

from wardround.errors import BadInput
from wardround_client.gradients.patches import Convolution, Geometry
from wardround_client.gradients.patients import Patients
from wardround_client.gradients.tape import Forward, Tape, is_view
from wardround_client.gradients.uses import RECORDS_AT_ONCE as RECORDS_SUMMED
from wardround_client.gradients.uses import (
    alike_squares,
    exact_enough,
    gram_squares,
    product_of_runs,
    squared_rows,
    weighted_rows,
)

# Patches and gradients of so many bytes at once: what stays in a core's cache in between.
FORMED_AT_ONCE_BYTES = 3 << 19
RECORDS_AT_ONCE = 8
GRAMS_AT_ONCE = 16
# A layer's per-patient gradients are kept up to here; beyond, the sum is a convolution again.
KEPT_BYTES = 64 << 20
# What is written stays in the outer cache up to so many values.
CACHED_VALUES = 4 << 20
# With fewer positions the sum is one matrix product: faster than a convolution.
FEW_POSITIONS = 16


class Way(StrEnum):
    """How a convolution's norms are found."""

    FORM = "form"
    PATCHES = "multiply patches"
    PIXELS = "multiply pixels"


def record(tape: Tape, layer: Convolution) -> Forward:
    """Watch the output; inputs are [records, channels, ...]."""
    plain, geometry = layer.forward, Geometry.of(layer)

    def forward(inputs: Tensor) -> Tensor:
        output = plain(inputs)
        if tape.recording:
            output = output.clone() if is_view(output) else output
            if inputs.dim() != 2 + len(geometry.kernel):
                raise BadInput(f"model: a convolution got shape {tuple(inputs.shape)}, no records")
            seen = inputs.detach()
            tape.watch(
                output,
                lambda grad, own: ConvolutionUse(layer, geometry, seen, grad, own),
                seen,
            )
        return output

    return forward


class ConvolutionUse:
    """One call of a convolution. Norms come by the cheaper of two ways.

    Either each patient's gradient is formed, patches times output gradients, in parts that fit the
    cache, and kept for the sum; or, where positions are few beside the kernel's size, norms come
    from Gram matrices and the sum from one product over all positions. (Bu et al. 2022)
    """

    def __init__(
        self,
        layer: Convolution,
        geometry: Geometry,
        inputs: Tensor,
        output_gradients: Tensor,
        patients: Patients,
    ) -> None:
        self._layer, self._geometry = layer, geometry
        self._inputs, self._grads, self._patients = inputs, output_gradients, patients
        self._out = output_gradients.shape[2:]
        self._wide = geometry.wide(inputs.shape[1])
        self._rows: list[Tensor] = []
        self._kept: list[tuple[slice, list[Tensor]]] = []
        self._bias: Tensor | None = None

    @property
    def parameters(self) -> tuple[torch.nn.Parameter, ...]:
        """Weight and bias, as far as they are trained."""
        return tuple(p for p in self._layer.parameters() if p.requires_grad)

    def squared_norms(self) -> Tensor:
        """Weight and bias together."""
        squares = torch.zeros(self._patients.count, dtype=torch.float64)
        if self._layer.weight.requires_grad:
            match self._cheapest():
                case Way.FORM:
                    self._form_and_square(squares)
                case Way.PATCHES:
                    self._square_by_patches(squares)
                case Way.PIXELS:
                    self._square_by_pixels(squares)
        if self._trains_bias():
            self._bias = self._bias_gradients()
            squares += squared_rows(self._bias)
        return squares

    def weighted_sum(self, factors: Tensor) -> tuple[Tensor, ...]:
        """One pass over what was kept, else weighted products of some records at a time."""
        sums: list[Tensor] = []
        if self._layer.weight.requires_grad:
            sums = [self._weight_sum(factors)]
        if self._trains_bias():
            bias = self._bias_gradients() if self._bias is None else self._bias
            sums.append(weighted_rows(factors.to(bias.dtype), bias))
        return tuple(sums)

    def gradients(self) -> tuple[Tensor, ...]:
        """[patients, *shape of the weight] and [patients, channels]."""
        found: list[Tensor] = []
        if self._layer.weight.requires_grad:
            parts = [self._as_weight(self._joined(pieces)) for _, pieces in self._formed()]
            found = [torch.cat(parts)]
        return (*found, self._bias_gradients()) if self._trains_bias() else tuple(found)

    def _trains_bias(self) -> bool:
        return self._layer.bias is not None and self._layer.bias.requires_grad

    def _bias_gradients(self) -> Tensor:
        return self._patients.summed(exact_enough(self._grads).flatten(2).sum(dim=2))

    def _cheapest(self) -> "Way":
        """By measured nanoseconds of one core, so that the choice is the same on every run."""
        if self._geometry.groups > 1:
            return Way.FORM
        positions = self._out.numel() * self._patients.most
        rows, columns = self._grads.shape[1], self._layer.weight[0].numel()
        formed, pairs = rows * columns, positions**2
        # What is kept and leaves the cache in between costs three times as much.
        write = 0.55 if self._patients.count * formed <= CACHED_VALUES else 1.6
        if not self._fits():
            write += positions / 50
        sum_again = positions * formed / 50
        costs = {
            Way.FORM: positions * (formed / 30 + 0.3 * columns) + write * formed,
            Way.PATCHES: pairs * (rows + columns) / 14
            + 1.2 * positions * (rows + columns)
            + sum_again,
        }
        if len(self._out) == 2:
            channels, pixels = self._inputs.shape[1], self._patients.most
            pixels *= self._geometry.padded(self._inputs[:1, :1]).numel()
            costs[Way.PIXELS] = (
                (pairs * rows + pixels**2 * channels) / 14
                + pairs * self._geometry.taps
                + 1.2 * (positions * rows + pixels * channels)
                + sum_again
            )
        return min(costs, key=lambda way: costs[way])

    def _fits(self) -> bool:
        values = self._patients.count * self._layer.weight.numel()
        return values * exact_enough(self._grads[:0]).element_size() <= KEPT_BYTES

    def _form_and_square(self, squares: Tensor) -> None:
        keep = self._fits()
        for here, pieces in self._formed():
            for piece in pieces:
                squares[here] += squared_rows(piece)
            if keep:
                self._kept.append((here, pieces))

    def _square_by_patches(self, squares: Tensor) -> None:
        for here, inputs, grads, own in self._parts(GRAMS_AT_ONCE):
            acts = self._geometry.rows(self._geometry.padded(inputs), self._out)
            self._rows.append(acts)
            both = (grads.flatten(2).mT, acts)
            rows = (own.together(t).flatten(1, 2) for t in both)
            squares[here] += gram_squares(*rows)

    def _square_by_pixels(self, squares: Tensor) -> None:
        for here, inputs, grads, own in self._parts(GRAMS_AT_ONCE):
            alike = self._geometry.overlaps(own.together(self._geometry.padded(inputs)), self._out)
            outer = own.together(grads.flatten(2).mT).flatten(1, 2)
            squares[here] += alike_squares(outer, alike)

    def _formed(self) -> Iterator[tuple[slice, list[Tensor]]]:
        """Patients of a part, and their gradients in pieces: [patients, inputs, outputs]."""
        size = self._out.numel() * self._inputs.shape[1] * self._geometry.kernel[-1]
        size = 4 * (size + self._layer.weight.numel())
        at_once = min(RECORDS_AT_ONCE, max(1, FORMED_AT_ONCE_BYTES // size))
        for here, inputs, grads, own in self._parts(at_once):
            padded = self._geometry.padded(inputs)
            if self._wide:
                outer = grads.flatten(2).mT
                rows = self._geometry.pixels(padded, self._out)
                pieces = [own.summed(torch.bmm(row.mT, outer)) for row in rows]
            else:
                grouped = grads.reshape(len(grads), self._geometry.groups, -1, self._out.numel())
                columns = self._geometry.columns(padded, self._out)
                pieces = [own.summed(columns @ grouped.mT)]
            yield here, pieces

    def _parts(self, at_once: int) -> Iterator[tuple[slice, Tensor, Tensor, Patients]]:
        for here, records, own in self._patients.parts(at_once):
            inputs, grads = exact_enough(self._inputs[records]), exact_enough(self._grads[records])
            yield here, inputs, grads, own

    def _as_weight(self, columns: Tensor) -> Tensor:
        """[..., inputs, outputs] -> [..., *shape of the weight]."""
        shape, lead = self._layer.weight.shape, columns.shape[:-2]
        if not self._wide:
            return columns.mT.reshape(*lead[:-1], *shape)
        kernel = columns.reshape(*lead, *shape[2:], shape[1], shape[0])
        return kernel.movedim((-1, -2), (-4, -3))

    def _joined(self, pieces: list[Tensor]) -> Tensor:
        """Kernel rows one below the other; there is one piece of all without pixels."""
        return torch.cat(pieces, dim=-2) if self._wide else pieces[0]

    def _weight_sum(self, factors: Tensor) -> Tensor:
        if self._kept:
            return self._sum_of_kept(factors)
        few = self._out.numel() < FEW_POSITIONS and self._geometry.groups == 1
        return self._sum_of_rows(factors) if self._rows or few else self._convolved(factors)

    def _sum_of_rows(self, factors: Tensor) -> Tensor:
        """Matrix products over all positions: faster than a convolution where they are few."""
        scaled = self._scaled(factors).flatten(2).mT
        shape = self._layer.weight.shape
        if not self._rows:
            inputs = exact_enough(self._inputs)
            self._rows = [self._geometry.rows(self._geometry.padded(inputs), self._out)]
        # Outputs come first, as in the weight: seven times as fast to bring into its order.
        weight = product_of_runs(scaled, torch.cat(self._rows))
        if not self._wide:
            return weight.view(shape)
        return weight.view(shape[0], *shape[2:], shape[1]).movedim(-1, 1)

    def _scaled(self, factors: Tensor) -> Tensor:
        grads = exact_enough(self._grads)
        records = self._patients.of_records(factors).to(grads.dtype)
        return grads * records.view(-1, *[1] * (grads.dim() - 1))

    def _sum_of_kept(self, factors: Tensor) -> Tensor:
        sums: list[Tensor] | None = None
        for here, pieces in self._kept:
            own = factors[here].to(pieces[0].dtype)
            found = [weighted_rows(own, piece) for piece in pieces]
            sums = found if sums is None else [a.add_(b) for a, b in zip(sums, found, strict=True)]
        return self._as_weight(
            self._joined([total.to(exact_enough(self._grads[:0]).dtype) for total in sums or []])
        )

    def _convolved(self, factors: Tensor) -> Tensor:
        inputs, grads = exact_enough(self._inputs), self._scaled(factors)
        runs = zip(*(torch.split(t, RECORDS_SUMMED) for t in (inputs, grads)), strict=True)
        total, *others = (self._convolved_run(*run) for run in runs)
        for other in others:
            total += other
        return total

    def _convolved_run(self, inputs: Tensor, grads: Tensor) -> Tensor:
        padding = self._geometry.plain_padding
        if padding is None:
            inputs, padding = self._geometry.padded(inputs), (0,) * len(self._out)
        weight = self._layer.weight.detach().to(grads.dtype)
        if len(self._out) == 2:
            # Several times as fast for large kernels as the ordinary layout.
            inputs, grads, weight = (
                t.contiguous(memory_format=torch.channels_last) for t in (inputs, grads, weight)
            )
        found: Tensor = torch.ops.aten.convolution_backward(
            grads,
            inputs,
            weight,
            None,
            self._geometry.stride,
            padding,
            self._geometry.dilation,
            False,
            (0,) * len(self._out),
            self._geometry.groups,
            (False, True, False),
        )[1]
        return found
