"""What tells one scanner's pictures from another's: a few numbers of each picture."""

import numpy as np
import numpy.typing as npt

from wardround.errors import BadInput
from wardround.statistics.cells import (
    AT_HIGH_END,
    AT_LOW_END,
    CONTRAST,
    INTENSITY,
    SHARPNESS,
    SIDE,
    USED,
)
from wardround.study.contract import Column
from wardround_client.data.images import Images
from wardround_client.data.pixels import Pixels
from wardround_client.data.reading import Records

Floats = npt.NDArray[np.float64]
PICTURE_NUMBERS = (INTENSITY, CONTRAST, AT_LOW_END, AT_HIGH_END, USED, SHARPNESS, SIDE)


def picture_numbers(pixels: Pixels, limits: tuple[float, float]) -> tuple[float, ...]:
    """In the order of PICTURE_NUMBERS, of [channels, height, width] in the contract's unit.

    Taken before the picture is resampled, which would level sharpness and size. Intensity and
    contrast (mean and standard deviation) are those of the pixels in the contract's window; what
    lies beyond it counts as its ends. Sharpness is the mean step between neighbours, as a share of
    the window; `side` the logarithm of the side of a square with as many pixels.

    >>> dark = np.zeros((1, 4, 4), dtype=np.float32)
    >>> picture_numbers(dark, (0.0, 255.0))
    (0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 2.0)
    """
    low, high = limits
    seen = np.clip(pixels, low, high).astype(np.float64)
    least, most = np.quantile(seen, [0.05, 0.95]).tolist()
    steps = [np.abs(np.diff(seen, axis=axis)).ravel() for axis in (1, 2)]
    together = np.concatenate(steps)
    return (
        float(seen.mean()),
        float(seen.std()),
        float((seen <= low).mean()),
        float((seen >= high).mean()),
        (most - least) / (high - low),
        float(together.mean()) / (high - low) if together.size else 0.0,
        float(np.log2(pixels.shape[1] * pixels.shape[2])) / 2.0,
    )


def numbers_of_pictures(records: Records, column: Column) -> Floats:
    """[records, numbers] of all pictures. Raises BadInput for one that cannot be read."""
    names = records.values[column.name]
    found = np.empty((len(names), len(PICTURE_NUMBERS)))
    with Images(records.folder, records.images, column) as images:
        for row, name in enumerate(names):
            try:
                found[row] = picture_numbers(images.in_unit(name), images.limits)
            except BadInput as error:
                raise BadInput(f"column {column.name}: a file {error}") from None
    return found
