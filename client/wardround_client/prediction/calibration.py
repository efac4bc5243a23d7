"""From a model's channels to what may be said: risks, numbers and classes, by held-out patients.

Only this hospital's held-out patients calibrate. A patient that is one of them is left out of its
own calibration.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from wardround.canonical import Json
from wardround.evaluation.intervals import wilson
from wardround.evaluation.layout import Outcomes
from wardround.study.contract import Label, LabelKind, TimeToEvent
from wardround.study.manifest import StudyPlan
from wardround_client.prediction.answers import (
    Channel,
    ClassSet,
    Number,
    OperatingPoint,
    Rate,
    Reason,
    Risk,
    Strangeness,
    Time,
    Withheld,
)
from wardround_client.prediction.calibrated import Calibrator, RiskInterval
from wardround_client.prediction.censoring import known_at, stand_in_weights
from wardround_client.prediction.conformal import class_set, number_interval, p_value
from wardround_client.prediction.time_bound import time_bound

Scores = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
ERROR = 0.1  # of intervals of numbers, of sets of classes and of bounds on times


def channel_names(label: Label) -> tuple[str, ...]:
    """The channels that are answered for; an anomaly score is named after the label."""
    return label.channels or (label.name,)


def yes_or_no(label: Label, truth: Scores) -> tuple[tuple[Flags, Flags], ...]:
    """For each channel who is known there, and who of these is a yes: [patients] each.

    Until an edge of a prognosis known is who had the event before it or was followed up to it.
    Empty for numbers, and for anomaly scores without a label.
    """
    if label.numbers or truth.shape[1:] == (0,):
        return ()
    everybody = np.ones(len(truth), dtype=np.bool_)
    if label.time is not None:
        times, events = truth[:, 0], truth[:, 1] > 0.5
        return tuple(known_at(times, events, edge) for edge in label.time.edges)
    if label.kind is LabelKind.CLASSES:
        return tuple((everybody, truth == place) for place in range(len(label.classes)))
    if label.kind is LabelKind.TARGETS:
        return tuple((~np.isnan(column), column > 0.5) for column in truth.T)
    return ((everybody, truth > 0.5),)


@dataclass(frozen=True, eq=False)
class Calibration:
    """What held-out patients say about a study's channels; `outcomes` has one row for each."""

    study: StudyPlan
    outcomes: Outcomes = field(repr=False)

    @property
    def label(self) -> Label:
        """What the study predicts."""
        return self.study.contract.label

    @cached_property
    def known(self) -> tuple[tuple[Flags, Flags], ...]:
        """As `yes_or_no` of the held-out patients."""
        return yes_or_no(self.label, self.outcomes.truth)

    @cached_property
    def _calibrators(self) -> tuple[Calibrator | None, ...]:
        everybody = _others(len(self.outcomes.truth), None)
        return tuple(self._of(place, everybody) for place in range(len(self.known)))

    def answer(
        self, said: Scores, *, own_row: int | None
    ) -> tuple[tuple[Channel, ...], ClassSet | None]:
        """What may be said of a patient of whom the model says `said` [channels].

        `own_row` is its row among those that calibrate, or None.
        """
        if self.label.numbers:
            return self._numbers(said, own_row), None
        channels = self._risks(said, own_row)
        if self.label.time is not None:
            return (*channels, self._time(self.label.time, said, own_row)), None
        if self.label.kind is LabelKind.NONE:
            return (self._strangeness(said, own_row), *channels), None
        if self.label.kind is LabelKind.CLASSES:
            return channels, self._classes(said, own_row)
        return channels, None

    def censoring(self) -> str | None:
        """A word on patients of a prognosis who were lost from sight, or None where none was.

        The others stand in for them (`stand_in_weights`), which rests on one assumption.
        """
        if self.label.time is None or not len(self.outcomes.truth):
            return None
        lost = [int((~known).sum()) for known, _ in self.known]
        if not lost[-1]:
            return None
        return (
            f"{lost[0]} of {len(self.outcomes.truth)} held-out patients were lost from sight "
            f"before the first edge, {lost[-1]} before the last: those who were followed up stand "
            "in for them, which holds where being lost has nothing to do with the event"
        )

    def operating_points(self, pooled: Json | None = None) -> tuple[OperatingPoint, ...]:
        """What the study's threshold does here; `pooled` are the metrics of a report."""
        threshold, found = self.study.evaluation.threshold, []
        of_report = _pooled(pooled, len(self.known))
        names = channel_names(self.label)
        everybody = _others(len(self.outcomes.truth), None)
        for place, (known, yes) in enumerate(self.known):
            above = self.outcomes.outputs[:, place] >= threshold
            weights, no = self._weights(place, everybody), known & ~yes
            found.append(
                OperatingPoint(
                    channel=names[place],
                    threshold=threshold,
                    held_out=int(known.sum()),
                    sensitivity=_rate(above[yes], weights[yes]),
                    specificity=_rate(~above[no], weights[no]),
                    pooled_sensitivity=_estimate(of_report[place], "sensitivity"),
                    pooled_specificity=_estimate(of_report[place], "specificity"),
                )
            )
        return tuple(found)

    def _risks(self, said: Scores, own_row: int | None) -> tuple[Channel, ...]:
        names = channel_names(self.label)
        found: list[Channel] = []
        low = high = 0.0
        for place in range(len(self.known)):
            calibrator = self._calibrator(place, own_row)
            if calibrator is None:
                found.append(Withheld(channel=names[place], reason=Reason.ONE_CLASS))
                continue
            score = float(said[place])
            interval = calibrator.interval(score)
            if self.label.time is not None:  # who has had the event by one edge has by the next
                low, high = max(low, interval.low), max(high, interval.high)
                interval = RiskInterval(low, high)
            found.append(
                Risk(
                    channel=names[place],
                    score=score,
                    risk=interval.risk,
                    low=interval.low,
                    high=interval.high,
                    calibrated_on=len(calibrator.scores),
                )
            )
        return tuple(found)

    def _calibrator(self, place: int, own_row: int | None) -> Calibrator | None:
        """None where all patients that calibrate are of one kind, or there is none."""
        # Who was lost before the edge of a prognosis does not calibrate, but says who stands in.
        if own_row is None or not (self.label.time or self.known[place][0][own_row]):
            return self._calibrators[place]
        return self._of(place, _others(len(self.outcomes.truth), own_row))

    def _of(self, place: int, chosen: Flags) -> Calibrator | None:
        """Of the `chosen` patients, as far as they are known there."""
        known, yes = self.known[place]
        rows = known & chosen
        if not 0 < int((rows & yes).sum()) < int(rows.sum()):
            return None
        weights = self._weights(place, chosen)[rows]
        return Calibrator.of(self.outcomes.outputs[rows, place], yes[rows], weights)

    def _weights(self, place: int, chosen: Flags) -> Scores:
        """[patients]: for how many each of the `chosen` counts; 1, but in a prognosis."""
        weights = np.ones(len(chosen))
        if self.label.time is not None:
            truth, edge = self.outcomes.truth[chosen], self.label.time.edges[place]
            weights[chosen] = stand_in_weights(truth[:, 0], truth[:, 1] > 0.5, edge)
        return weights

    def _time(self, time: TimeToEvent, said: Scores, own_row: int | None) -> Channel:
        """Until when the patient is without the event, at a stated rate."""
        name = f"{self.label.name} (time)"
        others = _others(len(self.outcomes.truth), own_row)
        times, events = self.outcomes.truth[others, 0], self.outcomes.truth[others, 1] > 0.5
        if not events.any():
            return Withheld(channel=name, reason=Reason.ONE_CLASS)
        risks = self.outcomes.outputs[others]
        bound = time_bound(times, events, risks, time.edges, error=ERROR)
        if bound is None:
            return Withheld(channel=name, reason=Reason.TOO_FEW)
        return Time(
            channel=name,
            unit=time.unit,
            low=bound.of(said),
            until=bound.until,
            error=ERROR,
            calibrated_on=len(times),
            events=int(events.sum()),
        )

    def _numbers(self, said: Scores, own_row: int | None) -> tuple[Channel, ...]:
        found: list[Channel] = []
        truth, others = self.outcomes.truth, _others(len(self.outcomes.truth), own_row)
        for place, target in enumerate(self.label.targets):
            known = others & ~np.isnan(truth[:, place])
            if target.range is None or not known.any():
                found.append(Withheld(channel=target.name, reason=Reason.NOT_EVALUATED))
                continue
            residuals = (truth - self.outcomes.outputs)[known, place]
            value, (start, end) = float(said[place]), target.range
            low, high = number_interval(value, residuals, error=ERROR, most=(0.0, 1.0))
            value, low, high = (start + part * (end - start) for part in (value, low, high))
            found.append(
                Number(
                    channel=target.name,
                    unit=target.unit,
                    value=value,
                    low=low,
                    high=high,
                    error=ERROR,
                    calibrated_on=int(known.sum()),
                )
            )
        return tuple(found)

    def _classes(self, said: Scores, own_row: int | None) -> ClassSet:
        others = np.flatnonzero(_others(len(self.outcomes.truth), own_row))
        true_classes = self.outcomes.truth[others].astype(np.int64)
        of_the_truth = self.outcomes.outputs[others, true_classes]
        kept = class_set(said, of_the_truth, error=ERROR)
        return ClassSet(
            classes=tuple(self.label.classes[place] for place in kept),
            error=ERROR,
            calibrated_on=len(others),
        )

    def _strangeness(self, said: Scores, own_row: int | None) -> Strangeness:
        scores = self.outcomes.outputs[_others(len(self.outcomes.outputs), own_row), 0]
        return Strangeness(
            channel=f"{self.label.name} (anomaly score)",
            score=float(said[0]),
            p=p_value(float(said[0]), scores),
            calibrated_on=len(scores),
        )


def _others(patients: int, own_row: int | None) -> Flags:
    others = np.ones(patients, dtype=np.bool_)
    if own_row is not None:
        others[own_row] = False
    return others


def _rate(right: Flags, weights: Scores) -> Rate | None:
    """The weighted part that is right; its interval is that of as many patients of equal weight.

    (Kish 1965, section 11.7: the effective size of a weighted sample)
    """
    if not len(right):
        return None
    share = float(weights[right].sum() / weights.sum())
    effective = float(weights.sum() ** 2 / (weights**2).sum())
    interval = wilson(share * effective, effective)
    return None if interval is None else Rate(value=share, low=interval[0], high=interval[1])


def _pooled(metrics: Json | None, channels: int) -> Sequence[Json]:
    """The metrics of each channel; empty ones where the report has none of a threshold."""
    if metrics is None:
        return [{}] * channels
    found = metrics.get("channels", [metrics])
    return found if len(found) == channels else [{}] * channels


def _estimate(metrics: Json, name: str) -> Rate | None:
    found = metrics.get(name)
    if not isinstance(found, dict) or found.get("low") is None or found.get("high") is None:
        return None
    return Rate(value=found["value"], low=found["low"], high=found["high"])
