"""Evaluation of a prognosis: counts of patients by event, time and risk.

The time axis is the study's: every public interval is cut into equal bins, one more holds who is
followed up to the horizon. The risk is the probability of the event until the horizon. Its bins are
of equal width after `stretched`, for risks crowd at the ends: that brings the C-index from bins ten
times nearer to that from the risks (decision 0014).
"""

import math
from dataclasses import asdict, dataclass, replace

import numpy as np

from wardround.canonical import Json
from wardround.errors import BadInput
from wardround.evaluation.concordance import concordance
from wardround.evaluation.histograms import SCORE_ONE, Counts, CountsMode, Scores
from wardround.evaluation.intervals import Z_95
from wardround.evaluation.kaplan_meier import Curve, kaplan_meier, log_log_interval
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

CENSORED, EVENT = 0, 1
MOST_NOISED_CELLS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class SurvivalLayout:
    """Lanes: the table [censored or event, time bin, risk bin], in which a patient is once.

    In mode exact limbs follow, for each public edge: the sums of squared survival of those with an
    event, by time bin; of squared risk of those followed up longer; of all patients' risks. With
    them the Brier score is exact. Mode noised has the Brier score at the horizon alone, from bins.
    """

    mode: CountsMode
    edges: tuple[float, ...]
    unit: str
    bins: int
    time_bins: int

    def __post_init__(self) -> None:
        """Raise BadInput for more lanes than a log holds, or too many cells for noise."""
        what = f"{self.time_bins} time bins in {len(self.edges)} intervals and {self.bins} bins"
        check_lanes(self.lanes, what)
        if self.mode is CountsMode.NOISED and self.lanes > MOST_NOISED_CELLS:
            raise BadInput(
                f"evaluation: {what} make {self.lanes} noised cells, {MOST_NOISED_CELLS} at most"
            )

    @property
    def times(self) -> int:
        """Time bins up to the horizon; one more is beyond it."""
        return len(self.edges) * self.time_bins

    @property
    def lanes(self) -> int:
        """Length of the vector that travels."""
        sides = len(self.edges) * (self.times + 2) if self.mode is CountsMode.EXACT else 0
        return 2 * (self.times + 1) * self.bins + 2 * sides

    @property
    def squared_sensitivity(self) -> int:
        """One."""
        return 1

    @property
    def time_edges(self) -> Scores:
        """The `times + 1` edges of the time bins, from 0 to the horizon."""
        public = (0.0, *self.edges)
        cuts = np.arange(self.time_bins) / self.time_bins
        parts = [low + (high - low) * cuts for low, high in zip(public, self.edges, strict=False)]
        return np.append(np.concatenate(parts), self.edges[-1])

    def lane_limit(self, patients: int) -> int:
        """The largest value that a lane of so many patients can have, without noise."""
        check_patients(patients)
        return most_in_a_limb(patients) if self.mode is CountsMode.EXACT else patients

    def count(self, outcomes: Outcomes) -> RawLanes:
        """Truth is [patients, 2] of time and event; outputs are risks until each public edge."""
        truth, risks = outcomes.truth, outcomes.outputs
        if truth.shape[1:] != (2,) or risks.shape[1] != len(self.edges):
            raise BadInput(f"evaluation: times, events and {len(self.edges)} risks were due")
        if not (truth[:, 0] >= 0).all() or not np.isin(truth[:, 1], (0, 1)).all():
            raise BadInput("evaluation: a time is below 0 or an event is neither 0 nor 1")
        times = np.searchsorted(self.time_edges, truth[:, 0], side="right") - 1
        beyond = times >= self.times
        times = np.minimum(times, self.times)
        # After the horizon nobody is followed up: an event there is a censoring at the horizon.
        events = np.where(beyond, CENSORED, truth[:, 1]).astype(np.int64)
        places = stretched(risks[:, -1]) * self.bins
        risk_bins = np.minimum(places.astype(np.int64), self.bins - 1)
        table = np.zeros((2, self.times + 1, self.bins), dtype=np.int64)
        np.add.at(table, (events, times, risk_bins), 1)
        if self.mode is CountsMode.NOISED:
            return RawLanes(self, table.ravel())
        sides = self._side_sums(events, times, risks)
        return RawLanes(self, np.concatenate([table.ravel(), to_limbs(sides)]))

    def check(self, lanes: Counts) -> None:
        """No event lies beyond the horizon, and no sum is larger than its patients."""
        table, sides = self.read(lanes)
        most = np.concatenate(
            [
                np.broadcast_to(table[EVENT, :-1].sum(axis=1), (len(self.edges), self.times)),
                np.full((len(self.edges), 2), table.sum()),
            ],
            axis=1,
        )
        if table[EVENT, -1].any() or (sides > most * (SCORE_ONE + 1)).any():
            raise BadInput("evaluation counts: sums of risks do not fit the table")

    def metrics(self, lanes: Counts, *, cell_noise_sd: float) -> Json:
        """C-index, survival curve; at each public edge observed and predicted risk and Brier."""
        check_noise(self, cell_noise_sd)
        table, sides = self.read(lanes)
        margins = table.sum(axis=2)
        curve = kaplan_meier(margins[EVENT], margins[CENSORED])
        said = {
            "kind": "survival",
            "mode": self.mode.value,
            "bins": self.bins,
            "time_bins": self.time_bins,
            "unit": self.unit,
            "patients": int(table.sum()),
            "events": int(table[EVENT].sum()),
            "negative_cells": int((table < 0).sum()),
            **self._c_index(table, cell_noise_sd),
            "edges": [self._at_edge(at, table, sides, curve) for at in range(len(self.edges))],
            "curve": self._steps(curve),
        }
        result: Json = rounded(said)
        return result

    def _side_sums(self, events: Counts, times: Counts, risks: Scores) -> Counts:
        """[edges, times + 2] in units of 2^-24."""
        sides = np.zeros((len(self.edges), self.times + 2), dtype=np.int64)
        for at in range(len(self.edges)):
            end = (at + 1) * self.time_bins
            died = (events == EVENT) & (times < end)
            squares = fixed((1.0 - risks[:, at]) ** 2)
            np.add.at(sides[at], times[died], squares[died])
            sides[at, self.times] = fixed(risks[:, at] ** 2)[times >= end].sum()
            sides[at, self.times + 1] = fixed(risks[:, at]).sum()
        return sides

    def read(self, lanes: Counts) -> tuple[Counts, Counts]:
        """The table [censored or event, time, risk], and in mode exact the sums beside it."""
        cells = 2 * (self.times + 1) * self.bins
        table = lanes[:cells].reshape(2, self.times + 1, self.bins)
        if self.mode is CountsMode.NOISED:
            return table, np.zeros((0, self.times + 2), dtype=np.int64)
        return table, from_limbs(lanes[cells:], (len(self.edges), self.times + 2))

    def _c_index(self, table: Counts, cell_noise_sd: float) -> Json:
        found = concordance(table)
        if found is None:
            return {"c_index": None, "c_index_lower": None, "c_index_upper": None, "pairs": 0}
        spread = Z_95 * found.standard_error
        low, high = max(found.c_index - spread, 0.0), min(found.c_index + spread, 1.0)
        estimate = Estimate(value=found.c_index, low=low, high=high)
        exact = self.mode is CountsMode.EXACT
        if not exact:
            half = noise_spread(_c_of, table, cell_noise_sd)
            ends = (0.0, 1.0) if half is None else (found.c_index - half, found.c_index + half)
            estimate = replace(estimate, noise_low=max(ends[0], 0.0), noise_high=min(ends[1], 1.0))
        return {
            "c_index": asdict(estimate),
            "c_index_lower": found.lower if exact else None,
            "c_index_upper": found.upper if exact else None,
            "pairs": found.pairs,
        }

    def _at_edge(self, at: int, table: Counts, sides: Counts, curve: Curve) -> Json:
        end = (at + 1) * self.time_bins
        survival = _number(curve.survival[end - 1])
        interval = (
            None if survival is None else log_log_interval(survival, float(curve.variance[end - 1]))
        )
        patients = int(table.sum())
        last = at == len(self.edges) - 1
        brier: float | None = None
        predicted: float | None = None
        if self.mode is CountsMode.EXACT and patients > 0:
            predicted = int(sides[at, -1]) / SCORE_ONE / patients
            died = sides[at, : self.times] / SCORE_ONE
            brier = self._brier(table, died, int(sides[at, self.times]) / SCORE_ONE, end)
        elif last and patients > 0:
            centres = drawn_back((np.arange(self.bins) + 0.5) / self.bins)
            predicted = float((table.sum(axis=(0, 1)) * centres).sum()) / patients
            died = (table[EVENT, :-1] * (1.0 - centres) ** 2).sum(axis=1)
            alive = float((table[:, -1].sum(axis=0) * centres**2).sum())
            brier = self._brier(table, died, alive, end)
        return {
            "time": self.edges[at],
            "at_risk": int(table[:, end:].sum()),
            "observed": None if survival is None else 1.0 - survival,
            "observed_low": None if interval is None else 1.0 - interval[1],
            "observed_high": None if interval is None else 1.0 - interval[0],
            "predicted": predicted,
            "brier": brier,
        }

    def _brier(self, table: Counts, died: Scores, alive: float, end: int) -> float | None:
        """Weighted by the inverse probability of being followed up so long (Graf et al. 1999)."""
        margins = table.sum(axis=2)
        followed = followed_up(margins[EVENT], margins[CENSORED])
        # At its event a patient was followed up somewhere within the bin: the mean of both ends.
        starts = np.concatenate([[1.0], followed[:-1]])
        at_event = (starts[:end] + followed[:end]) / 2.0
        had = margins[EVENT, :end] > 0
        if (had & ~(at_event > 0)).any() or not (followed[end - 1] > 0 or alive == 0):
            return None
        weighted = math.fsum(died[:end][had] / at_event[had])
        if alive:
            weighted += alive / float(followed[end - 1])
        return max(weighted / int(table.sum()), 0.0)

    def _steps(self, curve: Curve) -> list[list[float]]:
        """(time, survival) from (0, 1), each step once, as long as somebody is at risk."""
        points = [[0.0, 1.0]]
        ends = self.time_edges[1:].tolist()
        for time, survival in zip(ends, curve.survival[: self.times].tolist(), strict=True):
            if math.isnan(survival):
                break
            if survival != points[-1][1] or time == ends[-1]:
                points.append([time, survival])
        return points


