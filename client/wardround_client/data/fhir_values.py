"""One value out of what was observed of a patient in a window, as text."""

import math
from collections.abc import Callable, Sequence

from wardround_client.data.fhir_events import Measured
from wardround_client.data.fhir_source import EventColumn, Faults
from wardround_client.data.table_source import as_text

_TAKES: dict[str, Callable[[Sequence[float]], float]] = {
    "first": lambda numbers: numbers[0],
    "last": lambda numbers: numbers[-1],
    "min": min,
    "max": max,
    "mean": lambda numbers: math.fsum(numbers) / len(numbers),
}


def value_of(column: EventColumn, measured: Sequence[Measured], faults: Faults) -> str:
    """What `column.take` makes of observations in the order of time; "" when nothing is there.

    A number in a unit that is neither due nor convertible, and a bound where none is wanted, is
    counted.
    """
    if column.take == "any":
        return str(int(bool(measured)))
    if column.take == "count":
        return str(len(measured))
    if column.value == "code":
        answers = [code for one in measured if (code := _code(column, one)) is not None]
        return answers[0 if column.take == "first" else -1] if answers else ""
    numbers = [number for one in measured if (number := _number(column, one, faults)) is not None]
    if not numbers:
        return ""
    return as_text(_TAKES[column.take](numbers)) or ""


def _code(column: EventColumn, one: Measured) -> str | None:
    return next((code for system, code in one.answers if system == column.system), None)


def _number(column: EventColumn, one: Measured, faults: Faults) -> float | None:
    """The number in the unit that is due; None when there is none, or it is left out."""
    if one.number is None:
        return None
    if one.bound and column.bounds != "take":
        if column.bounds == "refuse":
            faults["bound", f"values of column {column.name} are bounds, as <5: see `bounds`"] += 1
        return None
    if one.unit == column.unit:
        return one.number
    conversion = column.units.get(one.unit)
    if conversion is None:
        what = f"values of column {column.name} are in another unit than {column.unit}"
        faults["unit", what] += 1
        return None
    return one.number * conversion.scale + conversion.offset
