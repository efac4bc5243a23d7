"""A model's digest, and its two halves: what hospitals train, and what is made of it behind them.

Only family gan has a second half (`StudyPlan.made_from`). No lane of a masked vector belongs to it,
no patient's record reaches it, and its digest is inside that of the whole: so who replays the sums
can check the whole's digest without making the second half anew.
"""

import hashlib

import numpy as np
import numpy.typing as npt

from wardround.statistics.released import ReleasedStatistics
from wardround.study.manifest import StudyPlan
from wardround.vectors import bytes_of

Model = npt.NDArray[np.float32]


def trained_parameters(study: StudyPlan, parameters: int) -> int:
    """How many of so many parameters hospitals train: all of them, or those of the first half."""
    return parameters if study.made_from is None else study.made_from


def first_half(study: StudyPlan, model: Model) -> Model:
    """What hospitals train, float32 [trained parameters]."""
    return model[: study.made_from]


def made_digest(study: StudyPlan, model: Model) -> str | None:
    """SHA-256 over the second half as little-endian float32, 64 hex digits; None without one."""
    if study.made_from is None:
        return None
    return hashlib.sha256(bytes_of(np.asarray(model[study.made_from :], dtype="<f4"))).hexdigest()


def whole_update(study: StudyPlan, mean: Model, *, parameters: int) -> Model:
    """The mean update of the first half as one of the whole model: the second half stays."""
    if study.made_from is None:
        return mean
    return np.concatenate([mean, np.zeros(parameters - mean.size, dtype=np.float32)])


def digest_of_model(
    study: StudyPlan,
    model: Model,
    released: ReleasedStatistics | None = None,
) -> str:
    """The digest of the study's whole model: `model_digest` of its halves, where it has two."""
    return model_digest(first_half(study, model), released, made=made_digest(study, model))


def model_digest(
    model: Model,
    released: ReleasedStatistics | None = None,
    *,
    made: str | None = None,
) -> str:
    """SHA-256 over the parameters as little-endian float32, 64 hex digits.

    Of a model in two halves over those that hospitals train, and then over `made`, the 32 bytes of
    the other half's digest. Where the study standardises, the 32 bytes of the released statistics'
    digest follow: hospitals that scale differently would train different models, and their masks
    do not cancel then.
    """
    hashed = hashlib.sha256(bytes_of(np.asarray(model, dtype="<f4")))
    for digest in (made, None if released is None else released.digest):
        if digest is not None:
            hashed.update(bytes.fromhex(digest))
    return hashed.hexdigest()
