"""Section E: the model's quality, computed again from the pooled counts in the log."""

import math
from collections.abc import Mapping

import numpy as np

from wardround.audit.attempts import Attempt, Release
from wardround.audit.bodies import EvaluationClosed
from wardround.audit.evidence import Evidence, Record
from wardround.audit.guarantee import planned_mechanism
from wardround.audit.report_evaluation import (
    BesideFacts,
    EvaluationFacts,
    GroupingFacts,
    MeasuredGroupingFacts,
    ShuffledFacts,
    ShuffledMetricFacts,
)
from wardround.audit.report_model import Origin, Place
from wardround.canonical import Json
from wardround.evaluation.layout import read_lanes
from wardround.evaluation.layouts import layout_of
from wardround.masking.round_spec import Purpose
from wardround.privacy.engine import GaussianEvaluation
from wardround.privacy.mechanism import SampledGaussian
from wardround.study.manifest import Study

_DETAILS = ("subgroups", "importance", "beside")


def evaluation_of(
    evidence: Evidence,
    attempts: tuple[Attempt, ...],
    releases: Mapping[str, tuple[Release, ...]],
) -> EvaluationFacts:
    """The last evaluation that was opened. Raises BadInput when its counts contradict themselves.

    Groups that may not be shown apart have no number here (`wardround.evaluation.suppression`).

    Without an opened evaluation the metrics are NOT AVAILABLE, never a default.
    """
    plan = evidence.study.evaluation
    opened = [a for a in attempts if a.purpose is Purpose.EVALUATE and a.counted]
    last = opened[-1] if opened else None
    closed = _closed(last)
    metrics = _metrics(evidence.study, last, closed, releases) if last and closed else None
    details = {name: metrics.pop(name, ()) for name in _DETAILS} if metrics else {}
    return EvaluationFacts(
        origin=Origin.RECOMPUTED if closed else Origin.NOT_AVAILABLE,
        counts=plan.counts,
        threshold=plan.threshold,
        registered=plan.registered.isoformat(),
        hospitals=last.survivors if last else (),
        place=Place(log=closed.log, seq=closed.seq) if closed else None,
        metrics=metrics,
        subgroups=tuple(map(_grouping, details.get("subgroups", ()))),
        importance=tuple(map(_shuffled, details.get("importance", ()))),
        beside=tuple(map(BesideFacts.model_validate, details.get("beside", ()))),
    )


def _grouping(found: Json) -> GroupingFacts | MeasuredGroupingFacts:
    kind = MeasuredGroupingFacts if "compared_by" in found else GroupingFacts
    return kind.model_validate(found)


def _shuffled(found: Json) -> ShuffledFacts | ShuffledMetricFacts:
    kind = ShuffledMetricFacts if "metric" in found else ShuffledFacts
    return kind.model_validate(found)


def _closed(attempt: Attempt | None) -> Record[EvaluationClosed] | None:
    if attempt is None or attempt.end is None or not isinstance(attempt.end.body, EvaluationClosed):
        return None
    return Record(attempt.end.log, attempt.end.seq, attempt.end.time, attempt.end.body)


def _metrics(
    study: Study,
    attempt: Attempt,
    closed: Record[EvaluationClosed],
    releases: Mapping[str, tuple[Release, ...]],
) -> Json:
    noise = 0.0
    if study.evaluation.counts == "noised":
        noise = math.sqrt(
            sum(_variance(study, attempt, releases.get(name)) for name in attempt.survivors)
        )
    layout = layout_of(study)
    counts = read_lanes(np.array(closed.body.counts, dtype=np.int64), layout)
    metrics: Json = layout.metrics(
        counts, cell_noise_sd=noise * math.sqrt(layout.squared_sensitivity)
    )
    return metrics


def _variance(study: Study, attempt: Attempt, releases: tuple[Release, ...] | None) -> float:
    """Variance of the noise that one hospital added to each cell, for a sensitivity of 1."""
    for release in releases or ():
        if release.transcript == attempt.transcript and isinstance(
            release.engine, GaussianEvaluation
        ):
            return release.engine.noise_multiplier**2
    planned = planned_mechanism(study, Purpose.EVALUATE)
    return planned.noise_multiplier**2 if isinstance(planned, SampledGaussian) else 0.0
