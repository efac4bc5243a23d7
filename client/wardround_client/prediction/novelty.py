"""How unlike the hospital's own patients one is: the reason to give no answer.

The distance to the nearest training patients, in a few directions that hold most of their spread.
Against the held-out patients' distances it becomes a p-value (`conformal.p_value`).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from wardround.errors import BadInput
from wardround_client.training.plan import PatientRecords

Features = npt.NDArray[np.float64]

NEAREST = 5
MOST_DIRECTIONS = 32
MOST_KNOWN = 5_000  # enough for a distance; more would only take time
MOST_SIDE = 24  # pixels: what is strange about an image shows in its coarse picture
_MOST_NUMBERS = 1 << 22  # in the matrix whose directions are looked for: some seconds
_KEPT_SPREAD = 0.99
_AT_ONCE = 256


@dataclass(frozen=True, slots=True, eq=False)
class Neighbourhood:
    """Training patients in their main directions: `known` [patients, directions]."""

    centre: Features
    spread: Features
    directions: Features
    known: Features

    @classmethod
    def of(cls, features: Features) -> "Neighbourhood":
        """Learn from [patients, features], whole numbers and all. Raises BadInput for fewer than 6.

        Features that never change count by how far off they are, in units of the contract.
        """
        if features.ndim != 2 or len(features) <= NEAREST:
            raise BadInput(
                f"novelty: more than {NEAREST} training patients were due, {len(features)} came"
            )
        enough = max(NEAREST + 1, _MOST_NUMBERS // max(features.shape[1], 1))
        some = features[: min(MOST_KNOWN, enough)]
        centre, spread = some.mean(axis=0), some.std(axis=0)
        spread = np.where(spread > 0.0, spread, 1.0)
        scaled = (some - centre) / spread
        _, sizes, rows = np.linalg.svd(scaled, full_matrices=False)
        share = np.cumsum(sizes**2) / max(float(np.sum(sizes**2)), 1e-300)
        kept = min(MOST_DIRECTIONS, int(np.searchsorted(share, _KEPT_SPREAD)) + 1, len(rows))
        return cls(centre, spread, rows[:kept], scaled @ rows[:kept].T)

    def distance(self, features: Features) -> Features:
        """Strangeness of [patients, features]: nearest neighbours' mean distance, and the rest.

        What lies outside the main directions counts as well: an artefact is often there alone.
        """
        found = [self._distance(part) for part in _parts(features)]
        return np.concatenate([np.zeros(0), *found])

    def _distance(self, features: Features) -> Features:
        scaled = (features - self.centre) / self.spread
        inside = scaled @ self.directions.T
        rest = np.linalg.norm(scaled - inside @ self.directions, axis=1)
        apart = np.linalg.norm(inside[:, None, :] - self.known[None, :, :], axis=2)
        nearest = np.partition(apart, NEAREST - 1, axis=1)[:, :NEAREST]
        strange: Features = np.hypot(nearest.mean(axis=1), rest)
        return strange


def features_of(patients: PatientRecords) -> Features:
    """[patients, features]: the mean over each patient's records; images are made coarser before.

    A series counts with all its steps.
    """
    records = patients.features
    if records.ndim == 4:
        side = tuple(min(MOST_SIDE, int(pixels)) for pixels in records.shape[2:])
        records = torch.nn.functional.adaptive_avg_pool2d(records, (side[0], side[1]))
    if not patients.patients:
        return np.zeros((0, int(np.prod(records.shape[1:]))))
    flat = records.flatten(1).double().numpy()
    sums = np.add.reduceat(flat, patients.offsets[:-1], axis=0)
    means: Features = sums / np.diff(patients.offsets)[:, None]
    return means


def _parts(features: Features) -> list[Features]:
    return [features[start : start + _AT_ONCE] for start in range(0, len(features), _AT_ONCE)]
