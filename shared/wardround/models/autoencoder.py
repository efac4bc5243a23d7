"""Family autoencoder: a record -> the record again, through a narrow code.

What it cannot give back is unlike what it learned from: the reconstruction error is an anomaly
score. No label is needed in training.
"""

from itertools import pairwise

from torch import nn

from wardround.errors import BadInput
from wardround.study.manifest import StudyPlan
from wardround.study.task import Model


def network(study: StudyPlan) -> nn.Module:
    """The study's network: [records, ...] -> the same shape, all in [-1, 1]."""
    if study.task.model is Model.CONVOLUTIONAL_AUTOENCODER:
        channels, height, width = study.contract.input_shape()
        return convolutional((channels, height, width), study.task.hidden)
    (features,) = study.contract.input_shape()
    return dense(features, study.task.hidden)


def dense(features: int, hidden: tuple[int, ...]) -> nn.Module:
    """Linear layers down to the code `hidden[-1]` and back: [records, features] -> the same.

    ReLU after every layer but the code and the last, which ends in tanh: features lie in [-1, 1].
    """
    sizes = (features, *hidden)
    layers: list[nn.Module] = []
    for before, after in [*pairwise(sizes), *pairwise(reversed(sizes))]:
        layers += [nn.Linear(before, after), nn.ReLU()]
    layers[-1] = nn.Tanh()
    code = 2 * len(hidden) - 1
    return nn.Sequential(*layers[:code], *layers[code + 1 :])


def convolutional(shape: tuple[int, int, int], hidden: tuple[int, ...]) -> nn.Module:
    """Convolutions that halve the side, to `hidden[-1]` channels, and back: [records, *shape].

    On the way back pixels are doubled and then convolved, which leaves no checkerboard (Odena et
    al. 2016). Raises BadInput when an image is too small to be halved so often.
    """
    channels, height, width = shape
    sides = [(height, width)]
    for _ in hidden:
        sides.append((-(-sides[-1][0] // 2), -(-sides[-1][1] // 2)))
    if min(sides[-1]) < 2:
        raise BadInput(
            f"task: images of {height} x {width} pixels cannot be halved {len(hidden)} times"
        )
    widths = (channels, *hidden)
    down: list[nn.Module] = []
    for before, after in pairwise(widths):
        down += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.ReLU()]
    up: list[nn.Module] = []
    for place, (before, after) in enumerate(pairwise(reversed(widths)), start=2):
        up += [nn.Upsample(size=sides[-place]), nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*down, *up[:-1], nn.Tanh())


def encoder(network: nn.Module, study: StudyPlan) -> nn.Module:
    """The part of the study's network that ends in the code: [records, ...] -> [records, ...].

    Raises BadInput for a network that this family did not build.
    """
    convolutional_one = study.task.model is Model.CONVOLUTIONAL_AUTOENCODER
    layers = 2 * len(study.task.hidden) - (0 if convolutional_one else 1)
    if study.task.own is not None or not isinstance(network, nn.Sequential):
        raise BadInput("representation: an own model does not say where its code is")
    return network[:layers]
