"""Statistics of images, series and every kind of label: against pandas, and what one adds."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.patient_table import plan_of

from wardround.audit.statistics_table import table_of
from wardround.statistics.cells import ONE
from wardround.statistics.layout import StatisticsLayout
from wardround.statistics.released import ReleasedStatistics
from wardround.statistics.tally import tally
from wardround.study.contract import Column, ColumnKind, Contract, Grid, Label
from wardround_client.data.description import ImageFiles
from wardround_client.data.reading import Records
from wardround_client.statistics import patient_rows

AGE = Column(name="age", kind=ColumnKind.CONTINUOUS, description="a", unit="a", range=(0, 100))
PULSE, HEAT = (
    Column(name=name, kind=ColumnKind.SERIES, description=name, unit="1", range=limits)
    for name, limits in (("pulse", (0, 200)), ("heat", (33, 41)))
)
SCAN = Column(
    name="scan", kind=ColumnKind.IMAGE, description="s", unit="1", range=(0, 255), shape=(1, 4, 4)
)
GRID = Grid(steps=8, step=1, unit="h")
YES_NO = Label(name="sick", description="sick", positive="yes")
PROGNOSIS = Label.model_validate(
    {
        "name": "death",
        "description": "d",
        "kind": "time-to-event",
        "positive": "died",
        "time": {"unit": "mo", "edges": [12, 24, 60]},
    }
)
CLASSES = Label.model_validate(
    {"name": "kind", "description": "k", "kind": "classes", "classes": ["x", "y", "z"]}
)
TARGETS = Label.model_validate(
    {
        "name": "dose",
        "description": "d",
        "kind": "targets",
        "targets": [
            {"name": "solubility", "description": "s", "unit": "mol/L", "range": [-10, 2]},
            {"name": "binding", "description": "b", "range": [0, 1]},
        ],
    }
)
TOXIC = Label.model_validate(
    {
        "name": "tox",
        "description": "t",
        "kind": "targets",
        "targets": [{"name": name, "description": name} for name in ("liver", "heart")],
    }
)
NAN = float("nan")


def contract(label=YES_NO, columns=(AGE,), **more):
    return Contract(patient_key="patient", label=label, columns=columns, **more)


def records(patients, labels, *, values=None, folder=Path(), **more):
    return Records(
        patients=tuple(map(str, patients)),
        values=pd.DataFrame(values or {}, index=pd.RangeIndex(len(patients))),
        labels=np.asarray(labels),
        folder=folder,
        **more,
    )


def sums_of(source, layout):
    return tally(patient_rows(source, layout, by_record=False), layout).values


def exact(source, layout):
    return ReleasedStatistics(layout, sums_of(source, layout), 1, 1).estimates(0.0)


def column_of(found, name):
    (column,) = (column for column in found.columns if column.name == name)
    return column


def test_of_a_prognosis_events_and_ends_of_follow_up_are_counted_by_interval():
    labels = [[5, 1], [12, 1], [30, 0], [60, 1], [80, 0], [3, 0]]
    layout = StatisticsLayout.of(contract(PROGNOSIS), plan_of(bins=0))
    found = exact(records(range(6), labels, values={"age": [50.0] * 6}), layout)
    assert {name: estimate.value for name, estimate in found.outcomes} == {
        "event until 12 mo": 1,
        "event until 24 mo": 1,  # at 12 months: an interval holds its beginning
        "event until 60 mo": 0,
        "left until 12 mo": 1,
        "left until 24 mo": 0,
        "left until 60 mo": 1,
        "followed to the horizon": 2,  # an event at the horizon lies behind it
    }
    quantiles = dict(found.follow_up.quantiles)
    times = np.minimum([time for time, _ in labels], 60)
    for share, estimate in quantiles.items():
        true = np.quantile(times, share, method="inverted_cdf")
        assert estimate.low <= true <= estimate.high
    assert quantiles[0.95].value == 60
    said = {(row["column"], row["what"]): row["value"] for row in table_of(found.to_json())}
    assert said["label", "event until 12 mo"] == "1"
    assert said["follow-up", "95 %"] == "60"


def test_a_label_that_is_yes_or_no_keeps_its_keys():
    layout = StatisticsLayout.of(contract(), plan_of(bins=0))
    found = exact(records([1, 2], [0, 1], values={"age": [1.0, 2.0]}), layout).to_json()
    assert (found["negatives"]["value"], found["positives"]["value"]) == (1, 1)
    assert not {"outcomes", "follow_up"} & found.keys()


def test_classes_and_targets_are_counted():
    layout = StatisticsLayout.of(contract(CLASSES), plan_of(columns=()))
    found = exact(records(range(4), [0, 2, 2, 2], values={"age": [1.0] * 4}), layout)
    assert [(name, each.value) for name, each in found.outcomes] == [("x", 1), ("y", 0), ("z", 3)]
    layout = StatisticsLayout.of(contract(TARGETS), plan_of(columns=("solubility",)))
    labels = [[-3.0, 0.5], [NAN, 0.1], [-5.0, NAN]]
    found = exact(records(range(3), labels, values={"age": [1.0] * 3}), layout)
    assert found.outcomes == ()
    (solubility,) = found.columns
    assert solubility.missing.value == 1
    assert solubility.mean.value == pytest.approx(-4, abs=6 / ONE)
    layout = StatisticsLayout.of(contract(TOXIC), plan_of(columns=("liver", "heart")))
    labels = [[1, NAN], [0, 0], [1, 0]]
    liver, heart = exact(records(range(3), labels, values={"age": [1.0] * 3}), layout).columns
    assert [each.value for _, each in liver.categories] == [1, 2]
    assert (heart.missing.value, heart.categories[0][1].value) == (1, 2)


def test_a_label_that_only_evaluates_is_counted_where_a_hospital_has_it():
    strange = Label(name="odd", description="o", kind="none", positive="odd")
    layout = StatisticsLayout.of(contract(strange), plan_of(bins=0))
    values = {"age": [50.0, 60.0]}
    given = exact(records([1, 2], [0, 1], values=values), layout)
    assert [each.value for _, each in given.outcomes] == [1, 1]
    silent = exact(records([1, 2], np.zeros((2, 0)), values=values), layout)
    assert [each.value for _, each in silent.outcomes] == [0, 0]
    nothing = StatisticsLayout.of(
        contract(Label(name="n", description="n", kind="none")), plan_of()
    )
    assert nothing.outcomes == ()
    assert nothing.sensitivity_squared == layout.sensitivity_squared  # a histogram, and no label


def test_a_class_is_one_that_a_cohort_may_ask_for():
    cohort = {"name": "zs", "conditions": [{"column": "kind", "values": ["z"]}]}
    layout = StatisticsLayout.of(contract(CLASSES), plan_of(columns=(), cohort=(cohort,)))
    found = exact(records(range(4), [0, 2, 2, 1], values={"age": [1.0] * 4}), layout)
    assert found.cohorts[0][1].value == 2


def measured(random, count, share):
    values = random.uniform(60, 100, (count, 8)).astype(np.float32)
    values[random.random((count, 8)) > share] = NAN
    return values


def test_of_series_the_mean_and_when_they_were_measured_are_counted():
    random = np.random.default_rng(3)
    pulse, heat = measured(random, 40, 0.5), measured(random, 40, 0.2) / 100 + 36
    pulse[:4] = NAN
    series = {"pulse": pulse, "heat": heat}
    layout = StatisticsLayout.of(contract(columns=(PULSE, HEAT), grid=GRID), plan_of(bins=0))
    found = exact(records(range(40), [0, 1] * 20, series=series), layout)
    assert [column.name for column in found.columns] == [
        "pulse",
        "pulse: measured",
        "heat",
        "heat: measured",
        *(f"all series: measured in steps {at} to {at + 1}" for at in (1, 3, 5, 7)),
    ]
    frame = pd.DataFrame(pulse)
    assert column_of(found, "pulse").missing.value == 4
    assert column_of(found, "pulse").mean.value == pytest.approx(
        frame.mean(axis=1).mean(), abs=100 / ONE / 2
    )
    assert column_of(found, "pulse: measured").mean.value == pytest.approx(
        frame.notna().mean(axis=1).mean(), abs=0.5 / ONE / 2
    )
    both = np.stack([~np.isnan(pulse), ~np.isnan(heat)])
    early = column_of(found, "all series: measured in steps 1 to 2").mean.value
    assert early == pytest.approx(both[:, :, :2].mean(), abs=0.5 / ONE / 2)


def pictures(folder, stack):
    np.savez(folder / "scans.npz", images=stack)
    return {"folder": folder, "images": ImageFiles(folder="scans.npz", array="images")}


def of_pictures(folder, patients, stack):
    values = {"scan": [str(row) for row in range(len(patients))]}
    labels = [0] * len(patients)
    return records(patients, labels, values=values, **pictures(folder, stack))


def test_of_pictures_each_patients_mean_is_counted_before_they_are_resampled(tmp_path):
    random = np.random.default_rng(5)
    stack = random.integers(0, 256, (6, 8, 8)).astype(np.uint8)
    stack[0], stack[1, :4] = 0, 255
    patients = ["a", "b", "c", "a", "d", "e"]
    layout = StatisticsLayout.of(contract(columns=(SCAN,)), plan_of(bins=8))
    found = exact(of_pictures(tmp_path, patients, stack), layout)
    frame = pd.DataFrame(
        {
            "intensity": stack.mean(axis=(1, 2)),
            "contrast": stack.std(axis=(1, 2)),
            "at the low end": (stack == 0).mean(axis=(1, 2)),
            "at the high end": (stack == 255).mean(axis=(1, 2)),
            "side": 3.0,
        }
    )
    due = frame.groupby(patients).mean().mean()
    for name, value in due.items():
        column = column_of(found, f"scan: {name}")
        assert column.mean.low <= value <= column.mean.high, name
        assert column.present.value == 5
    assert sum(each.value for each in column_of(found, "scan: intensity").bins) == 5
    steps = [np.abs(np.diff(stack.astype(float), axis=at)).reshape(6, -1) for at in (1, 2)]
    sharp = pd.Series(np.concatenate(steps, axis=1).mean(axis=1) / 255).groupby(patients).mean()
    sharpness = column_of(found, "scan: sharpness").mean
    assert sharpness.value == pytest.approx(sharp.clip(upper=0.25).mean(), abs=0.125 / ONE)


SERIES_LAYOUT = StatisticsLayout.of(contract(PROGNOSIS, (PULSE, HEAT), grid=GRID), plan_of(bins=4))


def stays(random, patients):
    """Records over time of these patients; some measured nothing, some at the bounds."""
    count = len(patients)
    series = {
        "pulse": random.choice([0.0, 200.0, 80.0, NAN], (count, 8)).astype(np.float32),
        "heat": random.choice([33.0, 41.0, NAN, NAN], (count, 8)).astype(np.float32),
    }
    labels = np.stack([random.choice([0, 12, 59, 60, 99], count), random.integers(0, 2, count)], 1)
    return records(patients, labels.astype(float), series=series)


def joined(one, other):
    return records(
        [*one.patients, *other.patients],
        np.concatenate([one.labels, other.labels]),
        series={
            name: np.concatenate([one.series[name], other.series[name]]) for name in one.series
        },
    )


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 6), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_one_patient_over_time_moves_the_vector_by_no_more_than_is_claimed(others, own, seed):
    random = np.random.default_rng(seed)
    before = stays(random, random.integers(0, others, others))
    one = stays(random, ["z"] * own)
    change = sums_of(joined(before, one), SERIES_LAYOUT) - sums_of(before, SERIES_LAYOUT)
    assert 0 < int((change**2).sum()) <= SERIES_LAYOUT.sensitivity_squared


IMAGE_LAYOUT = StatisticsLayout.of(contract(columns=(SCAN,)), plan_of(bins=4))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pictures")


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_one_patients_pictures_move_the_vector_by_no_more_than_is_claimed(
    folder, others, own, seed
):
    random = np.random.default_rng(seed)
    levels = random.choice([0.0, 255.0, 90.0, 4095.0, -9.0], (others + own, 6, 6))
    stack = levels.astype(np.float32)
    patients = [*map(str, range(others)), *["z"] * own]
    after = sums_of(of_pictures(folder, patients, stack), IMAGE_LAYOUT)
    before = sums_of(of_pictures(folder, patients[:others], stack[:others]), IMAGE_LAYOUT)
    assert 0 < int(((after - before) ** 2).sum()) <= IMAGE_LAYOUT.sensitivity_squared


def test_an_empty_picture_moves_the_vector_by_exactly_what_is_claimed(tmp_path):
    """A claim that is too large would be paid for in noise."""
    black = of_pictures(tmp_path, ["a"], np.zeros((1, 2, 2), dtype=np.uint8))
    moved = int((sums_of(black, IMAGE_LAYOUT) ** 2).sum())
    assert moved == IMAGE_LAYOUT.sensitivity_squared
