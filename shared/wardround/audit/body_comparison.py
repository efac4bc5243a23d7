"""The body of `comparison`: what the coordinator of a rehearsal states, having everybody's data.

No verifier can compute these numbers again: they come of patients' records in one place, which a
federation never has. What is checked is that they are of this study's kind and do not contradict
each other or the run's own evaluation (`wardround.audit.check_comparison`).
"""

from collections.abc import Iterator
from typing import Annotated, Literal, Self, get_args

from pydantic import Field, model_validator

from wardround.audit.body_fields import Body, Epsilon, RunId, Share
from wardround.evaluation.histograms import MAX_PATIENTS
from wardround.evaluation.single import Metric
from wardround.study.contract import Frozen
from wardround.study.manifest import HospitalName

Way = Literal["local-only", "federated", "federated with DP", "pooled", "leave one hospital out"]
WAYS: tuple[Way, ...] = get_args(Way)
LEFT_OUT: Way = "leave one hospital out"
WITH_NOISE: frozenset[Way] = frozenset({"federated with DP", LEFT_OUT})
ONE_PLACE = "everybody's data in one place"
MOST_HOSPITALS = 1000

Number = Annotated[float, Field(ge=-1, le=1)]


class StatedNumber(Frozen):
    """A metric over some patients; without an interval both ends are null."""

    patients: Annotated[int, Field(ge=0, le=MAX_PATIENTS * MOST_HOSPITALS, strict=True)]
    value: Number | None
    low: Number | None
    high: Number | None

    @model_validator(mode="after")
    def _ends_around_the_value(self) -> Self:
        if (self.low is None) != (self.high is None):
            raise ValueError("an interval has two ends")
        if self.low is None or self.high is None:
            return self
        if self.value is None or not self.low <= self.value <= self.high:
            raise ValueError("an interval holds its value")
        return self


Hospitals = Annotated[
    dict[HospitalName, StatedNumber], Field(min_length=2, max_length=MOST_HOSPITALS)
]


class StatedWay(Frozen):
    """One way to train: over all patients, and of each hospital; `epsilon` null without noise."""

    way: Way
    epsilon: Epsilon | None
    whole: StatedNumber
    hospitals: Hospitals


class StatedNext(Frozen):
    """What a further hospital may expect: a mean with its interval, and that of a prediction."""

    hospitals: Annotated[int, Field(ge=3, le=MOST_HOSPITALS, strict=True)]
    mean: Share
    low: Share
    high: Share
    prediction_low: Share
    prediction_high: Share

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        ends = (self.prediction_low, self.low, self.mean, self.high, self.prediction_high)
        if list(ends) != sorted(ends):
            raise ValueError("a prediction lies around the mean, and no closer than its interval")
        return self


class ComparisonStated(Body):
    """Ways to train beside each other, once in a run and before its end.

    `made_of` says why no federation has this entry.
    """

    TYPE = "comparison"
    run: RunId
    made_of: Literal["everybody's data in one place"]
    metric: Metric
    ways: Annotated[tuple[StatedWay, ...], Field(min_length=1, max_length=5, strict=False)]
    next_hospital: StatedNext | None

    @model_validator(mode="after")
    def _each_way_once(self) -> Self:
        named = [each.way for each in self.ways]
        if named != [way for way in WAYS if way in named]:
            raise ValueError("ways: each once is due, in order")
        return self

    def of(self, way: Way) -> StatedWay | None:
        """One way, or None where it is not there."""
        return next((each for each in self.ways if each.way == way), None)

    def numbers(self) -> Iterator[StatedNumber]:
        """All numbers that are stated."""
        for each in self.ways:
            yield each.whole
            yield from each.hospitals.values()
