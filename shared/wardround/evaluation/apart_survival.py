"""A prognosis counted apart: events and those without, the C-index, observed and expected risk."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from wardround.evaluation.apart import Compared, Flags, GroupMetric, Headline, noise_sd
from wardround.evaluation.concordance import concordance
from wardround.evaluation.histograms import SCORE_ONE, Counts, CountsMode
from wardround.evaluation.intervals import Z_95
from wardround.evaluation.kaplan_meier import kaplan_meier, log_log_interval
from wardround.evaluation.layout import Outcomes
from wardround.evaluation.metrics import Estimate
from wardround.evaluation.propagation import noise_spread
from wardround.evaluation.survival import EVENT, SurvivalLayout, drawn_back


@dataclass(frozen=True, slots=True)
class ApartSurvival:
    """As `Apart` says. An event after the horizon is none, as the layout counts it."""

    layout: SurvivalLayout

    @property
    def compared(self) -> Compared:
        """Harrell's C."""
        return Compared(name="C-index")

    @property
    def kinds(self) -> tuple[str, ...]:
        """Without an event until the horizon, with one."""
        return ("no event", "event")

    @property
    def cells_of_patients(self) -> int:
        """The whole table."""
        return 2 * (self.layout.times + 1) * self.layout.bins

    def of_patients(self, outcomes: Outcomes) -> Flags:
        """[patients, 2]."""
        within = outcomes.truth[:, 0] < self.layout.edges[-1]
        event = within & (outcomes.truth[:, 1] == 1)
        return np.stack([~event, event], axis=1)

    def totals(self, lanes: Counts) -> tuple[int, ...]:
        """(no event, event)."""
        without, event = self._table(lanes).sum(axis=(1, 2))
        return int(without), int(event)

    def patients(self, lanes: Counts) -> int:
        """All of the table."""
        return sum(self.totals(lanes))

    def adds_up(self, lanes: Counts) -> Counts:
        """The table, and the sums beside it."""
        table, sides = self.layout.read(lanes)
        return np.concatenate([table.ravel(), sides.ravel()])

    def of_truth(self, lanes: Counts) -> Counts:
        """The table without its risks."""
        margins: Counts = self._table(lanes).sum(axis=2)
        return margins

    def headline(self, lanes: Counts, cell_noise_sd: float) -> Headline | None:
        """Harrell's C; its standard error by the jackknife."""
        table = self._table(lanes)
        found = concordance(table)
        if found is None:
            return None
        noise = noise_spread(_c_of, table, cell_noise_sd) if cell_noise_sd else 0.0
        return Headline(found.c_index, found.standard_error, noise_sd(noise))

    def metrics(self, lanes: Counts, cell_noise_sd: float) -> list[GroupMetric]:
        """The C-index; at the horizon the risk that came true, the mean predicted, and the rest.

        The observed risk is Kaplan and Meier's; the interval of the difference is its own, since
        the predicted one hardly varies beside it.
        """
        table, until = self._table(lanes), f"{self.layout.edges[-1]:g} {self.layout.unit}"
        observed, ends = _observed(table)
        predicted = self._predicted(lanes)
        risk = less = None
        if observed is not None:
            risk = Estimate(value=observed, low=ends[0], high=ends[1])
            risk = self._noised(risk, lambda cells: _observed(cells)[0], table, cell_noise_sd)
        if observed is not None and predicted is not None:
            low, high = (None if end is None else end - predicted for end in ends)
            less = Estimate(value=observed - predicted, low=low, high=high)
            less = self._noised(less, self._difference, table, cell_noise_sd)
        expected = None if predicted is None else Estimate(value=predicted)
        if expected is not None:
            expected = self._noised(expected, self._expected, table, cell_noise_sd)
        return [
            GroupMetric("C-index", "", "", self._c_index(lanes, cell_noise_sd)),
            GroupMetric("Observed risk", until, "", risk),
            GroupMetric("Mean predicted risk", until, "", expected),
            GroupMetric("Observed less predicted risk", until, "", less),
        ]

    def _c_index(self, lanes: Counts, cell_noise_sd: float) -> Estimate | None:
        found = self.headline(lanes, cell_noise_sd)
        if found is None:
            return None
        half = Z_95 * (found.sampling or 0.0)
        low, high = max(found.value - half, 0.0), min(found.value + half, 1.0)
        estimate = Estimate(value=found.value, low=low, high=high)
        if not cell_noise_sd:
            return estimate
        noise = 1.0 if found.noise is None else Z_95 * found.noise
        ends = max(found.value - noise, 0.0), min(found.value + noise, 1.0)
        return replace(estimate, noise_low=ends[0], noise_high=ends[1])

    def _noised(
        self,
        estimate: Estimate,
        metric: Callable[[Counts], float | None],
        table: Counts,
        cell_noise_sd: float,
    ) -> Estimate:
        if not cell_noise_sd:
            return estimate
        half = noise_spread(metric, table, cell_noise_sd)
        half = 1.0 if half is None else half
        return replace(estimate, noise_low=estimate.value - half, noise_high=estimate.value + half)

    def _predicted(self, lanes: Counts) -> float | None:
        table, sides = self.layout.read(lanes)
        patients = int(table.sum())
        if patients <= 0:
            return None
        if self.layout.mode is CountsMode.EXACT:
            return int(sides[-1, -1]) / SCORE_ONE / patients
        return self._expected(table)

    def _expected(self, table: Counts) -> float | None:
        bins = self.layout.bins
        centres = drawn_back((np.arange(bins) + 0.5) / bins)
        patients = int(table.sum())
        return float((table.sum(axis=(0, 1)) * centres).sum()) / patients if patients > 0 else None

    def _difference(self, table: Counts) -> float | None:
        observed, predicted = _observed(table)[0], self._expected(table)
        return None if observed is None or predicted is None else observed - predicted

    def _table(self, lanes: Counts) -> Counts:
        return self.layout.read(lanes)[0]


def _c_of(table: Counts) -> float | None:
    found = concordance(table)
    return None if found is None else found.c_index


def _observed(table: Counts) -> tuple[float | None, tuple[float | None, float | None]]:
    """The risk until the horizon that came true, and its 95 % sampling interval."""
    margins = table.sum(axis=2)
    curve = kaplan_meier(margins[EVENT], margins[1 - EVENT])
    survival = float(curve.survival[-2])
    if math.isnan(survival):
        return None, (None, None)
    ends = log_log_interval(survival, float(curve.variance[-2]))
    return 1.0 - survival, (None, None) if ends is None else (1.0 - ends[1], 1.0 - ends[0])