def stretched(risks: Scores) -> Scores:
    """[0, 1] -> [0, 1] with half the log odds: narrower bins at both ends.

    >>> stretched(np.array([0.0, 0.01, 0.5, 1.0])).round(4).tolist()
    [0.0, 0.0913, 0.5, 1.0]
    """
    low, high = np.sqrt(risks), np.sqrt(1.0 - risks)
    return np.asarray(low / (low + high))


def drawn_back(places: Scores) -> Scores:
    """The risk at a place that `stretched` gives.

    >>> drawn_back(stretched(np.array([0.01, 0.7]))).round(12).tolist()
    [0.01, 0.7]
    """
    return np.asarray(places**2 / (places**2 + (1.0 - places) ** 2))


def followed_up(events: Counts, censored: Counts) -> Scores:
    """Probability of being followed up past each time bin: Kaplan and Meier's of censoring.

    Within a bin half of those with an event count as at risk. Nobody left leaves it as it is.
    """
    curve = kaplan_meier(censored, events)
    last = np.concatenate([[1.0], curve.survival])
    seen = np.maximum.accumulate(np.where(np.isnan(last), -1, np.arange(len(last))))
    return last[seen][1:]


def _c_of(table: Counts) -> float | None:
    found = concordance(table)
    return None if found is None else found.c_index


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
