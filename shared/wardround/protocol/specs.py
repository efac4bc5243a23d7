"""The one RoundSpec that a study allows for an attempt; both sides build it and compare."""

import hashlib

import numpy as np
import numpy.typing as npt

from wardround.errors import ProtocolViolation
from wardround.evaluation.histograms import CountsLayout, CountsMode
from wardround.masking.quantise import choose_scale, largest_limit
from wardround.masking.round_spec import Purpose, RoundSpec
from wardround.study.manifest import Study, StudyPlan


def attempt_spec(
    study: Study,
    *,
    run: str,
    session: str,
    round_number: int,
    attempt: int,
    cohort: tuple[str, ...],
    directory_digest: str,
    model: npt.NDArray[np.float32],
) -> RoundSpec:
    """The spec of an attempt. Rounds 0 to count - 1 train, round `count` evaluates.

    Training has one lane per parameter, scaled to the study's bound; evaluation has whole counts.
    Raises ProtocolViolation for a round that the study does not have.
    """
    last = study.rounds.count
    if round_number > last:
        raise ProtocolViolation(f"round spec: round {round_number}, the study ends with {last}")
    trains = round_number < last
    return RoundSpec(
        purpose=Purpose.TRAIN if trains else Purpose.EVALUATE,
        run=run,
        session=session,
        study_digest=study.digest,
        round=round_number,
        attempt=attempt,
        cohort=cohort,
        directory_digest=directory_digest,
        model_digest=model_digest(model),
        lanes=model.size if trains else evaluation_layout(study).lanes,
        scale=choose_scale(study.training.update_bound, len(cohort)) if trains else 1.0,
        limit=largest_limit(len(cohort)),
        minimum=study.masking.minimum_hospitals,
    )


def evaluation_layout(study: StudyPlan) -> CountsLayout:
    """How the study's evaluation counts are laid out in the vector that travels."""
    plan = study.evaluation
    return CountsLayout(mode=CountsMode(plan.counts), bins=plan.bins)


def check_spec(spec: RoundSpec, study: Study, model: npt.NDArray[np.float32]) -> None:
    """Refuse a spec that is not the study's own. Raises ProtocolViolation naming the field."""
    due = attempt_spec(
        study,
        run=spec.run,
        session=spec.session,
        round_number=spec.round,
        attempt=spec.attempt,
        cohort=spec.cohort,
        directory_digest=spec.directory_digest,
        model=model,
    )
    came = spec.to_json()
    for name, value in due.to_json().items():
        if came[name] != value:
            raise ProtocolViolation(f"round spec: {name} is not what the study says")
    if not set(spec.cohort) <= set(study.names()):
        raise ProtocolViolation("round spec: the cohort is not within the study's roster")


def model_digest(model: npt.NDArray[np.float32]) -> str:
    """SHA-256 over the parameters as little-endian float32, 64 hex digits."""
    return hashlib.sha256(np.ascontiguousarray(model, dtype="<f4").tobytes()).hexdigest()
