"""Records become numbers: scaled by the contract's declared ranges, never by the data."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd

from wardround.errors import BadInput
from wardround.study.contract import Column, ColumnKind, Contract, Label
from wardround_client.data.fingerprint import fingerprints
from wardround_client.data.images import IMAGES_LIMIT_BYTES, Images
from wardround_client.data.reading import Records
from wardround_client.data.series import SERIES_LIMIT_BYTES, carried_forward

Floats32 = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedRecords:
    """Numbers for the model, grouped by patient.

    Patients are in the order of their keys. Records `offsets[i]` to `offsets[i + 1]` belong to
    patient i, in the order of the file. `features` is [records, *contract.input_shape()]. `labels`
    is [records] of 0 and 1 or of class numbers, [records, 2] of time and event (1 or 0),
    [records, targets] of 0 and 1 or of numbers scaled to [-1, 1] by their ranges (NaN: missing), or
    [records, 0] without a label.
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
    windowed to its range and scaled to [-1, 1]. A fingerprint is 0 and 1. A series has two features
    in every step: the last value so far, scaled, or 0 before the first one; and 1 where nothing was
    measured in the step. The other columns are repeated in every step.
    """
    order = np.argsort(np.array(records.patients, dtype=object), kind="stable")
    keys = [records.patients[i] for i in order]
    starts = [i for i in range(len(keys)) if i == 0 or keys[i] != keys[i - 1]]
    values = records.values.iloc[order]
    image = contract.image
    if image is not None:
        features = _encode_images(values[image.name], image, records)
    elif contract.grid is not None:
        features = _encode_steps(records, order, contract)
    else:
        features = np.hstack([_encode_column(values[c.name], c) for c in contract.columns])
    return EncodedRecords(
        features=features,
        labels=_encode_labels(records.labels[order], contract.label),
        offsets=np.array([*starts, len(keys)], dtype=np.int64),
        patients=tuple(keys[i] for i in starts),
    )


def _encode_column(values: "pd.Series[float] | pd.Series[str]", column: Column) -> Floats32:
    if column.grams is not None:
        return fingerprints(map(str, values), column.grams)
    missing = values.isna().to_numpy()
    if column.kind is ColumnKind.CATEGORICAL:
        codes = values.to_numpy(dtype=object)
        parts = [codes == category for category in column.categories]
    else:
        numbers = _scaled(values.to_numpy(dtype=np.float64), column.range)
        parts = [np.where(missing, 0.0, numbers)]
    if column.may_be_missing:
        parts.append(missing)
    return np.stack(parts, axis=1).astype(np.float32)


def _encode_steps(records: Records, order: npt.NDArray[np.intp], contract: Contract) -> Floats32:
    """[records, steps, features], in the order of the contract's columns."""
    steps, features = contract.input_shape()
    size = len(order) * steps * features * 4
    if size > SERIES_LIMIT_BYTES:
        raise BadInput(f"series: features of {size} bytes, over {SERIES_LIMIT_BYTES}")
    encoded = np.empty((len(order), steps, features), dtype=np.float32)
    start = 0
    for column in contract.columns:
        width = len(column.features())
        place = encoded[:, :, start : start + width]
        start += width
        if column.kind is not ColumnKind.SERIES:
            place[:] = _encode_column(records.values[column.name].iloc[order], column)[:, None, :]
            continue
        measured = records.series[column.name][order]
        place[:, :, 0] = np.nan_to_num(_scaled(carried_forward(measured), column.range), nan=0.0)
        place[:, :, 1] = np.isnan(measured)
    return encoded


def _encode_labels(
    labels: npt.NDArray[np.int8] | npt.NDArray[np.float64], label: Label
) -> Floats32:
    if not label.numbers:
        return labels.astype(np.float32)
    columns = [_scaled(labels[:, at], target.range) for at, target in enumerate(label.targets)]
    return np.stack(columns, axis=1).astype(np.float32)


def _scaled(
    values: npt.NDArray[np.float32] | npt.NDArray[np.float64] | npt.NDArray[np.int8],
    limits: tuple[float, float] | None,
) -> npt.NDArray[np.float64]:
    low, high = limits or (0.0, 1.0)
    numbers = np.clip(values.astype(np.float64), low, high)
    return (numbers - low) * (2.0 / (high - low)) - 1.0


def _encode_images(names: "pd.Series[str]", column: Column, records: Records) -> Floats32:
    shape = (len(names), *(column.shape or ()))
    size = int(np.prod(shape, dtype=np.int64)) * 4
    if size > IMAGES_LIMIT_BYTES:
        raise BadInput(f"column {column.name}: images of {size} bytes, over {IMAGES_LIMIT_BYTES}")
    encoded = np.empty(shape, dtype=np.float32)
    with Images(records.folder, records.images, column) as images:
        for row, name in enumerate(names):
            try:
                encoded[row] = images.read(name)
            except BadInput as error:
                raise BadInput(f"column {column.name}: a file {error}") from None
    return encoded
