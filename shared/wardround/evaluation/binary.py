"""Evaluation of yes or no, and of an anomaly score: the histograms of `histograms`, as a layout."""

from dataclasses import dataclass

import numpy as np

from wardround.canonical import Json
from wardround.evaluation.histograms import (
    Counts,
    CountsLayout,
    CountsMode,
    EvaluationCounts,
    count_patients,
)
from wardround.evaluation.layout import Outcomes, RawLanes, check_lanes
from wardround.evaluation.metrics import evaluate_counts

_OF_AN_ANOMALY = (
    "mode",
    "bins",
    "patients",
    "positives",
    "negative_cells",
    "prevalence",
    "auroc",
    "auroc_lower",
    "auroc_upper",
    "auroc_se",
    "roc",
)


@dataclass(frozen=True, slots=True)
class BinaryLayout:
    """Patients by class and score. One patient is in one cell."""

    cut: CountsLayout
    threshold: float

    def __post_init__(self) -> None:
        """Raise BadInput for more lanes than a log holds, or a threshold off a bin's edge."""
        check_lanes(self.cut.lanes, f"{self.cut.bins} bins")
        self.cut.threshold_bin(self.threshold)

    @property
    def mode(self) -> CountsMode:
        """Exact counts, or counts with noise."""
        return self.cut.mode

    @property
    def lanes(self) -> int:
        """As `CountsLayout` says."""
        return self.cut.lanes

    @property
    def squared_sensitivity(self) -> int:
        """One."""
        return 1

    def lane_limit(self, patients: int) -> int:
        """As `CountsLayout` says."""
        return self.cut.lane_limit(patients)

    def count(self, outcomes: Outcomes) -> RawLanes:
        """Patients by truth [patients] of 0 and 1 and their one output."""
        counts = count_patients(outcomes.truth, outcomes.outputs[:, 0], self.cut).counts
        return RawLanes(self, counts.to_lanes().astype(np.int64))

    def check(self, lanes: Counts) -> None:
        """Sums of scores have to fit the histogram."""
        EvaluationCounts.from_lanes(lanes, self.cut)

    def metrics(self, lanes: Counts, *, cell_noise_sd: float) -> Json:
        """The JSON of `Evaluation`. Reports had it before other kinds came: it has no `kind`."""
        counts = EvaluationCounts.from_lanes(lanes, self.cut)
        return evaluate_counts(
            counts, threshold=self.threshold, cell_noise_sd=cell_noise_sd
        ).to_json()


@dataclass(frozen=True, slots=True)
class AnomalyLayout(BinaryLayout):
    """Patients by whether they are strange, and their anomaly score.

    Without a label for the evaluation all count as not strange: the AUROC is not available. A score
    is no risk, so there is nothing to calibrate.
    """

    def count(self, outcomes: Outcomes) -> RawLanes:
        """Patients by truth [patients], or [patients, 0] without one, and their one output."""
        known = outcomes.truth.ndim == 1
        truth = outcomes.truth if known else np.zeros(len(outcomes.truth))
        return BinaryLayout(self.cut, self.threshold).count(Outcomes(truth, outcomes.outputs))

    def metrics(self, lanes: Counts, *, cell_noise_sd: float) -> Json:
        """What an AUROC needs of `Evaluation`, under kind `anomaly`."""
        whole = BinaryLayout(self.cut, self.threshold).metrics(lanes, cell_noise_sd=cell_noise_sd)
        return {"kind": "anomaly", **{name: whole[name] for name in _OF_AN_ANOMALY}}
