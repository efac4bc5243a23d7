"""One grouped round: from the opened sums to the update, and to the groups that stand out.

Coordinator and verifier compute the same, so everything here follows from study, specs and sums.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from wardround.masking.quantise import Lanes
from wardround.masking.round_spec import RoundSpec
from wardround.protocol.weighting import MeanUpdate, mean_update
from wardround.robust.bound import longest_mean_l2
from wardround.robust.distances import Distances
from wardround.robust.rules import GroupMean, combine
from wardround.study.manifest import Study
from wardround.study.robust import Robust

Vector = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class OpenedGroup:
    """A group's sum as it was opened: `mean` is over `survivors` of them."""

    spec: RoundSpec
    survivors: int
    mean: MeanUpdate = field(repr=False)

    @classmethod
    def of(cls, study: Study, spec: RoundSpec, total: Lanes, *, survivors: int) -> "OpenedGroup":
        """Read a group's sum. Raises ProtocolViolation when it holds impossible weights."""
        return cls(spec, survivors, mean_update(total, study, spec, hospitals=survivors))


@dataclass(frozen=True, slots=True)
class CombinedRound:
    """The update, float32 [parameters], and the transcripts of groups that stand out, sorted.

    `loss` is the training loss over all groups where hospitals are weighted.
    """

    values: Vector = field(repr=False)
    flagged: tuple[str, ...]
    loss: float | None


def combined_round(study: Study, plan: Robust, groups: Sequence[OpenedGroup]) -> CombinedRound:
    """Combine by the study's rule; flag groups far off from the others, and too long ones."""
    in_order = sorted((group.spec.transcript().hex(), at) for at, group in enumerate(groups))
    opened = [groups[at] for _, at in in_order]
    means = [
        GroupMean(
            transcript=transcript, values=groups[at].mean.values, weight=groups[at].mean.weight
        )
        for transcript, at in in_order
    ]
    distances = Distances.of([mean.values for mean in means])
    far_off = distances.far_off(plan.far)
    flagged = tuple(
        mean.transcript
        for at, mean in enumerate(means)
        if at in far_off or _is_too_long(study, opened[at], float(distances.norms_l2[at]))
    )
    return CombinedRound(combine(plan, means, distances), flagged, _loss(opened))


def _is_too_long(study: Study, group: OpenedGroup, norm_l2: float) -> bool:
    return norm_l2 > longest_mean_l2(study, group.spec, survivors=group.survivors)


def _loss(groups: Sequence[OpenedGroup]) -> float | None:
    losses = [group.mean.loss for group in groups if group.mean.loss is not None]
    if len(losses) < len(groups):
        return None
    weights = [group.mean.weight for group in groups]
    return sum(w * loss for w, loss in zip(weights, losses, strict=True)) / sum(weights)
