"""The data contract: what every hospital's records have to be, and the features made of them.

Scaling comes from the ranges declared here, never from the data: so it costs no privacy and every
hospital computes the same features. What a study may ask for on top, and pays for, is to scale them
by released statistics (wardround.statistics.scaling).
"""

from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

MOST_CLASSES = 100
MOST_TARGETS = 1000
MOST_INTERVALS = 100
MOST_STEPS = 10_000
Unit = Annotated[str, StringConstraints(max_length=40)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
Text = Annotated[str, StringConstraints(min_length=1, max_length=2000)]


class Frozen(BaseModel):
    """A value that is checked once, where it is built, and never changes."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def _later(default: Any = None, **limits: Any) -> Any:
    """A field that came after the first studies were signed.

    Left at its default it is not written, so a study without it keeps its bytes and its digest.
    """
    return Field(default=default, exclude_if=lambda value: value == default, **limits)


class ColumnKind(StrEnum):
    """How a column becomes features."""

    CONTINUOUS = "continuous"
    BINARY = "binary"
    CATEGORICAL = "categorical"
    IMAGE = "image"
    SERIES = "series"
    FINGERPRINT = "fingerprint"


_WITH_RANGE = {ColumnKind.CONTINUOUS, ColumnKind.IMAGE, ColumnKind.SERIES}
_NEVER_MISSING = {ColumnKind.IMAGE, ColumnKind.FINGERPRINT}


class Grams(Frozen):
    """How a SMILES becomes numbers: runs of 1 to `longest` symbols, hashed to `size` places."""

    size: Annotated[int, Field(ge=16, le=16_384)]
    longest: Annotated[int, Field(ge=1, le=16)] = 5


class Grid(Frozen):
    """Steps of equal length from time 0: step k holds what was measured in [k, k + 1) `step`."""

    steps: Annotated[int, Field(ge=2, le=MOST_STEPS)]
    step: Annotated[float, Field(gt=0)]
    unit: Unit


class Column(Frozen):
    """One column of the contract.

    `range` is the pair of public bounds in `unit`: a value outside counts as a fault of the data.
    An image is a file with an array of `shape` (channels, height, width), in `unit`, windowed to
    `range`. A series is one variable that is measured over time, laid on the contract's grid. A
    fingerprint is a molecule's SMILES, made numbers as `grams` says.
    """

    name: Name
    kind: ColumnKind
    description: Text
    unit: str = Field(default="1", max_length=40)
    range: tuple[float, float] | None = None
    categories: tuple[str, ...] = ()
    may_be_missing: bool = False
    shape: tuple[int, int, int] | None = None
    grams: Grams | None = _later()

    @model_validator(mode="after")
    def _range_fits_its_kind(self) -> Self:
        if self.kind in _WITH_RANGE:
            if self.range is None or not self.range[0] < self.range[1]:
                raise ValueError(f"column {self.name}: `range` = [low, high] is due, low < high")
        elif self.range is not None:
            raise ValueError(
                f"column {self.name}: `range` belongs to continuous, image and series columns"
            )
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
        if self.kind in _NEVER_MISSING and self.may_be_missing:
            article = "an" if self.kind is ColumnKind.IMAGE else "a"
            raise ValueError(f"column {self.name}: {article} {self.kind} may not be missing")
        if self.kind is ColumnKind.SERIES and self.may_be_missing:
            raise ValueError(
                f"column {self.name}: a series always says what was not measured; leave "
                "`may_be_missing` out"
            )
        return self

    @model_validator(mode="after")
    def _grams_fit_its_kind(self) -> Self:
        if (self.kind is ColumnKind.FINGERPRINT) != (self.grams is not None):
            raise ValueError(
                f"column {self.name}: `grams` = {{size, longest}} belong to fingerprint columns, "
                "only to them"
            )
        return self

    def features(self) -> tuple[str, ...]:
        """Names of the numbers that this column gives, in order; a missing one gives zeros.

        >>> Column(name="age", kind=ColumnKind.CONTINUOUS, description="age", unit="a",
        ...        range=(18, 90), may_be_missing=True).features()
        ('age', 'age is missing')
        """
        if self.kind is ColumnKind.CATEGORICAL:
            names = tuple(f"{self.name}={category}" for category in self.categories)
        elif self.grams is not None:
            names = tuple(f"{self.name}[{place}]" for place in range(self.grams.size))
        else:
            names = (self.name,)
        says_missing = self.may_be_missing or self.kind is ColumnKind.SERIES
        return (*names, f"{self.name} is missing") if says_missing else names


class LabelKind(StrEnum):
    """What is predicted."""

    BINARY = "binary"
    CLASSES = "classes"
    TIME_TO_EVENT = "time-to-event"
    TARGETS = "targets"
    NONE = "none"


class TimeToEvent(Frozen):
    """The public time axis of a prognosis, from time 0 in `unit`.

    `edges` end the intervals; the last one is the horizon: who is followed up longer counts as
    alive there. The hazard of each interval is one output of the network.
    """

    unit: Unit
    edges: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        min_length=1, max_length=MOST_INTERVALS
    )

    @model_validator(mode="after")
    def _edges_rise(self) -> Self:
        if any(b <= a for a, b in zip(self.edges, self.edges[1:], strict=False)):
            raise ValueError("label: `time.edges` have to rise")
        return self

    @property
    def horizon(self) -> float:
        """The end of the last interval."""
        return self.edges[-1]


class Target(Frozen):
    """One of several things that are predicted together: yes or no, or a number in `range`."""

    name: Name
    description: Text
    unit: Unit = "1"
    range: tuple[float, float] | None = None

    @model_validator(mode="after")
    def _range_rises(self) -> Self:
        if self.range is not None and not self.range[0] < self.range[1]:
            raise ValueError(f"target {self.name}: `range` = [low, high] is due, low < high")
        return self


class Label(Frozen):
    """What is predicted, one per patient or one per record.

    binary: an outcome, `positive` in words. classes: one of several `classes`. time-to-event: an
    event (`positive` in words) on the axis `time`, or the end of follow-up. targets: several yes or
    no (none has a range) or several numbers (all have one), each may be missing. none: nothing is
    learned from a label; with `positive` a yes-or-no label serves the evaluation alone, unless
    `train_on` is negative: then the patients with a yes are left out of the training, so that what
    they have in common stays strange.
    """

    name: Name
    description: Text
    kind: LabelKind = _later(LabelKind.BINARY)
    positive: Text | None = _later()
    classes: tuple[Name, ...] = _later((), max_length=MOST_CLASSES)
    time: TimeToEvent | None = _later()
    targets: tuple[Target, ...] = _later((), max_length=MOST_TARGETS)
    train_on: Literal["everybody", "negative"] = _later("everybody")

    @model_validator(mode="after")
    def _parts_fit_the_kind(self) -> Self:
        due = {
            "positive": self.kind in {LabelKind.BINARY, LabelKind.TIME_TO_EVENT},
            "classes": self.kind is LabelKind.CLASSES,
            "time": self.kind is LabelKind.TIME_TO_EVENT,
            "targets": self.kind is LabelKind.TARGETS,
        }
        for part, belongs in due.items():
            here = bool(getattr(self, part))
            if here != belongs and not (part == "positive" and self.kind is LabelKind.NONE):
                word = "is due in" if belongs else "does not belong to"
                raise ValueError(f"label {self.name}: `{part}` {word} a label of kind {self.kind}")
        return self

    @model_validator(mode="after")
    def _strange_ones_are_known(self) -> Self:
        if self.train_on == "negative" and (self.kind is not LabelKind.NONE or not self.positive):
            raise ValueError(
                f"label {self.name}: `train_on` = negative belongs to a label of kind none with "
                "`positive`"
            )
        return self

    @model_validator(mode="after")
    def _names_once(self) -> Self:
        if self.kind is LabelKind.CLASSES and len(self.classes) < 2:
            raise ValueError(f"label {self.name}: at least two `classes` are due")
        names = self.classes or tuple(target.name for target in self.targets)
        if len(set(names)) != len(names):
            raise ValueError(f"label {self.name}: a class or target is named twice")
        if len({target.range is None for target in self.targets}) > 1:
            raise ValueError(f"label {self.name}: all targets have a `range`, or none has")
        return self

    @property
    def numbers(self) -> bool:
        """Whether the targets are numbers, not yes or no."""
        return any(target.range is not None for target in self.targets)

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of a network's outputs for this label, in order.

        >>> Label(name="sick", description="sick", positive="yes").channels
        ('sick',)
        """
        if self.kind is LabelKind.NONE:
            return ()
        if self.time is not None:
            return tuple(f"until {edge:g} {self.time.unit}" for edge in self.time.edges)
        return self.classes or tuple(target.name for target in self.targets) or (self.name,)


class Contract(Frozen):
    """What a hospital's records must be: columns, label, and the column that names the patient."""

    patient_key: Name
    label: Label
    columns: tuple[Column, ...] = Field(min_length=1, max_length=5000)
    grid: Grid | None = _later()

    @model_validator(mode="after")
    def _no_name_twice(self) -> Self:
        names = [self.patient_key, self.label.name, *(column.name for column in self.columns)]
        names += [target.name for target in self.label.targets]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"contract: named twice: {', '.join(twice)}")
        images = [column for column in self.columns if column.kind is ColumnKind.IMAGE]
        if images and len(self.columns) > 1:
            raise ValueError("contract: an image column stands alone; no other columns beside it")
        if bool(self.series) != (self.grid is not None):
            raise ValueError("contract: `grid` belongs to series columns, and they need one")
        return self

    @property
    def image(self) -> Column | None:
        """The image column, when this is a contract for images."""
        return next((c for c in self.columns if c.kind is ColumnKind.IMAGE), None)

    @property
    def series(self) -> tuple[Column, ...]:
        """The columns that are measured over time."""
        return tuple(column for column in self.columns if column.kind is ColumnKind.SERIES)

    def features(self) -> tuple[str, ...]:
        """Names of all features of a record (of one step, with a grid), in the model's order."""
        return tuple(name for column in self.columns for name in column.features())

    def input_shape(self) -> tuple[int, ...]:
        """Shape of one record: (features,), (channels, height, width) or (steps, features).

        With a grid the columns that are no series are repeated in every step.
        """
        if self.image is not None and self.image.shape is not None:
            return self.image.shape
        if self.grid is not None:
            return (self.grid.steps, len(self.features()))
        return (len(self.features()),)
