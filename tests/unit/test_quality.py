"""Verdicts on data: which numbers give which words, and what may be told of a count."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.patient_table import CONTRACT, plan_of

from wardround.errors import BadInput
from wardround.quality.assess import assess
from wardround.quality.compare import Reference, differences
from wardround.quality.disclosure import bounds, told
from wardround.quality.numbers import ColumnNumbers, OwnNumbers
from wardround.quality.plan import QualityPlan
from wardround.quality.verdict import STOPPING, Reason, Verdict, in_order, verdict_of
from wardround.statistics.cells import ONE
from wardround.statistics.layout import StatisticsLayout
from wardround.statistics.released import ReleasedStatistics
from wardround.statistics.tally import PatientRows, tally

LAYOUT = StatisticsLayout.of(CONTRACT, plan_of(bins=0))
PLAN = QualityPlan()


def rows(patients=2000, seed=0, *, age=60.0, male=0.5, sick=0.5, lacking=0.2, factor=1.0):
    random = np.random.default_rng(seed)
    pressure = np.clip(random.normal(130, 20, patients) * factor, 60, 220)
    pressure[random.random(patients) < lacking] = np.nan
    return PatientRows(
        outcomes=(random.random(patients) < sick).astype(np.int64),
        numbers={
            "age": np.clip(random.normal(age, 10, patients), 20, 90),
            "pressure": pressure,
        },
        codes={
            "male": (random.random(patients) < male).astype(np.int64),
            "pain": random.integers(-1, 3, patients),
        },
    )


def sums(patients):
    return tally(patients, LAYOUT).values


def reference(others, own=None, *, noise=0.0, seed=7):
    """What was released: the others, perhaps with an own part, noise of so many patients."""
    total = sums(others) + (0 if own is None else own)
    drawn = np.random.default_rng(seed).normal(0.0, noise * ONE, total.size)
    released = ReleasedStatistics(LAYOUT, total + np.rint(drawn).astype(np.int64), 3, 3)
    return Reference(released, noise * ONE, own)


def found(here, others, **how):
    return {
        (each.name, each.what): each for each in differences(sums(here), reference(others, **how))
    }


def own_numbers(patients=200, outcomes=(100, 100), **columns):
    return OwnNumbers(
        patients=patients,
        records=patients,
        outcomes=outcomes,
        columns=tuple(
            ColumnNumbers(**{"name": c.name, "missing": 0} | columns.get(c.name, {}))
            for c in CONTRACT.columns
        ),
    )


def reasons(own, plan=PLAN, apart=()):
    return assess(own, CONTRACT, plan, apart).reasons


def test_patients_like_the_others_differ_in_nothing():
    apart = found(rows(300, 1), rows())
    assert set(apart) == {
        ("sick", "positive"),
        ("age", "mean"),
        ("pressure", "missing"),
        ("pressure", "mean"),
        ("male", "0"),
        ("male", "1"),
        ("pain", "missing"),
        *(("pain", kind) for kind in ("typical", "atypical", "other")),
    }
    assert all(each.sure < 0.1 for each in apart.values())
    assert reasons(own_numbers(), apart=apart.values()) == ()


@pytest.mark.parametrize(
    ("change", "key", "reason"),
    [
        ({"age": 75.0}, ("age", "mean"), Reason.DIFFERS),
        ({"factor": 0.7}, ("pressure", "mean"), Reason.DIFFERS),
        ({"male": 1.0}, ("male", "1"), Reason.DIFFERS),
        ({"sick": 0.95}, ("sick", "positive"), Reason.DIFFERS),
        ({"lacking": 0.7}, ("pressure", "missing"), Reason.DIFFERS),
    ],
)
def test_each_way_to_differ_is_found_and_named(change, key, reason):
    apart = found(rows(300, 1, **change), rows())
    assert max(apart.values(), key=lambda each: each.sure).name == key[0]
    assert reason in reasons(own_numbers(), apart=[apart[key]])


def test_a_mean_beyond_three_standard_deviations_is_another_unit():
    apart = found(rows(300, 1, factor=0.4), rows(2000, 2, factor=1.3))[("pressure", "mean")]
    assert apart.sure > 3
    assert reasons(own_numbers(), apart=[apart]) == (Reason.UNIT_OR_SCALE,)
    lenient = QualityPlan(furthest=20.0)
    assert reasons(own_numbers(), lenient, [apart]) == (Reason.DIFFERS,)


def test_the_standardised_difference_is_that_of_the_tables():
    here, others = rows(400, 3, age=66.0), rows(1500, 4)
    apart = found(here, others)[("age", "mean")]
    ages, theirs = here.numbers["age"], others.numbers["age"]
    assert apart.own == pytest.approx(ages.mean(), abs=0.1)
    assert apart.others == pytest.approx(theirs.mean(), abs=0.1)
    assert apart.apart == pytest.approx(abs(ages.mean() - theirs.mean()) / theirs.std(), abs=0.02)
    assert 0 < apart.sure < apart.apart


def test_the_own_part_is_taken_out_of_what_was_released():
    """Of two hospitals of one size, the pool's mean hides half of the difference."""
    here, others = rows(1000, 3, age=75.0), rows(1000, 4)
    with_own = found(here, others, own=sums(here))[("age", "mean")]
    assert with_own.others == pytest.approx(others.numbers["age"].mean(), abs=0.1)
    pooled = Reference(reference(others, own=sums(here)).released, 0.0)
    (hidden,) = [d for d in differences(sums(here), pooled) if (d.name, d.what) == ("age", "mean")]
    assert hidden.apart < 0.8 * with_own.apart


