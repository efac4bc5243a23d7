"""One interface for all families of models, from the study to what evaluation counts.

A family is one file with a `network`; what it learns and what its outputs mean follows from the
study's label, unless the family says otherwise. `family_of(study)` is all that a round asks.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from wardround.models import autoencoder, gan, image, registered, response, risk, series, survival
from wardround.models.losses import PerRecordLoss, loss_of
from wardround.models.readings import Reading, reading_of
from wardround.study.manifest import StudyPlan
from wardround.study.task import FamilyName

RECORDS_AT_ONCE = 256


def labels_themselves(_features: Tensor, labels: Tensor) -> Tensor:
    """A network learns its labels, unless its family says otherwise."""
    return labels


def inputs_themselves(features: Tensor, _labels: Tensor) -> Tensor:
    """An autoencoder learns its input; a label does not reach its training."""
    return features


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What a family of models is.

    `network` builds it from the study: [records, *contract.input_shape()] -> outputs
    [records, ...], free of BatchNorm and of dropout. `loss` gives the loss of each record from
    outputs and targets; `targets` makes these from features and labels. `reading` turns outputs
    into channels in [0, 1].
    """

    network: Callable[[StudyPlan], nn.Module]
    loss: Callable[[StudyPlan], PerRecordLoss] = loss_of
    targets: Callable[[Tensor, Tensor], Tensor] = labels_themselves
    reading: Callable[[StudyPlan], Reading] = reading_of


FAMILIES: dict[FamilyName, Family] = {
    FamilyName.RISK: Family(network=risk.network),
    FamilyName.IMAGE: Family(network=image.network),
    FamilyName.SURVIVAL: Family(network=survival.network),
    FamilyName.SERIES: Family(network=series.network),
    FamilyName.RESPONSE: Family(network=response.network),
    FamilyName.AUTOENCODER: Family(network=autoencoder.network, targets=inputs_themselves),
    FamilyName.GAN: Family(network=gan.network),
}


def family_of(study: StudyPlan) -> Family:
    """The family that the study names; an own model takes the place of its network alone."""
    family = FAMILIES[study.task.family]
    return family if study.task.own is None else replace(family, network=registered.network)


def readings(
    network: nn.Module,
    features: Tensor,
    study: StudyPlan,
    *,
    records_at_once: int = RECORDS_AT_ONCE,
) -> npt.NDArray[np.float64]:
    """What the network says of each record: [records, ...] -> [records, channels] in [0, 1].

    The channels are those that `wardround.evaluation.layouts.layout_of(study)` counts. Records go
    through in parts of `records_at_once`, which bounds the memory. The network is left in mode
    evaluation.
    """
    read = family_of(study).reading(study)
    network.eval()
    with torch.inference_mode():
        parts = []
        for start in range(0, len(features), records_at_once):
            part = features[start : start + records_at_once]
            parts.append(read(network(part), part).numpy())
    none = np.zeros((0, max(1, len(study.contract.label.channels))))
    return np.concatenate([none, *parts])
