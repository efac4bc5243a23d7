"""The benchmark of a round puts the parties' times together rightly and prints what is due."""

import pytest
from tests.benchmarks import bench_rounds
from tests.benchmarks.bench_rounds import RoundTimes
from tests.benchmarks.image_study import write_image_study

from wardround.errors import WardroundError
from wardround.models.networks import build
from wardround.study.files import read_study_plan


def train_line(round_number, *, attempt=1, **seconds):
    return {"purpose": "train", "round": round_number, "attempt": attempt, **seconds}


def test_the_json_line_has_exactly_the_keys_that_are_due():
    line = bench_rounds.json_line(
        parameters=121_985, hospitals=4, overhead_s=0.125, stock_flower_s=5.0
    )
    assert line == {
        "bench": "rounds",
        "parameters": 121_985,
        "hospitals": 4,
        "overhead_s": 0.125,
        "stock_flower_s": 5.0,
        "speedup": 40.0,
        "masking": "pairwise AES-256-CTR, X25519 per session",
    }


def test_overhead_is_the_round_without_the_slowest_hospitals_training():
    evaluation = {"purpose": "evaluate", "round": 1, "attempt": 1, "compute_s": 9, "answer_s": 9}
    (times,) = bench_rounds.rounds_of(
        [train_line(0, seconds=1.0)],
        {
            "a": [train_line(0, compute_s=0.5, answer_s=0.625), evaluation],
            "b": [train_line(0, compute_s=0.25, answer_s=0.75), evaluation],
        },
    )
    assert times == RoundTimes(round_s=1.0, slowest_training_s=0.5, slowest_answer_s=0.75)
    assert times.overhead_s == 0.5


@pytest.mark.parametrize(
    "hospital", [[], [train_line(0, compute_s=0.5, answer_s=0.75)] * 2], ids=["missing", "twice"]
)
def test_a_round_without_exactly_one_time_of_each_hospital_is_no_measurement(hospital):
    with pytest.raises(WardroundError, match="round 0: not one attempt"):
        bench_rounds.rounds_of([train_line(0, seconds=1.0)], {"a": hospital})


def test_a_repeated_attempt_is_no_measurement():
    again = train_line(0, attempt=2, seconds=1.0)
    with pytest.raises(WardroundError, match="round 0: not one attempt"):
        bench_rounds.rounds_of([again], {"a": [train_line(0, compute_s=0.5, answer_s=0.75)]})


def test_the_breakdown_names_the_load_it_was_measured_under():
    times = RoundTimes(round_s=1.0, slowest_training_s=0.5, slowest_answer_s=0.75)
    text = bench_rounds.breakdown([times])
    assert "load" in text
    assert "overhead (round - training)     500.0 ms" in text


def test_the_study_of_the_benchmark_has_the_reference_cnn_of_121985_parameters(tmp_path):
    write_image_study(tmp_path, hospitals=2, rounds=3)
    plan = read_study_plan(tmp_path / "study" / "study.toml")
    assert sum(parameter.numel() for parameter in build(plan).parameters()) == 121_985
