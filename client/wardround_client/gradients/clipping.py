"""From squared norms to one factor a patient."""

import math
from enum import StrEnum

import torch
from torch import Tensor

from wardround.errors import BadInput

# Norms and sums are rounded; a patient who is clipped is clipped to this much less.
ROUNDING = 3e-7


class Clipping(StrEnum):
    """What a patient's norm is taken over."""

    FLAT = "flat"
    PER_LAYER = "per-layer"


def check_clip_norm(clip_norm_l2: float | None) -> None:
    """Raise BadInput for one that is not finite and above 0; None clips nobody."""
    if clip_norm_l2 is not None and not 0.0 < clip_norm_l2 < math.inf:
        raise BadInput(f"clip norm: {clip_norm_l2} came, more than 0 was due")


def factors(squares: Tensor, clip_norm_l2: float | None) -> Tensor:
    """Squared norms, finite, of any shape -> the largest factor <= 1 that keeps within the clip."""
    if clip_norm_l2 is None:
        return torch.ones_like(squares)
    limit = clip_norm_l2 * (1 - ROUNDING)
    # A norm of 0 gives inf, which is cut to 1: a zero gradient stays zero.
    return (limit / squares.sqrt()).clamp_(max=1.0)
