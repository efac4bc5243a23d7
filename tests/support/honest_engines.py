"""What an honest engine logs of each release."""

import hashlib
from functools import lru_cache

from wardround.canonical import Json
from wardround.masking.round_spec import Purpose, RoundSpec
from wardround.privacy.accounting import gaussian_count_noise, noise_for
from wardround.protocol.specs import (
    statistics_share_of,
    training_share,
)
from wardround.study.manifest import Mechanism, Study


def engine_of(study: Study, spec: RoundSpec, name: str) -> Json:
    """What an honest engine logs."""
    if spec.purpose is Purpose.STATISTICS:
        counted = statistics_share_of(study, len(spec.cohort))
        return {
            "mechanism": "statistics-gaussian",
            "share_variance": counted.variance,
            "sensitivity_lanes": counted.sensitivity_lanes,
            "honest": counted.honest,
        }
    if spec.purpose is Purpose.EVALUATE:
        if study.evaluation.epsilon is None:
            return {"mechanism": "exact"}
        assert study.privacy.delta is not None
        noise = gaussian_count_noise(study.evaluation.epsilon, study.privacy.delta)
        return {"mechanism": "gaussian", "noise_multiplier": noise}
    mechanism = study.privacy.mechanism
    done: Json = {
        "mechanism": mechanism.value,
        "clip_norm_l2": study.privacy.clip_norm_l2,
        "sampling_rate": study.privacy.sampling_rate,
        "records_per_patient": study.privacy.records_per_patient,
        "batches_commitment": hashlib.sha256(f"salt/{name}".encode()).hexdigest(),
        "truncation": study.privacy.truncation,
    }
    if mechanism is not Mechanism.DISTRIBUTED:
        return done | {"noise_multiplier": _noise(study), "steps": study.training.local_steps}
    share = training_share(study, len(spec.cohort), spec.lanes)
    return done | {
        "share_variance": share.variance,
        "sensitivity_lanes": share.sensitivity_lanes,
        "honest": share.honest,
    }


@lru_cache(maxsize=16)
def _noise(study: Study) -> float:
    if study.privacy.epsilon is None or study.privacy.delta is None:
        return 0.0
    return noise_for(
        study.privacy.epsilon,
        delta=study.privacy.delta,
        sampling_rate=study.privacy.sampling_rate,
        steps=study.attempts * study.training.local_steps,
    )
