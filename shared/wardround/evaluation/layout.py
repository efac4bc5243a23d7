"""What every kind of evaluation has in common: integers per patient, added, read as metrics.

A layout says how one vector of lanes is cut. A hospital counts its patients into it, one patient
once; sums over hospitals are read by the same layout. In mode `exact` a lane is a count or a limb
of a fixed-point sum. In mode `noised` every lane is a count, and one patient more or less moves the
vector by at most the square root of `squared_sensitivity` (L2), which the noise is scaled by.
"""

import math
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from wardround.canonical import Json
from wardround.errors import BadInput
from wardround.evaluation.histograms import (
    LANE_MAX,
    MAX_PATIENTS,
    Counts,
    CountsMode,
    Lanes,
    Scores,
)
from wardround.evaluation.noise import gaussian_cells, pooled_cell_sd
from wardround.randomness import Randomness

MOST_LANES = 100_000  # what one entry of an evidence log holds


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """Held-out patients, one row each: what came true, and what the model had said.

    `outputs` is [patients, channels] in [0, 1]. `truth` is [patients] of 0 and 1 or of class
    numbers, [patients, 2] of time and event, or [patients, targets] of numbers in [0, 1] (NaN where
    one is missing). Where the study asks for more: `groups` is [patients, groupings] of group
    numbers, `shuffled` [columns, patients, channels] of outputs with one column shuffled, `treated`
    [patients] of 0 and 1, `arms` [patients, 2] what the model says untreated and treated, and
    `beside` [ways, patients, channels] of outputs of other models.
    """

    truth: Scores = field(repr=False)
    outputs: Scores = field(repr=False)
    groups: Counts | None = field(default=None, repr=False)
    shuffled: Scores | None = field(default=None, repr=False)
    beside: Scores | None = field(default=None, repr=False)
    treated: Counts | None = field(default=None, repr=False)
    arms: Scores | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Raise BadInput for parts that differ in number, too many, or outputs not in [0, 1]."""
        if self.outputs.ndim != 2 or len(self.truth) != len(self.outputs):
            raise BadInput("evaluation: truth and outputs differ in number")
        if len(self.truth) > MAX_PATIENTS:
            raise BadInput(
                f"evaluation: {len(self.truth)} patients, at most {MAX_PATIENTS} are counted"
            )
        outside = int((~((self.outputs >= 0) & (self.outputs <= 1))).sum())
        if outside:
            raise BadInput(
                f"evaluation: {outside} of {self.outputs.size} outputs are not in [0, 1]"
            )


class Layout(Protocol):
    """How one kind of evaluation is counted and read."""

    @property
    def mode(self) -> CountsMode:
        """Exact counts, or counts with noise."""

    @property
    def lanes(self) -> int:
        """Length of the vector that travels."""

    @property
    def squared_sensitivity(self) -> int:
        """In mode noised: the most by which one patient can move the vector, squared (L2).

        As many as the lanes that a patient is counted in, where one patient's are its own affair.
        """

    def lane_limit(self, patients: int) -> int:
        """The largest value that a lane of so many patients can have, without noise."""

    def count(self, outcomes: Outcomes) -> "RawLanes":
        """Count the patients of one hospital; none gives zeros."""

    def check(self, lanes: Counts) -> None:
        """Raise BadInput when exact counts contradict themselves, as when masks did not cancel."""

    def metrics(self, lanes: Counts, *, cell_noise_sd: float) -> Json:
        """All numbers of the report; what the counts cannot say is None.

        `cell_noise_sd` is the standard deviation of the noise in one pooled lane, 0 for exact.
        """


@dataclass(frozen=True, slots=True, eq=False)
class RawLanes:
    """Counts inside the hospital. They have no encoding: `exact` or `noised` makes one that has."""

    layout: Layout
    lanes: Counts = field(repr=False)

    def exact(self) -> Lanes:
        """The counts as they are, where study and policy allow mode exact."""
        if self.layout.mode is not CountsMode.EXACT:
            raise BadInput("evaluation counts: the study asks for noised counts")
        return _travelling(self.lanes)

    def noised(self, noise_multiplier: float, randomness: Randomness) -> Lanes:
        """The counts with Gaussian noise of `noise_multiplier` times the layout's sensitivity."""
        if self.layout.mode is not CountsMode.NOISED:
            raise BadInput("evaluation counts: the study asks for exact counts")
        scale = noise_multiplier * math.sqrt(self.layout.squared_sensitivity)
        return _travelling(self.lanes + gaussian_cells(len(self.lanes), scale, randomness))


def read_lanes(lanes: npt.NDArray[np.signedinteger], layout: Layout) -> Counts:
    """A hospital's vector or a sum of vectors, checked against its layout. Raises BadInput."""
    if lanes.ndim != 1 or lanes.size != layout.lanes or lanes.dtype.kind != "i":
        raise BadInput(
            f"evaluation counts: {layout.lanes} integer lanes were due, {lanes.size} of"
            f" {lanes.dtype} came"
        )
    wide = lanes.astype(np.int64)
    if layout.mode is CountsMode.EXACT:
        if (wide < 0).any():
            raise BadInput("evaluation counts: an exact count is negative")
        layout.check(wide)
    return wide


def pooled_noise_sd(layout: Layout, noise_multipliers: list[float]) -> float:
    """Standard deviation of a pooled lane, when each hospital noised with its multiplier."""
    sensitivity = math.sqrt(layout.squared_sensitivity)
    return pooled_cell_sd(multiplier * sensitivity for multiplier in noise_multipliers)


def check_lanes(lanes: int, what: str) -> None:
    """Raise BadInput for a layout that no evidence log could hold."""
    if lanes > MOST_LANES:
        raise BadInput(f"evaluation: {what} make {lanes} lanes, at most {MOST_LANES} are held")


def check_noise(layout: Layout, cell_noise_sd: float) -> None:
    """Raise BadInput for noise on exact counts, or none on noised ones."""
    exact = layout.mode is CountsMode.EXACT
    if exact != (cell_noise_sd == 0.0) or not 0 <= cell_noise_sd < math.inf:
        raise BadInput(f"evaluation: cell noise {cell_noise_sd} does not fit {layout.mode} counts")


def check_patients(patients: int) -> None:
    """Raise BadInput for more patients than the lanes are made for."""
    if not 0 <= patients <= MAX_PATIENTS:
        raise BadInput(f"evaluation: {patients} patients, at most {MAX_PATIENTS} are counted")


def _travelling(lanes: Counts) -> Lanes:
    if lanes.size and int(np.abs(lanes).max()) > LANE_MAX:
        raise BadInput("evaluation counts: a lane does not fit into 32 bits")
    return lanes.astype(np.int32)
