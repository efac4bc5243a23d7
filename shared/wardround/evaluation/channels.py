"""Evaluation of several channels of yes or no: one of several classes, or several labels."""

import math
from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np

from wardround.canonical import Json
from wardround.errors import BadInput
from wardround.evaluation.discrimination import unbounded_auroc
from wardround.evaluation.histograms import (
    Counts,
    CountsLayout,
    CountsMode,
    EvaluationCounts,
    Scores,
    count_patients,
)
from wardround.evaluation.intervals import Z_95, inside, wilson
from wardround.evaluation.layout import Outcomes, RawLanes, check_lanes, check_noise
from wardround.evaluation.metrics import Estimate, Evaluation, evaluate_counts, rounded
from wardround.evaluation.propagation import Metric, noise_spread


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelsLayout:
    """Lanes: for each channel those of `CountsLayout`; for classes then who was taken for what.

    Kind `classes`: each patient is in every channel (its own class against the rest) and in one
    cell of the confusion matrix [true class, class with the largest output]. Kind `labels`: a
    patient is in the channels whose label is known.
    """

    kind: Literal["classes", "labels"]
    names: tuple[str, ...]
    cut: CountsLayout
    threshold: float

    def __post_init__(self) -> None:
        """Raise BadInput for more lanes than a log holds, or a threshold off a bin's edge."""
        self.cut.threshold_bin(self.threshold)
        check_lanes(self.lanes, f"{len(self.names)} channels of {self.cut.bins} bins")

    @property
    def mode(self) -> CountsMode:
        """Exact counts, or counts with noise."""
        return self.cut.mode

    @property
    def lanes(self) -> int:
        """Channels one after the other, then the confusion matrix row by row."""
        return len(self.names) * self.cut.lanes + self._matrix

    @property
    def squared_sensitivity(self) -> int:
        """One in each channel, and one in the confusion matrix."""
        return len(self.names) + (self.kind == "classes")

    @property
    def _matrix(self) -> int:
        return len(self.names) ** 2 if self.kind == "classes" else 0

    def lane_limit(self, patients: int) -> int:
        """As `CountsLayout` says."""
        return self.cut.lane_limit(patients)

    def count(self, outcomes: Outcomes) -> RawLanes:
        """Truth is [patients] of class numbers, or [patients, labels] of 0, 1 and NaN."""
        if outcomes.outputs.shape[1] != len(self.names):
            raise BadInput(f"evaluation: {len(self.names)} channels were due")
        truths = self._truths(outcomes)
        parts = []
        for channel in range(len(self.names)):
            known = ~np.isnan(truths[:, channel])
            scores = outcomes.outputs[known, channel]
            counts = count_patients(truths[known, channel], scores, self.cut).counts
            parts.append(counts.to_lanes().astype(np.int64))
        if self.kind == "classes":
            parts.append(self._confusion(outcomes))
        return RawLanes(self, np.concatenate(parts))

    def check(self, lanes: Counts) -> None:
        """Channels have to be sound; of classes all have the same patients, as the matrix says."""
        channels, matrix = self.read(lanes)
        if self.kind == "labels":
            return
        own = np.array([channel.histogram.sum(axis=1) for channel in channels])
        if (own[:, 1] != matrix.sum(axis=1)).any() or (own.sum(axis=1) != matrix.sum()).any():
            raise BadInput("evaluation counts: channels and confusion matrix differ in patients")

    def metrics(self, lanes: Counts, *, cell_noise_sd: float) -> Json:
        """Each channel's evaluation, and over all channels the mean AUROC; of classes the accuracy.

        The mean AUROC of classes needs all of them; that of labels is over those that have one.
        Its sampling interval assumes that channels err together, so it is rather too wide.
        """
        check_noise(self, cell_noise_sd)
        channels, matrix = self.read(lanes)
        evaluated = [
            evaluate_counts(channel, threshold=self.threshold, cell_noise_sd=cell_noise_sd)
            for channel in channels
        ]
        said = {
            "kind": self.kind,
            "mode": self.mode.value,
            "bins": self.cut.bins,
            "threshold": self.threshold,
            "names": list(self.names),
            "macro_auroc": self._macro_auroc(channels, evaluated, cell_noise_sd),
            "channels": [channel.to_json() for channel in evaluated],
        }
        if self.kind == "labels":
            return said
        return said | {
            "patients": int(matrix.sum()),
            "confusion": matrix.tolist(),
            "accuracy": _estimate(
                _accuracy, matrix, wilson(int(np.trace(matrix)), int(matrix.sum())), cell_noise_sd
            ),
            "balanced_accuracy": _estimate(
                _balanced_accuracy, matrix, _balanced_interval(matrix), cell_noise_sd
            ),
        }

    def _truths(self, outcomes: Outcomes) -> Scores:
        if self.kind == "labels":
            return outcomes.truth
        classes = np.arange(len(self.names))
        if not np.isin(outcomes.truth, classes).all():
            raise BadInput("evaluation: a class number is beyond the study's classes")
        truths: Scores = (outcomes.truth[:, None] == classes).astype(np.float64)
        return truths

    def _confusion(self, outcomes: Outcomes) -> Counts:
        count = len(self.names)
        taken_for = outcomes.outputs.argmax(axis=1)
        cells = outcomes.truth.astype(np.int64) * count + taken_for
        return np.bincount(cells, minlength=count * count).astype(np.int64)

    def read(self, lanes: Counts) -> tuple[list[EvaluationCounts], Counts]:
        """Each channel's counts, and of classes the confusion matrix."""
        each = self.cut.lanes
        channels = [
            EvaluationCounts.from_lanes(lanes[at * each : (at + 1) * each], self.cut)
            for at in range(len(self.names))
        ]
        rest = lanes[len(self.names) * each :]
        return channels, rest.reshape(math.isqrt(len(rest)), -1) if len(rest) else rest

    def _macro_auroc(
        self, channels: list[EvaluationCounts], evaluated: list[Evaluation], cell_noise_sd: float
    ) -> Json | None:
        found = [(each.auroc, each.auroc_se or 0.0) for each in evaluated if each.auroc is not None]
        if not found or (self.kind == "classes" and len(found) < len(evaluated)):
            return None
        value = math.fsum(estimate.value for estimate, _ in found) / len(found)
        # By the triangle inequality: channels share their patients.
        low, high = _around(value, Z_95 * math.fsum(error for _, error in found) / len(found))
        macro = Estimate(value=value, low=low, high=high)
        if self.mode is CountsMode.NOISED:
            # Each channel has noise of its own, so it adds up in squares.
            spreads = [
                noise_spread(unbounded_auroc, channel.histogram, cell_noise_sd)
                for channel, each in zip(channels, evaluated, strict=True)
                if each.auroc is not None
            ]
            noise = math.hypot(*(1.0 if s is None else s for s in spreads)) / len(found)
            noise_low, noise_high = _around(value, noise)
            macro = replace(macro, noise_low=noise_low, noise_high=noise_high)
        said: Json = rounded(asdict(macro))
        return said


