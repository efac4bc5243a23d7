"""Whether a network treats the records of a batch apart, as a clip for each patient assumes.

What mixes records without a layer of its own (a mean over the batch in a forward pass) is seen by
no list of layers: one patient would change the gradients of all others, and so a clipped sum by
far more than the clip norm.
"""

from collections.abc import Callable

import torch
from torch import Tensor

OutputsOf = Callable[[Tensor], Tensor]
"""[records, ...] -> one row of outputs, or one loss, for each record."""

_RECORDS = 3
_LAST = _RECORDS - 1


def records_mix(outputs_of: OutputsOf, record: Tensor) -> bool:
    """Whether the output of one record depends on who else is in its batch.

    `record` is [1, ...]. The first and the last row of a batch are looked at, whose neighbours are
    the same record and then zeros: by derivatives, which see the least dependence, and by values,
    which see a rank or a maximum that has no derivative. What draws randomly draws the same each
    time. Nothing is kept, and the generator is left as it was.
    """
    alike = record.detach().expand(_RECORDS, *record.shape[1:])
    with torch.random.fork_rng(devices=[]):
        state = torch.get_rng_state()
        for row in (0, _LAST):
            alone = torch.zeros_like(alike)
            alone[row] = alike[row]
            found = []
            for batch in (alike, alone):
                torch.set_rng_state(state)
                found.append(_row(outputs_of, batch, row))
            (own, depends), (beside_zeros, _) = found
            if depends or not torch.allclose(own, beside_zeros, rtol=1e-4, equal_nan=True):
                return True
    return False


def _row(outputs_of: OutputsOf, batch: Tensor, row: int) -> tuple[Tensor, bool]:
    """One row of the outputs, and whether it has a derivative along another record."""
    leaf = batch.clone().requires_grad_()
    with torch.enable_grad():
        # A copy: a network may change its own input in place.
        own = outputs_of(leaf.clone())[row]
        if not own.requires_grad:
            return own.detach(), False
        found: tuple[Tensor | None, ...] = torch.autograd.grad(own.sum(), leaf, allow_unused=True)
    (slope,) = found
    if slope is None:
        return own.detach(), False
    slope[row] = 0.0
    return own.detach(), bool(torch.count_nonzero(slope.nan_to_num(posinf=1.0, neginf=1.0)))
