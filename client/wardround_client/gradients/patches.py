"""What a convolution's kernel sees: its input cut into patches, in the layout that copies least."""

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d

# A copy of patches whose innermost runs are shorter than this is slower than one by channels.
SHORT_RUN = 32


@dataclass(frozen=True, slots=True)
class Geometry:
    """A convolution layer's settings, with "same" and padding modes turned into numbers."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    sides: tuple[int, ...]
    mode: str

    @classmethod
    def of(cls, layer: Convolution) -> "Geometry":
        """`sides` is in the order that `pad` takes: last dimension first, before and after."""
        sides: list[int] = []
        for axis in reversed(range(len(layer.kernel_size))):
            if layer.padding == "same":
                both = layer.dilation[axis] * (layer.kernel_size[axis] - 1)
                sides += [both // 2, both - both // 2]
            elif layer.padding == "valid":
                sides += [0, 0]
            else:
                sides += [cast("int", layer.padding[axis])] * 2
        mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
        return cls(
            layer.kernel_size, layer.stride, layer.dilation, layer.groups, tuple(sides), mode
        )

    @property
    def taps(self) -> int:
        """Values of the kernel, for each pair of channels."""
        return math.prod(self.kernel)

    @property
    def plain_padding(self) -> tuple[int, ...] | None:
        """Padding as the kernels of convolution take it; None if they cannot."""
        before, after = self.sides[::2], self.sides[1::2]
        return tuple(reversed(before)) if self.mode == "constant" and before == after else None

    def padded(self, inputs: Tensor) -> Tensor:
        """The input with what the layer puts around it."""
        return pad(inputs, self.sides, mode=self.mode) if any(self.sides) else inputs

    def wide(self, channels: int) -> bool:
        """Whether patches are cut along pixels (channels last) or by channel."""
        return len(self.kernel) == 2 and self.groups == 1 and channels * self.kernel[1] >= SHORT_RUN

    def columns(self, padded: Tensor, out: torch.Size) -> Tensor:
        """[records, groups, channels of a group x taps, positions]."""
        inputs = padded.contiguous()
        step = inputs.stride()
        taps = [s * d for s, d in zip(step[2:], self.dilation, strict=True)]
        places = [s * d for s, d in zip(step[2:], self.stride, strict=True)]
        view = inputs.as_strided(
            (*inputs.shape[:2], *self.kernel, *out), (*step[:2], *taps, *places)
        )
        return view.reshape(len(inputs), self.groups, -1, math.prod(out))

    def pixels(self, padded: Tensor, out: torch.Size) -> list[Tensor]:
        """One [records, positions, columns of the kernel x channels] for each kernel row.

        Patches are cut along the width only, where rows follow each other without a gap: a kernel
        row lower is then the same copy, some rows on. (Two dimensions, one group.)
        """
        inputs = padded.permute(0, 2, 3, 1).contiguous()
        records, height, _, channels = inputs.shape
        step, wide = inputs.stride(), self.kernel[1] * channels
        strides = (step[0], step[1], step[2] * self.stride[1], step[2] * self.dilation[1], 1)
        view = inputs.as_strided((records, height, out[1], self.kernel[1], channels), strides)
        rows = view.reshape(records, height, out[1], wide)
        found = []
        for row in range(self.kernel[0]):
            first = row * self.dilation[0]
            last = first + (out[0] - 1) * self.stride[0] + 1
            found.append(rows[:, first : last : self.stride[0]].reshape(records, -1, wide))
        return found

    def overlaps(self, padded: Tensor, out: torch.Size) -> Tensor:
        """[patients, records of one, channels, height, width] -> products of all pairs of patches.

        [patients, positions, positions] in float64, positions record by record. A product of two
        patches is the sum of those of their pixels, so pixels are multiplied once for all the
        patches that they are in. (Two dimensions, one group.)
        """
        patients, most, _, height, width = padded.shape
        pixels = padded.double().movedim(2, -1).flatten(1, 3)
        products = torch.bmm(pixels, pixels.mT)
        step = (most * height * width, 1)
        size, strides = [patients], [products.stride(0)]
        for along in step:
            size += [most, *out]
            strides += [along * height * width]
            strides += [along * width * self.stride[0], along * self.stride[1]]
        alike = products.new_zeros(size)
        for row in range(self.kernel[0]):
            for column in range(self.kernel[1]):
                first = row * self.dilation[0] * width + column * self.dilation[1]
                alike += products.as_strided(size, strides, first * sum(step))
        return alike.flatten(4, 6).flatten(1, 3)

    def rows(self, padded: Tensor, out: torch.Size) -> Tensor:
        """[records, positions, channels x taps], in any order of the latter; one group."""
        if self.wide(padded.shape[1]):
            return torch.cat(self.pixels(padded, out), dim=2)
        return self.columns(padded, out)[:, 0].mT
