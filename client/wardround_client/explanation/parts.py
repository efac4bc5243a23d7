"""Integrated gradients of a table's row or a series, column by column, for a person to read."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from wardround.canonical import Json
from wardround.study.contract import Column, ColumnKind, Contract
from wardround_client.data.places import places
from wardround_client.explanation.integrated import Attribution, integrated_gradients
from wardround_client.explanation.sanity import Sanity, sanity
from wardround_client.explanation.subject import Subject

SHOWN = 10
ENOUGH = 1e-3  # of the score: a gap that nobody has to be told of
_STEPS = (64, 256, 1024)
_RANDOM_NETWORKS = 20  # few parts have few ranks: chance is averaged away
Map = npt.NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Part:
    """How far one column moved the score from the baseline's, and its value in words."""

    name: str
    value: str = field(repr=False)
    moved: float = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class PartsOfScore:
    """All columns, the largest first; `gap` is what they do not add up to (0 when all is well)."""

    score: float = field(repr=False)
    of_baseline: float
    gap: float
    parts: tuple[Part, ...] = field(repr=False)
    sanity: Sanity

    def to_json(self) -> Json:
        """All columns; the shares are in units of the score."""
        return {
            "method": "integrated gradients",
            "score": self.score,
            "score_of_baseline": self.of_baseline,
            "gap": self.gap,
            "parts": [{"name": p.name, "value": p.value, "moved": p.moved} for p in self.parts],
            "likeness_to_random_weights": self.sanity.correlation,
            "warning": self.sanity.warning,
        }

    def lines(self) -> list[str]:
        """The ten largest for a person."""
        said = [
            f"score {self.score:.3f}; {self.of_baseline:.3f} for a patient of whom nothing is known"
        ]
        said += [
            f"  {100 * part.moved:+7.2f} points  {part.name}{_given(part.value)}"
            for part in self.parts[:SHOWN]
        ]
        rest = self.parts[SHOWN:]
        if rest:
            moved = 100 * sum(part.moved for part in rest)
            said.append(f"  {moved:+7.2f} points  {len(rest)} other columns together")
        if abs(self.gap) >= ENOUGH:
            said.append("The parts do not add up to the score: do not rely on them.")
        return [*said, f"gap {100 * self.gap:.2g} points; {self.sanity.line()}"]


def parts_of_score(
    subject: Subject, records: Tensor, start: Tensor, values: Sequence[str]
) -> PartsOfScore:
    """Explain the mean score of a patient's `records` [records, ...], from the record `start`.

    `values` says what each column of the contract is in this patient. The parts and the gap are
    means over the records, since the score is.
    """
    contract = subject.study.contract
    features = records.double()
    found = _integrated(subject, features, start.double()[0])
    own = found.values.mean(0)
    with torch.no_grad():
        scores = [float(subject.score()(one.double()).mean()) for one in (records, start)]

    def again(other: Subject) -> Map:
        attribution = _integrated(other, features, start.double()[0])
        return np.array([part.moved for part in _parts(attribution.values.mean(0), contract)])

    parts = _parts(own, contract, values)
    moved = np.array([part.moved for part in parts])
    checked = sanity(subject, moved, again, networks=_RANDOM_NETWORKS)
    return PartsOfScore(
        score=scores[0],
        of_baseline=scores[1],
        gap=float(found.gap.mean()),
        parts=tuple(sorted(parts, key=lambda part: -abs(part.moved))),
        sanity=checked,
    )


def _integrated(subject: Subject, features: Tensor, start: Tensor) -> Attribution:
    """With as many steps as it takes until the parts add up, or the most that are tried."""
    for steps in _STEPS:
        found = integrated_gradients(subject.score(), features, start, steps=steps)
        if float(found.gap.abs().max()) < ENOUGH:
            break
    return found


def _parts(moved: Tensor, contract: Contract, values: Sequence[str] = ()) -> list[Part]:
    """One part a column, over all its features and steps; of a molecule one a place."""
    found = []
    for number, (column, place) in enumerate(places(contract)):
        own = moved[..., place]
        if column.kind is ColumnKind.FINGERPRINT:
            named = zip(column.features(), own.tolist(), strict=True)
            found += [Part(name, "", share) for name, share in named]
        else:
            value = values[number] if values else ""
            found.append(Part(column.name, value, float(own.sum())))
    return found


def _given(value: str) -> str:
    return f" {value}" if value else ""


def in_words(column: Column, values: Sequence[object], measured: Map | None) -> str:
    """What a column is in one patient: `= 63 a`, `missing`, or how often it was measured.

    `values` are those of the patient's records, `measured` [records, steps] of a series.
    """
    if measured is not None:
        known = measured[~np.isnan(measured)]
        if not known.size:
            return "never measured"
        return f"measured {known.size} times, last {known[-1]:g}{_unit(column)}"
    if column.kind is ColumnKind.FINGERPRINT:
        return ""
    said = {_one(value, column) for value in values}
    return said.pop() if len(said) == 1 else f"of {len(values)} records"


def _one(value: object, column: Column) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return "missing"
    if column.kind is ColumnKind.CONTINUOUS:
        return f"= {float(str(value)):g}{_unit(column)}"
    if column.kind is ColumnKind.BINARY:
        return "= yes" if float(str(value)) == 1.0 else "= no"
    return f"= {value}"


def _unit(column: Column) -> str:
    return "" if column.unit == "1" else f" {column.unit}"
