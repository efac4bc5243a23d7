"""An evaluation with more detail: group by group, and with columns shuffled, of any label."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from wardround.canonical import Json
from wardround.errors import BadInput
from wardround.evaluation.apart import Apart
from wardround.evaluation.aparts import apart_of
from wardround.evaluation.binary import AnomalyLayout, BinaryLayout
from wardround.evaluation.group_metrics import group_metrics
from wardround.evaluation.histograms import (
    Counts,
    CountsLayout,
    CountsMode,
    EvaluationCounts,
    Scores,
)
from wardround.evaluation.layout import Layout, Outcomes, RawLanes, check_lanes
from wardround.evaluation.shuffled import SQUARED_SENSITIVITY, column_lost, metric_lost
from wardround.evaluation.subgroups import Groups, counted_apart, subgroup_metrics

Cells = list[Counts]


@dataclass(frozen=True, slots=True, kw_only=True)
class DetailedLayout:
    """Lanes: those of the whole; of each grouping, cell by cell; of each shuffled column.

    Every part has the lanes of `whole`. A patient is in one cell of each grouping.
    """

    whole: Layout
    groupings: tuple[Groups, ...]
    smallest: int
    shuffled: tuple[str, ...]

    def __post_init__(self) -> None:
        """Raise BadInput for more lanes than a log holds, or a kind that is not told apart."""
        apart_of(self.whole)
        parts, each = self.lanes // self.whole.lanes, f"{self.whole.lanes} lanes"
        if isinstance(self.whole, BinaryLayout):
            each = f"{self.whole.cut.bins} bins"
        check_lanes(self.lanes, f"{parts} times {each} for groups and columns")

    @property
    def apart(self) -> Apart:
        """What this kind of evaluation tells of a group."""
        return apart_of(self.whole)

    @property
    def cut(self) -> CountsLayout:
        """How each part is cut, where it is by score. Raises BadInput where it is not."""
        if not isinstance(self.whole, BinaryLayout):
            raise BadInput("evaluation: these counts are not those of one score")
        return self.whole.cut

    @property
    def mode(self) -> CountsMode:
        """Exact counts, or counts with noise."""
        return self.whole.mode

    @property
    def lanes(self) -> int:
        """Length of the vector that travels."""
        groups = sum(len(grouping.cells(self.mode)) for grouping in self.groupings)
        return (1 + groups + len(self.shuffled)) * self.whole.lanes

    @property
    def squared_sensitivity(self) -> int:
        """One table in the whole and one in each grouping; of each shuffled column five."""
        tables = 1 + len(self.groupings) + SQUARED_SENSITIVITY * len(self.shuffled)
        return self.whole.squared_sensitivity * tables

    def lane_limit(self, patients: int) -> int:
        """As the layout of the whole says."""
        return self.whole.lane_limit(patients)

    def count(self, outcomes: Outcomes) -> RawLanes:
        """Patients by truth and output; by group; and by what comes out with a column shuffled.

        Raises BadInput for groups or shuffled outputs that are not those of the study.
        """
        truth, patients = outcomes.truth, len(outcomes.truth)
        groups = outcomes.groups if self.groupings else np.zeros((patients, 0), dtype=np.int64)
        if groups is None or groups.shape != (patients, len(self.groupings)):
            raise BadInput(f"evaluation: groups of {len(self.groupings)} groupings were due")
        parts = [self.whole.count(outcomes).lanes]
        for at, grouping in enumerate(self.groupings):
            parts += self._by_group(outcomes, groups[:, at], grouping)
        shuffled = self._shuffled(outcomes)
        parts += [self.whole.count(Outcomes(truth, outputs)).lanes for outputs in shuffled]
        return RawLanes(self, np.concatenate(parts))

    def check(self, lanes: Counts) -> None:
        """Groups have to add up to the whole; shuffling leaves the outcomes as they are."""
        whole, groupings, shuffled = self._read(lanes)
        for part in lanes.reshape(-1, self.whole.lanes):
            self.whole.check(part)
        apart = self.apart
        for cells in groupings:
            if not np.array_equal(sum(map(apart.adds_up, cells)), apart.adds_up(whole)):
                raise BadInput("evaluation counts: the groups of a grouping are not the whole")
        for counts in shuffled:
            if not np.array_equal(apart.of_truth(counts), apart.of_truth(whole)):
                raise BadInput("evaluation counts: a shuffled column has other patients")

    def metrics(self, lanes: Counts, *, cell_noise_sd: float) -> Json:
        """The whole's, and beside them `subgroups` and `importance`."""
        whole, groupings, shuffled = self._read(lanes)
        own = self.whole.metrics(whole, cell_noise_sd=cell_noise_sd)
        if isinstance(self.whole, BinaryLayout) and not isinstance(self.whole, AnomalyLayout):
            return own | self._of_yes_or_no(lanes, self.whole, cell_noise_sd)
        apart = self.apart
        return own | {
            "subgroups": group_metrics(
                apart,
                list(zip(self.groupings, groupings, strict=True)),
                smallest=self.smallest,
                cell_noise_sd=cell_noise_sd,
            ),
            "importance": [
                metric_lost(apart, column, whole, counts, cell_noise_sd=cell_noise_sd)
                for column, counts in zip(self.shuffled, shuffled, strict=True)
            ],
        }

    def _of_yes_or_no(self, lanes: Counts, binary: BinaryLayout, cell_noise_sd: float) -> Json:
        """As reports had it before other labels came."""

        def read(part: Counts) -> EvaluationCounts:
            return EvaluationCounts.from_lanes(part, binary.cut)

        whole, groupings, shuffled = self._read(lanes)
        return {
            "subgroups": subgroup_metrics(
                [
                    (groups, list(map(read, cells)))
                    for groups, cells in zip(self.groupings, groupings, strict=True)
                ],
                threshold=binary.threshold,
                smallest=self.smallest,
                cell_noise_sd=cell_noise_sd,
            ),
            "importance": [
                column_lost(column, read(whole), read(counts), cell_noise_sd=cell_noise_sd)
                for column, counts in zip(self.shuffled, shuffled, strict=True)
            ],
        }

    def _by_group(self, outcomes: Outcomes, groups: Counts, grouping: Groups) -> Iterator[Counts]:
        cells, known = len(grouping.cells(self.mode)), len(grouping.names) + 1
        if ((groups < 0) | (groups >= known)).any():
            raise BadInput(f"evaluation: {grouping.column} has {known} groups, another number came")
        if self.mode is CountsMode.EXACT:
            kinds = self.apart.of_patients(outcomes)
            groups = counted_apart(groups, kinds, cells, self.smallest)
        for cell in range(cells):
            inside = groups == cell
            of_cell = Outcomes(outcomes.truth[inside], outcomes.outputs[inside])
            yield self.whole.count(of_cell).lanes

    def _shuffled(self, outcomes: Outcomes) -> Scores:
        """[columns, patients, channels]; where there is one channel, it need not be named."""
        due = (len(self.shuffled), *outcomes.outputs.shape)
        found = outcomes.shuffled if self.shuffled else np.zeros(due)
        if found is not None and found.ndim == len(due) - 1 and due[-1] == 1:
            found = found[..., None]
        if found is None or found.shape != due:
            raise BadInput(f"evaluation: outputs of {due[0]} shuffled columns were due")
        return found

    def _read(self, lanes: Counts) -> tuple[Counts, list[Cells], Cells]:
        parts = iter(lanes.reshape(-1, self.whole.lanes))
        whole = next(parts)
        groupings = [_take(parts, len(each.cells(self.mode))) for each in self.groupings]
        return whole, groupings, list(parts)


def _take(parts: Iterator[Counts], count: int) -> Cells:
    return [next(parts) for _ in range(count)]
