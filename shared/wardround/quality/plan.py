"""What a study asks of each hospital's data before it trains: public limits, signed with it."""

from typing import Annotated, Self

from pydantic import Field, model_validator

from wardround.quality.disclosure import FEW
from wardround.study.contract import ColumnKind, Contract, Frozen, Name

_WITH_NUMBERS = {ColumnKind.CONTINUOUS, ColumnKind.SERIES, ColumnKind.IMAGE}


class Expected(Frozen):
    """Where the median of a hospital's patients has to lie in one column, in the contract's unit.

    It is what people know of the world, not of the data: a creatinine in another unit, a scanner
    with another scale. Of an image column it is the median of all pixels.
    """

    column: Name
    median: tuple[float, float]

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if not self.median[0] < self.median[1]:
            raise ValueError(f"expected {self.column}: `median` = [low, high], low < high")
        return self


class QualityPlan(Frozen):
    """The section [quality] of a study. Without it these defaults give the verdicts.

    A hospital with fewer than `least_patients`, with fewer than `least_per_outcome` patients of
    some outcome, with a column that more than the share `most_missing` of its patients lack, or
    whose mean lies more than `furthest` standard deviations from the others', is not ready.
    `refuse`: who is not ready does not join.
    """

    least_patients: Annotated[int, Field(ge=1, le=1_000_000)] = FEW
    least_per_outcome: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    most_missing: Annotated[float, Field(gt=0, le=1)] = 1.0
    furthest: Annotated[float, Field(gt=0, le=100)] = 3.0
    refuse: bool = False
    expect: tuple[Expected, ...] = Field(default=(), max_length=1000)

    def faults(self, contract: Contract) -> tuple[str, ...]:
        """What does not fit the contract, in words; empty when all does."""
        ranges = {c.name: c.range for c in contract.columns if c.kind in _WITH_NUMBERS}
        found, names = [], [expected.column for expected in self.expect]
        for expected in self.expect:
            limits = ranges.get(expected.column)
            what = f"quality: expected {expected.column}"
            if limits is None:
                found.append(f"{what}: the contract has no such column of numbers")
            elif not limits[0] <= expected.median[0] < expected.median[1] <= limits[1]:
                found.append(f"{what}: `median` is not within the contract's range")
            if names.count(expected.column) > 1:
                found.append(f"{what}: it is named twice")
        return tuple(dict.fromkeys(found))
