"""Family gan: synthetic records from a generator that no patient's record ever reaches.

Only the discriminator's step sees patients, so it alone is clipped, noised and masked; the
generator learns from the discriminator as it was released, and what is computed from something
private without looking at the data again stays as private (post-processing; Dwork and Roth 2014,
proposition 2.1; DP-GAN: Xie et al. 2018; federated: Augenstein et al. 2020). So the generator, the
synthetic records and the risk model that is fitted to them are protected as the discriminator is:
by the study's epsilon, and under mechanism none by nothing. All three are conditional on the label.
"""

from collections.abc import Iterable
from itertools import pairwise

import torch
from torch import Tensor, nn

from wardround.errors import BadInput
from wardround.models.image import reference_cnn
from wardround.study.contract import ColumnKind, Contract, LabelKind
from wardround.study.manifest import StudyPlan
from wardround.study.synthesis import Synthesis, seen_features
from wardround.study.synthesis import conditions as _conditions

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

    [records, features] -> the same: tanh for a continuous column, -1 or 1 for a binary one, one of
    n for a categorical one, 0 or 1 for "is missing", and zeros where it is. A choice passes the
    gradient of its soft version on (Bengio et al. 2013, "straight-through"): a discriminator that
    saw soft choices would know them at once.
    """

    def __init__(self, contract: Contract) -> None:
        super().__init__()
        self.columns = contract.columns

    def forward(self, numbers: Tensor) -> Tensor:
        """Each column's features, in the contract's order."""
        parts, start = [], 0
        for column in self.columns:
            width = len(column.features()) - column.may_be_missing
            values = _values(numbers[:, start : start + width], column.kind)
            start += width
            if column.may_be_missing:
                soft = numbers[:, start : start + 1].sigmoid()
                gone = _chosen((soft > 0.5).to(soft.dtype), soft)
                values = torch.cat([values * (1.0 - gone), gone], dim=1)
                start += 1
            parts.append(values)
        return torch.cat(parts, dim=1)


def _values(numbers: Tensor, kind: ColumnKind) -> Tensor:
    if kind is ColumnKind.CATEGORICAL:
        soft = numbers.softmax(dim=1)
        hard = nn.functional.one_hot(soft.argmax(dim=1), soft.shape[1]).to(soft.dtype)
        return _chosen(hard, soft)
    soft = numbers.tanh()
    if kind is ColumnKind.BINARY:
        return _chosen(torch.where(soft > 0, 1.0, -1.0), soft)
    return soft


def _chosen(hard: Tensor, soft: Tensor) -> Tensor:
    """The value of `hard`, to the bit, with the gradient of `soft`."""
    return hard + (soft - soft.detach())


class Adversaries(nn.Module):
    """The model of a study: discriminator, then generator, then risk model.

    The order is that of the vector: hospitals train its first part. As a network it is the risk
    model: records [records, ...] -> logits [records, channels], which is what is evaluated.
    """

    def __init__(self, study: StudyPlan, plan: Synthesis) -> None:
        super().__init__()
        contract = study.contract
        self.discriminator = discriminator(contract, study.task.hidden)
        self.generator = generator(contract, plan.hidden, plan.latent)
        self.risk = risk_model(contract, plan.risk_hidden)

    def forward(self, features: Tensor) -> Tensor:
        """What the risk model says."""
        logits: Tensor = self.risk(features)
        return logits


def network(study: StudyPlan) -> nn.Module:
    """The study's `Adversaries`. Raises BadInput for a study of another family."""
    if study.task.synthesis is None:
        raise BadInput(f"gan: study {study.name} has no [task.synthesis]")
    return Adversaries(study, study.task.synthesis)


def adversaries(module: nn.Module) -> Adversaries:
    """The same module, as what it is. Raises BadInput for any other network."""
    if not isinstance(module, Adversaries):
        raise BadInput(f"gan: a network {type(module).__name__} came, one of family gan was due")
    return module


def conditions(contract: Contract) -> int:
    """How many classes records are conditioned on: 2 for a binary label, 0 for none.

    Raises BadInput for a label that is no class.
    """
    kind = contract.label.kind
    if kind not in {LabelKind.BINARY, LabelKind.CLASSES, LabelKind.NONE}:
        raise BadInput(f"gan: records are conditioned on classes, not on a label {kind}")
    return _conditions(contract)


def one_hot(labels: Tensor, contract: Contract) -> Tensor:
    """Class numbers [records] -> [records, conditions]."""
    count = conditions(contract)
    if not count:
        return labels.new_zeros(len(labels), 0)
    return nn.functional.one_hot(labels.long(), count).to(torch.float32)


def conditioned(features: Tensor, labels: Tensor, contract: Contract) -> Tensor:
    """What the discriminator sees: features in the place of their class, zeros in the others'.

    [records, features] -> [records, (features + 1) x conditions]: so its first layer has weights
    for each class, and already a linear one can tell that a feature means another class (after
    Miyato and Koyama 2018, "projection discriminator"). The last `conditions` say which class it
    is. Of images the channels are multiplied so, and a class is a channel of one value. Without
    classes it is the features.
    """
    count = conditions(contract)
    if not count:
        return features
    classes = one_hot(labels, contract)
    classes = classes.reshape(*classes.shape, *[1] * (features.dim() - 1))
    placed = (classes * features[:, None]).flatten(1, 2)
    planes = classes.flatten(2).reshape(len(features), count, *[1] * (features.dim() - 2))
    return torch.cat([placed, planes.expand(-1, -1, *features.shape[2:])], dim=1)


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
    sizes = (seen_features(contract), *hidden)
    if contract.image is None:
        return nn.Sequential(*_dense(sizes), nn.Linear(sizes[-1], 1))
    _, height, width = contract.input_shape()
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes):
        layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.LeakyReLU(_LEAK)]
        height, width = -(-height // 2), -(-width // 2)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(hidden[-1] * height * width, 1))


def risk_model(contract: Contract, hidden: tuple[int, ...]) -> nn.Module:
    """Logits [records, channels] of the label: the reference CNN of images, else an MLP.

    Without hidden layers a logistic regression that starts at zero.
    """
    channels = len(contract.label.channels)
    shape = contract.input_shape()
    if contract.image is not None:
        return reference_cnn((shape[0], shape[1], shape[2]), channels)
    sizes = (shape[0], *hidden)
    last = nn.Linear(sizes[-1], channels)
    if not hidden:
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
    return nn.Sequential(*_dense(sizes), last)


def made(adversary: Adversaries, labels: Tensor, noise: Tensor, contract: Contract) -> Tensor:
    """Synthetic records of these class numbers [records], from noise [records, latent]."""
    classes = one_hot(labels, contract)
    records: Tensor = adversary.generator(torch.cat([noise, classes], dim=1))
    return records


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
