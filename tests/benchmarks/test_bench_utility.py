"""The benchmark of utility runs the product, keeps its seeds apart and draws what it says."""

import json
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from tests.benchmarks import bench_utility
from tests.benchmarks.bench_utility_page import picture, table
from tests.benchmarks.bench_utility_runs import WAYS, auroc
from tests.benchmarks.bench_utility_studies import opened, pooled


def line(way, epsilon, auroc, *, study="heart"):
    return {
        "study": study,
        "mechanism": way,
        "epsilon": epsilon,
        "auroc": auroc,
        "interval": [auroc - 0.01, auroc + 0.01],
        "seeds": 10,
        "below_none": 0.9 - auroc,
    }


LINES = [
    line("none", None, 0.9),
    line("pooled", None, 0.91),
    *(line(way, e, 0.7 + 0.02 * e) for way in bench_utility.PRIVATE for e in (1.0, 8.0)),
]


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory):
    with opened("breast", tmp_path_factory.mktemp("no-data")) as found:
        yield found


def test_two_rounds_of_every_way_give_a_line_each(tmp_path, capsys):
    plot = tmp_path / "plot.svg"
    options = ["--data", str(tmp_path), "--epsilons", "8", "--seeds", "2", "--rounds", "2"]
    assert bench_utility.main([*options, "--plot", str(plot)]) == 0
    printed = capsys.readouterr()
    lines = [json.loads(line) for line in printed.out.splitlines()]
    assert sorted(line["mechanism"] for line in lines) == sorted(WAYS)
    for line in lines:
        low, high = line["interval"]
        assert low <= line["auroc"] <= high
        assert (line["study"], line["seeds"]) == ("breast", 2)
        assert (line["epsilon"] is None) == (line["mechanism"] in {"none", "pooled"})
    assert "heart: skipped: ../shared/data not present" in printed.err
    assert ET.fromstring(plot.read_text()).tag.endswith("svg")


def test_noise_is_in_what_distributed_training_learns(hospitals):
    """At epsilon 0.01 it learns nothing: an AUROC like without noise would mean no noise."""
    settings = replace(bench_utility.COMMON, rounds=4)
    scores = {
        epsilon: auroc(hospitals, "distributed", epsilon, settings, seed=0)
        for epsilon in (0.01, 8.0)
    }
    assert scores[8.0] > 0.9 > scores[0.01]


def test_a_seed_fixes_the_result(hospitals):
    settings = replace(bench_utility.COMMON, rounds=1)
    same = [auroc(hospitals, "local", 1.0, settings, seed=seed) for seed in (3, 3, 4)]
    assert same[0] == same[1] != same[2]


def test_every_seed_has_another_split_and_each_patient_is_on_one_side(hospitals):
    first, second = hospitals.sides(0), hospitals.sides(1)
    for name, encoded in hospitals.encoded.items():
        sides = first[name]
        assert sides.train.patients + sides.held_out.patients == encoded.patient_count
    assert any(first[name].held_out.patients != second[name].held_out.patients for name in first)
    (everybody,) = pooled(first).values()
    assert everybody.train.patients == sum(side.train.patients for side in first.values())


def test_settings_were_not_chosen_on_the_seeds_that_are_reported():
    assert not set(bench_utility.SEEDS) & set(bench_utility.CHOOSING_SEEDS)


def test_an_interval_is_that_of_student(capsys):
    low, high = bench_utility.interval([0.4, 0.5, 0.6])
    # t(0.975, 2) = 4.302653; standard deviation 0.1
    assert (low, high) == pytest.approx((0.5 - 0.2484138, 0.5 + 0.2484138))
    assert bench_utility.interval([0.8, 0.9, 1.0])[1] == 1.0


def test_the_picture_has_a_point_for_each_private_line_and_a_line_for_each_other():
    root = ET.fromstring(picture(LINES))
    inside = {"{http://www.w3.org/2000/svg}" + name for name in ("circle", "polyline")}
    drawn = [element.tag.rpartition("}")[2] for element in root.iter() if element.tag in inside]
    assert drawn.count("polyline") == 3
    assert drawn.count("circle") == 6 + 3  # and one each in the legend


def test_the_table_has_a_row_for_each_epsilon_and_repeats_what_has_none():
    rows = [row for row in table(LINES).splitlines() if row.startswith(("| 1 ", "| 8 "))]
    assert len(rows) == 2
    assert all("0.900" in row and "0.910" in row for row in rows)
