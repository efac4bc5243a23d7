"""Whether the study's window fits this hospital's images: another scanner may count otherwise."""

import numpy as np
import pandas as pd

from wardround.errors import BadInput
from wardround.study.contract import Column
from wardround_client.data.images import Images
from wardround_client.data.outcomes import coarse

LOOKED_AT = 64  # images, evenly from the first to the last


def looks_through_another_window(
    images: Images, names: "pd.Series[str]", column: Column
) -> list[str]:
    """A remark when images have most of their pixels outside the contract's range; else nothing.

    Such pixels count as the range's nearest end, and of such images next to nothing is seen.
    `images` are opened with `three_times(column)`. Those that cannot be read are faults elsewhere.
    """
    count = min(len(names), LOOKED_AT)
    places = np.linspace(0, len(names) - 1, count).round().astype(np.int64)
    beyond = sum(_mostly_outside(images, name) for name in names.iloc[places])
    if not beyond:
        return []
    low, high = column.range or (0.0, 1.0)
    return [
        f"column {column.name}: {coarse(beyond, count)} of {count} images that were looked at have "
        f"most of their pixels outside {low:g}..{high:g} {column.unit}, taken as the range's "
        "nearest end: is another scanner's range or unit behind it?"
    ]


def three_times(column: Column) -> Column:
    """The column with a window three times as wide about the same middle.

    >>> from wardround.study.contract import ColumnKind
    >>> three_times(Column(name="scan", kind=ColumnKind.IMAGE, description="scan",
    ...                    range=(0, 255), shape=(1, 2, 2))).range
    (-255.0, 510.0)
    """
    low, high = column.range or (0.0, 1.0)
    return column.model_copy(update={"range": (2 * low - high, 2 * high - low)})


def _mostly_outside(images: Images, name: str) -> bool:
    try:
        pixels = images.read(name)
    except BadInput:
        return False
    # Three times as wide: the contract's own window is the middle third.
    return bool((np.abs(pixels) > 1 / 3 + 1e-5).mean() > 0.5)
