"""Training images changed at random within the study's public ranges, before their gradient.

What changes is the input of a patient's own gradient, which is clipped after it: one patient moves
a sum by the clip norm at most, however many copies there are and whatever became of them. The draws
are the hospital's private randomness and independent of who is sampled, so they cost nothing.
Evaluation and prediction never come here.
"""

import math
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from wardround.randomness import Randomness, uniform
from wardround.study.task import Augmentation
from wardround_client.training.sampling import Batch

_DRAWS = 7  # of one image: angle, right, down, two mirrors, brightness, contrast


def repeated(batch: Batch, copies: int) -> Batch:
    """Each record `copies` times, one after the other; who is in the batch stays the same.

    >>> batch = Batch(records=np.array([4, 9]), patient_of_record=np.array([0, 1]), patients=2)
    >>> repeated(batch, 2).records.tolist(), repeated(batch, 2).patient_of_record.tolist()
    ([4, 4, 9, 9], [0, 0, 1, 1])
    """
    return replace(
        batch,
        records=np.repeat(batch.records, copies),
        patient_of_record=np.repeat(batch.patient_of_record, copies),
    )


def augmented(images: Tensor, ranges: Augmentation, randomness: Randomness) -> Tensor:
    """[records, channels, height, width] in [-1, 1] -> the same, each by a draw of its own.

    An image is mirrored, turned about its middle and moved in one interpolation (bilinear); where
    that leaves the image, its nearest edge goes on. Then contrast about the middle of the
    contract's range, then brightness, and what leaves the range is cut. Seven numbers are drawn of
    each image, whichever the study uses.
    """
    if not len(images):
        return images
    drawn = uniform(_DRAWS * len(images), randomness).reshape(len(images), _DRAWS)
    draws = torch.from_numpy(drawn)
    changed = _moved(images, draws[:, :5], ranges) if ranges.moves else images
    if not (ranges.brightness or ranges.contrast):
        return changed
    # [-1, 1] is the contract's range, so a share of it counts twice.
    added = 2.0 * ranges.brightness * _both_ways(draws[:, 5])
    times = 1.0 + ranges.contrast * _both_ways(draws[:, 6])
    shade = changed * _of_records(times, changed) + _of_records(added, changed)
    return shade.clamp_(-1.0, 1.0)


def _moved(images: Tensor, draws: Tensor, ranges: Augmentation) -> Tensor:
    """One affine map an image: where each new pixel's value comes from."""
    height, width = images.shape[2:]
    angle = math.radians(ranges.rotate_degrees) * _both_ways(draws[:, 0])
    # Whole pixels: a shift alone then blurs nothing.
    places = 2 * ranges.shift_pixels + 1
    right, down = ((draws[:, at] * places).floor() - ranges.shift_pixels for at in (1, 2))
    across = _mirror(draws[:, 3], wanted=ranges.flip_left_right)
    along = _mirror(draws[:, 4], wanted=ranges.flip_up_down)
    cosine, sine = angle.cos(), angle.sin()
    # In units of half the image's sides, so a turn of pixels has the sides' ratio in it.
    rows = (
        (cosine * across, -sine * along * (height / width), 2.0 * right / width),
        (sine * across * (width / height), cosine * along, 2.0 * down / height),
    )
    maps = torch.stack([torch.stack(row, dim=1) for row in rows], dim=1).to(images.dtype)
    grid = nn.functional.affine_grid(maps, list(images.shape), align_corners=False)
    return nn.functional.grid_sample(
        images, grid, mode="bilinear", padding_mode="border", align_corners=False
    )


def _both_ways(drawn: Tensor) -> Tensor:
    """[0, 1) -> [-1, 1)."""
    return 2.0 * drawn - 1.0


def _mirror(drawn: Tensor, *, wanted: bool) -> Tensor:
    """-1 for the half that is mirrored, else 1."""
    return torch.where(drawn < 0.5, -1.0, 1.0).double() if wanted else torch.ones_like(drawn)


def _of_records(values: Tensor, images: Tensor) -> Tensor:
    return values.to(images.dtype).reshape(-1, 1, 1, 1)
