"""The loss of each record: outputs and targets of n records -> n losses, not reduced.

A loss looks at no other record, so that the sum over patients can be clipped patient by patient.
That rules out Cox's partial likelihood, whose risk sets mix patients; the discrete-time hazard
stands in for it (Tutz and Schmid 2016, ch. 3).
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from wardround.study.contract import LabelKind, TimeToEvent
from wardround.study.manifest import StudyPlan

PerRecordLoss = Callable[[Tensor, Tensor], Tensor]
"""Outputs [records, ...] and targets [records, ...] -> losses [records]."""


def binary_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of each record: logits [records, 1], labels [records] of 0 and 1."""
    return nn.functional.binary_cross_entropy_with_logits(
        logits.squeeze(-1), labels, reduction="none"
    )


def class_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy over classes: logits [records, classes], labels [records], class numbers."""
    return nn.functional.cross_entropy(logits, labels.long(), reduction="none")


def multi_label_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over all targets of the cross entropies, a missing (NaN) label counting as 0.

    Logits and labels [records, targets]. It divides by the number of targets, which is public, so
    a record with few labels weighs less.
    """
    known = ~labels.isnan()
    # A NaN under torch.where still reaches the gradient: it is replaced before the logarithm.
    losses = nn.functional.binary_cross_entropy_with_logits(
        logits, torch.where(known, labels, 0.0), reduction="none"
    )
    return (losses * known).mean(dim=1)


def squared_loss(values: Tensor, targets: Tensor) -> Tensor:
    """Mean over all targets of the squared errors, a missing (NaN) target counting as 0.

    Values and targets [records, targets], scaled to [-1, 1] by the contract's ranges.
    """
    known = ~targets.isnan()
    errors = values - torch.where(known, targets, 0.0)
    return (errors * errors * known).mean(dim=1)


def hazard_loss(time: TimeToEvent) -> PerRecordLoss:
    """Negative log likelihood of discrete-time hazards on the public axis `time`.

    The loss takes logits [records, intervals] and targets [records, 2]: a time, and 1 for an event
    or 0 for the end of follow-up. Every interval that is survived adds -log(1 - hazard), the one
    with the event adds -log(hazard). Follow-up that ends inside an interval tells nothing about
    that interval. (Tutz and Schmid 2016, 3.4)
    """
    ends = torch.tensor(time.edges, dtype=torch.float32)
    starts = torch.cat([torch.zeros(1), ends[:-1]])

    def loss(logits: Tensor, targets: Tensor) -> Tensor:
        times, events = targets[:, :1], targets[:, 1:]
        survived = times >= ends
        died = (times >= starts) & ~survived & (events > 0.5)
        losses = nn.functional.binary_cross_entropy_with_logits(
            logits, died.to(logits.dtype), reduction="none"
        )
        return (losses * (survived | died)).sum(dim=1)

    return loss


def reconstruction_loss(outputs: Tensor, inputs: Tensor) -> Tensor:
    """Mean squared error over the features of each record: two times [records, ...]."""
    errors = outputs - inputs
    return (errors * errors).flatten(1).mean(dim=1)


def loss_of(study: StudyPlan) -> PerRecordLoss:
    """The loss that goes with the study's label."""
    label = study.contract.label
    if label.time is not None:
        return hazard_loss(label.time)
    if label.kind is LabelKind.TARGETS:
        return squared_loss if label.numbers else multi_label_loss
    of_kind = {
        LabelKind.BINARY: binary_loss,
        LabelKind.CLASSES: class_loss,
        LabelKind.NONE: reconstruction_loss,
    }
    return of_kind[label.kind]
