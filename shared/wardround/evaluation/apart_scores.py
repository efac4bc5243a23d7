"""Yes or no, and an anomaly score, counted apart: both outcomes, and the AUROC."""

from dataclasses import dataclass, replace

import numpy as np

from wardround.evaluation.apart import Compared, Flags, GroupMetric, Headline, noise_sd
from wardround.evaluation.binary import BinaryLayout
from wardround.evaluation.discrimination import auroc_standard_error, ranking, unbounded_auroc
from wardround.evaluation.histograms import Counts, EvaluationCounts
from wardround.evaluation.intervals import auroc_interval
from wardround.evaluation.layout import Outcomes
from wardround.evaluation.metrics import Estimate
from wardround.evaluation.propagation import noise_spread


@dataclass(frozen=True, slots=True)
class ApartScores:
    """As `Apart` says."""

    layout: BinaryLayout

    @property
    def compared(self) -> Compared:
        """The AUROC."""
        return Compared(name="AUROC")

    @property
    def kinds(self) -> tuple[str, ...]:
        """Without the outcome, with it."""
        return ("no", "yes")

    @property
    def cells_of_patients(self) -> int:
        """All cells of the histogram."""
        return 2 * self.layout.cut.bins

    def of_patients(self, outcomes: Outcomes) -> Flags:
        """[patients, 2]."""
        return np.stack([outcomes.truth == 0, outcomes.truth == 1], axis=1)

    def totals(self, lanes: Counts) -> tuple[int, ...]:
        """(negatives, positives)."""
        negatives, positives = self._counts(lanes).histogram.sum(axis=1)
        return int(negatives), int(positives)

    def patients(self, lanes: Counts) -> int:
        """Both outcomes together."""
        return sum(self.totals(lanes))

    def adds_up(self, lanes: Counts) -> Counts:
        """The histogram and the sums beside it."""
        counts = self._counts(lanes)
        parts = (counts.histogram, counts.score_sums, counts.square_sums)
        return np.concatenate([part.ravel() for part in parts])

    def of_truth(self, lanes: Counts) -> Counts:
        """Both outcomes."""
        return np.array(self.totals(lanes))

    def headline(self, lanes: Counts, cell_noise_sd: float) -> Headline | None:
        """The AUROC by DeLong's standard error."""
        histogram = self._counts(lanes).histogram
        ranked = ranking(histogram)
        if ranked is None:
            return None
        noise = noise_spread(unbounded_auroc, histogram, cell_noise_sd) if cell_noise_sd else 0.0
        return Headline(ranked.auroc, auroc_standard_error(histogram), noise_sd(noise))

    def metrics(self, lanes: Counts, cell_noise_sd: float) -> list[GroupMetric]:
        """The AUROC alone: an anomaly score is no risk, so nothing else is told of it."""
        histogram = self._counts(lanes).histogram
        ranked = ranking(histogram)
        if ranked is None:
            return [GroupMetric("AUROC", "", "", None)]
        negatives, positives = self.totals(lanes)
        low, high = auroc_interval(ranked.auroc, positives, negatives)
        found = Estimate(value=ranked.auroc, low=low, high=high)
        if cell_noise_sd:
            half = noise_spread(unbounded_auroc, histogram, cell_noise_sd)
            half = 1.0 if half is None else half
            found = replace(
                found,
                noise_low=max(ranked.auroc - half, 0.0),
                noise_high=min(ranked.auroc + half, 1.0),
            )
        return [GroupMetric("AUROC", "", "", found)]

    def _counts(self, lanes: Counts) -> EvaluationCounts:
        return EvaluationCounts.from_lanes(lanes, self.layout.cut)
