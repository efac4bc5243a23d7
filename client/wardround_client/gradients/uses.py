"""What a layer call leaves behind, and how per-patient gradients come out of it."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn


class Use(Protocol):
    """One use of parameters in a forward pass, after the backward pass has come by.

    A patient's gradient is the SUM over the patient's records: the loss was weighted so that
    this is the mean. Everything is in float32, in float64 for a model of float64.
    """

    @property
    def parameters(self) -> tuple[nn.Parameter, ...]:
        """The trainable parameters that were used, each once; frozen ones are left out."""
        ...

    def squared_norms(self) -> Tensor:
        """[patients] float64: squared L2 norm over all `parameters`, within 5e-7 of exact.

        A norm that overflows, or of a gradient that is not finite, is inf or NaN.
        """
        ...

    def weighted_sum(self, factors: Tensor) -> tuple[Tensor, ...]:
        """For each parameter: the sum over patients of factor times gradient, in its shape.

        `factors` is [patients], in the gradients' dtype. Called after `squared_norms`, which may
        keep what it formed; every gradient is finite. Summed in runs, as `ROWS_AT_ONCE` says.
        """
        ...

    def gradients(self) -> tuple[Tensor, ...]:
        """For each parameter: [patients, *its shape], formed in full (shared parameters)."""
        ...


def exact_enough(values: Tensor) -> Tensor:
    """The same values in float32 at least: sums in bfloat16 would lose the clip norm."""
    return values if values.dtype in {torch.float32, torch.float64} else values.float()


ROW = 4096


def squared_rows(gradients: Tensor) -> Tensor:
    """[patients, ...] -> [patients] float64: squared norm of each row."""
    return row_squares(gradients).double()


def row_squares(gradients: Tensor) -> Tensor:
    """The same in the values' own precision where a row is short: runs are summed in float64."""
    rows = gradients if gradients.dim() == 2 else gradients.reshape(gradients.shape[0], -1)
    values = rows.shape[1]
    if values <= ROW:
        short: Tensor = torch.linalg.vecdot(rows, rows)
        return short
    if values % -(-values // ROW) == 0:
        runs = rows.reshape(len(rows), -(-values // ROW), -1)
        of_runs: Tensor = torch.linalg.vecdot(runs, runs)
        return of_runs.sum(dim=1, dtype=torch.float64)
    whole = values - values % ROW
    squares: Tensor = torch.linalg.vecdot(rows[:, whole:], rows[:, whole:]).double()
    runs = rows[:, :whole].reshape(len(rows), -1, ROW)
    squares += torch.linalg.vecdot(runs, runs).sum(dim=1, dtype=torch.float64)
    return squares


# In a long sum of float32 one patient more can carry the running total past a power of two. Every
# patient after it is rounded otherwise then, and all together move the sum beyond the clip norm, by
# up to the square of their number times 6e-8. So runs are summed by themselves: of rows, and, since
# a product is fast only with many, of the records of one. PyTorch's own `sum` runs likewise, by 16.
# (Casacuberta, Shoemate, Vadhan and Wagaman 2022, "Widespread underestimation of sensitivity";
# decision 0034 has what that leaves)
ROWS_AT_ONCE = 8
RECORDS_AT_ONCE = 32
_SMALL_VALUES = 1 << 18


def weighted_rows(factors: Tensor, rows: Tensor) -> Tensor:
    """[patients] and [patients, ...] -> [...] in float64: the sum of factor times row."""
    flat = rows.reshape(len(rows), -1)
    total = torch.zeros(flat.shape[1], dtype=torch.float64, device=rows.device)
    for own, run in zip(*(torch.split(t, ROWS_AT_ONCE) for t in (factors, flat)), strict=True):
        total += own @ run
    return total.view(rows.shape[1:])


def product_of_runs(left: Tensor, right: Tensor) -> Tensor:
    """[records, ..., rows] and [records, ..., columns] -> [rows, columns], summed over the rest."""
    records, size = len(left), left.shape[-1] * right.shape[-1]
    count = records // RECORDS_AT_ONCE
    if records <= RECORDS_AT_ONCE or count * size > _SMALL_VALUES:
        total = left.new_zeros(left.shape[-1], right.shape[-1])
        runs = zip(*(torch.split(t, RECORDS_AT_ONCE) for t in (left, right)), strict=True)
        for own, other in runs:
            total.addmm_(own.flatten(0, -2).mT, other.flatten(0, -2))
        return total
    # All whole runs in one call: with small layers the calls are what takes the time.
    whole = count * RECORDS_AT_ONCE
    own, other = (t[:whole].reshape(count, -1, t.shape[-1]) for t in (left, right))
    total = torch.bmm(own.mT, other).sum(dim=0)
    if whole < records:
        total.addmm_(left[whole:].flatten(0, -2).mT, right[whole:].flatten(0, -2))
    return total


# Above what rounding in float32 adds to a sum of outer products, beside the sum of their norms.
ROUNDING = 2e-7


def gram_squares(grads: Tensor, acts: Tensor, *, weight: bool = True, bias: bool = False) -> Tensor:
    """[patients, positions, ...] each -> [patients]: |sum_s g_s a_s^T|^2, nothing formed.

    It is sum_st <g_s, g_t> <a_s, a_t>, in float64. Where terms cancel, the sum that is released
    still has the rounding of the terms, so a bound of it is added to the norm: the clip holds for
    values that were made to cancel, too.
    """
    acts = acts.double()
    alike = torch.bmm(acts, acts.mT) if weight else acts.new_zeros(1, 1, 1)
    if bias:
        alike = alike + 1
    return alike_squares(grads, alike)


def alike_squares(grads: Tensor, alike: Tensor) -> Tensor:
    """The same from <a_s, a_t> of all pairs of positions, [patients, positions, positions]."""
    grads = grads.double()
    gram = torch.bmm(grads, grads.mT)
    norms = (alike * gram).sum(dim=(1, 2)).clamp_(min=0).sqrt_()
    sizes = (alike.diagonal(dim1=1, dim2=2) * gram.diagonal(dim1=1, dim2=2)).clamp_(min=0)
    return norms.add_(sizes.sqrt_().sum(dim=1), alpha=ROUNDING).square_()


@dataclass(frozen=True, slots=True)
class FormedUse:
    """A use whose per-patient gradients exist in full: [patients, *shape] for each parameter."""

    parameters: tuple[nn.Parameter, ...]
    formed: tuple[Tensor, ...] = field(repr=False)

    def squared_norms(self) -> Tensor:
        """Sum over the parameters."""
        return functools.reduce(torch.add, [squared_rows(g) for g in self.formed])

    def weighted_sum(self, factors: Tensor) -> tuple[Tensor, ...]:
        """One pass over what was formed."""
        return tuple(weighted_rows(factors.to(formed.dtype), formed) for formed in self.formed)

    def gradients(self) -> tuple[Tensor, ...]:
        """What there is."""
        return self.formed


def unshared(uses: Sequence[Use]) -> list[Use]:
    """Add up the gradients of parameters that several uses share, before any norm is taken.

    Uses that share a parameter, directly or over others, become one FormedUse.
    """
    used = [id(parameter) for use in uses for parameter in use.parameters]
    if len(set(used)) == len(used):
        return list(uses)
    groups: list[list[Use]] = []
    for use in uses:
        own = {id(parameter) for parameter in use.parameters}
        joined, apart = [use], []
        for group in groups:
            if any(id(parameter) in own for other in group for parameter in other.parameters):
                joined = [*group, *joined]
            else:
                apart.append(group)
        groups = [*apart, joined]
    return [group[0] if len(group) == 1 else _added(group) for group in groups]


def _added(uses: Sequence[Use]) -> FormedUse:
    sums: dict[int, tuple[nn.Parameter, Tensor]] = {}
    for use in uses:
        for parameter, gradients in zip(use.parameters, use.gradients(), strict=True):
            key = id(parameter)
            sums[key] = (parameter, sums[key][1] + gradients if key in sums else gradients)
    parameters, formed = zip(*sums.values(), strict=True)
    return FormedUse(parameters, formed)
