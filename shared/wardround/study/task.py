"""Which installed network learns what: the families, their networks, and the labels they take."""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator

from wardround.study.contract import ColumnKind, Contract, Frozen, LabelKind
from wardround.study.own_model import OwnModel
from wardround.study.synthesis import Synthesis, discriminator_parameters
from wardround.study.treatment import Ranking, Treatment


class FamilyName(StrEnum):
    """The families of networks, each one file in `wardround.models`."""

    RISK = "risk"
    IMAGE = "image"
    SURVIVAL = "survival"
    SERIES = "series"
    RESPONSE = "response"
    AUTOENCODER = "autoencoder"
    GAN = "gan"


class Model(StrEnum):
    """The networks that a hospital has installed; a study names one, it never brings code.

    `own` is one that is not Wardround's: the table [task.own] says which.
    """

    LOGISTIC_REGRESSION = "logistic-regression"
    MLP = "mlp"
    REFERENCE_CNN = "reference-cnn"
    RESNET18 = "resnet18"
    SMALL_CNN = "small-cnn"
    MONAI_DENSENET = "monai-densenet"
    GRU = "gru"
    LSTM = "lstm"
    DENSE_AUTOENCODER = "dense-autoencoder"
    CONVOLUTIONAL_AUTOENCODER = "convolutional-autoencoder"
    DENSE_GAN = "dense-gan"
    CONVOLUTIONAL_GAN = "convolutional-gan"
    OWN = "own"


MODELS = {
    FamilyName.RISK: {Model.LOGISTIC_REGRESSION, Model.MLP},
    FamilyName.IMAGE: {
        Model.REFERENCE_CNN,
        Model.RESNET18,
        Model.SMALL_CNN,
        Model.MONAI_DENSENET,
    },
    FamilyName.SURVIVAL: {Model.LOGISTIC_REGRESSION, Model.MLP},
    FamilyName.SERIES: {Model.GRU, Model.LSTM},
    FamilyName.RESPONSE: {Model.LOGISTIC_REGRESSION, Model.MLP},
    FamilyName.AUTOENCODER: {Model.DENSE_AUTOENCODER, Model.CONVOLUTIONAL_AUTOENCODER},
    FamilyName.GAN: {Model.DENSE_GAN, Model.CONVOLUTIONAL_GAN},
}
_LABELS = {
    FamilyName.RISK: {LabelKind.BINARY, LabelKind.CLASSES},
    FamilyName.IMAGE: {LabelKind.BINARY, LabelKind.CLASSES},
    FamilyName.SURVIVAL: {LabelKind.TIME_TO_EVENT},
    FamilyName.SERIES: {LabelKind.BINARY, LabelKind.CLASSES},
    FamilyName.RESPONSE: {LabelKind.BINARY, LabelKind.CLASSES, LabelKind.TARGETS},
    FamilyName.AUTOENCODER: {LabelKind.NONE},
    FamilyName.GAN: {LabelKind.BINARY, LabelKind.CLASSES},
}
_OF_IMAGES = {
    *MODELS[FamilyName.IMAGE],
    Model.CONVOLUTIONAL_AUTOENCODER,
    Model.CONVOLUTIONAL_GAN,
}
_OF_FIXED_SIZE = {Model.LOGISTIC_REGRESSION, Model.REFERENCE_CNN, Model.RESNET18}


class Augmentation(Frozen):
    """How training images are changed each time they are drawn; evaluation sees them as they are.

    Every change is uniform in its public range and drawn anew for every image: moved by up to
    `shift_pixels` each way, turned by up to `rotate_degrees` either way, mirrored or not, made
    brighter or darker by up to `brightness` (a share of the contract's range), and its contrast
    times 1 - `contrast` to 1 + `contrast`. `copies` are drawn of each image; the patient's gradient
    is the mean over all of them and is clipped once. (De et al. 2022, "augmentation
    multiplicity")
    """

    shift_pixels: Annotated[int, Field(ge=0, le=256)] = 0
    rotate_degrees: Annotated[float, Field(ge=0, le=180)] = 0.0
    flip_left_right: bool = False
    flip_up_down: bool = False
    brightness: Annotated[float, Field(ge=0, le=1)] = 0.0
    contrast: Annotated[float, Field(ge=0, lt=1)] = 0.0
    copies: Annotated[int, Field(ge=1, le=16)] = 1

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if not (self.moves or self.brightness or self.contrast):
            raise ValueError("task: this augmentation changes nothing; leave it out")
        return self

    def faults(self, shape: tuple[int, ...]) -> list[str]:
        """What does not fit images of `shape` (channels, height, width); empty when all does."""
        side = min(shape[1:])
        if 2 * self.shift_pixels < side:
            return []
        return [
            f"task.augmentation.shift_pixels {self.shift_pixels} came for images of {side} pixels, "
            "less than half of them was due"
        ]

    @property
    def moves(self) -> bool:
        """Whether pixels come to lie elsewhere."""
        flips = self.flip_left_right or self.flip_up_down
        return flips or bool(self.shift_pixels or self.rotate_degrees)


