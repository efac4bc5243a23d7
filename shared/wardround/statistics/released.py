"""What a statistics round opened: the noised sums, and everything that follows from them.

All of it is post-processing of one charged release: whoever has the study and the sums gets the
same numbers.
"""

from dataclasses import dataclass, field
from typing import Self

import numpy as np

from wardround.canonical import Json, digest
from wardround.errors import BadInput
from wardround.statistics.cells import ONE, CategoryCells, NumberCells
from wardround.statistics.intervals import (
    Estimate,
    NoisedMoments,
    count,
    quantile,
    standard_deviation,
)
from wardround.statistics.layout import PATIENTS, StatisticsLayout, Sums
from wardround.study.contract import TimeToEvent

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
MOST_HOSPITALS = 1000
_LANE_MAX = 2**31 - 1
_TWO_CELLS = 2**0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class NumberStatistics:
    """A continuous column over the patients that have a value, in the column's unit."""

    name: str
    unit: str
    present: Estimate
    missing: Estimate | None
    mean: Estimate
    variance: Estimate
    quantiles: tuple[tuple[float, Estimate], ...]
    edges: tuple[float, ...]
    bins: tuple[Estimate, ...]

    @property
    def standard_deviation(self) -> Estimate:
        """The root of the variance."""
        return standard_deviation(self.variance)

    def to_json(self) -> Json:
        """As the report holds it."""
        return {
            "name": self.name,
            "kind": "continuous",
            "unit": self.unit,
            "present": self.present.to_json(),
            "missing": None if self.missing is None else self.missing.to_json(),
            "mean": self.mean.to_json(),
            "variance": self.variance.to_json(),
            "standard_deviation": self.standard_deviation.to_json(),
            "quantiles": [
                {"share": share, **estimate.to_json()} for share, estimate in self.quantiles
            ],
            "edges": list(self.edges),
            "bins": [estimate.to_json() for estimate in self.bins],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class CategoryStatistics:
    """How many patients have each value of a binary or categorical column."""

    name: str
    missing: Estimate | None
    categories: tuple[tuple[str, Estimate], ...]

    def to_json(self) -> Json:
        """As the report holds it."""
        return {
            "name": self.name,
            "kind": "categorical",
            "missing": None if self.missing is None else self.missing.to_json(),
            "categories": [
                {"category": value, **estimate.to_json()} for value, estimate in self.categories
            ],
        }


ColumnStatistics = NumberStatistics | CategoryStatistics


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowUp:
    """Until when patients were followed up, in the label's unit; the horizon ends it."""

    unit: str
    quantiles: tuple[tuple[float, Estimate], ...]

    def to_json(self) -> Json:
        """As the report holds it."""
        return {
            "unit": self.unit,
            "quantiles": [
                {"share": share, **estimate.to_json()} for share, estimate in self.quantiles
            ],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """All estimates of one release; `outcomes` are those of the layout, in its order."""

    hospitals: int
    noise: float
    patients: Estimate
    outcomes: tuple[tuple[str, Estimate], ...]
    follow_up: FollowUp | None
    columns: tuple[ColumnStatistics, ...]
    cohorts: tuple[tuple[str, Estimate], ...]

    def to_json(self) -> Json:
        """As the report holds it. `noise_patients` is the standard deviation in every count."""
        follow_up = None if self.follow_up is None else self.follow_up.to_json()
        return {
            "hospitals": self.hospitals,
            "noise_patients": self.noise,
            "patients": self.patients.to_json(),
            **self._label_json(),
            **({} if follow_up is None else {"follow_up": follow_up}),
            "columns": [column.to_json() for column in self.columns],
            "cohorts": [{"name": name, **estimate.to_json()} for name, estimate in self.cohorts],
        }

    def _label_json(self) -> Json:
        """Yes and no have a key each, as they had before there were other labels."""
        named = dict(self.outcomes)
        if named.keys() == {"negative", "positive"}:
            return {f"{name}s": estimate.to_json() for name, estimate in self.outcomes}
        return {"outcomes": [{"outcome": name, **e.to_json()} for name, e in self.outcomes]}


@dataclass(frozen=True, slots=True, eq=False)
class ReleasedStatistics:
    """The opened sum over `hospitals` hospitals, each of which added its share of the noise.

    `asked` is how many there were in the cohort, for which the shares were made.
    """

    layout: StatisticsLayout
    sums: Sums = field(repr=False)
    hospitals: int
    asked: int

    def __post_init__(self) -> None:
        """The sums fit the layout. Raises BadInput."""
        if self.sums.shape != (self.layout.lanes,) or self.sums.dtype.kind != "i":
            raise BadInput(f"statistics: {self.layout.lanes} integer sums were due")
        if self.sums.size and int(np.abs(self.sums).max()) > _LANE_MAX:
            raise BadInput("statistics: a sum does not fit into 32 bits")
        if not 1 <= self.hospitals <= self.asked <= MOST_HOSPITALS:
            raise BadInput(f"statistics: a sum over {self.hospitals} of {self.asked} hospitals")

    def to_json(self) -> Json:
        """What travels and is logged; `from_json` reads it back."""
        return {"hospitals": self.hospitals, "asked": self.asked, "sums": self.sums.tolist()}

    @classmethod
    def from_json(cls, value: object, layout: StatisticsLayout) -> Self:
        """Read what came from outside. Raises BadInput for anything but `to_json`'s form."""
        if not isinstance(value, dict) or value.keys() != {"hospitals", "asked", "sums"}:
            raise BadInput("statistics: `hospitals`, `asked` and `sums` were due")
        sums, hospitals, asked = value["sums"], value["hospitals"], value["asked"]
        if type(hospitals) is not int or type(asked) is not int:
            raise BadInput("statistics: `hospitals` and `asked` have to be integers")
        if not isinstance(sums, list | tuple) or len(sums) != layout.lanes:
            raise BadInput(f"statistics: a list of {layout.lanes} sums was due")
        if any(type(total) is not int or abs(total) > _LANE_MAX for total in sums):
            raise BadInput("statistics: sums have to be integers of 32 bits")
        return cls(layout, np.array(sums, dtype=np.int64), hospitals, asked)

    @property
    def digest(self) -> str:
        """SHA-256 of the canonical JSON, 64 hex digits."""
        return digest(self.to_json())

    def estimates(self, noise_lanes: float) -> Statistics:
        """Everything that the sums say, when each has noise of standard deviation `noise_lanes`."""
        noise = noise_lanes / ONE
        values = self.sums / ONE
        outcomes = values[self.layout.outcome_cells].tolist()
        time = self.layout.contract.label.time
        return Statistics(
            hospitals=self.hospitals,
            noise=noise,
            patients=count(float(values[PATIENTS]), noise),
            outcomes=tuple(
                (name, count(value, noise))
                for name, value in zip(self.layout.outcomes, outcomes, strict=True)
            ),
            follow_up=None if time is None else self._follow_up(time, noise),
            columns=tuple(
                self._of_numbers(column, place, noise)
                if isinstance(column, NumberCells)
                else self._of_categories(column, place, noise)
                for column, place in self.layout.placed()
            ),
            cohorts=tuple(
                (cohort.name, count(value, noise))
                for cohort, value in zip(
                    self.layout.cohorts, values[self.layout.cohort_cells].tolist(), strict=True
                )
            ),
        )

    def _follow_up(self, time: TimeToEvent, noise: float) -> FollowUp:
        """Quantiles of the time to the event or the end of follow-up, whichever came first.

        Who was followed to the horizon is in a last bin without width. An interval's bin is the sum
        of two cells; that last one is a single cell, so that its noise is taken for larger than it
        is.
        """
        cells = (self.sums[self.layout.outcome_cells] / ONE).tolist()
        steps = len(time.edges)
        bins = np.append(np.add(cells[:steps], cells[steps : 2 * steps]), cells[-1])
        edges = np.array([0.0, *time.edges, time.horizon])
        return FollowUp(
            unit=time.unit,
            quantiles=tuple(
                (share, quantile(bins, edges, share, _TWO_CELLS * noise)) for share in QUANTILES
            ),
        )

    def moments(self, column: NumberCells, place: slice, noise: float) -> NoisedMoments:
        """The sums of a continuous column, of v on [-1, 1]; `noise` in patients."""
        values = (self.sums[place] / ONE).tolist()
        patients, patients_noise = float(self.sums[PATIENTS]) / ONE, noise
        if column.may_be_missing:
            patients, patients_noise = patients - values.pop(0), _TWO_CELLS * noise
        return NoisedMoments(
            patients=patients,
            total=values[0],
            square=values[1],
            noise=noise,
            patients_noise=patients_noise,
        )

    def _of_numbers(self, column: NumberCells, place: slice, noise: float) -> NumberStatistics:
        moments = self.moments(column, place, noise)
        half, middle = column.half_range, (column.low + column.high) / 2
        bins = self.sums[place.stop - column.bins : place.stop] / ONE
        edges = column.edges if column.bins else np.zeros(0)
        shares = QUANTILES if column.bins else ()
        return NumberStatistics(
            name=column.name,
            unit=column.unit,
            present=count(moments.patients, moments.patients_noise),
            missing=self._missing(column, place, noise),
            mean=moments.mean().scaled(half, middle),
            variance=moments.variance().scaled(half**2),
            quantiles=tuple((share, quantile(bins, edges, share, noise)) for share in shares),
            edges=tuple(edges.tolist()),
            bins=tuple(count(value, noise) for value in bins.tolist()),
        )

    def _of_categories(
        self, column: CategoryCells, place: slice, noise: float
    ) -> CategoryStatistics:
        counts = (self.sums[place] / ONE).tolist()[int(column.may_be_missing) :]
        return CategoryStatistics(
            name=column.name,
            missing=self._missing(column, place, noise),
            categories=tuple(
                (value, count(patients, noise))
                for value, patients in zip(column.categories, counts, strict=True)
            ),
        )

    def _missing(
        self, column: NumberCells | CategoryCells, place: slice, noise: float
    ) -> Estimate | None:
        if not column.may_be_missing:
            return None
        return count(float(self.sums[place.start]) / ONE, noise)
