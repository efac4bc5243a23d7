"""Classes, and several labels of yes or no, counted apart: by mean AUROC."""

import math
from dataclasses import dataclass

import numpy as np

from wardround.canonical import Json
from wardround.evaluation.apart import Compared, Flags, GroupMetric, Headline, noise_sd
from wardround.evaluation.channels import ChannelsLayout
from wardround.evaluation.discrimination import auroc_standard_error, ranking, unbounded_auroc
from wardround.evaluation.histograms import Counts
from wardround.evaluation.layout import Outcomes
from wardround.evaluation.metrics import Estimate
from wardround.evaluation.propagation import noise_spread


@dataclass(frozen=True, slots=True)
class ApartChannels:
    """As `Apart` says. Of classes each is a kind of outcome, of labels the yes and the no of each.

    A patient of whom a label is not known is of neither kind of that label.
    """

    layout: ChannelsLayout

    @property
    def compared(self) -> Compared:
        """The mean AUROC."""
        return Compared(name="mean AUROC")

    @property
    def kinds(self) -> tuple[str, ...]:
        """The classes; or of each label those without it, then those with it."""
        if self._classes:
            return self.layout.names
        return tuple(f"{name} {word}" for name in self.layout.names for word in ("no", "yes"))

    @property
    def cells_of_patients(self) -> int:
        """The confusion matrix, or the histogram of one label."""
        return len(self.layout.names) ** 2 if self._classes else 2 * self.layout.cut.bins

    def of_patients(self, outcomes: Outcomes) -> Flags:
        """[patients, kinds]."""
        if self._classes:
            found: Flags = outcomes.truth[:, None] == np.arange(len(self.layout.names))
            return found
        truth = outcomes.truth
        return np.stack([truth == 0, truth == 1], axis=2).reshape(len(truth), len(self.kinds))

    def totals(self, lanes: Counts) -> tuple[int, ...]:
        """By class, or by label and outcome."""
        channels, matrix = self.layout.read(lanes)
        if self._classes:
            return tuple(matrix.sum(axis=1).tolist())
        return tuple(int(n) for each in channels for n in each.histogram.sum(axis=1))

    def patients(self, lanes: Counts) -> int:
        """All of the matrix; of labels those of the best known one."""
        channels, matrix = self.layout.read(lanes)
        if self._classes:
            return int(matrix.sum())
        return max(int(each.histogram.sum()) for each in channels)

    def adds_up(self, lanes: Counts) -> Counts:
        """Every channel's histogram and sums, then the matrix."""
        channels, matrix = self.layout.read(lanes)
        parts = [(each.histogram, each.score_sums, each.square_sums) for each in channels]
        flat = [part.ravel() for each in parts for part in each]
        return np.concatenate([*flat, matrix.ravel()])

    def of_truth(self, lanes: Counts) -> Counts:
        """Both sides of every channel."""
        channels, _ = self.layout.read(lanes)
        return np.concatenate([each.histogram.sum(axis=1) for each in channels])

    def headline(self, lanes: Counts, cell_noise_sd: float) -> Headline | None:
        """The mean of the AUROCs, of classes only when all have one.

        Channels share their patients, so the sampling errors add up (triangle inequality); each has
        noise of its own, so that adds up in squares.
        """
        histograms = [each.histogram for each in self.layout.read(lanes)[0]]
        ranked = [(h, found) for h in histograms if (found := ranking(h)) is not None]
        if not ranked or (self._classes and len(ranked) < len(histograms)):
            return None
        count = len(ranked)
        value = math.fsum(found.auroc for _, found in ranked) / count
        errors = [auroc_standard_error(histogram) for histogram, _ in ranked]
        known = [error for error in errors if error is not None]
        sampling = math.fsum(known) / count if len(known) == count else None
        if not cell_noise_sd:
            return Headline(value, sampling, 0.0)
        spreads = [
            noise_spread(unbounded_auroc, histogram, cell_noise_sd) for histogram, _ in ranked
        ]
        heard = [spread for spread in spreads if spread is not None]
        noise = math.hypot(*heard) / count if len(heard) == count else None
        return Headline(value, sampling, noise_sd(noise))

    def metrics(self, lanes: Counts, cell_noise_sd: float) -> list[GroupMetric]:
        """Mean AUROC, of classes the balanced accuracy, then the AUROC of each channel."""
        said = self.layout.metrics(lanes, cell_noise_sd=cell_noise_sd)
        found = [GroupMetric("Mean AUROC", "", "", _estimate(said["macro_auroc"]))]
        if self._classes:
            balanced = _estimate(said["balanced_accuracy"])
            found.append(GroupMetric("Balanced accuracy", "", "", balanced))
        found += [
            GroupMetric("AUROC", name, "", _estimate(channel["auroc"]))
            for name, channel in zip(self.layout.names, said["channels"], strict=True)
        ]
        return found

    @property
    def _classes(self) -> bool:
        return self.layout.kind == "classes"


def _estimate(said: Json | None) -> Estimate | None:
    return None if said is None else Estimate(**said)
