"""Whether hospitals count by their patients, and what the coordinator makes of the opened sum.

With `training.weighting = "patients"` the masked vector is [w, w x loss, w x update]: a small whole
number w, the training loss of the model as it came, in 1024ths, and the update, each times w. So
neither a count nor a metric of one hospital is ever seen, only those of the sum.
"""

from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from wardround.errors import ProtocolViolation
from wardround.masking.keystream import CHUNK_WORDS
from wardround.masking.quantise import Lanes, dequantise
from wardround.masking.round_spec import RoundSpec
from wardround.study.manifest import StudyPlan

HEAD_LANES: Final = 2  # weight and loss, before the parameters
LOSS_STEPS: Final = 1024  # the loss is rounded to this part


class MeanUpdate(NamedTuple):
    """The mean over the survivors, float32 [parameters]; `loss` where hospitals are weighted.

    `weight` is the sum of their weights, or their number.
    """

    values: npt.NDArray[np.float32]
    weight: int
    loss: float | None


def weighs_patients(study: StudyPlan) -> bool:
    """Whether a hospital with more patients moves the model further."""
    return study.training.weighting == "patients"


def head_lanes(study: StudyPlan) -> int:
    """How many lanes a training sum has before those of the parameters."""
    return HEAD_LANES if weighs_patients(study) else 0


def most_weight(study: StudyPlan) -> int:
    """The largest factor of an update in the masked vector; 1 where all count the same."""
    return study.training.weight_most or 1


def weight_of(patients: int, study: StudyPlan) -> int:
    """A hospital's weight: its training patients over the study's unit, rounded, 1 to the most."""
    unit = study.training.weight_unit or 1
    return min(max(1, round(patients / unit)), most_weight(study))


def mean_update(total: Lanes, study: StudyPlan, spec: RoundSpec, *, hospitals: int) -> MeanUpdate:
    """The mean over so many hospitals of an opened training sum, int32 [spec.lanes].

    Raises ProtocolViolation when the sum of the weights is none that so many can have.
    """
    if not weighs_patients(study):
        return MeanUpdate(_mean(total, spec, hospitals), hospitals, None)
    weight, loss = int(total[0]), int(total[1])
    most = hospitals * most_weight(study)
    if not hospitals <= weight <= most:
        raise ProtocolViolation(
            f"{spec.where}: the weights sum to {weight}, {hospitals} to {most} was due for "
            f"{hospitals} hospitals"
        )
    mean = _mean(total[HEAD_LANES:], spec, weight)
    return MeanUpdate(mean, weight, loss / LOSS_STEPS / weight)


def _mean(total: Lanes, spec: RoundSpec, weight: int) -> npt.NDArray[np.float32]:
    """Divided in float64, block by block: two such vectors of a large model took longer."""
    mean = np.empty(total.size, dtype=np.float32)
    for start in range(0, total.size, CHUNK_WORDS):
        block = slice(start, start + CHUNK_WORDS)
        mean[block] = dequantise(total[block], scale=spec.scale) / weight
    return mean
