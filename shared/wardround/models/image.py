"""Family image: one image -> a risk, or a risk for each class."""

import math
from itertools import pairwise

from torch import Tensor, nn

from wardround.errors import BadInput
from wardround.models import monai_networks
from wardround.study.manifest import StudyPlan
from wardround.study.task import Model

SMALL_SIDE = 64  # below it ResNet keeps its first pixels: 3x3 without stride, no pool
_GROUPS = 32
_FEW_GROUPS = 4
_PLACES = 4  # a side of the grid of means before a small CNN's last layer
_WIDTHS = (64, 128, 256, 512)


def network(study: StudyPlan) -> nn.Module:
    """The study's network: [records, channels, height, width] -> logits [records, classes]."""
    outputs = len(study.contract.label.channels)
    channels, height, width = study.contract.input_shape()
    if study.task.model is Model.RESNET18:
        return resnet18(channels, outputs, small=min(height, width) < SMALL_SIDE)
    if study.task.model is Model.SMALL_CNN:
        return small_cnn((channels, height, width), study.task.hidden, outputs)
    if study.task.model is Model.MONAI_DENSENET:
        return monai_networks.densenet((channels, height, width), study.task.hidden, outputs)
    return reference_cnn((channels, height, width), outputs)


def reference_cnn(shape: tuple[int, int, int], outputs: int) -> nn.Module:
    """The reference CNN of the studies: [records, *shape] -> [records, outputs].

    Conv 32 3x3, ReLU, pool, Conv 64, ReLU, pool, Conv 64, ReLU, FC 64, ReLU, FC outputs.
    Convolutions have no padding, so 32x32 becomes 15, 6 and 4 pixels: 122,570 parameters for three
    channels and ten classes. Raises BadInput below 18 pixels.
    """
    channels, height, width = shape
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
        nn.Linear(64, outputs),
    )


def small_cnn(shape: tuple[int, int, int], hidden: tuple[int, ...], outputs: int) -> nn.Module:
    """A CNN as small as the study wants: [records, *shape] -> [records, outputs].

    Each of `hidden` is a block: convolution 3x3, GroupNorm, ReLU, and a pool that halves the side.
    The mean over each of 4x4 places goes to one linear layer. Noise grows with the number of
    parameters, so few of them are what a study of few patients can protect: hidden = [16, 32] has
    6,387 for one channel and three classes. Raises BadInput where a pool leaves less than 4 pixels.
    """
    channels, height, width = shape
    if min(height, width) >> len(hidden) < _PLACES:
        raise BadInput(
            f"task: images of {height} x {width} pixels cannot be halved {len(hidden)} times and "
            f"still have {_PLACES}"
        )
    blocks: list[nn.Module] = []
    for before, after in pairwise((channels, *hidden)):
        norm = nn.GroupNorm(math.gcd(after, _FEW_GROUPS), after)
        conv = nn.Conv2d(before, after, 3, padding=1, bias=False)
        blocks += [conv, norm, nn.ReLU(), nn.MaxPool2d(2)]
    means = [nn.AdaptiveAvgPool2d(_PLACES), nn.Flatten()]
    return nn.Sequential(*blocks, *means, nn.Linear(hidden[-1] * _PLACES**2, outputs))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a short cut; GroupNorm, for BatchNorm mixes patients.

    [records, channels, height, width] -> [records, width, height / stride, width / stride].
    (He et al. 2016, fig. 5; Wu and He 2018)
    """

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False),
            _group_norm(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            _group_norm(width),
        )
        same = stride == 1 and channels == width
        self.shortcut: nn.Module = (
            nn.Identity()
            if same
            else nn.Sequential(
                nn.Conv2d(channels, width, 1, stride=stride, bias=False), _group_norm(width)
            )
        )

    def forward(self, images: Tensor) -> Tensor:
        """Body and short cut, added."""
        added: Tensor = self.body(images) + self.shortcut(images)
        return added.relu()


def resnet18(channels: int, outputs: int, *, small: bool) -> nn.Module:
    """ResNet-18 with GroupNorm: [records, channels, height, width] -> [records, outputs].

    `small` images keep their pixels in the first layer. (He et al. 2016, table 1 and section 4.2)
    """
    stem: list[nn.Module] = (
        [nn.Conv2d(channels, 64, 3, padding=1, bias=False), _group_norm(64), nn.ReLU()]
        if small
        else [
            nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False),
            _group_norm(64),
            nn.ReLU(),
            nn.MaxPool2d(3, stride=2, padding=1),
        ]
    )
    blocks: list[nn.Module] = []
    before = 64
    for width in _WIDTHS:
        blocks += [BasicBlock(before, width, 1 if width == before else 2)]
        blocks += [BasicBlock(width, width, 1)]
        before = width
    return nn.Sequential(
        *stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, outputs)
    )


def _group_norm(channels: int) -> nn.Module:
    return nn.GroupNorm(math.gcd(channels, _GROUPS), channels)


def _side_after_three_convolutions(side: int) -> int:
    left = ((side - 2) // 2 - 2) // 2 - 2
    if left < 1:
        raise BadInput(f"task: the reference CNN needs images of 18 pixels or more, {side} came")
    return left
