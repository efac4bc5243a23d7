"""Sums of numbers in [0, 1] as integers that fit into lanes of 32 bits."""

import numpy as np
import numpy.typing as npt

from wardround.evaluation.histograms import LIMB, MAX_PATIENTS, SCORE_ONE, Counts, Scores


def fixed(values: Scores) -> Counts:
    """Numbers in [0, 1] in units of 2^-24, rounded: an error of 2^-25 each at most."""
    return np.rint(values * SCORE_ONE).astype(np.int64)


def to_limbs(sums: Counts) -> Counts:
    """Sums that are not negative -> (high, low) limbs of base 2^16, flat, two for each sum."""
    flat = sums.ravel()
    return np.stack([flat // LIMB, flat % LIMB], axis=1).ravel()


def from_limbs(limbs: npt.NDArray[np.int64], shape: tuple[int, ...]) -> Counts:
    """What `to_limbs` wrote, or the sum over hospitals of what it wrote."""
    pairs = limbs.reshape(-1, 2)
    return (pairs[:, 0] * LIMB + pairs[:, 1]).reshape(shape)


def most_in_a_limb(patients: int) -> int:
    """The largest limb of sums over so many patients, each of whom adds at most 1."""
    return max(LIMB - 1, min(patients, MAX_PATIENTS) * (SCORE_ONE // LIMB))
