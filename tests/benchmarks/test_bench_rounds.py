"""The benchmark of a round puts the parties' times together rightly and prints what is due."""

import dataclasses
import json

import pytest
from tests.benchmarks import bench_rounds, round_goals
from tests.benchmarks.plain_rounds import measure_plain
from tests.benchmarks.round_federation import RoundTimes, StudyTimes, federation, rounds_of
from tests.benchmarks.round_goals import Case
from tests.benchmarks.round_study import MECHANISMS, SHAPES, parameters_of, round_study

from wardround.errors import WardroundError
from wardround.models.networks import build

FOUR = Case("double-mask", 4, 122_570)


def train_line(round_number, *, attempt=1, run="a", **seconds):
    return {
        "run": run,
        "purpose": "train",
        "round": round_number,
        "attempt": attempt,
        **seconds,
    }


def test_overhead_is_the_round_without_the_slowest_hospitals_training():
    evaluation = train_line(0, compute_s=9, answer_s=9) | {"purpose": "evaluate"}
    of_another_study = train_line(0, run="b", compute_s=9, answer_s=9)
    (times,) = rounds_of(
        [train_line(0, seconds=1.0)],
        {
            "a": [train_line(0, compute_s=0.5, answer_s=0.625), evaluation],
            "b": [of_another_study, train_line(0, compute_s=0.25, answer_s=0.75)],
        },
    )
    assert times == RoundTimes(round_s=1.0, slowest_training_s=0.5, slowest_answer_s=0.75)
    assert times.overhead_s == 0.5


@pytest.mark.parametrize(
    "hospital", [[], [train_line(0, compute_s=0.5, answer_s=0.75)] * 2], ids=["missing", "twice"]
)
def test_a_round_without_exactly_one_time_of_each_hospital_is_no_measurement(hospital):
    with pytest.raises(WardroundError, match="round 0: not one attempt"):
        rounds_of([train_line(0, seconds=1.0)], {"a": hospital})


def test_a_repeated_attempt_is_no_measurement():
    again = train_line(0, attempt=2, seconds=1.0)
    with pytest.raises(WardroundError, match="round 0: not one attempt"):
        rounds_of([again], {"a": [train_line(0, compute_s=0.5, answer_s=0.75)]})


@pytest.mark.parametrize("profile", sorted(MECHANISMS))
@pytest.mark.parametrize("parameters", sorted(SHAPES))
def test_the_study_of_the_benchmark_has_exactly_so_many_parameters(parameters, profile):
    plan = round_study(parameters=parameters, hospitals=4, profile=profile, rounds=3)
    assert parameters_of(plan) == parameters
    assert plan.masking.profile.value == profile
    if parameters <= 1_000_000:
        assert sum(parameter.numel() for parameter in build(plan).parameters()) == parameters


def test_a_line_has_the_median_of_the_rounds_and_how_far_they_lie_apart():
    rounds = tuple(
        RoundTimes(round_s=1.0 + late, slowest_training_s=0.5, slowest_answer_s=0.75)
        for late in (0.0, 0.125, 1.0)
    )
    times = StudyTimes(rounds=rounds, coordinator_cpu_s=0.25, hospital_cpu_s=None)
    assert bench_rounds.line_of(times, "none") == {
        "mechanism": "none",
        "rounds": 3,
        "overhead_s": 0.625,
        "overhead_least_s": 0.5,
        "overhead_most_s": 1.5,
        "round_s": 1.125,
        "training_s": 0.5,
        "answer_s": 0.75,
        "coordinator_cpu_s": 0.25,
        "hospital_cpu_s": None,
    }


def test_ratios_compare_what_was_measured_in_the_same_run_at_the_same_size():
    measured = {
        FOUR: 0.125,
        Case("plain", 4, 122_570): 0.1,
        Case("stock-flower", 4, 122_570): 6.25,
        Case("double-mask", 4, 1_000): 0.0625,
        Case("plain", 20, 1_000): 0.05,
    }
    (line,) = round_goals.ratios(measured)
    assert line == {
        "bench": "rounds-ratio",
        "profile": "double-mask",
        "hospitals": 4,
        "parameters": 122_570,
        "overhead_s": 0.125,
        "plain_s": 0.1,
        "added_by_masking": 0.25,
        "stock_flower_s": 6.25,
        "speedup": 50.0,
    }


@pytest.mark.parametrize(
    ("seconds", "stock", "reached"), [(0.2, 10.0, [True, True]), (0.21, 10.0, [False, False])]
)
def test_a_goal_is_reached_at_its_bound_and_not_beyond_it(seconds, stock, reached):
    measured = {FOUR: seconds, Case("stock-flower", 4, 122_570): stock}
    assert [line["reached"] for line in round_goals.goals(measured)] == reached


@pytest.mark.parametrize(("seconds", "reached"), [(2.29, True), (2.31, False)])
def test_what_masking_adds_is_a_part_of_the_plain_round(seconds, reached):
    large = Case("double-mask", 4, 25_000_000)
    measured = {large: seconds, dataclasses.replace(large, profile="plain"): 2.0}
    assert round_goals.goals(measured)[-1]["reached"] is reached


def test_a_goal_of_which_a_part_was_not_measured_is_not_named():
    assert round_goals.goals({Case("plain", 4, 25_000_000): 1.0}) == []


def test_a_case_that_the_time_does_not_allow_says_so_and_the_bench_fails(tmp_path, capsys):
    bench = bench_rounds.Bench(tmp_path, limit_s=-1.0)
    bench.masked(4, [FOUR])
    (line,) = [json.loads(text) for text in capsys.readouterr().out.splitlines()]
    assert line == {**FOUR.to_json(), "error": bench_rounds._LATE}
    assert bench.failed
    assert list(tmp_path.iterdir()) == []


def test_twenty_hospitals_have_no_model_of_25_million_unless_it_is_asked_for():
    assert bench_rounds.sizes_for(20, None) == [122_570, 1_000_000, 1_000]
    assert bench_rounds.sizes_for(20, [25_000_000]) == [25_000_000]
    assert bench_rounds.sizes_for(4, None) == list(bench_rounds.PARAMETERS)


@pytest.mark.slow
@pytest.mark.federation
def test_warm_processes_run_one_study_after_the_other(tmp_path):
    with federation(tmp_path, 3) as warm:
        for profile in sorted(MECHANISMS):
            plan = round_study(parameters=1_000, hospitals=3, profile=profile, rounds=4)
            times = warm.run(plan, limit_s=120.0)
            assert len(times.rounds) == 3
            assert all(0.0 < each.overhead_s < each.round_s for each in times.rounds)


@pytest.mark.slow
@pytest.mark.federation
def test_plain_rounds_end_with_the_model_that_was_computed_by_hand(tmp_path):
    seconds = measure_plain(tmp_path, parameters=300_000, hospitals=2, rounds=3)
    assert len(seconds) == 3
    assert min(seconds) > 0.0