def test_noise_widens_and_drowns_but_accuses_nobody():
    """Patients like the others: whatever noise is drawn, nothing is surely far."""
    for seed in range(40):
        for noise in (5.0, 40.0, 400.0):
            apart = found(rows(60, seed), rows(500, 100 + seed), noise=noise, seed=seed)
            assert reasons(own_numbers(), apart=apart.values()) == ()
    assert found(rows(60, 1), rows(500), noise=400.0) == {}
    quiet, loud = (
        found(rows(300, 1, age=75.0), rows(2000), noise=noise)[("age", "mean")].sure
        for noise in (0.0, 30.0)
    )
    assert loud < quiet


def test_of_fewer_than_eleven_patients_nothing_is_compared():
    assert found(rows(10, 1, age=80.0), rows()) == {}
    apart = found(rows(40, 1, male=0.05), rows())
    assert apart[("male", "1")].own is None


def test_an_own_part_that_cannot_be_in_the_sum_is_refused():
    part = Reference(reference(rows()).released, 0.0, np.zeros(3, dtype=np.int64))
    with pytest.raises(BadInput, match="own part does not fit"):
        differences(sums(rows(300, 1)), part)


CASES = [
    (own_numbers(), ()),
    (own_numbers(patients=5, outcomes=(3, 2)), (Reason.TOO_FEW, Reason.OUTCOME_RARE)),
    (own_numbers(outcomes=(200, 0)), (Reason.OUTCOME_RARE,)),
    (own_numbers(pressure={"missing": 80}), (Reason.MUCH_MISSING,)),
    (own_numbers(pressure={"missing": 40}), ()),
    (own_numbers(age={"median": 50.0, "used": 0.5}), ()),
    (own_numbers(age={"median": 50.0, "used": 0.01}), (Reason.HARDLY_USED,)),
]


@pytest.mark.parametrize(("own", "due"), CASES)
def test_the_defaults_give_these_words(own, due):
    assert reasons(own) == due


def test_a_study_sets_limits_that_make_the_same_numbers_not_ready():
    strict = QualityPlan.model_validate(
        {
            "least_patients": 201,
            "least_per_outcome": 101,
            "most_missing": 0.3,
            "expect": [{"column": "age", "median": [55, 70]}],
        }
    )
    assert strict.faults(CONTRACT) == ()
    own = own_numbers(pressure={"missing": 80}, age={"median": 50.0, "used": 0.5})
    assert reasons(own, strict) == (*(r for r in Reason if r in STOPPING), Reason.MUCH_MISSING)
    assert assess(own, CONTRACT, strict).verdict is Verdict.NOT_READY


def test_no_advice_holds_a_number_of_the_hospital():
    own = own_numbers(
        patients=173,
        outcomes=(169, 4),
        pressure={"missing": 97},
        age={"median": 31.25, "used": 0.011},
    )
    strict = QualityPlan.model_validate({"expect": [{"column": "age", "median": [55, 70]}]})
    apart = found(rows(173, 1, age=77.0, factor=0.5), rows())
    said = " ".join(map(str, assess(own, CONTRACT, strict, apart.values()).findings))
    for number in ("173", "169", "97", "31", "1.1", "77", "56 %"):
        assert number not in said


@pytest.mark.parametrize(
    ("plan", "says"),
    [
        ({"expect": [{"column": "weight", "median": [1, 2]}]}, "no such column"),
        ({"expect": [{"column": "male", "median": [0, 1]}]}, "no such column"),
        ({"expect": [{"column": "age", "median": [10, 50]}]}, "not within the contract's range"),
        ({"expect": [{"column": "age", "median": [30, 50]}] * 2}, "named twice"),
    ],
)
def test_expectations_have_to_fit_the_contract(plan, says):
    (fault,) = QualityPlan.model_validate(plan).faults(CONTRACT)
    assert says in fault


@given(st.integers(0, 10**6))
def test_a_told_count_lies_within_its_bounds_and_no_cell_is_narrower_than_five(count):
    low, high = bounds(told(count))
    assert low <= count <= high
    assert high - low >= 4
    assert (told(count) is None) == (count < 11)


@given(st.integers(0, 500), st.data())
def test_nothing_small_is_had_by_subtraction(whole, data):
    """Of a whole and a part that are both told, the rest is never pinned when it is below 11."""
    part = data.draw(st.integers(0, whole))
    if whole - part >= 11 or told(part) is None:
        return
    (low_whole, high_whole), (low, high) = bounds(told(whole)), bounds(told(part))
    possible = range(max(0, low_whole - high), high_whole - low + 1)
    assert whole - part in possible
    assert len([rest for rest in possible if rest < 11]) >= 5


@given(st.lists(st.sampled_from(list(Reason))))
def test_the_verdict_follows_from_the_reasons_in_any_order(some):
    verdict = verdict_of(some)
    assert verdict is verdict_of(in_order(some))
    assert (verdict is Verdict.READY) == (not some)
    assert (verdict is Verdict.NOT_READY) == any(reason in STOPPING for reason in some)
