"""Noise shares: what a hospital did against what the study's public constants say."""

from collections.abc import Iterator
from typing import Final

from wardround.masking.round_spec import RoundSpec
from wardround.privacy.engine import DistributedEngine, StatisticsEngine
from wardround.privacy.noise_shares import NoiseShare
from wardround.protocol.specs import statistics_share_of, training_share
from wardround.study.manifest import Study

# Both sides compute the same float64 numbers; a hospital's own arithmetic may differ in the last.
SENSITIVITY_TOLERANCE: Final = 1e-9


def share_faults(
    study: Study, spec: RoundSpec, engine: DistributedEngine | StatisticsEngine
) -> Iterator[str]:
    """Why the shares of one attempt's noise are less than `engine` makes them.

    A sum opens with at least a threshold of its cohort, so that many but the study's colluders
    have honest shares in it; how far one unit moves a vector of lanes follows from the study and
    the spec alone.
    """
    due = _share_due(study, spec, engine)
    if engine.honest > due.honest:
        yield (
            f"its noise counts on {engine.honest} honest hospitals, {spec.threshold} of a cohort "
            f"of {len(spec.cohort)} with {study.privacy.colluders} colluders have {due.honest}"
        )
    if engine.sensitivity_lanes < due.sensitivity_lanes * (1.0 - SENSITIVITY_TOLERANCE):
        yield (
            f"its noise stands against a sensitivity of {engine.sensitivity_lanes:.1f} lanes, the "
            f"study's constants give {due.sensitivity_lanes:.1f}"
        )


def _share_due(
    study: Study, spec: RoundSpec, engine: DistributedEngine | StatisticsEngine
) -> NoiseShare:
    if isinstance(engine, StatisticsEngine):
        return statistics_share_of(study, len(spec.cohort))
    return training_share(study, len(spec.cohort), spec.lanes)
