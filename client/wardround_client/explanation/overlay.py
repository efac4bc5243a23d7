"""A map drawn over its picture, as PNG: grey below, colour where the map speaks."""

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

from wardround.errors import BadInput

Map = npt.NDArray[np.floating]

_SIDE_LEAST = 512  # small pictures are enlarged: a person has to see them
_OPACITY = 0.65
# From blue (against) over none to orange (for); both are told apart with colour blindness.
_FOR = np.array([230.0, 120.0, 0.0])
_AGAINST = np.array([0.0, 90.0, 200.0])


def overlay_png(picture: Map, attribution: Map) -> bytes:
    """Draw `attribution` [height, width] over `picture` [height, width], both of any range.

    Orange speaks for the score, blue against it; the strongest place of the map is the most
    opaque, and a map of zeros leaves the picture as it is. Raises BadInput for shapes that differ
    or values that are not finite.
    """
    if picture.shape != attribution.shape or picture.ndim != 2:
        raise BadInput(f"overlay: a map of shape {picture.shape} was due, {attribution.shape} came")
    if not (np.isfinite(picture).all() and np.isfinite(attribution).all()):
        raise BadInput("overlay: picture or map has values that are not finite")
    grey = _stretched(picture) * 255.0
    most = float(np.abs(attribution).max())
    strength = np.abs(attribution) / most if most > 0.0 else np.zeros_like(attribution)
    alpha = (_OPACITY * strength)[..., None]
    colour = np.where((attribution > 0.0)[..., None], _FOR, _AGAINST)
    mixed = (1.0 - alpha) * grey[..., None] + alpha * colour
    image = Image.fromarray(np.rint(mixed).astype(np.uint8), mode="RGB")
    factor = max(1, -(-_SIDE_LEAST // max(picture.shape)))
    size = (image.width * factor, image.height * factor)
    buffer = io.BytesIO()
    image.resize(size, Image.Resampling.NEAREST).save(buffer, format="PNG")
    return buffer.getvalue()


def _stretched(picture: Map) -> Map:
    low, high = float(picture.min()), float(picture.max())
    return (picture - low) / (high - low) if high > low else np.zeros_like(picture)
