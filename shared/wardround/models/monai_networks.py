"""Family image, networks of MONAI: the extra `monai`, imported when a study asks for one.

Only networks whose layers each see one record: MONAI builds its DenseNet with the norm that it is
told, so GroupNorm takes the place of BatchNorm.
"""

import importlib
import math
from typing import Any, Final

from torch import nn

from wardround.errors import BadInput

_MOST_GROUPS: Final = 32
_FIRST: Final = 64  # channels of the first convolution
_GROWTH: Final = 32  # channels that each layer adds
_STEM: Final = 4  # the first convolution and its pool make a side a quarter


def densenet(shape: tuple[int, int, int], hidden: tuple[int, ...], outputs: int) -> nn.Module:
    """MONAI's DenseNet with GroupNorm: [records, *shape] -> logits [records, outputs].

    `hidden` are the layers of its dense blocks: [6, 12, 24, 16] is DenseNet-121, with 6,948,609
    parameters for one channel and one output. Between two blocks side and channels are halved.
    Raises BadInput when the extra is not installed, or an image is too small. (Huang et al. 2017,
    "Densely connected convolutional networks", table 1; Wu and He 2018)
    """
    channels, height, width = shape
    smallest = _STEM << (len(hidden) - 1)
    if min(height, width) < smallest:
        raise BadInput(
            f"task: images of {height} x {width} pixels came, {len(hidden)} dense blocks need "
            f"{smallest} or more a side"
        )
    built: nn.Module = _module("monai.networks.nets.densenet").DenseNet(
        spatial_dims=2,
        in_channels=channels,
        out_channels=outputs,
        init_features=_FIRST,
        growth_rate=_GROWTH,
        block_config=hidden,
        # In place it would change what the norm before it gave.
        act=("relu", {"inplace": False}),
        norm=("group", {"num_groups": groups(hidden)}),
    )
    return built


def groups(hidden: tuple[int, ...]) -> int:
    """How many groups every norm has: MONAI takes one number, so it divides all their channels.

    >>> groups((6, 12, 24, 16)), groups((1, 1, 1))
    (32, 8)
    """
    width, found = _FIRST, _MOST_GROUPS
    for layers in hidden:
        found = math.gcd(found, width)
        width += layers * _GROWTH
        found = math.gcd(found, width)
        width //= 2
    return found


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise BadInput(f"package {error.name} is missing; install wardround[monai]") from error
