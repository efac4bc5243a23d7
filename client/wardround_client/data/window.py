"""Whether the study's window fits this hospital's images: another scanner may count otherwise."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from wardround.errors import BadInput
from wardround.study.contract import Column
from wardround_client.data.images import Images, outside
from wardround_client.data.outcomes import coarse
from wardround_client.data.pixels import Pixels

LOOKED_AT = 64  # images, evenly from the first to the last
# What scanners and formats store, in bits a pixel.
_DEPTHS = (8, 10, 12, 14, 15, 16)
_HARDLY = 0.2
_NOTABLE = 0.01


def looks_through_another_window(
    images: Images, names: "pd.Series[str]", column: Column
) -> list[str]:
    """Remarks on pixels beyond the contract's range, or on a range that they hardly use.

    Such pixels count as the range's nearest end: of an image with most of them beyond, next to
    nothing is seen. Those that cannot be read are faults elsewhere. A remark tells a share and a
    depth in bits, never a pixel.
    """
    looked = [(outside(seen, images.limits), seen) for seen in _seen(images, names)]
    if not looked:
        return []
    low, high = images.limits
    beyond = sum(share > 0.5 for share, _ in looked)
    clipped = float(np.mean([share for share, _ in looked]))
    if not beyond:
        said = []
        if clipped > _NOTABLE:
            where = f"outside {low:g}..{high:g} {column.unit}, taken as the range's nearest end"
            said = [f"column {column.name}: of images looked at {_clipped(clipped)} ({where})"]
        return said + _unused(images, [seen for _, seen in looked], column)
    return [
        f"column {column.name}: {coarse(beyond, len(looked))} of {len(looked)} images that were "
        f"looked at have most of their pixels outside {low:g}..{high:g} {column.unit}, taken as "
        f"the range's nearest end ({_clipped(clipped)}): is another scanner's range or unit behind "
        f"it? {_advice([seen for _, seen in looked])}"
    ]


def share_beyond(images: Images, names: "pd.Series[str]") -> float | None:
    """The share of the pixels that lie beyond the contract's range; None without any image."""
    shares = [outside(seen, images.limits) for seen in _seen(images, names)]
    return float(np.mean(shares)) if shares else None


def _seen(images: Images, names: "pd.Series[str]") -> Iterator[Pixels]:
    """Some images in the contract's unit, before they are windowed."""
    count = min(len(names), LOOKED_AT)
    places = np.linspace(0, len(names) - 1, count).round().astype(np.int64)
    for name in names.iloc[places]:
        try:
            yield images.in_unit(name)
        except BadInput:
            continue


def _clipped(share: float) -> str:
    return f"{share:.0%} of their pixels are clipped"


def _unused(images: Images, looked: list[Pixels], column: Column) -> list[str]:
    """Where 8 bits were meant to fill the range of 12, say, pixels lie in a corner of it."""
    low, high = images.limits
    most = max(float(seen.max()) for seen in looked)
    if low != 0.0 or most >= low + _HARDLY * (high - low):
        return []
    return [
        f"column {column.name}: all pixels that were looked at lie in the lowest {_HARDLY:.0%} of "
        f"{low:g}..{high:g} {column.unit}. {_advice(looked)}"
    ]


def _advice(looked: list[Pixels]) -> str:
    least = min(float(seen.min()) for seen in looked)
    most = max(float(seen.max()) for seen in looked)
    fitting = [bits for bits in _DEPTHS if most <= 2**bits - 1]
    if least < 0 or not fitting:
        return "`slope` and `intercept` in `[images]` take pixels to the contract's unit"
    return (
        f"They fit into {fitting[0]} bits: where the scanner counts from 0 to "
        f"{2 ** fitting[0] - 1}, `stored_range = [0, {2 ** fitting[0] - 1}]` in `[images]` takes "
        "that to the contract's range"
    )
