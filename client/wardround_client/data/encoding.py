"""Records become numbers: scaled by the contract's declared ranges, never by the data."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from wardround.errors import BadInput
from wardround.study.contract import Column, ColumnKind, Contract
from wardround_client.data.images import IMAGES_LIMIT_BYTES, check_image, read_image
from wardround_client.data.reading import Records

Floats32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedRecords:
    """Numbers for the model, grouped by patient.

    Patients are in the order of their keys. Records `offsets[i]` to `offsets[i + 1]` belong to
    patient i, in the order of the file. `features` is [records, features] or
    [records, channels, height, width], `labels` is [records] of 0 and 1.
    """

    features: Floats32 = field(repr=False)
    labels: Floats32 = field(repr=False)
    offsets: npt.NDArray[np.int64] = field(repr=False)
    patients: tuple[str, ...] = field(repr=False)

    def __post_init__(self) -> None:
        """Check that the parts fit each other. Raises BadInput."""
        counts = np.diff(self.offsets)
        fits = len(self.offsets) == len(self.patients) + 1 and self.offsets[0] == 0
        if not fits or (counts < 1).any() or self.offsets[-1] != len(self.labels):
            raise BadInput("encoded records: the offsets do not part the records into patients")
        if len(self.features) != len(self.labels):
            raise BadInput("encoded records: features and labels differ in length")

    @property
    def patient_count(self) -> int:
        """How many patients there are; a number that belongs to the hospital."""
        return len(self.patients)

    def of_patients(self, indices: Sequence[int]) -> "EncodedRecords":
        """The records of some patients, in the order of `indices`."""
        spans = [np.arange(self.offsets[i], self.offsets[i + 1]) for i in indices]
        rows = np.concatenate([np.zeros(0, dtype=np.int64), *spans])
        lengths = [len(span) for span in spans]
        return EncodedRecords(
            features=self.features[rows],
            labels=self.labels[rows],
            offsets=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]).astype(np.int64),
            patients=tuple(self.patients[i] for i in indices),
        )


def encode(records: Records, contract: Contract) -> EncodedRecords:
    """Encode checked records in the order of `contract.features()`.

    Continuous: [low, high] of the contract becomes [-1, 1]. Binary: 0 is -1 and 1 is +1, so that
    a missing value (0) stands between them. Categorical: one of n, zeros when missing. A column
    that may be missing gets one more feature, 1 where it is missing and else 0. An image is
    windowed to its range and scaled to [-1, 1].
    """
    order = np.argsort(np.array(records.patients, dtype=object), kind="stable")
    keys = [records.patients[i] for i in order]
    starts = [i for i in range(len(keys)) if i == 0 or keys[i] != keys[i - 1]]
    values = records.values.iloc[order]
    image = contract.image
    features = (
        np.hstack([_encode_column(values[c.name], c) for c in contract.columns])
        if image is None
        else _encode_images(values[image.name], image, records.folder)
    )
    return EncodedRecords(
        features=features,
        labels=records.labels[order].astype(np.float32),
        offsets=np.array([*starts, len(keys)], dtype=np.int64),
        patients=tuple(keys[i] for i in starts),
    )


def _encode_column(values: "pd.Series[float] | pd.Series[str]", column: Column) -> Floats32:
    missing = values.isna().to_numpy()
    if column.kind is ColumnKind.CATEGORICAL:
        codes = values.to_numpy(dtype=object)
        parts = [codes == category for category in column.categories]
    else:
        low, high = column.range or (0.0, 1.0)
        numbers = np.clip(values.to_numpy(dtype=np.float64), low, high)
        parts = [np.where(missing, 0.0, (numbers - low) * (2.0 / (high - low)) - 1.0)]
    if column.may_be_missing:
        parts.append(missing)
    return np.stack(parts, axis=1).astype(np.float32)


def _encode_images(paths: "pd.Series[str]", column: Column, folder: Path) -> Floats32:
    shape = (len(paths), *(column.shape or ()))
    size = int(np.prod(shape, dtype=np.int64)) * 4
    if size > IMAGES_LIMIT_BYTES:
        raise BadInput(f"column {column.name}: images of {size} bytes, over {IMAGES_LIMIT_BYTES}")
    images = np.empty(shape, dtype=np.float32)
    for row, path in enumerate(paths):
        try:
            images[row] = read_image(check_image(folder, path, column), column)
        except BadInput as error:
            raise BadInput(f"column {column.name}: a file {error}") from None
    return images
