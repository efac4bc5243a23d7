"""Family risk: one table row -> a risk, or a risk for each class."""

from torch import nn

from wardround.study.manifest import StudyPlan
from wardround.study.task import Model


def network(study: StudyPlan) -> nn.Module:
    """The study's network: [records, features] -> logits [records, channels]."""
    if study.task.model is Model.LOGISTIC_REGRESSION:
        return logistic_regression(study)
    return mlp(study)


def logistic_regression(study: StudyPlan) -> nn.Module:
    """Linear layer, started at zero: [records, features] -> [records, channels]."""
    (features,) = study.contract.input_shape()
    layer = nn.Linear(features, len(study.contract.label.channels))
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def mlp(study: StudyPlan) -> nn.Module:
    """Hidden layers with ReLU, then the outputs: [records, features] -> [records, channels]."""
    (width,) = study.contract.input_shape()
    layers: list[nn.Module] = []
    for hidden in study.task.hidden:
        layers += [nn.Linear(width, hidden), nn.ReLU()]
        width = hidden
    return nn.Sequential(*layers, nn.Linear(width, len(study.contract.label.channels)))
