"""Scores of held-out patients as counts: the only form in which an evaluation leaves a hospital.

A count is `[class, bin]`: how many patients of that class have a score in that bin. In mode
`exact` the sums that a histogram rounds away (Brier score, calibration) travel beside it, as
fixed-point integers. In mode `noised` they do not, since their sensitivity is not 1: everything
then comes from the histogram with bin centres.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Self

import numpy as np
import numpy.typing as npt

from wardround.canonical import Json
from wardround.errors import BadInput

Counts = npt.NDArray[np.int64]
Lanes = npt.NDArray[np.int32]
Scores = npt.NDArray[np.float64]

MIN_BINS = 2
MAX_BINS = 10_000
MAX_NOISED_BINS = 64
CLASSES = 2
MAX_GROUPS = 10
MAX_PATIENTS = 1 << 20
SCORE_ONE = 1 << 24  # a float32 probability has 24 bits
LIMB = 1 << 16
EDGE_TOLERANCE = 1e-9
LANE_MAX = 2**31 - 1


class CountsMode(StrEnum):
    """Exact pooled counts (not covered by epsilon), or counts with noise (charged)."""

    EXACT = "exact"
    NOISED = "noised"


@dataclass(frozen=True, slots=True, kw_only=True)
class CountsLayout:
    """How the vector of lanes is cut: the same at every hospital, from the study's plan.

    Lanes: negatives' bins, positives' bins; in mode exact then, as (high, low) limbs of base 2^16,
    the sums of scores per class and calibration group and the sums of squared scores per class.
    """

    mode: CountsMode
    bins: int

    def __post_init__(self) -> None:
        most = MAX_BINS if self.mode is CountsMode.EXACT else MAX_NOISED_BINS
        if not MIN_BINS <= self.bins <= most:
            raise BadInput(
                f"evaluation: {self.bins} bins came, {MIN_BINS} to {most} are allowed for"
                f" {self.mode} counts"
            )

    @property
    def groups(self) -> int:
        """Calibration groups of equal width: the most that divide the bins, at most 10.

        >>> CountsLayout(mode=CountsMode.EXACT, bins=1000).groups
        10
        >>> CountsLayout(mode=CountsMode.NOISED, bins=16).groups
        8
        """
        return max(groups for groups in range(1, MAX_GROUPS + 1) if self.bins % groups == 0)

    @property
    def side_sums(self) -> int:
        """How many fixed-point sums travel beside the histogram."""
        return CLASSES * (self.groups + 1) if self.mode is CountsMode.EXACT else 0

    @property
    def lanes(self) -> int:
        """Length of the vector that travels."""
        return CLASSES * self.bins + 2 * self.side_sums

    @property
    def edges(self) -> Scores:
        """The `bins + 1` edges, each the float nearest to k / bins."""
        return np.arange(self.bins + 1) / self.bins

    @property
    def centres(self) -> Scores:
        """The scores that stand for the bins."""
        return (np.arange(self.bins) + 0.5) / self.bins

    def lane_limit(self, patients: int) -> int:
        """The largest value a lane of one hospital with this many held-out patients can have.

        For mode noised the noise comes on top.
        """
        if not 0 <= patients <= MAX_PATIENTS:
            raise BadInput(f"evaluation: {patients} patients, at most {MAX_PATIENTS} are counted")
        if self.mode is CountsMode.NOISED:
            return patients
        return max(LIMB - 1, patients * (SCORE_ONE // LIMB))

    def threshold_bin(self, threshold: float) -> int:
        """The first bin that counts as positive. Raises BadInput off a bin's edge.

        >>> CountsLayout(mode=CountsMode.EXACT, bins=1000).threshold_bin(0.25)
        250
        """
        scaled = threshold * self.bins
        if not 0 < scaled < self.bins or abs(scaled - round(scaled)) > EDGE_TOLERANCE:
            raise BadInput(
                f"evaluation: threshold {threshold} does not lie on an inner edge of {self.bins}"
                " bins, so that counts would not say on which side a patient is"
            )
        return round(scaled)


@dataclass(frozen=True, slots=True, eq=False)
class EvaluationCounts:
    """Counts that may leave: of one hospital, or summed.

    `histogram` is int64 [2, bins], row 0 the negatives. `score_sums` [2, groups] and `square_sums`
    [2] are in units of 2^-24, empty in mode noised. Noised cells may be negative.
    """

    layout: CountsLayout
    histogram: Counts
    score_sums: Counts
    square_sums: Counts

    def to_lanes(self) -> Lanes:
        """The vector to mask. Raises BadInput when a lane exceeds 32 bits."""
        sums = np.concatenate([self.score_sums.ravel(), self.square_sums])
        limbs = np.stack([sums // LIMB, sums % LIMB], axis=1).ravel()
        lanes = np.concatenate([self.histogram.ravel(), limbs])
        if lanes.size and int(np.abs(lanes).max()) > LANE_MAX:
            raise BadInput("evaluation counts: a lane does not fit into 32 bits")
        return lanes.astype(np.int32)

    @classmethod
    def from_lanes(cls, lanes: npt.NDArray[np.signedinteger], layout: CountsLayout) -> Self:
        """Read a hospital's vector or a sum of vectors.

        Raises BadInput when its length is wrong or when exact counts contradict themselves, as
        they do when masks did not cancel.
        """
        if lanes.ndim != 1 or lanes.size != layout.lanes or lanes.dtype.kind != "i":
            raise BadInput(
                f"evaluation counts: {layout.lanes} integer lanes were due, {lanes.size} of"
                f" {lanes.dtype} came"
            )
        cells = CLASSES * layout.bins
        wide = lanes.astype(np.int64)
        histogram = wide[:cells].reshape(CLASSES, layout.bins)
        limbs = wide[cells:].reshape(layout.side_sums, 2)
        sums = limbs[:, 0] * LIMB + limbs[:, 1]
        split = CLASSES * layout.groups if layout.side_sums else 0
        score_sums = sums[:split].reshape(CLASSES, -1)
        counts = cls(layout, histogram, score_sums, sums[split:])
        if layout.mode is CountsMode.EXACT:
            counts._check_exact(limbs)
        return counts

    def __add__(self, other: "EvaluationCounts") -> "EvaluationCounts":
        """Pool the counts of two sets of patients."""
        if self.layout != other.layout:
            raise BadInput("evaluation counts: two layouts cannot be added")
        return EvaluationCounts(
            self.layout,
            self.histogram + other.histogram,
            self.score_sums + other.score_sums,
            self.square_sums + other.square_sums,
        )

    def to_json(self) -> Json:
        """What an evidence log holds: mode, bins and the lanes."""
        lanes = self.to_lanes().tolist()
        return {"mode": self.layout.mode.value, "bins": self.layout.bins, "lanes": lanes}

    @classmethod
    def from_json(cls, value: Json) -> Self:
        """Read `to_json`. Raises BadInput for anything else."""
        if value.keys() != {"mode", "bins", "lanes"} or type(value["bins"]) is not int:
            raise BadInput("evaluation counts: mode, bins (an integer) and lanes were due")
        if value["mode"] not in list(CountsMode):
            raise BadInput("evaluation counts: mode has to be exact or noised")
        layout = CountsLayout(mode=CountsMode(value["mode"]), bins=value["bins"])
        lanes = value["lanes"]
        if not isinstance(lanes, list) or len(lanes) != layout.lanes:
            raise BadInput(f"evaluation counts: a list of {layout.lanes} lanes was due")
        if any(type(lane) is not int or abs(lane) > LANE_MAX for lane in lanes):
            raise BadInput("evaluation counts: lanes have to be integers of 32 bits")
        return cls.from_lanes(np.array(lanes, dtype=np.int64), layout)

    def _check_exact(self, limbs: Counts) -> None:
        if (self.histogram < 0).any() or (limbs < 0).any():
            raise BadInput("evaluation counts: an exact count is negative")
        groups = self.layout.groups
        members = self.histogram.reshape(CLASSES, groups, -1).sum(axis=2)
        slack = members  # each score was rounded to the nearest 2^-24
        low = members * (SCORE_ONE * np.arange(groups) // groups) - slack
        high = members * -(-SCORE_ONE * np.arange(1, groups + 1) // groups) + slack
        totals = self.score_sums.sum(axis=1)
        if ((self.score_sums < low) | (self.score_sums > high)).any() or (
            self.square_sums > totals + members.sum(axis=1)
        ).any():
            raise BadInput("evaluation counts: sums of scores do not fit the histogram")


@dataclass(frozen=True, slots=True, eq=False)
class RawCounts:
    """Counts inside the hospital. They have no encoding: `exact` or `noised` makes one that has."""

    counts: EvaluationCounts

    def exact(self) -> EvaluationCounts:
        """The counts as they are, where study and policy allow mode exact."""
        if self.counts.layout.mode is not CountsMode.EXACT:
            raise BadInput("evaluation counts: the study asks for noised counts")
        return self.counts

    def noised(self, noise: npt.NDArray[np.signedinteger]) -> EvaluationCounts:
        """The counts with one integer of noise per cell (`2 * bins`, negatives first)."""
        layout = self.counts.layout
        if layout.mode is not CountsMode.NOISED:
            raise BadInput("evaluation counts: the study asks for exact counts")
        if noise.shape != (layout.lanes,) or noise.dtype.kind != "i":
            raise BadInput(f"evaluation counts: {layout.lanes} integers of noise were due")
        lanes = self.counts.histogram.ravel() + noise.astype(np.int64)
        return EvaluationCounts.from_lanes(lanes, layout)


def count_patients(labels: npt.ArrayLike, scores: npt.ArrayLike, layout: CountsLayout) -> RawCounts:
    """Count patients by class and bin; scores on an edge belong to the bin above it.

    One row per patient (`patients.outcomes_of`): so adding or removing a patient changes ONE cell
    by ONE, and the histogram's sensitivity is 1 in L1 and in L2, which the noise is calibrated to.
    """
    truth, values = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    if truth.shape != values.shape or truth.ndim != 1:
        raise BadInput("evaluation: labels and scores have to be two vectors of one length")
    if truth.size > MAX_PATIENTS:
        raise BadInput(f"evaluation: {truth.size} patients, at most {MAX_PATIENTS} are counted")
    _check_records(truth, values)
    bins = np.searchsorted(layout.edges, values, side="right") - 1
    bins = np.minimum(bins, layout.bins - 1)
    classes = truth.astype(np.int64)
    histogram = _tally(classes, bins, layout.bins)
    empty = np.zeros(0, dtype=np.int64)
    if layout.mode is CountsMode.NOISED:
        return RawCounts(EvaluationCounts(layout, histogram, empty.reshape(2, 0), empty))
    fixed = np.rint(values * SCORE_ONE).astype(np.int64)
    squares = np.rint(values**2 * SCORE_ONE).astype(np.int64)
    width = layout.bins // layout.groups
    score_sums = _tally(classes, bins // width, layout.groups, fixed)
    square_sums = _tally(classes, np.zeros_like(bins), 1, squares)[:, 0]
    return RawCounts(EvaluationCounts(layout, histogram, score_sums, square_sums))


def _tally(
    classes: Counts, cells: npt.NDArray[np.intp], width: int, amounts: Counts | None = None
) -> Counts:
    table = np.zeros((CLASSES, width), dtype=np.int64)
    np.add.at(table, (classes, cells), 1 if amounts is None else amounts)
    return table


def _check_records(labels: npt.NDArray[np.generic], scores: Scores) -> None:
    if not np.isin(labels, (0, 1)).all():
        raise BadInput("evaluation: labels have to be 0 or 1")
    outside = int((~((scores >= 0) & (scores <= 1))).sum())
    if outside:
        raise BadInput(f"evaluation: {outside} of {scores.size} scores are not in [0, 1]")
