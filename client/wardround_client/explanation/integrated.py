"""Integrated gradients: how much each input moved the score away from a baseline.

For tables and series, and for any image. Two properties make it fit for a clinician: what does not
matter gets zero, and all parts add up to the score's difference (completeness), which is measured
with every answer.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from wardround.errors import BadInput

Score = Callable[[Tensor], Tensor]
"""Inputs [records, ...] -> the number to be explained, [records]."""

DEFAULT_STEPS = 64
POINTS_AT_ONCE = 512  # interpolated records in memory at a time


@dataclass(frozen=True, slots=True)
class Attribution:
    """What each input contributes, [records, ...] as the inputs, in units of the score.

    `gap` [records] is how far the sum of a record's parts is from the score's difference: with too
    few steps it is large, and the answer is not to be trusted.
    """

    values: Tensor
    gap: Tensor


def integrated_gradients(
    score: Score, inputs: Tensor, baseline: Tensor, *, steps: int = DEFAULT_STEPS
) -> Attribution:
    """Integrate the score's gradient along the straight path from `baseline` to `inputs`.

    `baseline` has the shape of one record, or of all. Gauss-Legendre quadrature with `steps`
    nodes. Raises BadInput for shapes that do not fit and for a score that is not one number a
    record. (Sundararajan, Taly and Yan 2017, eq. 1 and proposition 1)
    """
    if baseline.shape not in {inputs.shape, inputs.shape[1:]}:
        raise BadInput(
            f"integrated gradients: a baseline of shape {tuple(inputs.shape[1:])} was due, "
            f"{tuple(baseline.shape)} came"
        )
    if steps < 1:
        raise BadInput(f"integrated gradients: {steps} steps came, at least 1 was due")
    start = baseline.expand_as(inputs).detach()
    way = inputs.detach() - start
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    mean = torch.zeros_like(way)
    group = max(1, POINTS_AT_ONCE // max(1, len(inputs)))
    for first in range(0, steps, group):
        places = torch.as_tensor((nodes[first : first + group] + 1.0) / 2.0, dtype=way.dtype)
        shares = torch.as_tensor(weights[first : first + group] / 2.0, dtype=way.dtype)
        mean += _weighted_gradients(score, start, way, places, shares)
    values = mean * way
    with torch.no_grad():
        moved = _checked(score(inputs), len(inputs)) - _checked(score(start), len(inputs))
    return Attribution(values, values.flatten(1).sum(1) - moved)


def _weighted_gradients(
    score: Score, start: Tensor, way: Tensor, places: Tensor, shares: Tensor
) -> Tensor:
    """The sum over some nodes of the path of weight times gradient, [records, ...]."""
    records, ones = len(way), (1,) * way.ndim
    points = start + places.view(-1, *ones) * way
    flat = points.flatten(0, 1).requires_grad_()
    total = _checked(score(flat), len(flat)).sum()
    (gradient,) = torch.autograd.grad(total, flat)
    weighted = gradient.view(len(places), records, *way.shape[1:]) * shares.view(-1, *ones)
    return weighted.sum(0)


def _checked(scores: Tensor, records: int) -> Tensor:
    if scores.shape != (records,):
        raise BadInput(
            f"explanation: one score for each of {records} records was due, "
            f"shape {tuple(scores.shape)} came"
        )
    return scores
