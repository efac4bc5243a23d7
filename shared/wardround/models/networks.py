"""The networks, each from a study's task and contract to one logit per record.

clinical.md names them. All of them are free of BatchNorm, whose statistics would mix patients.
"""

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor, nn

from wardround.errors import BadInput
from wardround.study.manifest import Model, StudyPlan


def logistic_regression(study: StudyPlan) -> nn.Module:
    """Linear layer to one logit, started at zero: [records, features] -> [records, 1]."""
    (features,) = study.contract.input_shape()
    layer = nn.Linear(features, 1)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def mlp(study: StudyPlan) -> nn.Module:
    """Hidden layers with ReLU, then one logit: [records, features] -> [records, 1]."""
    (width,) = study.contract.input_shape()
    layers: list[nn.Module] = []
    for hidden in study.task.hidden:
        layers += [nn.Linear(width, hidden), nn.ReLU()]
        width = hidden
    return nn.Sequential(*layers, nn.Linear(width, 1))


def reference_cnn(study: StudyPlan) -> nn.Module:
    """The reference CNN of clinical.md: [records, channels, height, width] -> [records, 1].

    Conv 32 3x3, ReLU, pool, Conv 64, ReLU, pool, Conv 64, ReLU, FC 64, FC 1. Convolutions have no
    padding, so 32x32 becomes 15, 6 and 4 pixels.
    """
    channels, height, width = study.contract.input_shape()
    rows, columns = (_side_after_three_convolutions(side) for side in (height, width))
    return nn.Sequential(
        nn.Conv2d(channels, 32, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(64, 64, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64 * rows * columns, 64),
        nn.ReLU(),
        nn.Linear(64, 1),
    )


_NETWORKS: dict[Model, Callable[[StudyPlan], nn.Module]] = {
    Model.LOGISTIC_REGRESSION: logistic_regression,
    Model.MLP: mlp,
    Model.REFERENCE_CNN: reference_cnn,
}


def build(study: StudyPlan) -> nn.Module:
    """Build the study's network with its public starting values.

    The start is a function of the study's name alone: coordinator and hospitals agree on it, and
    no randomness of a hospital enters.
    """
    seed = hashlib.sha256(b"wardround/1 start " + study.name.encode()).digest()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int.from_bytes(seed[:8], "big") >> 1)
        return _NETWORKS[study.task.model](study)


def parameters_of(model: nn.Module) -> Tensor:
    """All parameters as one flat float32 vector, in the order of `named_parameters`."""
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


def load_parameters(model: nn.Module, vector: Tensor) -> None:
    """Write a flat vector into the model. Raises BadInput when the length differs."""
    due = sum(p.numel() for p in model.parameters())
    if vector.shape != (due,):
        raise BadInput(f"model: {due} parameters are due, shape {tuple(vector.shape)} came")
    start = 0
    with torch.no_grad():
        for parameter in model.parameters():
            part = vector[start : start + parameter.numel()]
            parameter.copy_(part.reshape(parameter.shape))
            start += parameter.numel()


def binary_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of each record: logits [records, 1], labels [records] -> [records]."""
    return nn.functional.binary_cross_entropy_with_logits(
        logits.squeeze(-1), labels, reduction="none"
    )


def _side_after_three_convolutions(side: int) -> int:
    left = ((side - 2) // 2 - 2) // 2 - 2
    if left < 1:
        raise BadInput(f"task: the reference CNN needs images of 18 pixels or more, {side} came")
    return left