class Task(Frozen):
    """What is learned, and by which installed network.

    `hidden` are the sizes of the layers between input and output: of an MLP its hidden layers, of
    a recurrent network its layers' states, of a small CNN the channels of its blocks, of MONAI's
    DenseNet the layers of its blocks, of an autoencoder the layers down to its code, which the way
    back mirrors (channels, where it is convolutional), of a GAN the layers of its discriminator.
    `synthesis` is what is made of a GAN, `own` which network model own is. `augmentation` is what
    happens to training images; without one it is not in the bytes. `treatment` is the column that
    somebody could choose (of a table: the network sees its product with every other feature, too),
    `ranking` says that numbers are told beside each other.
    """

    family: FamilyName
    model: Model
    hidden: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = Field(default=(), max_length=32)
    augmentation: Augmentation | None = Field(default=None, exclude_if=lambda value: value is None)
    own: OwnModel | None = Field(default=None, exclude_if=lambda value: value is None)
    synthesis: Synthesis | None = Field(default=None, exclude_if=lambda value: value is None)
    treatment: Treatment | None = Field(default=None, exclude_if=lambda value: value is None)
    ranking: Ranking | None = Field(default=None, exclude_if=lambda value: value is None)

    @model_validator(mode="after")
    def _model_of_this_family(self) -> Self:
        own = self.model is Model.OWN and self.family is not FamilyName.GAN
        if self.model not in MODELS[self.family] and not own:
            raise ValueError(f"task: model {self.model} does not belong to family {self.family}")
        if not own and (self.model in _OF_FIXED_SIZE) == bool(self.hidden):
            raise ValueError(
                "task: `hidden` layer sizes belong to the models "
                + ", ".join(sorted(model for model in Model if model not in _OF_FIXED_SIZE))
            )
        if own != (self.own is not None):
            raise ValueError("task: the table [task.own] belongs to model = own, and only there")
        if self.augmentation is not None and self.family is not FamilyName.IMAGE:
            raise ValueError(f"task: augmentation belongs to family image, {self.family} came")
        return self

    @model_validator(mode="after")
    def _chosen_by_tables(self) -> Self:
        table = self.family in {FamilyName.RISK, FamilyName.RESPONSE} and self.own is None
        if self.treatment is not None and not table:
            raise ValueError(
                "task: [task.treatment] belongs to family risk or response, without an own model"
            )
        return self

    @model_validator(mode="after")
    def _synthesis_of_a_gan(self) -> Self:
        if (self.family is FamilyName.GAN) != (self.synthesis is not None):
            raise ValueError("task: [task.synthesis] belongs to family gan, and it needs one")
        return self

    def made_from(self, contract: Contract) -> int | None:
        """Where in a model's vector the part begins that the coordinator makes of the rest.

        None where hospitals train all of it. Of a GAN the discriminator comes first, and they train
        nothing else.
        """
        if self.synthesis is None:
            return None
        return discriminator_parameters(contract, self.hidden)

    def faults(self, contract: Contract) -> list[str]:
        """What does not fit the contract, in sentences; empty when all does."""
        found = []
        if not self._fits_images(images=contract.image is not None):
            found.append(
                "family image needs an image column, and beside it only models "
                f"{Model.CONVOLUTIONAL_AUTOENCODER} and {Model.CONVOLUTIONAL_GAN} may have one"
            )
        if (self.family is FamilyName.SERIES) != (contract.grid is not None):
            found.append("family series needs series columns on a grid, and no other family may")
        if contract.image is not None and self.augmentation is not None:
            found += self.augmentation.faults(contract.input_shape())
        strange = {ColumnKind.SERIES, ColumnKind.FINGERPRINT}
        if self.synthesis is not None and any(c.kind in strange for c in contract.columns):
            found.append("family gan makes tables and images, no series and no fingerprints")
        if contract.label.kind not in _LABELS[self.family]:
            found.append(
                f"family {self.family} takes a label of kind "
                f"{' or '.join(sorted(_LABELS[self.family]))}, {contract.label.kind} came"
            )
        for choice in (self.treatment, self.ranking):
            found += [] if choice is None else choice.faults(contract)
        return found

    def _fits_images(self, *, images: bool) -> bool:
        """An own autoencoder takes either; every other network takes one kind of input."""
        if self.model is Model.OWN:
            takes = images == (self.family is FamilyName.IMAGE)
            return takes or self.family is FamilyName.AUTOENCODER
        return images == (self.model in _OF_IMAGES)
