"""The vector of a statistics release: its cells against pandas, and what one patient changes."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.patient_table import CONTRACT, plan_of, random_table, rows_of

from wardround.errors import BadInput
from wardround.masking.quantise import largest_limit
from wardround.statistics.cells import ONE
from wardround.statistics.layout import StatisticsLayout
from wardround.statistics.noise import statistics_share
from wardround.statistics.plan import Condition, PatientCohort, StatisticsPlan
from wardround.statistics.released import ReleasedStatistics
from wardround.statistics.tally import RawStatistics, tally
from wardround.study.contract import ColumnKind

COHORTS = (
    {"name": "older", "conditions": [{"column": "age", "range": [60, 90]}]},
    {
        "name": "women_with_pain",
        "conditions": [
            {"column": "male", "values": ["0"]},
            {"column": "pain", "values": ["typical", "atypical"]},
        ],
    },
    {"name": "sick", "conditions": [{"column": "sick", "values": ["1"]}]},
)


def layout_of(**changes):
    return StatisticsLayout.of(CONTRACT, plan_of(**changes))


def exact(table, layout):
    """The estimates of one hospital without noise: only a test can have them."""
    sums = tally(rows_of(table), layout).values
    return ReleasedStatistics(layout, sums, 1, 1).estimates(0.0)


def test_every_number_without_noise_is_that_of_pandas():
    table = random_table(400, seed=1)
    layout = layout_of(cohort=COHORTS, bins=8)
    found = exact(table, layout)
    assert found.patients.value == 400
    assert {name: estimate.value for name, estimate in found.outcomes} == {
        name: (table["sick"] == label).sum() for label, name in enumerate(("negative", "positive"))
    }
    columns = {column.name: column for column in found.columns}
    for name, unit in (("age", "a"), ("pressure", "mm[Hg]")):
        series, column = table[name].dropna(), columns[name]
        (declared,) = (c for c in CONTRACT.columns if c.name == name)
        low, high = declared.range
        assert column.unit == unit
        assert column.present.value == len(series)
        # A value is rounded to 1/256 of half the range: a mean is off by half of that at most.
        step = (high - low) / 2 / ONE / 2
        assert column.mean.value == pytest.approx(series.mean(), abs=step)
        assert column.mean.low <= series.mean() <= column.mean.high
        assert column.variance.low <= series.var(ddof=0) <= column.variance.high
        spread = column.standard_deviation
        assert spread.low <= series.std(ddof=0) <= spread.high
        due, edges = np.histogram(series, bins=8, range=(low, high))
        assert [estimate.value for estimate in column.bins] == due.tolist()
        assert column.edges == pytest.approx(edges)
        for share, estimate in column.quantiles:
            true = np.quantile(series, share, method="inverted_cdf")
            assert estimate.low <= true <= estimate.high
            assert estimate.high - estimate.low == pytest.approx((high - low) / 8)
    assert columns["age"].missing is None
    assert columns["pressure"].missing.value == table["pressure"].isna().sum()
    due = table["pain"].value_counts()
    assert dict(columns["pain"].categories)["typical"].value == due["typical"]
    assert columns["pain"].missing.value == table["pain"].isna().sum()
    cohorts = {name: estimate.value for name, estimate in found.cohorts}
    assert cohorts == {
        "older": (table["age"] >= 60).sum(),
        "women_with_pain": (
            (table["male"] == 0) & table["pain"].isin(["typical", "atypical"])
        ).sum(),
        "sick": (table["sick"] == 1).sum(),
    }


@pytest.mark.parametrize(
    ("edge", "fits"), [([20, 60], False), ([60, 90], True), ([59.9, 60.1], True)]
)
def test_a_range_holds_its_lower_end_and_not_its_upper(edge, fits):
    table = random_table(1, seed=2).assign(age=60.0)
    cohort = {"name": "band", "conditions": [{"column": "age", "range": edge}]}
    ((_, found),) = exact(table, layout_of(cohort=(cohort,))).cohorts
    assert found.value == float(fits)


def test_the_upper_end_of_the_contract_is_in_the_last_range_and_the_last_bin():
    table = random_table(1, seed=2).assign(age=90.0)
    cohort = {"name": "band", "conditions": [{"column": "age", "range": [60, 90]}]}
    found = exact(table, layout_of(cohort=(cohort,)))
    assert found.cohorts[0][1].value == 1
    assert found.columns[0].bins[-1].value == 1


TABLES = st.tuples(st.integers(0, 12), st.integers(0, 2**32 - 1))
PLANS = st.fixed_dictionaries(
    {
        "bins": st.sampled_from([0, 2, 7]),
        "columns": st.sampled_from([None, ("age",), ("pain", "pressure"), ("male",)]),
        "cohort": st.sampled_from([(), COHORTS[:1], COHORTS]),
    }
)


@settings(max_examples=100, deadline=None)
@given(TABLES, PLANS, st.integers(0, 2**32 - 1))
def test_one_patient_more_changes_the_vector_by_no_more_than_is_claimed(size, plan, seed):
    layout = layout_of(**plan)
    table = random_table(*size)
    one = random_table(1, seed=seed, at_bounds=bool(seed % 2))
    before = tally(rows_of(table), layout).values
    after = tally(rows_of(pd.concat([table, one])), layout).values
    moved = int(((after - before) ** 2).sum())
    assert 0 < moved <= layout.sensitivity_squared


@pytest.mark.parametrize("bins", [0, 7])
def test_some_patient_changes_the_vector_by_exactly_what_is_claimed(bins):
    layout = layout_of(bins=bins, cohort=COHORTS)
    one = pd.DataFrame(
        {"age": [90.0], "pressure": [60.0], "male": [0.0], "pain": ["typical"], "sick": [1]}
    )
    values = tally(rows_of(one), layout).values
    assert int((values**2).sum()) == layout.sensitivity_squared


def test_cohorts_that_exclude_each_other_count_once_in_the_sensitivity():
    bands = [
        {"name": f"from_{low}", "conditions": [{"column": "age", "range": [low, low + 10]}]}
        for low in range(20, 90, 10)
    ]
    alone = layout_of().sensitivity_squared
    assert layout_of(cohort=bands).sensitivity_squared == alone + ONE**2
    overlapping = [*bands, {"name": "any", "conditions": [{"column": "age", "range": [20, 90]}]}]
    assert layout_of(cohort=overlapping).sensitivity_squared == alone + 2 * ONE**2
    sexes = [
        {"name": f"sex_{value}", "conditions": [{"column": "male", "values": [value]}]}
        for value in "01"
    ]
    assert layout_of(cohort=[*bands, *sexes]).sensitivity_squared == alone + 2 * ONE**2


def test_leaving_the_histogram_out_lowers_the_sensitivity():
    assert layout_of(bins=0).sensitivity_squared < layout_of(bins=10).sensitivity_squared
    assert exact(random_table(50, seed=1), layout_of(bins=0)).columns[0].quantiles == ()


def test_a_number_beyond_the_range_counts_as_its_bound():
    layout = layout_of()
    table = random_table(1, seed=5)
    far, bound = (tally(rows_of(table.assign(age=age)), layout).values for age in (1e9, 90.0))
    assert far.tolist() == bound.tolist()


def test_a_missing_value_where_none_may_be_is_refused_by_its_count():
    table = random_table(3, seed=5)
    table.loc[1, "age"] = np.nan
    with pytest.raises(BadInput, match="age: 1 values are missing"):
        tally(rows_of(table), layout_of())


@pytest.mark.parametrize(
    ("plan", "fault"),
    [
        ({"columns": ("weight",)}, "weight is no column"),
        ({"columns": ("male",), "standardise": True}, "standardise"),
        (
            {"cohort": [{"name": "x", "conditions": [{"column": "age", "values": ["0"]}]}]},
            "takes a `range`",
        ),
        (
            {"cohort": [{"name": "x", "conditions": [{"column": "age", "range": [0, 50]}]}]},
            "not within",
        ),
        (
            {"cohort": [{"name": "x", "conditions": [{"column": "pain", "values": ["none"]}]}]},
            "out of typical, atypical",
        ),
        (
            {"cohort": [{"name": "x", "conditions": [{"column": "who", "values": ["0"]}]}]},
            "no such column",
        ),
        (
            {"cohort": [{"name": "x", "conditions": [{"column": "sick", "range": [0, 1]}]}]},
            "`values` out of 0, 1",
        ),
    ],
)
def test_a_plan_that_does_not_fit_the_contract_is_refused(plan, fault):
    with pytest.raises(BadInput, match=fault):
        layout_of(**plan)


@pytest.mark.parametrize(
    "change",
    [
        {"bins": 1},
        {"bins": 65},
        {"epsilon": 0},
        {"attempts": 0},
        {"columns": ("age", "age")},
        {"cohort": [COHORTS[0], COHORTS[0]]},
        {"mean": True},
    ],
)
def test_a_plan_that_contradicts_itself_is_refused(change):
    with pytest.raises(ValueError, match=r"statistics|StatisticsPlan"):
        plan_of(**change)


def test_a_condition_has_one_form():
    for wrong in ({}, {"range": (1, 2), "values": ("a",)}, {"range": (2, 1)}):
        with pytest.raises(ValueError, match="condition"):
            Condition(column="age", **wrong)
    twice = [Condition(column="age", range=(20, 30)), Condition(column="age", range=(40, 50))]
    with pytest.raises(ValueError, match="two conditions"):
        PatientCohort(name="both", conditions=tuple(twice))


def released(layout, hospitals=3):
    table = random_table(40, seed=3)
    return ReleasedStatistics(layout, tally(rows_of(table), layout).values, hospitals, hospitals)


def test_released_sums_survive_their_json():
    layout = layout_of(cohort=COHORTS)
    there = released(layout)
    back = ReleasedStatistics.from_json(there.to_json(), layout)
    assert back.digest == there.digest
    assert back.hospitals == 3
    assert back.sums.tolist() == there.sums.tolist()


@pytest.mark.parametrize(
    "change",
    [
        {"sums": [1, 2]},
        {"sums": "123"},
        {"hospitals": 0},
        {"hospitals": True},
        {"hospitals": 1001},
        {"hospitals": 2.0},
        {"hospitals": 4},
        {"asked": 2},
        {"asked": 1001},
        {"asked": "3"},
        {"more": 1},
        {"sums": None},
    ],
)
def test_released_sums_of_another_form_are_refused(change):
    layout = layout_of()
    with pytest.raises(BadInput, match="statistics"):
        ReleasedStatistics.from_json(released(layout).to_json() | change, layout)


@pytest.mark.parametrize("lane", [True, 1.0, "1", 2**31, None])
def test_a_sum_that_is_no_integer_of_32_bits_is_refused(lane):
    layout = layout_of()
    value = released(layout).to_json()
    value["sums"][4] = lane
    with pytest.raises(BadInput, match="32 bits"):
        ReleasedStatistics.from_json(value, layout)


def test_the_share_of_each_hospital_adds_up_to_the_noise_that_is_due():
    layout = layout_of(cohort=COHORTS)
    for hospitals, honest in ((4, 1), (4, 3), (10, 9)):
        share = statistics_share(6.5, layout, hospitals=hospitals, honest=honest)
        deviation = np.sqrt(honest * share.variance)
        assert 6.5 <= deviation / layout.sensitivity_lanes < 6.5001
        assert share.limit == largest_limit(hospitals)


def test_noise_below_the_accountants_grid_is_raised_to_it():
    share = statistics_share(0.5, layout_of(columns=("male",)), hospitals=4, honest=4)
    assert 4 * share.variance == 2**20


def test_noise_that_the_lanes_cannot_hold_is_refused():
    with pytest.raises(BadInput, match=r"larger statistics\.epsilon"):
        statistics_share(5e4, layout_of(), hospitals=100, honest=1)


def test_raw_statistics_cannot_be_encoded_and_noise_is_due_for_each_lane():
    layout = layout_of()
    raw = RawStatistics(layout, np.zeros(layout.lanes, dtype=np.int64))
    assert not any(hasattr(raw, name) for name in ("lanes", "to_lanes", "to_json"))
    share = statistics_share(5.0, layout, hospitals=4, honest=1)
    noise = np.arange(layout.lanes)
    assert raw.noised(noise, share).lanes.tolist() == noise.tolist()
    for wrong in (noise[1:], noise.astype(float)):
        with pytest.raises(BadInput, match="integers of noise"):
            raw.noised(wrong, share)


def test_what_does_not_fit_is_cut_before_and_after_the_noise():
    layout = layout_of()
    share = statistics_share(5.0, layout, hospitals=4, honest=1)
    raw = RawStatistics(layout, np.full(layout.lanes, 2**40))
    noised = raw.noised(np.full(layout.lanes, -7), share)
    assert (noised.lanes == share.limit - share.tail - 7).all()
    far = raw.noised(np.full(layout.lanes, 2 * share.tail), share)
    assert (far.lanes == share.limit).all()


def test_the_plan_of_a_study_is_frozen_json():
    plan = plan_of(cohort=COHORTS)
    assert StatisticsPlan.model_validate(plan.model_dump(mode="json")) == plan
    assert {c.kind for c in plan.asked(CONTRACT)} == {
        ColumnKind.CONTINUOUS,
        ColumnKind.BINARY,
        ColumnKind.CATEGORICAL,
    }
