"""Evaluation of predicted numbers: how far they lie from what was measured, from sums alone.

All numbers are places in the contract's range, so that a patient adds at most 1 to every sum.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import NamedTuple

import numpy as np

from wardround.canonical import Json
from wardround.errors import BadInput
from wardround.evaluation.correlation import correlation_of, fisher, mean_correlation
from wardround.evaluation.histograms import MAX_NOISED_BINS, SCORE_ONE, Counts, CountsMode, Scores
from wardround.evaluation.layout import (
    Outcomes,
    RawLanes,
    check_lanes,
    check_noise,
    check_patients,
)
from wardround.evaluation.limbs import fixed, from_limbs, most_in_a_limb, to_limbs
from wardround.evaluation.metrics import Estimate, rounded
from wardround.evaluation.propagation import noise_spread

_SUMS = 6  # truth, its square, prediction, its square, product, absolute error
_MOST_CELLS = MAX_NOISED_BINS**2


class TargetSums(NamedTuple):
    """Patients with a known target, and sums over them; y is the truth, p the prediction."""

    patients: int
    y: float
    yy: float
    p: float
    pp: float
    yp: float
    absolute: float


class Scale(NamedTuple):
    """A target's range: a place in [0, 1] is `low + place * width`."""

    name: str
    unit: str
    low: float
    width: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RegressionLayout:
    """Lanes, target after target.

    Mode exact: the patients with a known target, then six sums as limbs. Mode noised: the table
    [bin of the truth, bin of the prediction]; a patient is in one cell for each target.
    """

    mode: CountsMode
    targets: tuple[Scale, ...]
    bins: int

    def __post_init__(self) -> None:
        """Raise BadInput for more lanes than a log holds, or too many bins for noise."""
        check_lanes(self.lanes, f"{len(self.targets)} targets in mode {self.mode}")
        if self.mode is CountsMode.NOISED and self.bins**2 > _MOST_CELLS:
            raise BadInput(f"evaluation: {self.bins} bins for noised counts of numbers")

    @property
    def lanes(self) -> int:
        """Length of the vector that travels."""
        return len(self.targets) * self._each

    @property
    def squared_sensitivity(self) -> int:
        """One in each target's table."""
        return len(self.targets)

    @property
    def _each(self) -> int:
        return 1 + 2 * _SUMS if self.mode is CountsMode.EXACT else self.bins**2

    def lane_limit(self, patients: int) -> int:
        """The largest value that a lane of so many patients can have, without noise."""
        check_patients(patients)
        return most_in_a_limb(patients) if self.mode is CountsMode.EXACT else patients

    def count(self, outcomes: Outcomes) -> RawLanes:
        """Truth is [patients, targets] of places in [0, 1], NaN where one is missing."""
        truth, outputs = outcomes.truth, outcomes.outputs
        if truth.shape != outputs.shape or truth.shape[1:] != (len(self.targets),):
            raise BadInput(f"evaluation: {len(self.targets)} targets were due")
        outside = int(((truth < 0) | (truth > 1)).sum())
        if outside:
            raise BadInput(f"evaluation: {outside} true values are not within their range")
        parts = []
        for at in range(len(self.targets)):
            known = ~np.isnan(truth[:, at])
            parts.append(self._of_one(truth[known, at], outputs[known, at]))
        return RawLanes(self, np.concatenate(parts))

    def check(self, lanes: Counts) -> None:
        """Squares and products are no larger than the patients, and no sum is."""
        for own in lanes.reshape(len(self.targets), -1):
            sums = from_limbs(own[1:], (_SUMS,))
            if (sums > int(own[0]) * (SCORE_ONE + 1)).any():
                raise BadInput("evaluation counts: a sum is larger than its patients")

    def metrics(self, lanes: Counts, *, cell_noise_sd: float) -> Json:
        """R2, RMSE, MAE, correlation and the calibration line of each target, in its unit."""
        check_noise(self, cell_noise_sd)
        found = [
            self._metrics_of_one(own, scale, cell_noise_sd)
            for own, scale in zip(lanes.reshape(len(self.targets), -1), self.targets, strict=True)
        ]
        return {
            "kind": "regression",
            "mode": self.mode.value,
            "bins": self.bins,
            "mean_correlation": rounded(mean_correlation([each["correlation"] for each in found])),
            "targets": rounded(found),
        }

    def _of_one(self, truth: Scores, predicted: Scores) -> Counts:
        if self.mode is CountsMode.NOISED:
            rows, columns = (
                np.minimum((values * self.bins).astype(np.int64), self.bins - 1)
                for values in (truth, predicted)
            )
            cells = np.bincount(rows * self.bins + columns, minlength=self.bins**2)
            return cells.astype(np.int64)
        terms = (truth, truth**2, predicted, predicted**2, truth * predicted)
        sums = np.array([fixed(term).sum() for term in (*terms, np.abs(truth - predicted))])
        return np.concatenate([[len(truth)], to_limbs(sums)]).astype(np.int64)

    def sums(self, own: Counts) -> TargetSums:
        """The sums of one target, from its lanes [lanes of a target]."""
        if self.mode is CountsMode.EXACT:
            exact = (from_limbs(own[1:], (_SUMS,)) / SCORE_ONE).tolist()
            return TargetSums(int(own[0]), *exact)
        centres = (np.arange(self.bins) + 0.5) / self.bins
        table = own.reshape(self.bins, self.bins)
        y, p = centres[:, None], centres[None, :]
        weights = (y, y**2, p, p**2, y * p, np.abs(y - p))
        return TargetSums(int(table.sum()), *(float((table * w).sum()) for w in weights))

    def _metrics_of_one(self, own: Counts, scale: Scale, cell_noise_sd: float) -> Json:
        sums = self.sums(own)
        line = calibration_line(sums)
        said: Json = {"name": scale.name, "unit": scale.unit, "patients": sums.patients}
        for name, metric, unit in (
            ("r2", r_squared, 1.0),
            ("rmse", root_mean_square, scale.width),
            ("mae", mean_absolute, scale.width),
        ):
            said[name] = self._estimate(metric, own, unit, cell_noise_sd)
        said["correlation"] = self._with_fisher(own, cell_noise_sd)
        said["mean_error"] = _per_patient(sums.p - sums.y, sums.patients, scale.width)
        said["calibration_slope"] = None if line is None else line[1]
        said["calibration_intercept"] = (
            None if line is None else scale.low + line[0] * scale.width - line[1] * scale.low
        )
        return said

    def _with_fisher(self, own: Counts, cell_noise_sd: float) -> Json | None:
        said = self._estimate(correlation, own, 1.0, cell_noise_sd)
        ends = None if said is None else fisher(said["value"], self.sums(own).patients)
        if said is None or ends is None:
            return said
        return said | {"low": ends[0], "high": ends[1]}

    def _estimate(
        self,
        metric: Callable[[TargetSums], float | None],
        own: Counts,
        unit: float,
        cell_noise_sd: float,
    ) -> Json | None:
        value = metric(self.sums(own))
        if value is None:
            return None
        found = Estimate(value=value * unit)
        if cell_noise_sd:
            spread = noise_spread(lambda cells: metric(self.sums(cells)), own, cell_noise_sd)
            if spread is not None:
                ends = (value - spread) * unit, (value + spread) * unit
                found = replace(found, noise_low=ends[0], noise_high=ends[1])
        return asdict(found)


