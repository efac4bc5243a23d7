"""Family survival: one table row -> the hazard of each public interval.

A logistic regression here has one linear layer for each interval: hazards are not proportional.
With an MLP they share its hidden layers.
"""

import math

from torch import nn

from wardround.errors import BadInput
from wardround.models import risk
from wardround.study.manifest import StudyPlan

START_HAZARD = 0.05  # at one half, the first rounds would be spent on the way down


def network(study: StudyPlan) -> nn.Module:
    """The study's network: [records, features] -> logits of hazards [records, intervals].

    It starts at a hazard of 5 % in every interval, which is public and no patient's.
    """
    built = risk.network(study)
    *_, last = built.modules()
    if not isinstance(last, nn.Linear) or last.bias is None:
        raise BadInput(f"task: model {study.task.model} does not end in a linear layer")
    nn.init.constant_(last.bias, math.log(START_HAZARD / (1.0 - START_HAZARD)))
    return built
