"""Family risk: one table row -> a risk, or a risk for each class."""

from torch import nn

from wardround.models.interacting import Interacting
from wardround.study.manifest import StudyPlan
from wardround.study.task import Model


def network(study: StudyPlan) -> nn.Module:
    """The study's network: [records, features] -> logits [records, channels].

    With a treatment to choose, its products with all other features are features, too.
    """
    (width,) = study.contract.input_shape()
    treatment = study.task.treatment
    if treatment is not None:
        width += width - 1
    linear = study.task.model is Model.LOGISTIC_REGRESSION
    layers = logistic_regression(study, width) if linear else mlp(study, width)
    if treatment is None:
        return layers
    return Interacting(layers, study.contract.features().index(treatment.column))


def logistic_regression(study: StudyPlan, features: int) -> nn.Module:
    """Linear layer, started at zero: [records, features] -> [records, channels]."""
    layer = nn.Linear(features, len(study.contract.label.channels))
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def mlp(study: StudyPlan, width: int) -> nn.Module:
    """Hidden layers with ReLU, then the outputs: [records, features] -> [records, channels]."""
    layers: list[nn.Module] = []
    for hidden in study.task.hidden:
        layers += [nn.Linear(width, hidden), nn.ReLU()]
        width = hidden
    return nn.Sequential(*layers, nn.Linear(width, len(study.contract.label.channels)))
