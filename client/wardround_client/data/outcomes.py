"""What `data check` says about the label: patients of each outcome, small counts hidden."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from wardround.study.contract import Label, LabelKind

SMALLEST_CELL = 5
Floats = npt.NDArray[np.float64]


class Outcomes(NamedTuple):
    """Patients with yes and no ("" where the label is neither), and the label in sentences."""

    positive: str
    negative: str
    sentences: tuple[str, ...]


def outcomes(patients: tuple[str, ...], labels: Floats, label: Label) -> Outcomes:
    """Count patients; one with several records has an outcome when any record has it."""
    keys = pd.Series(patients, dtype=object)
    whole = int(keys.nunique())
    if label.kind is LabelKind.CLASSES:
        counts = [_with(keys, labels == place, whole) for place in range(len(label.classes))]
        named = zip(counts, label.classes, strict=True)
        return Outcomes("", "", tuple(f"{count} patients {name}" for count, name in named))
    if label.targets:
        return Outcomes("", "", tuple(_target_sentences(keys, labels, label, whole)))
    if labels.shape[1:] == (0,):
        return Outcomes("", "", ("no label is used",))
    yes = labels[:, 1] if label.time is not None else labels
    positive = _count(keys, yes == 1)
    with_it, without = coarse(positive, whole), coarse(whole - positive, whole)
    if label.time is not None:
        said = f"{with_it} patients with the event, {without} without"
        return Outcomes(with_it, without, (said,))
    return Outcomes(with_it, without, (f"{with_it} patients yes", f"{without} no"))


def coarse(count: int, whole: int) -> str:
    """A count, hidden when it, the whole or what is left of it is 1 to 4.

    >>> coarse(3, 100), coarse(98, 100), coarse(50, 100), coarse(0, 100), coarse(100, 100)
    ('<5', '>95', '50', '0', '100')
    >>> coarse(0, 4), coarse(4, 4)
    ('<5', '<5')
    """
    if 0 < count < SMALLEST_CELL or 0 < whole < SMALLEST_CELL:
        return f"<{SMALLEST_CELL}"
    if 0 < whole - count < SMALLEST_CELL:
        return f">{whole - SMALLEST_CELL}"
    return str(count)


def _target_sentences(
    keys: "pd.Series[str]", labels: Floats, label: Label, whole: int
) -> list[str]:
    said = []
    for place, target in enumerate(label.targets):
        values = labels[:, place]
        known = _with(keys, ~np.isnan(values), whole)
        if target.range is not None:
            said.append(f"{target.name} known of {known} patients")
        else:
            said.append(f"{target.name} {_with(keys, values == 1, whole)} yes of {known} known")
    return said


def _with(keys: "pd.Series[str]", rows: npt.NDArray[np.bool_], whole: int) -> str:
    return coarse(_count(keys, rows), whole)


def _count(keys: "pd.Series[str]", rows: npt.NDArray[np.bool_]) -> int:
    return int(keys[rows].nunique())