def r_squared(sums: TargetSums) -> float | None:
    """1 - squared errors / squared deviations from the mean; None when all truths are equal."""
    spread = _deviation(sums.yy, sums.y, sums.y, sums.patients)
    errors = sums.yy - 2 * sums.yp + sums.pp
    return 1.0 - errors / spread if spread > _smallest(sums.patients) else None


def root_mean_square(sums: TargetSums) -> float | None:
    """Root of the mean squared error, as a share of the range."""
    if sums.patients <= 0:
        return None
    return math.sqrt(max(sums.yy - 2 * sums.yp + sums.pp, 0.0) / sums.patients)


def mean_absolute(sums: TargetSums) -> float | None:
    """Mean absolute error, as a share of the range."""
    return max(sums.absolute, 0.0) / sums.patients if sums.patients > 0 else None


def correlation(sums: TargetSums) -> float | None:
    """Pearson's, of truth and prediction; None when all truths or all predictions are equal."""
    least = _smallest(sums.patients)
    truths = _deviation(sums.yy, sums.y, sums.y, sums.patients)
    predictions = _deviation(sums.pp, sums.p, sums.p, sums.patients)
    if truths <= least or predictions <= least:
        return None
    return correlation_of(truths, predictions, _deviation(sums.yp, sums.y, sums.p, sums.patients))


def calibration_line(sums: TargetSums) -> tuple[float, float] | None:
    """Truth = intercept + slope * prediction by least squares; ideal is 0 and 1.

    None when all predictions are equal.
    """
    spread = _deviation(sums.pp, sums.p, sums.p, sums.patients)
    if spread <= _smallest(sums.patients):
        return None
    slope = _deviation(sums.yp, sums.y, sums.p, sums.patients) / spread
    return (sums.y - slope * sums.p) / sums.patients, slope


def _deviation(products: float, first: float, second: float, patients: int) -> float:
    return products - first * second / patients if patients > 0 else 0.0


def _smallest(patients: int) -> float:
    """What rounding to 2^-24 alone can leave of a sum of squared deviations."""
    return 4.0 * max(patients, 1) / SCORE_ONE


def _per_patient(total: float, patients: int, unit: float) -> float | None:
    return total / patients * unit if patients > 0 else None
