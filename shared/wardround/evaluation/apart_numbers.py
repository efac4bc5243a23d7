"""Predicted numbers counted apart: patients with a known target, and the mean absolute error."""

import math
from dataclasses import dataclass

import numpy as np

from wardround.evaluation.apart import Compared, Flags, GroupMetric, Headline
from wardround.evaluation.histograms import Counts, CountsMode, Scores
from wardround.evaluation.intervals import Z_95
from wardround.evaluation.layout import Outcomes
from wardround.evaluation.limbs import from_limbs
from wardround.evaluation.metrics import Estimate
from wardround.evaluation.regression import (
    RegressionLayout,
    Scale,
    TargetSums,
    mean_absolute,
    r_squared,
    root_mean_square,
)

_SUMS = 6
_OF_TRUTH = 2  # the sums of the truth and of its square come first


@dataclass(frozen=True, slots=True)
class ApartNumbers:
    """As `Apart` says. A patient without a target is of no kind of it."""

    layout: RegressionLayout

    @property
    def compared(self) -> Compared:
        """The mean absolute error over the targets, each as a share of its range."""
        return Compared(name="mean absolute error, share of the range", more_is_better=False)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Patients of whom a target is known, target by target."""
        return tuple(scale.name for scale in self.layout.targets)

    @property
    def cells_of_patients(self) -> int:
        """The table of one target."""
        return self.layout.bins**2

    def of_patients(self, outcomes: Outcomes) -> Flags:
        """[patients, targets]."""
        return ~np.isnan(outcomes.truth)

    def totals(self, lanes: Counts) -> tuple[int, ...]:
        """Patients with each target."""
        return tuple(self.layout.sums(own).patients for own in self._each(lanes))

    def patients(self, lanes: Counts) -> int:
        """Those with the best known target."""
        return max(self.totals(lanes))

    def adds_up(self, lanes: Counts) -> Counts:
        """Mode exact: patients and sums. Mode noised: the tables."""
        if self.layout.mode is CountsMode.NOISED:
            return lanes
        return np.concatenate([self._exact(own) for own in self._each(lanes)])

    def of_truth(self, lanes: Counts) -> Counts:
        """Patients, and of mode exact the sums of what came true."""
        if self.layout.mode is CountsMode.NOISED:
            return np.array(self.totals(lanes))
        return np.concatenate([self._exact(own)[: 1 + _OF_TRUTH] for own in self._each(lanes)])

    def headline(self, lanes: Counts, cell_noise_sd: float) -> Headline | None:
        """The mean over all targets of the mean absolute error in shares of their ranges.

        Targets share their patients, so the sampling errors add up; each has noise of its own.
        """
        found = [
            _absolute(self.layout.sums(own), self._noise(cell_noise_sd))
            for own in self._each(lanes)
        ]
        known = [each for each in found if each is not None]
        if len(known) < len(found):
            return None
        count = len(known)
        value = math.fsum(each.value for each in known) / count
        sampling = math.fsum(each.sampling or 0.0 for each in known) / count
        return Headline(value, sampling, math.hypot(*(each.noise or 0.0 for each in known)) / count)

    def metrics(self, lanes: Counts, cell_noise_sd: float) -> list[GroupMetric]:
        """Of each target the mean absolute error, its root mean square, R squared and the bias."""
        return [
            metric
            for own, scale in zip(self._each(lanes), self.layout.targets, strict=True)
            for metric in _of_one(self.layout.sums(own), scale, self._noise(cell_noise_sd))
        ]

    def _each(self, lanes: Counts) -> Counts:
        return lanes.reshape(len(self.layout.targets), -1)

    def _exact(self, own: Counts) -> Counts:
        return np.concatenate([own[:1], from_limbs(own[1:], (_SUMS,))])

    def _noise(self, cell_noise_sd: float) -> "_Noise | None":
        return _Noise(self.layout.bins, cell_noise_sd) if cell_noise_sd else None


@dataclass(frozen=True, slots=True)
class _Noise:
    """Noise of `sd` in each cell of a table [bin of the truth, bin of the prediction].

    Linear propagation: every metric here is smooth in the cells, so its slopes are known.
    """

    bins: int
    sd: float

    def of_mean(self, weights: Scores, mean: float, patients: int) -> float:
        """Standard deviation of a mean over patients of what `weights` says of a cell."""
        return self.sd * float(np.linalg.norm(weights - mean)) / max(patients, 1)

    def of_r_squared(self, sums: TargetSums, value: float) -> float:
        """Standard deviation of 1 - E / D, for the sums E of squared errors and D of deviations."""
        deviations = sums.yy - sums.y**2 / sums.patients
        y, p = self.places
        slopes = (1.0 - value) * (y - sums.y / sums.patients) ** 2 - (y - p) ** 2
        return self.sd * float(np.linalg.norm(slopes)) / deviations

    @property
    def places(self) -> tuple[Scores, Scores]:
        """Truth [bins, 1] and prediction [1, bins] of the cells."""
        centres = (np.arange(self.bins) + 0.5) / self.bins
        return centres[:, None], centres[None, :]


def _absolute(sums: TargetSums, noise: _Noise | None) -> Headline | None:
    """The mean absolute error; its variance is that of the squared errors' mean about it."""
    value, square = mean_absolute(sums), root_mean_square(sums)
    if value is None or square is None:
        return None
    error = math.sqrt(max(square**2 - value**2, 0.0) / sums.patients)
    if noise is None:
        return Headline(value, error, 0.0)
    y, p = noise.places
    return Headline(value, error, noise.of_mean(np.abs(y - p), value, sums.patients))


def _of_one(sums: TargetSums, scale: Scale, noise: _Noise | None) -> list[GroupMetric]:
    absolute, square = _absolute(sums, noise), root_mean_square(sums)
    if absolute is None or square is None:
        return [GroupMetric("Mean absolute error", scale.name, scale.unit, None)]
    bias = (sums.p - sums.y) / sums.patients
    spread = math.sqrt(max(square**2 - bias**2, 0.0) / sums.patients)
    explained = r_squared(sums)
    of_square = of_bias = of_explained = None
    if noise is not None:
        y, p = noise.places
        half_slope = 2.0 * max(square, 1e-9)
        of_square = noise.of_mean((y - p) ** 2, square**2, sums.patients) / half_slope
        of_bias = noise.of_mean(p - y, bias, sums.patients)
        of_explained = None if explained is None else noise.of_r_squared(sums, explained)
    heard = absolute.noise if noise is not None else None
    told = (
        ("Mean absolute error", scale.width, absolute.value, absolute.sampling, heard),
        ("Root mean squared error", scale.width, square, None, of_square),
        ("Mean predicted less measured", scale.width, bias, spread, of_bias),
    )
    return [
        *(
            GroupMetric(name, scale.name, scale.unit, _estimate(value, unit, sampling, of_noise))
            for name, unit, value, sampling, of_noise in told
        ),
        GroupMetric("R squared", scale.name, "", None)
        if explained is None
        else GroupMetric(
            "R squared", scale.name, "", _estimate(explained, 1.0, None, of_explained)
        ),
    ]


def _estimate(value: float, unit: float, sampling: float | None, noise: float | None) -> Estimate:
    """A share of the range -> the target's unit, with 95 % of each error that is known."""

    def around(error: float | None, side: float) -> float | None:
        return None if error is None else (value + side * Z_95 * error) * unit

    return Estimate(
        value=value * unit,
        low=around(sampling, -1.0),
        high=around(sampling, 1.0),
        noise_low=around(noise, -1.0),
        noise_high=around(noise, 1.0),
    )
