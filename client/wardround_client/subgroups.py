"""Which group of each grouping a hospital's patients are in, by the study's public columns."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from wardround.study.contract import Column, ColumnKind
from wardround.study.evaluation import Grouping
from wardround.study.manifest import StudyPlan
from wardround_client.data.reading import Records

Groups = npt.NDArray[np.int64]


def groups_of(records: Records, patients: Sequence[str], study: StudyPlan) -> Groups | None:
    """[patients, groupings]: the number of each patient's group; None when the study asks for none.

    The one after the last named group is "not known": a value is missing, or a patient's records
    are in different groups. Of a crossing it is whoever is not known in one of its columns. Only
    the patient's own records decide.
    """
    groupings = study.evaluation.subgroups
    if not groupings:
        return None
    columns = {column.name: column for column in study.contract.columns}
    places = {key: place for place, key in enumerate(patients)}
    of_record = np.array([places.get(key, -1) for key in records.patients], dtype=np.int64)
    asked = of_record >= 0

    def of_one(part: Grouping) -> tuple[Groups, int]:
        found = _of_records(records, columns[part.column], part)
        return _of_patients(found, of_record, asked, patients), found[1]

    found = [_crossed([of_one(part) for part in each.parts]) for each in groupings]
    return np.stack(found, axis=1)


def _crossed(parts: Sequence[tuple[Groups, int]]) -> Groups:
    """The number of each pair of groups, the last column's changing fastest."""
    pair, count, known = np.zeros_like(parts[0][0]), 1, np.ones(len(parts[0][0]), dtype=np.bool_)
    for groups, not_known in parts:
        pair, count, known = (
            pair * not_known + groups,
            count * not_known,
            known & (groups < not_known),
        )
    return np.where(known, pair, count)


def _of_records(records: Records, column: Column, grouping: Grouping) -> tuple[Groups, int]:
    """The group of every record, and the number of those that are not known."""
    values, names = records.values[column.name], grouping.groups(column)
    missing = values.isna().to_numpy()
    if column.kind is ColumnKind.CATEGORICAL:
        number = {category: place for place, category in enumerate(names)}
        groups = np.array([number.get(value, len(names)) for value in values], dtype=np.int64)
    else:
        edges = grouping.edges if column.kind is ColumnKind.CONTINUOUS else (0.5,)
        numbers = values.to_numpy(dtype=np.float64)
        groups = np.searchsorted(np.array(edges), numbers, side="right").astype(np.int64)
    return np.where(missing, len(names), groups), len(names)


def _of_patients(
    found: tuple[Groups, int],
    of_record: Groups,
    asked: npt.NDArray[np.bool_],
    patients: Sequence[str],
) -> Groups:
    groups, not_known = found
    least = np.full(len(patients), not_known, dtype=np.int64)
    most = np.zeros(len(patients), dtype=np.int64)
    np.minimum.at(least, of_record[asked], groups[asked])
    np.maximum.at(most, of_record[asked], groups[asked])
    return np.where(least == most, least, not_known)
