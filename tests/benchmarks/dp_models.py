"""The networks and batches that gradients are timed on; the same for every method that is timed."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

CLIP_NORM_L2 = 1.0
GROUPS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One network and one batch size. `for_opacus` has the same parameters in layers it knows."""

    model: str
    batch: int
    shape: tuple[int, ...]
    classes: int
    build: Callable[[], nn.Module]
    for_opacus: Callable[[], nn.Module]

    @property
    def name(self) -> str:
        return f"{self.model}:{self.batch}"

    @property
    def is_image(self) -> bool:
        return len(self.shape) == 3

    def network(self, *, opacus: bool = False) -> nn.Module:
        """The network with its start; the same numbers at each call."""
        torch.manual_seed(0)
        network = self.build()
        if opacus and self.for_opacus is not self.build:
            other = self.for_opacus()
            # Child by child: Opacus' GRU takes PyTorch's names only when it is asked itself.
            for (_, own), (_, given) in zip(
                other.named_children(), network.named_children(), strict=True
            ):
                own.load_state_dict(given.state_dict())
            return other.train()
        return network.train()

    def records(self, batch: int | None = None) -> tuple[Tensor, Tensor]:
        """Random features and labels; the same numbers at each call."""
        generator = torch.Generator().manual_seed(1)
        count = self.batch if batch is None else batch
        features = torch.randn(count, *self.shape, generator=generator)
        labels = torch.randint(0, max(self.classes, 2), (count,), generator=generator)
        return features, labels if self.classes > 1 else labels.float()

    def loss(self, outputs: Tensor, labels: Tensor) -> Tensor:
        """One loss a record, not reduced."""
        if self.classes > 1:
            return nn.functional.cross_entropy(outputs, labels, reduction="none")
        return nn.functional.binary_cross_entropy_with_logits(
            outputs.squeeze(-1), labels, reduction="none"
        )


def reference_cnn() -> nn.Module:
    """122,570 parameters for images of 3x32x32, no padding."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(64, 64, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(1024, 64),
        nn.ReLU(),
        nn.Linear(64, 10),
    )


class _Residual(nn.Module):
    """The basic block of a ResNet with GroupNorm for BatchNorm. (He et al. 2016)"""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.convolution_1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.norm_1 = nn.GroupNorm(GROUPS, channels)
        self.convolution_2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.norm_2 = nn.GroupNorm(GROUPS, channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels_in, channels, 1, stride, bias=False),
                nn.GroupNorm(GROUPS, channels),
            )
        self.relu_1, self.relu_2 = nn.ReLU(), nn.ReLU()

    def forward(self, images: Tensor) -> Tensor:
        inner = self.relu_1(self.norm_1(self.convolution_1(images)))
        return self.relu_2(self.norm_2(self.convolution_2(inner)) + self.shortcut(images))


def resnet18_groupnorm() -> nn.Module:
    """ResNet-18 with its ordinary stem and GroupNorm, ten classes."""
    layers: list[nn.Module] = [
        nn.Conv2d(3, 64, 7, 2, 3, bias=False),
        nn.GroupNorm(GROUPS, 64),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
    ]
    channels_in = 64
    for channels, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers += [_Residual(channels_in, channels, stride), _Residual(channels, channels, 1)]
        channels_in = channels
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 10))


class _LastStep(nn.Module):
    """A recurrent layer and one logit from its last step."""

    def __init__(self, recurrent: nn.Module, hidden: int) -> None:
        super().__init__()
        self.recurrent = recurrent
        self.output = nn.Linear(hidden, 1)

    def forward(self, sequences: Tensor) -> Tensor:
        return self.output(self.recurrent(sequences)[0][:, -1])


def gru() -> nn.Module:
    """48 steps of 32 features, hidden 64."""
    return _LastStep(nn.GRU(32, 64, batch_first=True), 64)


def gru_of_opacus() -> nn.Module:
    """The same with the GRU that Opacus asks for in the place of PyTorch's."""
    from opacus.layers import DPGRU

    return _LastStep(DPGRU(32, 64, batch_first=True), 64)


def mlp() -> nn.Module:
    """13-64-64-1."""
    return nn.Sequential(
        nn.Linear(13, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1)
    )


def _workload(
    build: Callable[[], nn.Module],
    batch: int,
    shape: tuple[int, ...],
    classes: int,
    for_opacus: Callable[[], nn.Module] | None = None,
) -> Workload:
    return Workload(
        model=build.__name__,
        batch=batch,
        shape=shape,
        classes=classes,
        build=build,
        for_opacus=for_opacus or build,
    )


WORKLOADS = (
    _workload(reference_cnn, 64, (3, 32, 32), 10),
    _workload(reference_cnn, 256, (3, 32, 32), 10),
    _workload(resnet18_groupnorm, 64, (3, 64, 64), 10),
    _workload(gru, 64, (48, 32), 1, gru_of_opacus),
    _workload(mlp, 256, (13,), 1),
)
