"""A hospital's statistics: from its checked records to one row per patient, and to a release.

A patient with several records has one value per column: of numbers the mean over the records that
have one, of categories the most frequent (of equally frequent ones the first in the contract). The
label is positive when that of any record is. Without any value the patient's is missing. Pictures,
series and molecules become a few numbers a record first.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd

from wardround.noise import discrete_gaussian
from wardround.privacy.engine import StatisticsEngine
from wardround.protocol.specs import statistics_layout, statistics_share_of
from wardround.randomness import Randomness
from wardround.statistics.cells import MEASURED, measured_in, part_of, parts_of
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
from wardround.study.contract import Column, ColumnKind, Label, TimeToEvent
from wardround.study.manifest import Study
from wardround_client.data.molecules import MOLECULE_NUMBERS, numbers_of_molecules
from wardround_client.data.reading import Records
from wardround_client.data.scanner import PICTURE_NUMBERS, numbers_of_pictures

Places = npt.NDArray[np.intp]


def patient_rows(records: Records, layout: StatisticsLayout, *, by_record: bool) -> PatientRows:
    """One row for each patient of both sides of the split, with the columns that `layout` needs.

    With `by_record` every record is a row: the study's privacy unit is the record then.
    """
    keys = np.arange(len(records.patients)) if by_record else np.array(records.patients, dtype=str)
    unique, places = np.unique(keys, return_inverse=True)
    patients, contract = len(unique), layout.contract
    codes = {
        name: most_frequent(values, categories, places, patients)
        for name, values, categories in _codes_of_records(records, layout)
    }
    numbers = {
        name: means_of_patients(values, places, patients)
        for name, values in _numbers_of_records(records, layout)
    }
    outcomes = outcomes_of_patients(records.labels, contract.label, places, patients)
    return PatientRows(outcomes=outcomes, numbers=numbers, codes=codes)


def outcomes_of_patients(
    labels: npt.NDArray[np.int8] | Floats, label: Label, places: Places, patients: int
) -> Codes:
    """[patients]: the place of each patient's outcome in `wardround.statistics.cells`, or -1.

    Yes when any record says so; a class is that of the patient's first record; of a prognosis the
    record that was followed up longest counts.
    """
    given = np.asarray(labels, dtype=np.float64)
    if label.time is not None:
        return _in_intervals(given, label.time, places, patients)
    if label.targets or given.ndim > 1:
        return np.full(patients, MISSING, dtype=np.int64)  # no label, or targets, which are columns
    if label.classes:
        first = np.unique(places, return_index=True)[1]
        return given[first].astype(np.int64)
    positive = np.bincount(places, weights=given, minlength=patients) > 0
    return positive.astype(np.int64)


def _in_intervals(given: Floats, time: TimeToEvent, places: Places, patients: int) -> Codes:
    """An interval holds its beginning, not its end, as in training and evaluation."""
    longest = np.full(patients, -1.0)
    np.maximum.at(longest, places, given[:, 0])
    last = given[:, 0] == longest[places]
    events = np.bincount(places[last], weights=given[last, 1], minlength=patients) > 0
    steps = len(time.edges)
    within = np.searchsorted(time.edges, longest, side="right")
    outcomes = np.where(events, within, steps + within)
    return np.where(within == steps, 2 * steps, outcomes).astype(np.int64)


def _numbers_of_records(records: Records, layout: StatisticsLayout) -> Iterator[tuple[str, Floats]]:
    """[records] for every number that the layout needs, NaN where a record has none."""
    contract, needed = layout.contract, set(layout.values_needed)
    asked = [column for column in contract.columns if column.name in needed]
    for column in asked:
        yield from _numbers_of(records, column)
    series = [column.name for column in asked if column.kind is ColumnKind.SERIES]
    if contract.grid is not None and series:
        everything = np.mean([~np.isnan(records.series[name]) for name in series], axis=0)
        for part in parts_of(contract.grid.steps):
            yield measured_in(part), everything[:, slice(*part)].mean(axis=1)
    for place, target in enumerate(contract.label.targets):
        if target.range is not None:
            yield target.name, records.labels[:, place].astype(np.float64)


def _numbers_of(records: Records, column: Column) -> Iterator[tuple[str, Floats]]:
    if column.kind is ColumnKind.CONTINUOUS:
        yield column.name, records.values[column.name].to_numpy(dtype=np.float64)
    elif column.kind is ColumnKind.IMAGE:
        found = numbers_of_pictures(records, column)
        for what, values in zip(PICTURE_NUMBERS, found.T, strict=True):
            yield part_of(column.name, what), values
    elif column.kind is ColumnKind.FINGERPRINT:
        found = numbers_of_molecules(records.values[column.name])
        for what, values in zip(MOLECULE_NUMBERS, found.T, strict=True):
            yield part_of(column.name, what), values
    elif column.kind is ColumnKind.SERIES:
        series = records.series[column.name]
        yield column.name, mean_over_time(series)
        yield part_of(column.name, MEASURED), (~np.isnan(series)).mean(axis=1)


def _codes_of_records(
    records: Records, layout: StatisticsLayout
) -> Iterator[tuple[str, Codes, int]]:
    """[records] for every column of categories that the layout needs, and how many they are."""
    needed = set(layout.values_needed)
    for column in layout.contract.columns:
        if column.name in needed and column.kind in {ColumnKind.BINARY, ColumnKind.CATEGORICAL}:
            codes = _codes(records.values[column.name], column)
            yield column.name, codes, len(categories_of(column))
    for place, target in enumerate(layout.contract.label.targets):
        if target.range is None:
            yield target.name, _yes_or_no(records.labels[:, place].astype(np.float64)), 2


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


def mean_over_time(series: npt.NDArray[np.float32]) -> Floats:
    """[records]: the mean of what was measured of each, NaN where nothing was."""
    here = ~np.isnan(series)
    counts = here.sum(axis=1)
    sums = np.where(here, series, 0.0).sum(axis=1, dtype=np.float64)
    means: Floats = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return means


def _codes(values: "pd.Series[float] | pd.Series[str]", column: Column) -> Codes:
    if column.kind is ColumnKind.BINARY:
        return _yes_or_no(np.asarray(values, dtype=np.float64))
    places = {category: code for code, category in enumerate(categories_of(column))}
    codes: Codes = values.map(places).fillna(MISSING).to_numpy().astype(np.int64)
    return codes


def _yes_or_no(numbers: Floats) -> Codes:
    return np.where(np.isnan(numbers), MISSING, numbers > 0.5).astype(np.int64)


def most_frequent(codes: Codes, categories: int, places: Places, patients: int) -> Codes:
    """[patients]: the most frequent code of each patient's records, -1 where none has one."""
    counts = np.zeros((patients, categories), dtype=np.int64)
    here = codes != MISSING
    np.add.at(counts, (places[here], codes[here]), 1)
    first_largest = np.where(counts.any(axis=1), counts.argmax(axis=1), MISSING)
    return first_largest.astype(np.int64)
