"""Occlusion: how far the score falls when a patch of the image is covered."""

import itertools

import torch
from torch import Tensor

from wardround.errors import BadInput
from wardround_client.explanation.integrated import Score

IMAGES_AT_ONCE = 256


def occlusion(
    score: Score, images: Tensor, *, window: int, stride: int, cover: float = 0.0
) -> Tensor:
    """The mean fall of the score over all windows that cover a pixel: [records, height, width].

    `images` is [records, channels, height, width]; `window` and `stride` are in pixels, the last
    window of a row ends at the border, so that every pixel is covered. `cover` is the value put
    in, in the units of the input. Below zero: covering it raises the score. Asks nothing of the
    network but its score. (Zeiler and Fergus 2014, section 4.2)
    """
    height, width = int(images.shape[2]), int(images.shape[3])
    if not 1 <= window <= min(height, width) or not 1 <= stride <= window:
        raise BadInput(
            f"occlusion: window {window} and stride {stride} came, 1 <= stride <= window <= "
            f"{min(height, width)} was due"
        )
    corners = list(
        itertools.product(_starts(height, window, stride), _starts(width, window, stride))
    )
    with torch.no_grad():
        before = score(images)
        total, counted = torch.zeros(len(images), height, width), torch.zeros(height, width)
        group = max(1, IMAGES_AT_ONCE // max(1, len(images)))
        for first in range(0, len(corners), group):
            some = corners[first : first + group]
            after = score(_covered(images, some, window, cover)).view(len(some), len(images))
            for (row, column), fallen in zip(some, before - after, strict=True):
                place = (slice(row, row + window), slice(column, column + window))
                total[:, *place] += fallen.view(-1, 1, 1)
                counted[place] += 1.0
    return total / counted


def _covered(images: Tensor, corners: list[tuple[int, int]], window: int, cover: float) -> Tensor:
    copies = images.unsqueeze(0).repeat(len(corners), 1, 1, 1, 1)
    for copy, (row, column) in zip(copies, corners, strict=True):
        copy[:, :, row : row + window, column : column + window] = cover
    return copies.flatten(0, 1)


def _starts(length: int, window: int, stride: int) -> list[int]:
    starts = list(range(0, length - window + 1, stride))
    return starts if starts[-1] == length - window else [*starts, length - window]