def _accuracy(matrix: Counts) -> float | None:
    return _share(int(np.trace(matrix)), int(matrix.sum()))


def _balanced_accuracy(matrix: Counts) -> float | None:
    """Mean over the classes of the share that was taken for what it is; None without a class."""
    found = [_share(int(row[at]), int(row.sum())) for at, row in enumerate(matrix)]
    recalls = [recall for recall in found if recall is not None]
    return math.fsum(recalls) / len(recalls) if len(recalls) == len(matrix) else None


def _balanced_interval(matrix: Counts) -> tuple[float, float] | None:
    """From the classes' Wilson intervals, whose patients are independent (Zou and Donner 2008)."""
    found = _recalls(matrix)
    if found is None:
        return None
    value = math.fsum(recall for recall, _, _ in found) / len(found)
    below = math.sqrt(math.fsum((recall - low) ** 2 for recall, low, _ in found)) / len(found)
    above = math.sqrt(math.fsum((high - recall) ** 2 for recall, _, high in found)) / len(found)
    return max(value - below, 0.0), min(value + above, 1.0)


def _recalls(matrix: Counts) -> list[tuple[float, float, float]] | None:
    found = []
    for at, row in enumerate(matrix):
        share, interval = _share(int(row[at]), int(row.sum())), wilson(int(row[at]), int(row.sum()))
        if share is None or interval is None:
            return None
        found.append((inside(share), *interval))
    return found


def _estimate(
    metric: Metric,
    matrix: Counts,
    interval: tuple[float, float] | None,
    cell_noise_sd: float,
) -> Json | None:
    value = metric(matrix)
    if value is None or interval is None:
        return None
    found = Estimate(value=inside(value), low=interval[0], high=interval[1])
    if cell_noise_sd:
        spread = noise_spread(metric, matrix, cell_noise_sd)
        noise_low, noise_high = (0.0, 1.0) if spread is None else _around(value, spread)
        found = replace(found, noise_low=noise_low, noise_high=noise_high)
    said: Json = rounded(asdict(found))
    return said


def _around(value: float, spread: float) -> tuple[float, float]:
    return inside(value - spread), inside(value + spread)


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole > 0 else None
