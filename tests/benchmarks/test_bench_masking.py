"""The benchmark compares two things that work: both give the mean, with and without drop-outs."""

import json

import numpy as np
import pytest
from tests.benchmarks import bench_masking, flower_masking
from tests.benchmarks.bench_masking import Cohort

HOSPITALS, PARAMETERS = 5, 203


def vectors() -> list[np.ndarray]:
    drawn = np.random.default_rng(7).normal(0.0, 0.2, (HOSPITALS, PARAMETERS))
    return list(np.clip(drawn, -1.0, 1.0).astype(np.float32))


@pytest.mark.parametrize("dropped", [0, 1, 2])
def test_flowers_steps_give_the_mean_of_those_who_stayed(dropped):
    """Stochastic rounding moves each value by less than one step."""
    everybody = flower_masking.nodes(HOSPITALS, threshold=3, dropped=dropped)
    total = None
    for node, values in list(zip(everybody, vectors(), strict=True))[dropped:]:
        total = flower_masking.server_add(
            total, flower_masking.client_mask(node, everybody, values)
        )
    secrets = flower_masking.server_join(everybody, dropped=dropped)
    mean = flower_masking.server_unmask(total, everybody, secrets, dropped=dropped)
    step = 2 * flower_masking.CLIPPING_RANGE / flower_masking.TARGET_RANGE
    assert np.max(np.abs(mean - np.mean(vectors()[dropped:], axis=0))) <= step


@pytest.mark.parametrize("dropped", [0, 1, 2])
@pytest.mark.parametrize("bits", [20, 24, 32])
@pytest.mark.parametrize("threads", [1, 2])
def test_the_measured_steps_give_the_mean_of_those_who_stayed(dropped, bits, threads):
    cohort = Cohort(hospitals=HOSPITALS, bits=bits, threads=threads)
    total = np.zeros(PARAMETERS, np.uint32)
    for hospital, values in list(enumerate(vectors()))[dropped:]:
        cohort.server_add(total, cohort.client_mask(hospital, values)[0])
    mean = cohort.server_unmask(total, dropped=dropped)
    due = np.mean(np.array(vectors()[dropped:], np.float64), axis=0)
    assert np.max(np.abs(mean - due)) <= 0.5 / cohort.scale


def test_masks_that_do_not_cancel_are_noticed():
    cohort = Cohort(hospitals=HOSPITALS, bits=20, threads=1)
    total = np.zeros(PARAMETERS, np.uint32)
    for hospital, values in enumerate(vectors()):
        cohort.server_add(total, cohort.client_mask(hospital, values)[0])
    with pytest.raises(ArithmeticError, match="did not cancel"):
        cohort.server_unmask(total, dropped=1)


def test_a_case_is_one_json_line_with_every_ratio(capsys):
    bench_masking.main(["--parameters", "5000", "--hospitals", "4", "--bits", "20"])
    (line,) = capsys.readouterr().out.splitlines()
    case = json.loads(line)
    assert (case["parameters"], case["hospitals"], case["bits"]) == (5000, 4, 20)
    assert case["bytes_per_parameter"] == 2.5
    for name in ("client_speedup_over_flower", "server_add_speedup", "unmask_speedup_0"):
        assert case[name] > 0
    assert 0 < case["fraction_of_bound"] < 1.5
