"""The data contract: what every hospital's records have to be, and the features made of them.

Scaling comes from the ranges declared here, never from the data: so it costs no privacy and every
hospital computes the same features. What a study may ask for on top, and pays for, is to scale them
by released statistics (wardround.statistics.scaling).
"""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=2000)]


class Frozen(BaseModel):
    """A value that is checked once, where it is built, and never changes."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ColumnKind(StrEnum):
    """How a column becomes features."""

    CONTINUOUS = "continuous"
    BINARY = "binary"
    CATEGORICAL = "categorical"
    IMAGE = "image"


class Column(Frozen):
    """One column of the contract.

    `range` is the pair of public bounds in `unit`: a value outside counts as a fault of the data.
    An image is a file with an array of `shape` (channels, height, width), in `unit`, windowed to
    `range`.
    """

    name: Name
    kind: ColumnKind
    description: Text
    unit: str = Field(default="1", max_length=40)
    range: tuple[float, float] | None = None
    categories: tuple[str, ...] = ()
    may_be_missing: bool = False
    shape: tuple[int, int, int] | None = None

    @model_validator(mode="after")
    def _range_fits_its_kind(self) -> Self:
        if self.kind in {ColumnKind.CONTINUOUS, ColumnKind.IMAGE}:
            if self.range is None or not self.range[0] < self.range[1]:
                raise ValueError(f"column {self.name}: `range` = [low, high] is due, low < high")
        elif self.range is not None:
            raise ValueError(f"column {self.name}: `range` belongs to continuous and image columns")
        return self

    @model_validator(mode="after")
    def _categories_fit_its_kind(self) -> Self:
        different = len(set(self.categories))
        if different != len(self.categories):
            raise ValueError(f"column {self.name}: a category is named twice")
        if self.kind is ColumnKind.CATEGORICAL and different < 2:
            raise ValueError(f"column {self.name}: at least two different `categories` are due")
        if self.kind is not ColumnKind.CATEGORICAL and self.categories:
            raise ValueError(f"column {self.name}: `categories` belong to categorical columns")
        return self

    @model_validator(mode="after")
    def _shape_fits_its_kind(self) -> Self:
        if (self.kind is ColumnKind.IMAGE) != (self.shape is not None):
            raise ValueError(f"column {self.name}: `shape` belongs to image columns, only to them")
        if self.kind is ColumnKind.IMAGE and self.may_be_missing:
            raise ValueError(f"column {self.name}: an image may not be missing")
        return self

    def features(self) -> tuple[str, ...]:
        """Names of the numbers that this column gives, in order; a missing one gives zeros.

        >>> Column(name="age", kind=ColumnKind.CONTINUOUS, description="age", unit="a",
        ...        range=(18, 90), may_be_missing=True).features()
        ('age', 'age is missing')
        """
        if self.kind is ColumnKind.CATEGORICAL:
            names = tuple(f"{self.name}={category}" for category in self.categories)
        else:
            names = (self.name,)
        return (*names, f"{self.name} is missing") if self.may_be_missing else names


class Label(Frozen):
    """What is predicted: a binary outcome, one per patient or one per record."""

    name: Name
    description: Text
    positive: Text


class Contract(Frozen):
    """What a hospital's records must be: columns, label, and the column that names the patient."""

    patient_key: Name
    label: Label
    columns: tuple[Column, ...] = Field(min_length=1, max_length=5000)

    @model_validator(mode="after")
    def _no_name_twice(self) -> Self:
        names = [self.patient_key, self.label.name, *(column.name for column in self.columns)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"contract: named twice: {', '.join(twice)}")
        images = [column for column in self.columns if column.kind is ColumnKind.IMAGE]
        if images and len(self.columns) > 1:
            raise ValueError("contract: an image column stands alone; no other columns beside it")
        return self

    @property
    def image(self) -> Column | None:
        """The image column, when this is a contract for images."""
        return next((c for c in self.columns if c.kind is ColumnKind.IMAGE), None)

    def features(self) -> tuple[str, ...]:
        """Names of all features of a record, in the order of the model's input."""
        return tuple(name for column in self.columns for name in column.features())

    def input_shape(self) -> tuple[int, ...]:
        """Shape of one record as the model sees it: (features,) or (channels, height, width)."""
        if self.image is not None and self.image.shape is not None:
            return self.image.shape
        return (len(self.features()),)
