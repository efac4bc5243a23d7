"""Measurements over time: a long table becomes a grid of public steps, every fault counted."""

import numpy as np
import pytest
from tests.support.described_data import contract, description, encoded, refusal, write
from tests.support.study_plans import BINARY

from wardround_client.data import series as module
from wardround_client.data.check import check

PULSE = {"name": "pulse", "kind": "series", "description": "x", "unit": "/min", "range": [0, 200]}
HEAT = {"name": "heat", "kind": "series", "description": "x", "unit": "Cel", "range": [30, 50]}
AGE = {"name": "age", "kind": "continuous", "description": "x", "unit": "a", "range": [0, 100]}
SOURCES = [
    {"column": "pulse", "source": "HR", "unit": "/min", "missing": ["-1"]},
    {"column": "age", "source": "age", "unit": "a"},
    {
        "column": "heat",
        "source": "Temp",
        "unit": "[degF]",
        "convert": {"to": "Cel", "scale": 5 / 9, "offset": -160 / 9},
    },
]
LONG = {
    "path": "long.csv",
    "key": "stay",
    "record": "stay",
    "time": "t",
    "variable": "what",
    "value": "v",
}
RULE = {"source": "y", "positive_when": ">0"}
AGREED = contract(BINARY, [PULSE, AGE, HEAT], grid={"steps": 4, "step": 2.0, "unit": "h"})
MAIN = "id,stay,age,y\nb,s2,100,1\na,s1,0,0\n"


def described(**more):
    return description(RULE, SOURCES, series=LONG | more)


def lines(*rows):
    return "\n".join(["stay,t,what,v", *rows]) + "\n"


def test_the_last_value_of_a_step_counts_and_is_carried_forward(tmp_path):
    long = lines(
        "s1,3.9,HR,100",
        "s1,2.0,HR,0",
        "s1,6.5,HR,200",
        "s2,0.5,Temp,104",
        "s1,1.9,HR,-1",
        "s3,0,HR,50",
    )
    write(tmp_path, main_csv=MAIN, long_csv=long)
    found = encoded(described(), AGREED, tmp_path)
    assert found.features.shape == (2, 4, 5)
    assert found.patients == ("a", "b")
    assert AGREED.features() == ("pulse", "pulse is missing", "age", "heat", "heat is missing")
    first, second = found.features
    assert first[:, 0].tolist() == [0, 0, 0, 1]  # nothing, 100 of 200, carried, 200
    assert first[:, 1].tolist() == [1, 0, 1, 0]
    assert first[:, 2].tolist() == [-1] * 4
    assert second[:, 2].tolist() == [1] * 4
    np.testing.assert_allclose(second[:, 3], 0.0, atol=1e-6)  # 40 degrees, carried forward
    assert second[:, 4].tolist() == [0, 1, 1, 1]
    assert first[:, 4].tolist() == [1] * 4


def test_equally_late_values_keep_the_last_line(tmp_path):
    write(tmp_path, main_csv=MAIN, long_csv=lines("s1,1,HR,0", "s1,1,HR,200"))
    assert encoded(described(), AGREED, tmp_path).features[0, 0, 0] == 1


def test_hours_and_minutes_are_read_as_hours(tmp_path):
    write(tmp_path, main_csv=MAIN, long_csv=lines("s1,01:59,HR,200", "s1,02:00,HR,0"))
    found = encoded(described(clock="hh:mm"), AGREED, tmp_path)
    assert found.features[0, :, 0].tolist() == [1, -1, -1, -1]
    assert "2 of 2 times are not numbers" in refusal(described(), AGREED, tmp_path)


def test_what_lies_outside_the_grid_is_left_out_and_said(tmp_path):
    write(
        tmp_path,
        main_csv=MAIN,
        long_csv=lines("s1,-0.1,HR,200", "s1,8,HR,200", "s1,7.99,HR,100"),
    )
    assert encoded(described(), AGREED, tmp_path).features[0, :, 0].tolist() == [0, 0, 0, 0]
    remarks = check(described(), AGREED, tmp_path).remarks
    assert "series: 2 of 3 measurements lie outside the grid" in remarks
    assert "column heat: missing in every row" in remarks


@pytest.mark.parametrize(
    ("long", "why"),
    [
        (lines("s1,1,HR,fast"), "column pulse: 1 of 1 measurements are not numbers"),
        (lines("s1,1,HR,201"), "column pulse: 1 of 1 measurements outside 0..200 /min"),
        (lines("s1,soon,HR,1"), "1 of 1 times are not numbers"),
        (lines("s9,1,HR,1"), "no line of a record of this hospital"),
        ("stay,t,what\ns1,1,HR\n", "series: no column 'v'"),
    ],
)
def test_a_faulty_long_table_is_refused_in_counts(tmp_path, long, why):
    write(tmp_path, main_csv=MAIN, long_csv=long)
    said = refusal(described(), AGREED, tmp_path)
    assert why in said
    assert "fast" not in said
    assert "soon" not in said


def test_a_value_out_of_range_is_missing_where_the_hospital_says_so(tmp_path):
    write(tmp_path, main_csv=MAIN, long_csv=lines("s1,1,HR,201", "s1,3,HR,100"))
    sources = [SOURCES[0] | {"out_of_range": "missing"}, *SOURCES[1:]]
    found = encoded(description(RULE, sources, series=LONG), AGREED, tmp_path)
    assert found.features[0, :, 1].tolist() == [1, 0, 1, 1]


def test_a_variable_that_a_hospital_does_not_measure_is_absent(tmp_path):
    write(tmp_path, main_csv=MAIN, long_csv=lines("s1,1,HR,100"))
    sources = [*SOURCES[:2], {"column": "heat", "absent": True, "unit": "Cel"}]
    found = encoded(description(RULE, sources, series=LONG), AGREED, tmp_path)
    assert (found.features[:, :, 4] == 1).all()


def test_one_stay_with_two_rows_is_refused(tmp_path):
    write(tmp_path, main_csv=MAIN + "b,s1,5,1\n", long_csv=lines("s1,1,HR,1"))
    assert "1 of 3 records repeat a key in 'stay'" in refusal(described(), AGREED, tmp_path)


def test_a_grid_and_its_table_belong_together(tmp_path):
    write(tmp_path, main_csv=MAIN, long_csv=lines("s1,1,HR,1"))
    assert "`[series]` is due" in refusal(description(RULE, SOURCES), AGREED, tmp_path)
    assert "time in min came" in refusal(described(unit="min"), AGREED, tmp_path)


def test_a_grid_beyond_the_limit_is_refused_before_it_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SERIES_LIMIT_BYTES", 63)
    write(tmp_path, main_csv=MAIN, long_csv=lines("s1,1,HR,1"))
    assert "a grid of 64 bytes, over 63" in refusal(described(), AGREED, tmp_path)
