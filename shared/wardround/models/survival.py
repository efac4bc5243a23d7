"""Family survival: one table row -> the hazard of each public interval.

A logistic regression here has one linear layer for each interval: hazards are not proportional.
With an MLP they share its hidden layers.
"""

from torch import nn

from wardround.models import risk
from wardround.study.manifest import StudyPlan


def network(study: StudyPlan) -> nn.Module:
    """The study's network: [records, features] -> logits of hazards [records, intervals]."""
    return risk.network(study)
