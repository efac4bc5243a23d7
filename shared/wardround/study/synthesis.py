"""A study's [task.synthesis] table: the half of a GAN that no patient's record reaches."""

from itertools import pairwise
from typing import Annotated

from pydantic import Field

from wardround.study.contract import Contract, Frozen, LabelKind
from wardround.study.privacy import Positive

Sizes = tuple[Annotated[int, Field(ge=1, le=4096)], ...]


class Synthesis(Frozen):
    """What the coordinator makes of the discriminator: a generator, and a risk model behind it.

    Hospitals train the discriminator alone. Behind each round the generator takes `steps` steps of
    Adam, each on `batch` synthetic records, against the discriminator as it was released: it
    post-processes what is public already, so nothing here changes the guarantee. `latent` numbers
    of noise become one record. `average` is the weight of the past in the running mean of the
    generators, which the run ends with (0: the last one). `risk_hidden` are the hidden layers of
    the risk model that the last round fits to `risk_records` synthetic records; without any it is
    a logistic regression. Of images it is the reference CNN.
    """

    hidden: Sizes = Field(min_length=1, max_length=32)
    latent: Annotated[int, Field(ge=1, le=4096)] = 16
    steps: Annotated[int, Field(ge=1, le=1000)] = 5
    batch: Annotated[int, Field(ge=2, le=4096)] = 64
    learning_rate: Positive = 0.002
    average: Annotated[float, Field(ge=0, lt=1)] = 0.0
    risk_hidden: Sizes = Field(default=(), max_length=32)
    risk_records: Annotated[int, Field(ge=16, le=100_000)] = 2000


def conditions(contract: Contract) -> int:
    """On how many classes records are conditioned: 2 for yes or no, else as many as there are."""
    label = contract.label
    return 2 if label.kind is LabelKind.BINARY else len(label.classes)


def seen_features(contract: Contract) -> int:
    """How many features (of images: channels) the discriminator sees of a record with its class."""
    own, classes = contract.input_shape()[0], conditions(contract)
    return (own + 1) * classes if classes else own


def discriminator_parameters(contract: Contract, hidden: tuple[int, ...]) -> int:
    """How many parameters `wardround.models.gan.discriminator` has, without building it.

    The verifier imports no torch, and has to know how long a masked vector is.
    """
    shape = contract.input_shape()
    sizes = (seen_features(contract), *hidden)
    if len(shape) == 1:
        return sum((before + 1) * after for before, after in pairwise((*sizes, 1)))
    _, height, width = shape
    for _ in hidden:
        height, width = -(-height // 2), -(-width // 2)
    convolutions = sum((9 * before + 1) * after for before, after in pairwise(sizes))
    return convolutions + hidden[-1] * height * width + 1
