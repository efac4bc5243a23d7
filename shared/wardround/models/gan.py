"""Family gan: synthetic records from a generator that no patient's record ever reaches.

Only the discriminator's step sees patients, so it alone is clipped and noised; the generator learns
from the discriminator, which post-processes what was released (Xie et al. 2018). Both are
conditional on the label. No study can name this family yet: the federated loop is not there.
"""

from collections.abc import Iterable
from itertools import pairwise

import torch
from torch import Tensor, nn

from wardround.errors import BadInput
from wardround.study.contract import ColumnKind, Contract, LabelKind

_LEAK = 0.2


class Shaped(nn.Module):
    """[records, numbers] -> [records, *shape]."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, numbers: Tensor) -> Tensor:
        """The same numbers in their shape."""
        return numbers.view(len(numbers), *self.shape)


class TableRow(nn.Module):
    """Numbers of any size -> features as a hospital's encoding makes them.

    [records, features] -> the same: tanh for a continuous or binary column, softmax over a
    categorical one, sigmoid for "is missing".
    """

    def __init__(self, contract: Contract) -> None:
        super().__init__()
        self.columns = contract.columns

    def forward(self, numbers: Tensor) -> Tensor:
        """Each column's features, in the contract's order."""
        parts, start = [], 0
        for column in self.columns:
            width = len(column.features()) - column.may_be_missing
            own = numbers[:, start : start + width]
            coded = column.kind is ColumnKind.CATEGORICAL
            parts.append(own.softmax(dim=1) if coded else own.tanh())
            start += width
            if column.may_be_missing:
                parts.append(numbers[:, start : start + 1].sigmoid())
                start += 1
        return torch.cat(parts, dim=1)


def conditions(contract: Contract) -> int:
    """How many classes records are conditioned on: 2 for a binary label, 0 for none.

    Raises BadInput for a label that is no class.
    """
    label = contract.label
    if label.kind not in {LabelKind.BINARY, LabelKind.CLASSES, LabelKind.NONE}:
        raise BadInput(f"gan: records are conditioned on classes, not on a label {label.kind}")
    return {LabelKind.NONE: 0, LabelKind.BINARY: 2}.get(label.kind, len(label.classes))


def one_hot(labels: Tensor, contract: Contract) -> Tensor:
    """Class numbers [records] -> [records, conditions]."""
    count = conditions(contract)
    if not count:
        return labels.new_zeros(len(labels), 0)
    return nn.functional.one_hot(labels.long(), count).to(torch.float32)


def conditioned(features: Tensor, labels: Tensor, contract: Contract) -> Tensor:
    """What the discriminator sees: features with the label beside them, one tensor.

    A table row gets `conditions` more features, an image as many more channels of one value.
    """
    classes = one_hot(labels, contract)
    if features.dim() == 2:
        return torch.cat([features, classes], dim=1)
    planes = classes[:, :, None, None].expand(-1, -1, *features.shape[2:])
    return torch.cat([features, planes], dim=1)


def generator(contract: Contract, hidden: tuple[int, ...], latent: int) -> nn.Module:
    """[records, latent + conditions] of noise and classes -> features of synthetic records."""
    start = latent + conditions(contract)
    if contract.image is not None:
        channels, height, width = contract.input_shape()
        return _picture((channels, height, width), hidden, start)
    (features,) = contract.input_shape()
    layers = _dense((start, *hidden))
    return nn.Sequential(*layers, nn.Linear((start, *hidden)[-1], features), TableRow(contract))


def discriminator(contract: Contract, hidden: tuple[int, ...]) -> nn.Module:
    """What `conditioned` gives -> one logit [records, 1], high for a patient's record."""
    more = conditions(contract)
    if contract.image is None:
        sizes = (contract.input_shape()[0] + more, *hidden)
        return nn.Sequential(*_dense(sizes), nn.Linear(sizes[-1], 1))
    channels, height, width = contract.input_shape()
    layers: list[nn.Module] = []
    for before, after in pairwise((channels + more, *hidden)):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.LeakyReLU(_LEAK)]
        height, width = -(-height // 2), -(-width // 2)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(hidden[-1] * height * width, 1))


def discriminator_loss(logits: Tensor, real: Tensor) -> Tensor:
    """Cross entropy of each record: logits [records, 1], real [records] is 1 for a patient's."""
    return nn.functional.binary_cross_entropy_with_logits(
        logits.squeeze(-1), real, reduction="none"
    )


def generator_loss(logits: Tensor) -> Tensor:
    """-log of being taken for real: the discriminator's logits [records, 1] of synthetic records.

    (Goodfellow et al. 2014, section 3: it does not saturate where the discriminator wins.)
    """
    return nn.functional.softplus(-logits.squeeze(-1))


def _dense(sizes: Iterable[int]) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Linear(before, after), nn.LeakyReLU(_LEAK)]
    return layers


def _picture(shape: tuple[int, int, int], hidden: tuple[int, ...], start: int) -> nn.Module:
    channels, height, width = shape
    sides = [(height, width)]
    for _ in hidden:
        sides.append((-(-sides[-1][0] // 2), -(-sides[-1][1] // 2)))
    widths = (*reversed(hidden), channels)
    rows, columns = sides[-1]
    layers: list[nn.Module] = [
        nn.Linear(start, widths[0] * rows * columns),
        Shaped((widths[0], rows, columns)),
    ]
    for place, (before, after) in enumerate(pairwise(widths), start=2):
        layers += [
            nn.LeakyReLU(_LEAK),
            nn.Upsample(size=sides[-place]),
            nn.Conv2d(before, after, 3, padding=1),
        ]
    return nn.Sequential(*layers, nn.Tanh())
