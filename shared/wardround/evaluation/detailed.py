"""An evaluation of yes or no with more detail: group by group, and with columns shuffled."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from wardround.canonical import Json
from wardround.errors import BadInput
from wardround.evaluation.binary import BinaryLayout
from wardround.evaluation.histograms import (
    Counts,
    CountsLayout,
    CountsMode,
    EvaluationCounts,
    Scores,
    count_patients,
)
from wardround.evaluation.layout import Outcomes, RawLanes, check_lanes
from wardround.evaluation.shuffled import SQUARED_SENSITIVITY, column_lost
from wardround.evaluation.subgroups import Groups, counted_apart, subgroup_metrics

Cells = list[EvaluationCounts]


@dataclass(frozen=True, slots=True, kw_only=True)
class DetailedLayout:
    """Lanes: those of the whole; of each grouping, cell by cell; of each shuffled column.

    Every part has the lanes of `whole.cut`. A patient is in one cell of each grouping.
    """

    whole: BinaryLayout
    groupings: tuple[Groups, ...]
    smallest: int
    shuffled: tuple[str, ...]

    def __post_init__(self) -> None:
        """Raise BadInput for more lanes than a log holds."""
        parts = self.lanes // self.cut.lanes
        check_lanes(self.lanes, f"{parts} times {self.cut.bins} bins for groups and columns")

    @property
    def cut(self) -> CountsLayout:
        """How each part is cut."""
        return self.whole.cut

    @property
    def mode(self) -> CountsMode:
        """Exact counts, or counts with noise."""
        return self.whole.mode

    @property
    def lanes(self) -> int:
        """Length of the vector that travels."""
        groups = sum(len(grouping.cells(self.mode)) for grouping in self.groupings)
        return (1 + groups + len(self.shuffled)) * self.cut.lanes

    @property
    def squared_sensitivity(self) -> int:
        """One in the whole, one in each grouping, and five in each shuffled column."""
        apart = self.whole.squared_sensitivity * (1 + len(self.groupings))
        return apart + SQUARED_SENSITIVITY * len(self.shuffled)

    def lane_limit(self, patients: int) -> int:
        """As `CountsLayout` says."""
        return self.whole.lane_limit(patients)

    def count(self, outcomes: Outcomes) -> RawLanes:
        """Patients by truth and output; by group; and by what comes out with a column shuffled.

        Raises BadInput for groups or shuffled outputs that are not those of the study.
        """
        truth, patients = outcomes.truth, len(outcomes.truth)
        groups = outcomes.groups if self.groupings else np.zeros((patients, 0), dtype=np.int64)
        shuffled = outcomes.shuffled if self.shuffled else np.zeros((0, patients))
        if groups is None or groups.shape != (patients, len(self.groupings)):
            raise BadInput(f"evaluation: groups of {len(self.groupings)} groupings were due")
        if shuffled is None or shuffled.shape != (len(self.shuffled), patients):
            raise BadInput(f"evaluation: outputs of {len(self.shuffled)} shuffled columns were due")
        parts = [self.whole.count(outcomes).lanes]
        for at, grouping in enumerate(self.groupings):
            parts += self._by_group(truth, outcomes.outputs[:, 0], groups[:, at], grouping)
        parts += [self._counted(truth, outputs) for outputs in shuffled]
        return RawLanes(self, np.concatenate(parts))

    def check(self, lanes: Counts) -> None:
        """Groups have to add up to the whole; shuffling leaves the outcomes as they are."""
        whole, groupings, shuffled = self._read(lanes)
        for cells in groupings:
            total = cells[0]
            for cell in cells[1:]:
                total = total + cell
            if not _same(total, whole):
                raise BadInput("evaluation counts: the groups of a grouping are not the whole")
        for counts in shuffled:
            if (counts.histogram.sum(axis=1) != whole.histogram.sum(axis=1)).any():
                raise BadInput("evaluation counts: a shuffled column has other patients")

    def metrics(self, lanes: Counts, *, cell_noise_sd: float) -> Json:
        """The whole's, and beside them `subgroups` and `importance`."""
        whole, groupings, shuffled = self._read(lanes)
        own = self.whole.metrics(lanes[: self.cut.lanes], cell_noise_sd=cell_noise_sd)
        return own | {
            "subgroups": subgroup_metrics(
                list(zip(self.groupings, groupings, strict=True)),
                threshold=self.whole.threshold,
                smallest=self.smallest,
                cell_noise_sd=cell_noise_sd,
            ),
            "importance": [
                column_lost(column, whole, counts, cell_noise_sd=cell_noise_sd)
                for column, counts in zip(self.shuffled, shuffled, strict=True)
            ],
        }

    def _by_group(
        self, truth: Scores, outputs: Scores, groups: Counts, grouping: Groups
    ) -> Iterator[Counts]:
        cells, known = len(grouping.cells(self.mode)), len(grouping.names) + 1
        if ((groups < 0) | (groups >= known)).any():
            raise BadInput(f"evaluation: {grouping.column} has {known} groups, another number came")
        if self.mode is CountsMode.EXACT:
            groups = counted_apart(groups, truth, cells, self.smallest)
        for cell in range(cells):
            yield self._counted(truth[groups == cell], outputs[groups == cell])

    def _counted(self, truth: Scores, outputs: Scores) -> Counts:
        return count_patients(truth, outputs, self.cut).counts.to_lanes().astype(np.int64)

    def _read(self, lanes: Counts) -> tuple[EvaluationCounts, list[Cells], Cells]:
        parts = iter(
            EvaluationCounts.from_lanes(part, self.cut)
            for part in lanes.reshape(-1, self.cut.lanes)
        )
        whole = next(parts)
        groupings = [_take(parts, len(each.cells(self.mode))) for each in self.groupings]
        return whole, groupings, list(parts)


def _take(parts: Iterator[EvaluationCounts], count: int) -> Cells:
    return [next(parts) for _ in range(count)]


def _same(one: EvaluationCounts, other: EvaluationCounts) -> bool:
    pairs: Sequence[tuple[Counts, Counts]] = (
        (one.histogram, other.histogram),
        (one.score_sums, other.score_sums),
        (one.square_sums, other.square_sums),
    )
    return all(np.array_equal(mine, yours) for mine, yours in pairs)
