"""What each kind of evaluation has to tell so that patients can be counted apart in groups of it.

A layout counts the whole and every group alike. To hide small groups one has to know which kinds of
outcome there are and how many patients of each; to check the counts, what of them adds up; and to
compare groups, one headline metric. That is an `Apart`, one for each kind of layout (`aparts`).
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from wardround.evaluation.histograms import Counts
from wardround.evaluation.intervals import Z_95
from wardround.evaluation.layout import Layout, Outcomes
from wardround.evaluation.metrics import Estimate

Flags = npt.NDArray[np.bool_]


class Headline(NamedTuple):
    """The one number by which groups are compared, and a standard deviation of each of its errors.

    `sampling` is None where too few patients tell it; `noise` is 0 for exact counts, None where
    noise leaves nothing known.
    """

    value: float
    sampling: float | None
    noise: float | None


class GroupMetric(NamedTuple):
    """One metric of a group: of what (a class, a target; "" for the whole); None: not available."""

    name: str
    of: str
    unit: str
    estimate: Estimate | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """The headline metric in words, and whether more of it is better."""

    name: str
    more_is_better: bool = True

    def worse_by(self, better: float, worse: float) -> float:
        """How much worse the second is than the first."""
        return better - worse if self.more_is_better else worse - better


class Apart(Protocol):
    """Of one layout. `lanes` are those of any group, of one hospital or pooled."""

    @property
    def layout(self) -> Layout:
        """The layout of the whole and of every group."""

    @property
    def compared(self) -> Compared:
        """What groups are compared by."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of outcome of which a group needs enough patients each."""

    def of_patients(self, outcomes: Outcomes) -> Flags:
        """[patients, kinds]: whether a patient is of that kind."""

    def totals(self, lanes: Counts) -> tuple[int, ...]:
        """How many patients of each kind the counts hold."""

    def patients(self, lanes: Counts) -> int:
        """How many patients the counts hold; of targets, those with the best known one."""

    @property
    def cells_of_patients(self) -> int:
        """Over how many lanes `patients` is a sum: what noise does to it."""

    def adds_up(self, lanes: Counts) -> Counts:
        """Integers that are those of the whole when they are summed over the groups."""

    def of_truth(self, lanes: Counts) -> Counts:
        """What of the counts depends on what came true alone, not on the model's outputs."""

    def headline(self, lanes: Counts, cell_noise_sd: float) -> Headline | None:
        """The headline metric; None where the counts cannot say."""

    def metrics(self, lanes: Counts, cell_noise_sd: float) -> list[GroupMetric]:
        """What is told of a group that may be shown, the most telling first."""


def noise_sd(half: float | None) -> float | None:
    """One standard deviation of what `noise_spread` gives as half of a 95 % interval."""
    return None if half is None else half / Z_95
