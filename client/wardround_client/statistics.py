"""A hospital's statistics: from its checked records to one row per patient, and to a release.

A patient with several records has one value per column: of numbers the mean over the records that
have one, of categories the most frequent (of equally frequent ones the first in the contract). The
label is positive when that of any record is. Without any value the patient's is missing.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd

from wardround.noise import discrete_gaussian
from wardround.privacy.engine import StatisticsEngine
from wardround.protocol.specs import statistics_layout, statistics_share_of
from wardround.randomness import Randomness
from wardround.statistics.layout import StatisticsLayout
from wardround.statistics.plan import categories_of
from wardround.statistics.tally import (
    MISSING,
    Codes,
    Floats,
    NoisedStatistics,
    PatientRows,
    tally,
)
from wardround.study.contract import Column, ColumnKind
from wardround.study.manifest import Study
from wardround_client.data.reading import Records

Places = npt.NDArray[np.intp]


def patient_rows(records: Records, layout: StatisticsLayout, *, by_record: bool) -> PatientRows:
    """One row for each patient of both sides of the split, with the columns that `layout` needs.

    With `by_record` every record is a row: the study's privacy unit is the record then.
    """
    keys = np.arange(len(records.patients)) if by_record else np.array(records.patients, dtype=str)
    unique, places = np.unique(keys, return_inverse=True)
    patients = len(unique)
    positive = np.bincount(places, weights=records.labels, minlength=patients) > 0
    numbers: dict[str, Floats] = {}
    codes: dict[str, Codes] = {}
    needed = set(layout.values_needed)
    for column in layout.contract.columns:
        if column.name not in needed:
            continue
        values = records.values[column.name]
        if column.kind is ColumnKind.CONTINUOUS:
            numbers[column.name] = means_of_patients(
                values.to_numpy(dtype=np.float64), places, patients
            )
        else:
            codes[column.name] = _most_frequent(_codes(values, column), column, places, patients)
    return PatientRows(positive=positive, numbers=numbers, codes=codes)


def noised_statistics(
    rows: PatientRows, study: Study, *, hospitals: int, randomness: Randomness
) -> tuple[NoisedStatistics, StatisticsEngine]:
    """One release for a cohort of so many hospitals, and what its engine did."""
    layout, share = statistics_layout(study), statistics_share_of(study, hospitals)
    noise = discrete_gaussian(layout.lanes, variance=share.variance, randomness=randomness)
    engine = StatisticsEngine(
        share_variance=share.variance,
        sensitivity_lanes=share.sensitivity_lanes,
        honest=share.honest,
    )
    return tally(rows, layout).noised(noise, share), engine


def means_of_patients(values: Floats, places: Places, patients: int) -> Floats:
    """[patients]: the mean over each patient's records that have a value, NaN where none has.

    `places` says whose each record is.
    """
    here = ~np.isnan(values)
    counts = np.bincount(places[here], minlength=patients)
    sums = np.bincount(places[here], weights=values[here], minlength=patients)
    means: Floats = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return means


def _codes(values: "pd.Series[float] | pd.Series[str]", column: Column) -> Codes:
    if column.kind is ColumnKind.BINARY:
        numbers = values.to_numpy(dtype=np.float64)
        return np.where(np.isnan(numbers), MISSING, numbers > 0.5).astype(np.int64)
    places = {category: code for code, category in enumerate(categories_of(column))}
    codes: Codes = values.map(places).fillna(MISSING).to_numpy().astype(np.int64)
    return codes


def _most_frequent(codes: Codes, column: Column, places: Places, patients: int) -> Codes:
    counts = np.zeros((patients, len(categories_of(column))), dtype=np.int64)
    here = codes != MISSING
    np.add.at(counts, (places[here], codes[here]), 1)
    first_largest = np.where(counts.any(axis=1), counts.argmax(axis=1), MISSING)
    return first_largest.astype(np.int64)
