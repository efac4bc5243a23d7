"""How far apart the means of groups lie, and which of them lie far off."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float64]

_BLOCK_COLUMNS: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Distances:
    """Between every two of the groups: L2 distance and cosine, each [groups, groups].

    `norms_l2` are the lengths of the means, [groups].
    """

    l2: Matrix
    cosine: Matrix
    norms_l2: npt.NDArray[np.float64]

    @classmethod
    def of(cls, means: Sequence[Vector]) -> "Distances":
        """One pass over the means, block by block, in float64. A zero mean has cosine 0."""
        groups = len(means)
        products, squares = np.zeros((groups, groups)), np.zeros((groups, groups))
        for start in range(0, means[0].size, _BLOCK_COLUMNS):
            stop = start + _BLOCK_COLUMNS
            block = np.stack([mean[start:stop] for mean in means]).astype(np.float64)
            products += block @ block.T
            for at in range(1, groups):
                # Not from the products: of two close vectors they would leave rounding alone.
                apart = ((block[:at] - block[at]) ** 2).sum(axis=1)
                squares[at, :at] += apart
                squares[:at, at] += apart
        norms = np.sqrt(np.diagonal(products))
        lengths = np.outer(norms, norms)
        cosine = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)
        return cls(np.sqrt(squares), cosine, norms)

    def far_off(self, factor: float) -> tuple[int, ...]:
        """Groups that lie more than `factor` times as far from the others as is usual.

        How far one lies is the middle one of its distances to the others, the lower of two: as
        long as the wrong ones are fewer than half of the others, an honest group's is one between
        honest groups. What is usual is the middle one of these.
        """
        lies = [_middle(np.delete(row, at)) for at, row in enumerate(self.l2)]
        usual = _middle(np.array(lies))
        return tuple(at for at, distance in enumerate(lies) if distance > factor * usual)


def _middle(values: npt.NDArray[np.float64]) -> float:
    return float(np.sort(values)[(values.size - 1) // 2])
