"""Section E of report.json: how well the model does, for whom, and by what (of `report_model`)."""

from typing import Literal

from pydantic import Field

from wardround.audit.report_figure import Origin, Place, Text
from wardround.canonical import Json
from wardround.study.contract import Frozen


class EstimateFacts(Frozen):
    """A value with its intervals: of sampling, and of the noise on the counts (None if exact)."""

    value: float
    low: float | None
    high: float | None
    noise_low: float | None
    noise_high: float | None


class GroupFacts(Frozen):
    """One group of patients. What may not be shown apart is None, and `standing` says why.

    Of exact counts "nobody counted" need not mean that there is nobody: hospitals with few patients
    in a group do not count it apart.

    `calibration_in_the_large` is the observed less the mean predicted risk. `auroc_gap` is the
    AUROC of all others of the grouping less that of this group; its intervals hold jointly for all
    gaps of the report.
    """

    group: Text
    standing: Literal["shown", "nobody counted", "too few", "withheld"]
    patients: int | None
    positives: int | None
    auroc: EstimateFacts | None
    sensitivity: EstimateFacts | None
    specificity: EstimateFacts | None
    calibration_in_the_large: EstimateFacts | None
    auroc_gap: EstimateFacts | None

    @property
    def gap(self) -> EstimateFacts | None:
        """How much worse than the others."""
        return self.auroc_gap


class GroupingFacts(Frozen):
    """The held-out patients told apart by one column.

    Fewer than `smallest` patients of either outcome are not shown. `count_noise` is half of the
    95 % interval of the noise in a group's number of patients, 0 for exact counts.
    """

    column: Text
    unit: Text
    smallest: int
    count_noise: float
    groups: tuple[GroupFacts, ...] = Field(min_length=1)


class MetricFacts(Frozen):
    """One metric: of what (a class, a target, a time; "" for the whole), and in which unit."""

    name: Text
    of: Text
    unit: Text
    estimate: EstimateFacts | None


class MeasuredGroupFacts(Frozen):
    """One group of patients whose label is not one of yes or no, or is that of an anomaly score.

    `of_outcome` are its patients of each outcome that the grouping names. `worse_by` is how much
    worse it does than all others of the grouping by what they are compared by; its intervals hold
    jointly for all groups of the report. What may not be shown is None or empty.
    """

    group: Text
    standing: Literal["shown", "nobody counted", "too few", "withheld"]
    patients: int | None
    of_outcome: tuple[int, ...]
    metrics: tuple[MetricFacts, ...]
    worse_by: EstimateFacts | None

    @property
    def gap(self) -> EstimateFacts | None:
        """How much worse than the others."""
        return self.worse_by


class MeasuredGroupingFacts(Frozen):
    """`GroupingFacts` of any other label: fewer than `smallest` of any of `outcomes` is hidden.

    `compared_by` is the metric that tells which group is served worse.
    """

    column: Text
    unit: Text
    smallest: int
    count_noise: float
    compared_by: Text
    outcomes: tuple[Text, ...] = Field(min_length=1)
    groups: tuple[MeasuredGroupFacts, ...] = Field(min_length=1)


class ShuffledMetricFacts(Frozen):
    """`ShuffledFacts` of any other label: `value` is the metric with the column shuffled.

    `lost` is more where the model does worse, also of a metric that counts errors.
    """

    column: Text
    metric: Text
    value: float | None
    lost: EstimateFacts | None


class ShuffledFacts(Frozen):
    """What of the AUROC was lost when one column was shuffled among each hospital's patients."""

    column: Text
    auroc: float | None
    lost: EstimateFacts | None


class BesideFacts(Frozen):
    """How models of the hospitals' own do on the same patients: `way` says how each was made."""

    way: Text
    metrics: tuple[MetricFacts, ...]


class EvaluationFacts(Frozen):
    """Section E: the model on held-out patients; `metrics` is `wardround.evaluation`'s JSON.

    `subgroups` and `importance` are there when the study asks for them.
    """

    origin: Origin
    counts: Literal["exact", "noised"]
    threshold: float
    registered: str
    hospitals: tuple[str, ...]
    place: Place | None
    metrics: Json | None
    subgroups: tuple[GroupingFacts | MeasuredGroupingFacts, ...] = Field(
        default=(), exclude_if=lambda value: value == ()
    )
    importance: tuple[ShuffledFacts | ShuffledMetricFacts, ...] = Field(
        default=(), exclude_if=lambda value: value == ()
    )
    beside: tuple[BesideFacts, ...] = Field(default=(), exclude_if=lambda value: value == ())
