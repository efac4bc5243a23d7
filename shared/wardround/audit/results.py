"""Section E: the model's quality, computed again from the pooled counts in the log."""

import math
from collections.abc import Mapping

import numpy as np

from wardround.audit.attempts import Attempt, Release
from wardround.audit.bodies import EvaluationClosed
from wardround.audit.evidence import Evidence, Record
from wardround.audit.guarantee import planned_mechanism
from wardround.audit.report_model import EvaluationFacts, Origin, Place
from wardround.evaluation.histograms import CountsLayout, CountsMode, EvaluationCounts
from wardround.evaluation.metrics import evaluate_counts
from wardround.masking.round_spec import Purpose
from wardround.privacy.engine import GaussianEvaluation
from wardround.privacy.mechanism import SampledGaussian
from wardround.study.manifest import Study


def evaluation_of(
    evidence: Evidence,
    attempts: tuple[Attempt, ...],
    releases: Mapping[str, tuple[Release, ...]],
) -> EvaluationFacts:
    """The last evaluation that was opened. Raises BadInput when its counts contradict themselves.

    Without an opened evaluation the metrics are NOT AVAILABLE, never a default.
    """
    plan = evidence.study.evaluation
    opened = [a for a in attempts if a.purpose is Purpose.EVALUATE and a.counted]
    last = opened[-1] if opened else None
    closed = _closed(last)
    return EvaluationFacts(
        origin=Origin.RECOMPUTED if closed else Origin.NOT_AVAILABLE,
        counts=plan.counts,
        threshold=plan.threshold,
        registered=plan.registered.isoformat(),
        hospitals=last.survivors if last else (),
        place=Place(log=closed.log, seq=closed.seq) if closed else None,
        metrics=_metrics(evidence.study, last, closed, releases) if last and closed else None,
    )


def counts_of(study: Study, lanes: tuple[int, ...]) -> EvaluationCounts:
    """Read logged counts in the study's layout. Raises BadInput when they do not fit it."""
    layout = CountsLayout(mode=CountsMode(study.evaluation.counts), bins=study.evaluation.bins)
    return EvaluationCounts.from_lanes(np.array(lanes, dtype=np.int64), layout)


def _closed(attempt: Attempt | None) -> Record[EvaluationClosed] | None:
    if attempt is None or attempt.end is None or not isinstance(attempt.end.body, EvaluationClosed):
        return None
    return Record(attempt.end.log, attempt.end.seq, attempt.end.time, attempt.end.body)


def _metrics(
    study: Study,
    attempt: Attempt,
    closed: Record[EvaluationClosed],
    releases: Mapping[str, tuple[Release, ...]],
) -> dict[str, object]:
    noise = 0.0
    if study.evaluation.counts == "noised":
        noise = math.sqrt(
            sum(_variance(study, attempt, releases.get(name)) for name in attempt.survivors)
        )
    counts = counts_of(study, closed.body.counts)
    return evaluate_counts(
        counts, threshold=study.evaluation.threshold, cell_noise_sd=noise
    ).to_json()


def _variance(study: Study, attempt: Attempt, releases: tuple[Release, ...] | None) -> float:
    """Variance of the noise that one hospital added to each cell (sensitivity 1)."""
    for release in releases or ():
        if release.transcript == attempt.transcript and isinstance(
            release.engine, GaussianEvaluation
        ):
            return release.engine.noise_multiplier**2
    planned = planned_mechanism(study, Purpose.EVALUATE)
    return planned.noise_multiplier**2 if isinstance(planned, SampledGaussian) else 0.0
