"""Synthetic records from a released generator, in the contract's own values, labelled as such."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from wardround.canonical import Json
from wardround.errors import BadInput
from wardround.models.gan import adversaries, made
from wardround.models.generating import drawn
from wardround.models.released import ReleasedModel
from wardround.randomness import Randomness
from wardround.study.contract import Column, ColumnKind, LabelKind
from wardround.study.manifest import Mechanism, Study, StudyPlan

SCHEMA: Final = "wardround.synthetic/1"
MARK: Final = "SYNTHETIC: records of nobody, not for decisions about patients"
MOST_RECORDS: Final = 1_000_000
COLUMN: Final = "synthetic"
_AT_ONCE = 1000

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class SyntheticRecords:
    """Features [records, *contract.input_shape()] as an encoding has them, and class numbers."""

    features: Floats = field(repr=False)
    labels: npt.NDArray[np.int64] = field(repr=False)


def synthetic_records(
    released: ReleasedModel, study: Study, *, records: int, randomness: Randomness
) -> SyntheticRecords:
    """Draw records from the released generator, each class as likely.

    Raises BadInput for a study of another family, and for a number that is none to draw.
    """
    if study.task.synthesis is None:
        raise BadInput(f"study {study.name}: its family is {study.task.family}, gan was due")
    if not 1 <= records <= MOST_RECORDS:
        raise BadInput(f"synthetic records: {records} came, 1 to {MOST_RECORDS} was due")
    draws = torch.Generator().manual_seed(int.from_bytes(randomness(8), "big") >> 1)
    labels, noise = drawn(study, records, draws)
    network = adversaries(released.network).eval()
    parts = []
    with torch.inference_mode():
        for start in range(0, records, _AT_ONCE):
            part = slice(start, start + _AT_ONCE)
            parts.append(made(network, labels[part], noise[part], study.contract).numpy())
    return SyntheticRecords(np.concatenate(parts), labels.numpy())


def table(found: SyntheticRecords, study: StudyPlan) -> Iterator[list[str]]:
    """The rows of a CSV file, its header first. Every row says in a column that it is synthetic.

    Values are in the units and categories of the contract, an empty one is missing.
    """
    contract, count = study.contract, len(found.labels)
    names = [column.name for column in contract.columns]
    yield [COLUMN, contract.patient_key, contract.label.name, *names]
    parts: list[list[str]] = []
    start = 0
    for column in contract.columns:
        width = len(column.features())
        parts.append(_cells(found.features[:, start : start + width], column))
        start += width
    for row in range(count):
        cells = [part[row] for part in parts]
        yield ["1", f"{COLUMN}-{row + 1:06d}", class_name(int(found.labels[row]), study), *cells]


def class_name(label: int, study: StudyPlan) -> str:
    """A class by its name; yes is 1 and no is 0."""
    own = study.contract.label
    return str(label) if own.kind is LabelKind.BINARY else own.classes[label]


def picture(features: Floats) -> npt.NDArray[np.uint8]:
    """One image [channels, height, width] in [-1, 1] -> 0 to 255, [height, width(, channels)].

    -1 and 1 are the ends of the contract's range.
    """
    grey = np.rint((np.clip(features, -1.0, 1.0) + 1.0) * 127.5).astype(np.uint8)
    return grey[0] if len(grey) == 1 else np.moveaxis(grey, 0, -1)


def about(found: SyntheticRecords, study: Study, released: ReleasedModel) -> Json:
    """What belongs beside the records: where they are from, what protects whom, columns, units."""
    label = study.contract.label
    return {
        "schema": SCHEMA,
        "mark": MARK,
        "protection": protection(study),
        "study": study.name,
        "title": study.title,
        "study_digest": study.digest,
        "run": released.run,
        "model_sha256": released.sha256,
        "records": len(found.labels),
        "label": {
            "name": label.name,
            "description": label.description,
            "classes": list(label.classes) or {"0": "no", "1": str(label.positive)},
            "share": "classes are drawn with equal chances: how common they are is not learned",
        },
        "columns": [_described(column) for column in study.contract.columns],
    }


def protection(study: StudyPlan) -> str:
    """What the records reveal about patients, in a sentence that promises no more than is so."""
    privacy = study.privacy
    if privacy.mechanism is Mechanism.NONE or privacy.epsilon is None:
        return (
            "The generator was trained WITHOUT differential privacy: records drawn from it may "
            "show who was in the data and what the records said. Treat them as patients' data."
        )
    return (
        f"What anybody can learn from them about one {privacy.unit} is limited by epsilon "
        f"{privacy.epsilon:g} and delta {privacy.delta:g} of the whole training, as the study "
        "promises and the run's report shows, however many are drawn. That is a limit, not none: "
        "being synthetic alone makes no record anonymous."
    )


def _cells(features: Floats, column: Column) -> list[str]:
    if column.kind is ColumnKind.CATEGORICAL:
        width = len(column.categories)
        values = [column.categories[at] for at in features[:, :width].argmax(axis=1)]
    elif column.kind is ColumnKind.BINARY:
        values = ["1" if value > 0 else "0" for value in features[:, 0]]
    else:
        low, high = column.range or (0.0, 1.0)
        scaled = low + (features[:, 0].astype(np.float64) + 1.0) / 2.0 * (high - low)
        values = [f"{value:.4g}" for value in scaled]
    if not column.may_be_missing:
        return values
    gone = features[:, -1] > 0.5
    return ["" if missing else value for value, missing in zip(values, gone, strict=True)]


def _described(column: Column) -> Json:
    shown: Json = {
        "name": column.name,
        "kind": column.kind.value,
        "description": column.description,
        "unit": column.unit,
    }
    if column.range is not None:
        shown["range"] = list(column.range)
    if column.categories:
        shown["categories"] = list(column.categories)
    return shown
