"""Where in an image the network looked: Grad-CAM and occlusion, drawn beside the picture."""

import io
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from wardround.canonical import Json
from wardround_client.explanation.grad_cam import grad_cam, last_convolution
from wardround_client.explanation.occlusion import occlusion
from wardround_client.explanation.overlay import overlay_png
from wardround_client.explanation.sanity import Sanity, sanity
from wardround_client.explanation.subject import Subject

Map = npt.NDArray[np.floating]
MOST_IMAGES = 12
_WINDOWS_ACROSS = 8
_RANDOM_OCCLUSIONS = 2  # each costs as much as the map itself
_GAP, _CAPTION = 12, 26


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureMaps:
    """One image of a patient: its score, the PNG with picture and maps, and their checks."""

    number: int
    score: float = field(repr=False)
    png: bytes = field(repr=False)
    grad_cam: Sanity
    occlusion: Sanity

    @property
    def file(self) -> str:
        """The name of its file."""
        return f"image-{self.number}.png"

    def to_json(self) -> Json:
        """What the file shows."""
        return {
            "file": self.file,
            "image": self.number,
            "score": self.score,
            "maps": [
                {
                    "method": method,
                    "likeness_to_random_weights": checked.correlation,
                    "warning": checked.warning,
                }
                for method, checked in (("Grad-CAM", self.grad_cam), ("occlusion", self.occlusion))
            ],
        }

    def lines(self) -> list[str]:
        """The same for a person."""
        said = [f"{self.file}: score {self.score:.3f}"]
        for method, checked in (("Grad-CAM", self.grad_cam), ("occlusion", self.occlusion)):
            said.append(f"  {method}: {checked.line()}")
            said += [f"  {method}: {checked.warning}"] if checked.warning else []
        return said


def picture_maps(subject: Subject, images: Tensor) -> list[PictureMaps]:
    """Maps of a patient's images [images, channels, height, width], those of highest score first.

    At most twelve; `number` is the image's place among the patient's, from 1.
    """
    with torch.no_grad():
        scores = subject.score()(images.double())
    order = torch.argsort(scores, descending=True, stable=True)[:MOST_IMAGES].tolist()
    return [_of_one(subject, images[n : n + 1].double(), n + 1, float(scores[n])) for n in order]


def _of_one(subject: Subject, image: Tensor, number: int, score: float) -> PictureMaps:
    cam, covered = _grad_cam(image)(subject), _occluded(image)(subject)
    picture = image[0].mean(0).numpy()
    shown = (("picture", np.zeros_like(picture)), ("Grad-CAM", cam), ("occlusion", covered))
    return PictureMaps(
        number=number,
        score=score,
        png=side_by_side([(name, overlay_png(picture, values)) for name, values in shown]),
        grad_cam=sanity(subject, cam, _grad_cam(image)),
        occlusion=sanity(subject, covered, _occluded(image), networks=_RANDOM_OCCLUSIONS),
    )


def _grad_cam(image: Tensor) -> Callable[[Subject], Map]:
    def explain(subject: Subject) -> Map:
        layer = last_convolution(subject.network)
        return grad_cam(layer, subject.evidence(), image)[0].numpy()

    return explain


def _occluded(image: Tensor) -> Callable[[Subject], Map]:
    """Covered with the image's own mean: the middle of the range would be a mark of its own."""
    window = max(2, min(image.shape[2:]) // _WINDOWS_ACROSS)
    cover = float(image.mean())

    def explain(subject: Subject) -> Map:
        found = occlusion(
            subject.evidence(), image, window=window, stride=max(1, window // 2), cover=cover
        )
        return found[0].numpy()

    return explain


def side_by_side(pictures: list[tuple[str, bytes]]) -> bytes:
    """PNGs of one height in a row, each with its name above, as one PNG."""
    read = [(name, Image.open(io.BytesIO(content))) for name, content in pictures]
    width = sum(image.width for _, image in read) + _GAP * (len(read) + 1)
    height = max(image.height for _, image in read) + _CAPTION + _GAP
    whole = Image.new("RGB", (width, height), "white")
    draw, left = ImageDraw.Draw(whole), _GAP
    for name, image in read:
        draw.text((left, 6), name, fill=(20, 33, 43), font_size=14)
        whole.paste(image, (left, _CAPTION))
        left += image.width + _GAP
    buffer = io.BytesIO()
    whole.save(buffer, format="PNG")
    return buffer.getvalue()
