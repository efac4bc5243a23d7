"""From the means of groups to one update (PROTOCOL 5, "Groups").

Every rule but the mean withstands some groups whose mean is anything at all. The order of the
groups decides between exact ties and over last bits only; whoever has to agree sorts them by
transcript. Coordinate-wise rules work on blocks of columns: no second copy of all means is made.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt

from wardround.robust.distances import Distances
from wardround.study.robust import Robust, Rule

Vector = npt.NDArray[np.float32]
Block = npt.NDArray[np.float64]
Factors = npt.NDArray[np.float64]

_BLOCK_COLUMNS: Final = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupMean:
    """What one group's sum says.

    `values` float32 [parameters] is the mean over its hospitals, `weight` the number of them, or
    the sum of their weights; `transcript` names the attempt.
    """

    transcript: str
    values: Vector = field(repr=False)
    weight: int


def combine(plan: Robust, groups: Sequence[GroupMean], distances: Distances) -> Vector:
    """One update of the means, float32 [parameters]; `distances` are those between `groups`.

    A rule that was planned for more groups than came leaves out as many fewer. Raises ValueError
    without a group, or for means of different lengths.
    """
    if len({group.values.shape for group in groups}) != 1:
        raise ValueError(f"groups: {len(groups)} means came, some of one shape were due")
    values = [group.values for group in groups]
    if plan.rule is Rule.MEAN:
        return _weighted([group.weight for group in groups], values)
    if plan.rule is Rule.MEDIAN:
        return _by_columns(values, lambda block: np.median(block, axis=0))
    if plan.rule is Rule.TRIMMED_MEAN:
        trim = min(plan.trim or 0, (len(groups) - 1) // 2)
        return _by_columns(values, lambda block: _trimmed(block, trim))
    if plan.rule is Rule.KRUM:
        return values[krum(distances, wrong=plan.wrong or 0)]
    inside = majority_cluster(distances)
    lengths = distances.norms_l2
    usual = float(np.median(lengths))
    shares = np.array([usual / max(usual, length) if length else 1.0 for length in lengths])
    return _weighted(
        [groups[at].weight for at in inside], [values[at] for at in inside], shares[list(inside)]
    )


def krum(distances: Distances, *, wrong: int) -> int:
    """Which group is closest to its closest ones: n - wrong - 2 of them, at least one.

    (Blanchard et al. 2017, "Machine Learning with Adversaries", section 4)
    """
    squares = distances.l2**2
    near = max(1, len(squares) - wrong - 2)
    others = [np.sort(np.delete(row, at)) for at, row in enumerate(squares)]
    return int(np.argmin([row[:near].sum() for row in others]))


def majority_cluster(distances: Distances) -> tuple[int, ...]:
    """The first cluster that holds more than half of the groups, sorted.

    The closest two by cosine are linked first, then the next two, and so on (single linkage): as
    long as honest groups are the majority and point the same way, those that do not are left
    out. Which way, and not how far: so the means in it are cut to the median length of all.
    (Nguyen et al. 2022, "FLAME", algorithm 1, with HDBSCAN's linkage at its simplest)
    """
    cosine, groups = distances.cosine, len(distances.cosine)
    cluster = list(range(groups))
    pairs = [(i, j) for i in range(groups) for j in range(i)]
    for i, j in sorted(pairs, key=lambda pair: cosine[pair], reverse=True):
        old, new = cluster[i], cluster[j]
        cluster = [new if each == old else each for each in cluster]
        if 2 * cluster.count(new) > groups:
            return tuple(at for at in range(groups) if cluster[at] == new)
    return tuple(range(groups))


def _weighted(
    weights: Sequence[int], values: Sequence[Vector], factors: Factors | float = 1.0
) -> Vector:
    """The mean by weight of the values, each times its factor."""
    shares = factors * np.array(weights, np.float64) / sum(weights)
    return _by_columns(values, lambda block: (shares[:, None] * block).sum(axis=0))


def _trimmed(block: Block, trim: int) -> Block:
    """The mean of each column without its `trim` smallest and greatest (Yin et al. 2018)."""
    kept: Block = np.sort(block, axis=0)[trim : len(block) - trim].mean(axis=0)
    return kept


def _by_columns(values: Sequence[Vector], rule: Callable[[Block], Block]) -> Vector:
    result = np.empty(values[0].size, np.float32)
    for start in range(0, result.size, _BLOCK_COLUMNS):
        stop = start + _BLOCK_COLUMNS
        result[start:stop] = rule(
            np.stack([each[start:stop] for each in values]).astype(np.float64)
        )
    return result
