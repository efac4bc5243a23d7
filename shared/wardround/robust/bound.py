"""How long the mean of a group can be when every hospital in it ran the engine that the study set.

A longer one shows that somebody did not. No bound is tight: it holds for the worst patients.
"""

import math
from typing import Final

from wardround.masking.round_spec import RoundSpec
from wardround.privacy.noise_shares import BATCHES_IN_RANGE
from wardround.protocol.specs import training_share
from wardround.protocol.weighting import head_lanes
from wardround.study.manifest import Mechanism, StudyPlan
from wardround.study.training import ADAM_BETA_1, ADAM_BETA_2

# The length of Gaussian noise in d dimensions is beyond sqrt(d) + 6 deviations with probability
# below 2e-8 (Laurent and Massart 2000, lemma 1).
_TAIL_DEVIATIONS: Final = 6.0
# A step of Adam moves a coordinate by at most so many learning rates: its first moment over the
# root of its second, by Cauchy and Schwarz; the bias corrections only shorten it.
_ADAM_MOST: Final = (1 - ADAM_BETA_1) / math.sqrt(
    (1 - ADAM_BETA_2) * (1 - ADAM_BETA_1**2 / ADAM_BETA_2)
)


def longest_mean_l2(study: StudyPlan, spec: RoundSpec, *, survivors: int) -> float:
    """The L2 norm that the mean over so many survivors of a group stays below.

    No coordinate of an update changes by more than `training.update_bound`. With mechanisms local
    and distributed a step is one of clipped gradients, of batches up to twice the expected one,
    and the noise is on top. Weight decay moves with the model: the first bound is all then. A step
    of Adam is bounded whatever its gradients are, noise and decay included.
    """
    parameters = spec.lanes - head_lanes(study)
    box = study.training.update_bound * math.sqrt(parameters)
    if study.training.optimiser == "adam":
        of_steps = study.training.local_steps * study.training.learning_rate * _ADAM_MOST
        return min(box, of_steps * math.sqrt(parameters))
    if study.privacy.mechanism is Mechanism.NONE or study.training.weight_decay:
        return box
    training = study.training
    # A step lives on in the momentum of those behind it: 1 + m + m^2 + ...
    reach = training.learning_rate / (1.0 - training.momentum)
    steps = training.local_steps * BATCHES_IN_RANGE * reach * study.privacy.clip_norm_l2
    return min(box, steps + _noise_l2(study, spec, survivors, parameters, reach))


def _noise_l2(
    study: StudyPlan, spec: RoundSpec, survivors: int, parameters: int, reach: float
) -> float:
    """What the noise of a mean over so many hospitals adds to its length."""
    if study.privacy.mechanism is Mechanism.DISTRIBUTED:
        share = training_share(study, len(spec.cohort), spec.lanes)
        of_one = math.sqrt(share.variance) / spec.scale
    else:
        of_step = (
            study.noise_multiplier() * study.privacy.clip_norm_l2 / study.training.expected_batch
        )
        of_one = reach * of_step * math.sqrt(study.training.local_steps)
    deviation = of_one / math.sqrt(survivors)
    return deviation * (math.sqrt(parameters) + _TAIL_DEVIATIONS)
