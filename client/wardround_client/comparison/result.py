"""The ways beside each other, in the one number that a study of this kind is judged by."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from wardround.canonical import Json
from wardround.errors import BadInput
from wardround.evaluation.intervals import Z_95
from wardround.evaluation.single import METRICS, single
from wardround.study.manifest import StudyPlan
from wardround_client.comparison.next_hospital import NextHospital, next_hospital
from wardround_client.comparison.ways import Scored, Way

SCHEMA = "wardround.comparison/1"
MARK = (
    "Made in a rehearsal: one machine had the data of all hospitals. Nobody has them in a real "
    "federation, so no coordinator of one can make this. Who signs these numbers proves that he "
    "stated them, and nothing else. No epsilon covers them."
)
SYNTHETIC = (
    "Alone and pooled learn from patients; all other ways learn from synthetic records alone. All "
    "are scored on patients."
)
_SHARES = {"auroc", "c_index", "macro_auroc"}  # a correlation has no odds
_WITH_NOISE = {Way.PRIVATE, Way.LEFT_OUT}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A metric over some patients, with its 95 % sampling interval; None where it is not available.

    `error` is the standard error that a summary over hospitals weighs it by.
    """

    patients: int
    value: float | None
    low: float | None
    high: float | None
    error: float | None
    accuracy: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One way: over all patients, and each hospital's own."""

    way: str
    epsilon: float | None
    whole: Figure
    hospitals: Mapping[str, Figure]

    @property
    def mean_accuracy(self) -> float | None:
        """The mean over hospitals of the accuracy at the registered threshold, for the annex."""
        known = [own.accuracy for own in self.hospitals.values() if own.accuracy is not None]
        return math.fsum(known) / len(known) if known else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All lines, and what the next hospital may expect; `note` is for who reads them."""

    study: str
    title: str
    metric: str
    delta: float | None
    lines: tuple[Line, ...]
    next_hospital: NextHospital | None
    note: str | None = None

    def to_json(self) -> Json:
        """Plain JSON; numbers have six digits after the point."""
        lines = [{**asdict(line), "mean_accuracy": line.mean_accuracy} for line in self.lines]
        value = {**asdict(self), "lines": lines, "schema": SCHEMA, "mark": MARK}
        return {name: _rounded(part) for name, part in value.items()}


def compared(plan: StudyPlan, scored: Sequence[Scored], report: Json | None = None) -> Comparison:
    """Put the ways beside each other; `report` is the real rehearsal's, shown as its own line.

    Raises BadInput for a label that has no single number to compare by, such as several numbers.
    """
    name = headline_of(scored[0].whole)
    lines = [_line(plan, one) for one in scored]
    measured = (report or {}).get("evaluation", {}).get("metrics")
    if measured:
        epsilon = report["guarantee"]["epsilon"]["value"] if report else None
        whole = figure(measured)
        lines.insert(0, Line(way="this rehearsal", epsilon=epsilon, whole=whole, hospitals={}))
    unseen = [line for line in lines if line.way == Way.LEFT_OUT]
    found = [
        (own.value, own.error)
        for line in unseen
        for own in line.hospitals.values()
        if own.value is not None and own.error is not None
    ]
    return Comparison(
        study=plan.name,
        title=plan.title,
        metric=name,
        delta=plan.privacy.delta,
        lines=tuple(lines),
        next_hospital=next_hospital(found) if name in _SHARES else None,
        note=None if plan.task.synthesis is None else SYNTHETIC,
    )


def headline_of(metrics: Json) -> str:
    """The name of the number that this kind of evaluation is judged by. Raises BadInput."""
    name = next((name for name in METRICS if name in metrics), None)
    if name is None:
        raise BadInput("comparison: this kind of label has no single number to compare by")
    return name


def figure(metrics: Json) -> Figure:
    """The headline of an evaluation's metrics."""
    name, found = headline_of(metrics), single(metrics)
    error = metrics.get(f"{name}_se")
    if error is None and found.low is not None and found.high is not None:
        error = (found.high - found.low) / (2 * Z_95)
    accuracy = (metrics.get("accuracy") or {}).get("value")
    return Figure(**found._asdict(), error=error, accuracy=accuracy)


def _line(plan: StudyPlan, scored: Scored) -> Line:
    noise = scored.way in _WITH_NOISE
    return Line(
        way=scored.way.value,
        epsilon=plan.privacy.epsilon if noise and plan.noise_multiplier() else None,
        whole=figure(scored.whole),
        hospitals={name: figure(own) for name, own in scored.hospitals.items()},
    )


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, Mapping):
        return {key: _rounded(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(part) for part in value]
    return value
