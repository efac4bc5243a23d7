"""Which installed network learns what: the families, their networks, and the labels they take."""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, model_validator

from wardround.study.contract import Contract, Frozen, LabelKind


class FamilyName(StrEnum):
    """The families of networks, each one file in `wardround.models`."""

    RISK = "risk"
    IMAGE = "image"
    SURVIVAL = "survival"
    SERIES = "series"
    RESPONSE = "response"
    AUTOENCODER = "autoencoder"


class Model(StrEnum):
    """The networks that a hospital has installed; a study names one, it never brings code."""

    LOGISTIC_REGRESSION = "logistic-regression"
    MLP = "mlp"
    REFERENCE_CNN = "reference-cnn"
    RESNET18 = "resnet18"
    GRU = "gru"
    LSTM = "lstm"
    DENSE_AUTOENCODER = "dense-autoencoder"
    CONVOLUTIONAL_AUTOENCODER = "convolutional-autoencoder"


MODELS = {
    FamilyName.RISK: {Model.LOGISTIC_REGRESSION, Model.MLP},
    FamilyName.IMAGE: {Model.REFERENCE_CNN, Model.RESNET18},
    FamilyName.SURVIVAL: {Model.LOGISTIC_REGRESSION, Model.MLP},
    FamilyName.SERIES: {Model.GRU, Model.LSTM},
    FamilyName.RESPONSE: {Model.LOGISTIC_REGRESSION, Model.MLP},
    FamilyName.AUTOENCODER: {Model.DENSE_AUTOENCODER, Model.CONVOLUTIONAL_AUTOENCODER},
}
_LABELS = {
    FamilyName.RISK: {LabelKind.BINARY, LabelKind.CLASSES},
    FamilyName.IMAGE: {LabelKind.BINARY, LabelKind.CLASSES},
    FamilyName.SURVIVAL: {LabelKind.TIME_TO_EVENT},
    FamilyName.SERIES: {LabelKind.BINARY, LabelKind.CLASSES},
    FamilyName.RESPONSE: {LabelKind.BINARY, LabelKind.CLASSES, LabelKind.TARGETS},
    FamilyName.AUTOENCODER: {LabelKind.NONE},
}
_OF_IMAGES = {Model.REFERENCE_CNN, Model.RESNET18, Model.CONVOLUTIONAL_AUTOENCODER}
_OF_FIXED_SIZE = {Model.LOGISTIC_REGRESSION, Model.REFERENCE_CNN, Model.RESNET18}


class Task(Frozen):
    """What is learned, and by which installed network.

    `hidden` are the sizes of the layers between input and output: of an MLP its hidden layers, of
    a recurrent network its layers' states, of an autoencoder the layers down to its code, which
    the way back mirrors (channels, where it is convolutional).
    """

    family: FamilyName
    model: Model
    hidden: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = Field(default=(), max_length=32)

    @model_validator(mode="after")
    def _model_of_this_family(self) -> Self:
        if self.model not in MODELS[self.family]:
            raise ValueError(f"task: model {self.model} does not belong to family {self.family}")
        if (self.model in _OF_FIXED_SIZE) == bool(self.hidden):
            raise ValueError(
                "task: `hidden` layer sizes belong to the models "
                + ", ".join(sorted(model for model in Model if model not in _OF_FIXED_SIZE))
            )
        return self

    def faults(self, contract: Contract) -> list[str]:
        """What does not fit the contract, in sentences; empty when all does."""
        found = []
        if (self.model in _OF_IMAGES) != (contract.image is not None):
            found.append(
                "family image needs an image column, and beside it only model "
                f"{Model.CONVOLUTIONAL_AUTOENCODER} may have one"
            )
        if (self.family is FamilyName.SERIES) != (contract.grid is not None):
            found.append("family series needs series columns on a grid, and no other family may")
        if contract.label.kind not in _LABELS[self.family]:
            found.append(
                f"family {self.family} takes a label of kind "
                f"{' or '.join(sorted(_LABELS[self.family]))}, {contract.label.kind} came"
            )
        return found
