"""Section F: the patients in numbers, computed again from the noised sums in the log."""

from collections.abc import Mapping
from typing import Any

from wardround.audit.attempts import Attempt
from wardround.audit.bodies import StatisticsClosed
from wardround.audit.evidence import Evidence
from wardround.audit.guarantee import Charge, rounded_up
from wardround.audit.report_model import (
    Figure,
    Origin,
    Place,
    StatisticsFacts,
    declared,
    not_available,
    recomputed,
)
from wardround.protocol.specs import (
    standardises,
    statistics_layout,
    statistics_noise_lanes,
)
from wardround.statistics.layout import StatisticsLayout
from wardround.statistics.released import ReleasedStatistics
from wardround.statistics.scaling import standardisations
from wardround.study.manifest import Study

_DIGITS = 6


def statistics_of(
    evidence: Evidence, attempts: tuple[Attempt, ...], charges: Mapping[str, Charge]
) -> StatisticsFacts:
    """The statistics that were opened. Raises BadInput when the sums do not fit the study.

    Without any, the estimates are NOT AVAILABLE, never a default.
    """
    study, plan = evidence.study, evidence.study.statistics
    opened = [a for a in attempts if a.end and isinstance(a.end.body, StatisticsClosed)]
    last = opened[-1] if plan is not None and opened else None
    released = None if last is None else _released(study, last)
    return StatisticsFacts(
        origin=Origin.RECOMPUTED if released else Origin.NOT_AVAILABLE,
        asked=plan is not None,
        standardise=standardises(study),
        epsilon=_epsilon(study, charges),
        epsilon_ceiling=declared(plan.epsilon if plan else None, "the study's, for statistics"),
        hospitals=last.survivors if last else (),
        place=Place(log=last.end.log, seq=last.end.seq) if last and last.end else None,
        estimates=_estimates(study, released) if released else None,
        scales=_scales(study, released) if released and standardises(study) else (),
    )


def _released(study: Study, attempt: Attempt) -> ReleasedStatistics | None:
    if attempt.end is None or not isinstance(attempt.end.body, StatisticsClosed):
        return None
    return released_in(attempt, attempt.end.body, statistics_layout(study))


def released_in(
    attempt: Attempt, closed: StatisticsClosed, layout: StatisticsLayout
) -> ReleasedStatistics:
    """What an attempt released, as hospitals got it. Raises BadInput for sums that do not fit."""
    value = {
        "hospitals": len(attempt.survivors),
        "asked": len(attempt.spec.cohort),
        "sums": list(closed.sums),
    }
    return ReleasedStatistics.from_json(value, layout)


def _epsilon(study: Study, charges: Mapping[str, Charge]) -> Figure:
    """What the statistics alone cost the worst-off patient of any hospital."""
    delta = study.privacy.delta
    charged = [charge for charge in charges.values() if charge.statistics]
    if delta is None or not charged:
        return not_available("no statistics were released")
    worst = max(charge.statistics_epsilon(delta) for charge in charged)
    return recomputed(rounded_up(worst), "of all statistics attempts, before training is added")


def _estimates(study: Study, released: ReleasedStatistics) -> dict[str, Any]:
    found = released.estimates(statistics_noise_lanes(study, released)).to_json()
    rounded: dict[str, Any] = _rounded(found)
    return rounded


def _scales(study: Study, released: ReleasedStatistics) -> tuple[dict[str, Any], ...]:
    found = standardisations(released, statistics_noise_lanes(study, released))
    return tuple(_rounded(scale.to_json()) for scale in found)


def _rounded(value: Any) -> Any:
    """The same JSON with six digits in every number: the last bits differ between machines."""
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value
