"""What a network's output means: channels of [0, 1], which evaluation counts."""

from collections.abc import Callable

import torch
from torch import Tensor

from wardround.models.losses import reconstruction_loss
from wardround.study.contract import LabelKind
from wardround.study.manifest import StudyPlan

Reading = Callable[[Tensor, Tensor], Tensor]
"""Outputs and features of n records -> [records, channels], all in [0, 1], float64."""


def risk(outputs: Tensor, _features: Tensor) -> Tensor:
    """Probability of each channel: logits [records, channels]."""
    return torch.sigmoid(outputs).double()


def class_probabilities(outputs: Tensor, _features: Tensor) -> Tensor:
    """Probabilities that sum to one: logits [records, classes]."""
    return torch.softmax(outputs.double(), dim=1)


def value(outputs: Tensor, _features: Tensor) -> Tensor:
    """A number as its place in the contract's range: [-1, 1] becomes [0, 1], cut at the ends."""
    return ((outputs.double() + 1.0) / 2.0).clamp(0.0, 1.0)


def event_probabilities(outputs: Tensor, _features: Tensor) -> Tensor:
    """Probability of the event until the end of each interval: logits of hazards.

    1 - the product of the survived intervals; it never falls from one channel to the next.
    """
    # log(1 - sigmoid(z)) = logsigmoid(-z): no difference of two numbers close to one.
    survived = torch.nn.functional.logsigmoid(-outputs.double()).cumsum(dim=1)
    return -torch.expm1(survived)


def anomaly(outputs: Tensor, features: Tensor) -> Tensor:
    """Reconstruction error e as e / (1 + e): the more a record is unlike what was learned."""
    error = reconstruction_loss(outputs.double(), features.double())
    return (error / (1.0 + error)).unsqueeze(1)


def reading_of(study: StudyPlan) -> Reading:
    """How the outputs for the study's label are read."""
    label = study.contract.label
    if label.numbers:
        return value
    of_kind = {
        LabelKind.BINARY: risk,
        LabelKind.TARGETS: risk,
        LabelKind.CLASSES: class_probabilities,
        LabelKind.TIME_TO_EVENT: event_probabilities,
        LabelKind.NONE: anomaly,
    }
    return of_kind[label.kind]
