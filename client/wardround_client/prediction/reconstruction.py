"""An autoencoder's code of a patient, and what it expects where a value is missing.

Both are labelled for what they are: no measurement. A missing value begins in the middle of what is
allowed, as if it had been measured; the network gives the record back; its own answer takes the
place of the value; and so on, while what was measured stays (Rezende, Mohamed and Wierstra 2014,
appendix F, without the noise). How far off that is, is measured by hiding what is known of the
held-out patients, column by column; where it is no better than the middle of the range, nothing is
said of that column.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from wardround.errors import BadInput
from wardround.models.autoencoder import encoder
from wardround.models.family import RECORDS_AT_ONCE
from wardround.statistics.scaling import Standardisation
from wardround.study.contract import Column, ColumnKind, Contract
from wardround.study.manifest import StudyPlan
from wardround.study.task import FamilyName
from wardround_client.data.encoding import EncodedRecords
from wardround_client.data.places import places
from wardround_client.prediction.support import Support

STEPS = 20
LEAST_KNOWN = 11
RECONSTRUCTED = "reconstruction, not measured"
WITHHELD = "no answer: no better than the middle of the range here"
UNKNOWN = f"no answer: fewer than {LEAST_KNOWN} held-out records have a value"
CODE = "code of an autoencoder, no measurement"

Scores = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Expected:
    """What the network expects of one column: `error` is measured where it is known, and hidden.

    Of numbers the mean distance in the column's unit, of categories the share that is wrong;
    `of_middle` is that of the middle of the range, or of the column's first category. None with
    fewer than 11 held-out records that have a value.
    """

    column: Column
    error: float | None
    of_middle: float | None

    @property
    def said(self) -> str:
        """Whether there is an answer, and what it is."""
        if self.error is None or self.of_middle is None:
            return UNKNOWN
        return RECONSTRUCTED if self.error < self.of_middle else WITHHELD


@dataclass(frozen=True, slots=True)
class Missing:
    """One missing value of one record, in words of the contract; "" where nothing is said."""

    patient: str = field(repr=False)
    record: int
    value: str = field(repr=False)
    expected: Expected


def representation(support: Support, encoded: EncodedRecords) -> str:
    """A CSV of a code for each patient, the mean over its records.

    Raises BadInput for a study whose model is no autoencoder of this program.
    """
    study = _autoencoder(support)
    part = encoder(support.standing.released.network, study)
    patients = support.scaled(encoded)
    codes = _through(part, patients.features).flatten(1).double().numpy()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["patient", "what", *(f"code_{at + 1}" for at in range(codes.shape[1]))])
    for key, start, stop in zip(
        encoded.patients, encoded.offsets, encoded.offsets[1:], strict=False
    ):
        mean = codes[start:stop].mean(axis=0)
        writer.writerow([key, CODE, *(f"{value:.6g}" for value in mean)])
    return text.getvalue()


def imputation(support: Support, encoded: EncodedRecords) -> str:
    """A CSV with a line for each missing value: what the network expects there, and how far off.

    Raises BadInput for a study whose model is no autoencoder of a table.
    """
    found = list(imputed(support, encoded))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    head = ("patient", "record", "column", "value", "unit", "what", "typical_error", "of_middle")
    writer.writerow(head)
    for one in found:
        expected = one.expected
        errors = (expected.error, expected.of_middle)
        writer.writerow(
            [
                one.patient,
                one.record,
                expected.column.name,
                one.value,
                "" if expected.column.unit == "1" else expected.column.unit,
                expected.said,
                *("" if error is None else f"{error:.4g}" for error in errors),
            ]
        )
    return text.getvalue()


def imputed(support: Support, encoded: EncodedRecords) -> Iterator[Missing]:
    """Every missing value of these patients, in the order of records and columns."""
    study, contract = _autoencoder(support), support.standing.study.contract
    if contract.image is not None or contract.grid is not None:
        raise BadInput("imputation: it is for tables; images and series have no missing column")
    network = support.standing.released.network
    expected = {one.column.name: one for one in expectations(support)}
    scales = {scale.column: scale for scale in support.standing.released.scales}
    features = support.scaled(encoded).features
    full = completed(network, features, missing_in(features, contract), contract)
    records = np.arange(len(features)) - np.repeat(encoded.offsets[:-1], np.diff(encoded.offsets))
    keys = np.repeat(np.array(encoded.patients, dtype=object), np.diff(encoded.offsets))
    absent = {name: features[:, at] > 0.5 for name, at in _indicators(contract)}
    for row in range(len(features)):
        for column, place in places(study.contract):
            if column.name not in absent or not absent[column.name][row]:
                continue
            one = expected[column.name]
            value = values_of(full[row : row + 1, place], column, scales.get(column.name))[0]
            yield Missing(
                patient=str(keys[row]),
                record=int(records[row]) + 1,
                value=_written(value, column) if one.said == RECONSTRUCTED else "",
                expected=one,
            )


def expectations(support: Support) -> list[Expected]:
    """For each column that may be missing, how far off the network is where the value is hidden."""
    contract = support.standing.study.contract
    scales = {scale.column: scale for scale in support.standing.released.scales}
    return [
        expectation(
            support.standing.released.network,
            support.held_out.features,
            column,
            contract,
            scales.get(column.name),
        )
        for column in contract.columns
        if column.may_be_missing
    ]


def expectation(
    network: nn.Module,
    features: Tensor,
    column: Column,
    contract: Contract,
    scale: Standardisation | None,
) -> Expected:
    """Hide one column of all records that have it, beside what each lacks anyhow; then compare."""
    place = {each.name: where for each, where in places(contract)}[column.name]
    known = features[features[:, place.stop - 1] < 0.5]
    if len(known) < LEAST_KNOWN:
        return Expected(column, None, None)
    hidden = missing_in(known, contract)
    hidden[:, place] = True
    full = completed(network, known, hidden, contract)
    middle = completed(None, known, hidden, contract)
    true, guess, none = (values_of(part[:, place], column, scale) for part in (known, full, middle))
    return Expected(column, _error(true, guess, column), _error(true, none, column))


def completed(
    network: nn.Module | None, features: Tensor, hidden: Tensor, contract: Contract
) -> Tensor:
    """[records, features] with what is `hidden` filled in, and nothing said to be missing.

    Without a network the middle alone, from which all begins.
    """
    filled = features.masked_fill(hidden, 0.0)
    indicators = [at for _, at in _indicators(contract)]
    filled[:, indicators] = 0.0
    if network is None:
        return filled
    expected = hidden.clone()
    expected[:, indicators] = False
    for _ in range(STEPS):
        filled = torch.where(expected, _through(network, filled), filled)
    return filled


def missing_in(features: Tensor, contract: Contract) -> Tensor:
    """Which features belong to a column that the record lacks: [records, features]."""
    hidden = torch.zeros_like(features, dtype=torch.bool)
    for column, place in places(contract):
        if column.may_be_missing:
            hidden[:, place] = (features[:, place.stop - 1] > 0.5)[:, None]
    return hidden


def values_of(part: Tensor, column: Column, scale: Standardisation | None) -> Scores:
    """A column's features as values: in its unit; 0 or 1; or the number of a category."""
    numbers = part.double().numpy()
    if column.kind is ColumnKind.CATEGORICAL:
        codes: Scores = numbers[:, : len(column.categories)].argmax(axis=1).astype(np.float64)
        return codes
    first: Scores = numbers[:, 0]
    if column.range is None:
        return (first > 0.0).astype(np.float64)
    if scale is not None:
        first = first * scale.spread + scale.centre
    low, high = column.range
    values: Scores = low + (np.clip(first, -1.0, 1.0) + 1.0) * (high - low) / 2.0
    return values


def _error(true: Scores, guess: Scores, column: Column) -> float:
    if column.range is None:
        return float((true != guess).mean())
    return float(np.abs(true - guess).mean())


def _written(value: float, column: Column) -> str:
    if column.kind is ColumnKind.CATEGORICAL:
        return column.categories[int(value)]
    return f"{value:.4g}"


def _indicators(contract: Contract) -> Sequence[tuple[str, int]]:
    return [(c.name, place.stop - 1) for c, place in places(contract) if c.may_be_missing]


def _autoencoder(support: Support) -> StudyPlan:
    study = support.standing.study
    if study.task.family is not FamilyName.AUTOENCODER:
        raise BadInput(
            f"study {study.name}: codes and reconstructions are an autoencoder's, its family is "
            f"{study.task.family}"
        )
    return study


def _through(network: nn.Module, features: Tensor) -> Tensor:
    network.eval()
    starts = range(0, max(len(features), 1), RECORDS_AT_ONCE)
    with torch.inference_mode():
        return torch.cat([network(features[at : at + RECORDS_AT_ONCE]) for at in starts])
