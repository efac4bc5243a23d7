"""Models beside each other in report.json (of `report_model`): what a rehearsal's coordinator says.

None of it is recomputed: it comes of everybody's data in one place, which only a rehearsal has.
"""

from wardround.audit.report_figure import Origin, Place, Text
from wardround.study.contract import Frozen


class NumberFacts(Frozen):
    """The metric over some patients, with its 95 % sampling interval; None where there is none."""

    patients: int
    value: float | None
    low: float | None
    high: float | None


class WayFacts(Frozen):
    """One way to train: over all patients that were scored, and each hospital's own."""

    way: Text
    epsilon: float | None
    whole: NumberFacts
    hospitals: dict[str, NumberFacts]


class NextFacts(Frozen):
    """What a further hospital may expect: a mean over those left out, and its intervals (95 %)."""

    hospitals: int
    mean: float
    low: float
    high: float
    prediction_low: float
    prediction_high: float


class ComparisonFacts(Frozen):
    """Section E of a rehearsal: ways to train beside each other, as its coordinator states them."""

    origin: Origin
    place: Place
    made_of: Text
    metric: Text
    ways: tuple[WayFacts, ...]
    next_hospital: NextFacts | None
