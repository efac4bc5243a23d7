"""One number of the report, and where it comes from."""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator

from wardround.study.contract import Frozen

Text = Annotated[str, Field(max_length=4000)]


class Origin(StrEnum):
    """Where a fact comes from, the strongest first."""

    RECOMPUTED = "RECOMPUTED"
    LOGGED = "LOGGED"
    DECLARED = "DECLARED"
    NOT_AVAILABLE = "NOT AVAILABLE"


class Figure(Frozen):
    """One number with its origin; `value` is None exactly when it is not available."""

    value: float | None
    origin: Origin
    note: Text = ""

    @model_validator(mode="after")
    def _value_unless_not_available(self) -> Self:
        if (self.value is None) != (self.origin is Origin.NOT_AVAILABLE):
            raise ValueError("a figure has a value unless it is NOT AVAILABLE")
        return self


def recomputed(value: float, note: str = "") -> Figure:
    """A number that anybody gets again from the evidence."""
    return Figure(value=value, origin=Origin.RECOMPUTED, note=note)


def logged(value: float | None, note: str = "") -> Figure:
    """A number that a party wrote into its log; not available when it wrote none."""
    if value is None:
        return not_available(note)
    return Figure(value=value, origin=Origin.LOGGED, note=note)


def declared(value: float | None, note: str = "") -> Figure:
    """A number that a person put into the study; not available when there is none."""
    if value is None:
        return not_available(note)
    return Figure(value=value, origin=Origin.DECLARED, note=note)


def not_available(note: str) -> Figure:
    """No number, and why."""
    return Figure(value=None, origin=Origin.NOT_AVAILABLE, note=note)


class Place(Frozen):
    """One entry of one log."""

    log: str
    seq: int
