"""Why noise in a masked sum is accounted as a sampled Gaussian: each claim of decision 0006."""

import itertools
import math

import numpy as np
import pytest
from dp_accounting.pld import privacy_loss_distribution as pld

from wardround.errors import BadInput
from wardround.privacy.engine import DistributedEngine, parse_engine
from wardround.privacy.mechanism import SampledGaussian
from wardround.privacy.noise_shares import (
    LEAST_DEVIATION_LANES,
    TAIL_DEVIATIONS,
    TOLERANCE,
    TOLERANCE_A_PATIENT,
    StepScale,
    noise_share,
    noise_tail,
    share_variance,
)


def discrete(variance, shift=0.0):
    """The discrete Gaussian's points and probabilities, 20 deviations to both sides."""
    reach = math.ceil(20 * math.sqrt(variance)) + 20
    points = np.arange(-reach, reach + 1)
    weights = np.exp(-((points - shift) ** 2) / (2 * variance))
    return points, weights / weights.sum()


def moment(variance, shift, order, rate=1.0):
    """E_Q[((1 - q) + q P/Q)^order]: Q without the unit, P with it, moved by `shift`."""
    points, without = discrete(variance)
    ratio = np.exp((2 * shift * points - shift**2) / (2 * variance))
    return float(np.sum(without * (1 - rate + rate * ratio) ** order))


def continuous_moment(variance, shift, order, rate=1.0):
    """The same for the continuous Gaussian (Mironov et al. 2019, equation 3)."""
    return sum(
        math.comb(order, k)
        * (1 - rate) ** (order - k)
        * rate**k
        * math.exp((k * k - k) * shift**2 / (2 * variance))
        for k in range(order + 1)
    )


@pytest.mark.parametrize("rate", [1.0, 0.3, 0.02])
@pytest.mark.parametrize(("variance", "shift"), [(0.5, 1), (1, 1), (4, 3), (9, 2)])
def test_at_integer_orders_the_discrete_moments_are_the_continuous_ones(variance, shift, rate):
    for order in (2, 3, 5, 8):
        due = continuous_moment(variance, shift, order, rate)
        assert moment(variance, shift, order, rate) == pytest.approx(due, rel=1e-11)


def test_the_equality_of_moments_rests_on_whole_shifts():
    due = continuous_moment(0.3, 0.5, 3)
    assert moment(0.3, 0.5, 3) != pytest.approx(due, rel=1e-3)


def test_in_several_lanes_the_moment_depends_on_the_norm_alone():
    flat = math.prod(moment(9, shift, 4) for shift in (3, 4))
    assert flat == pytest.approx(moment(9, 5, 4), rel=1e-11)


def test_a_unit_that_comes_costs_as_much_as_one_that_goes_or_less():
    points, without = discrete(4)
    for shift, rate, order in itertools.product((1, 3), (0.05, 0.5), (2, 4)):
        with_unit = without * (
            1 - rate + rate * np.exp((2 * shift * points - shift**2) / (2 * 4.0))
        )
        added = np.sum(with_unit * (without / with_unit) ** order)
        assert added <= moment(4, shift, order, rate) * (1 + 1e-12)


def tau(variance, shares):
    """How far (in log probability) the sum of shares is from one (Kairouz et al. 2021)."""
    return 10 * sum(math.exp(-2 * math.pi**2 * variance * k / (k + 1)) for k in range(1, shares))


@pytest.mark.parametrize("variance", [0.5, 1.0, 1.5])
@pytest.mark.parametrize("shares", [2, 3])
def test_a_sum_of_shares_is_within_tau_of_one_discrete_gaussian(variance, shares):
    _, one = discrete(variance)
    total = one
    for _ in range(shares - 1):
        total = np.convolve(total, one)
    middle, reach = len(total) // 2, math.ceil(6 * math.sqrt(shares * variance))
    points = np.arange(-reach, reach + 1)
    whole = np.exp(-(points**2) / (2 * shares * variance))
    ratio = np.abs(
        np.log(total[middle - reach : middle + reach + 1] * _mass(shares * variance) / whole)
    )
    assert ratio.max() <= tau(variance, shares)
    assert ratio.max() > 1e-4 * tau(variance, shares)


def _mass(variance):
    reach = math.ceil(20 * math.sqrt(variance)) + 20
    return float(np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * variance)).sum())


def test_for_shares_as_wide_as_they_have_to_be_tau_is_nothing():
    assert tau(LEAST_DEVIATION_LANES**2, 1000) == 0.0


def epsilons(deviation, noise_multiplier, *, rate, steps, delta):
    """Epsilon of the discrete and of the continuous Gaussian with the same numbers, by PLD."""
    sensitivity = round(deviation / noise_multiplier)
    common = {"sampling_prob": rate, "value_discretization_interval": 1e-4}
    whole = pld.from_discrete_gaussian_mechanism(
        deviation, sensitivity=sensitivity, use_connect_dots=True, **common
    )
    smooth = pld.from_gaussian_mechanism(deviation, sensitivity=sensitivity, **common)
    return tuple(one.self_compose(steps).get_epsilon_for_delta(delta) for one in (whole, smooth))


@pytest.mark.parametrize(
    ("noise_multiplier", "schedule"),
    [
        (1.0, {"rate": 1.0, "steps": 1, "delta": 1e-5}),
        (1.1, {"rate": 0.05, "steps": 200, "delta": 1e-5}),
        (2.6, {"rate": 0.5, "steps": 22, "delta": 1e-4}),
    ],
)
def test_at_the_least_deviation_both_gaussians_cost_the_same_by_pld(noise_multiplier, schedule):
    whole, smooth = epsilons(LEAST_DEVIATION_LANES, noise_multiplier, **schedule)
    assert whole == pytest.approx(smooth, rel=1e-7)


def test_far_below_the_least_deviation_one_release_does_not_cost_the_same():
    whole, smooth = epsilons(16, 1.0, rate=1.0, steps=1, delta=1e-5)
    assert abs(whole / smooth - 1) > 1e-4


def test_rounding_a_sum_moves_neighbours_apart_by_no_more_than_the_allowance():
    random = np.random.default_rng(7)
    for lanes in (1, 9, 100):
        for _ in range(200):
            total = random.normal(scale=50, size=lanes)
            patient = random.normal(size=lanes)
            patient *= random.uniform(0, 30) / np.linalg.norm(patient)
            apart = np.linalg.norm(np.rint(total + patient) - np.rint(total))
            assert apart <= np.linalg.norm(patient) + math.sqrt(lanes)


def test_without_the_allowance_rounding_would_move_neighbours_too_far_apart():
    lanes = 100
    total, patient = np.full(lanes, 0.49), np.full(lanes, 0.02)
    assert np.linalg.norm(np.rint(total + patient) - np.rint(total)) == math.sqrt(lanes)
    assert np.linalg.norm(patient) == pytest.approx(0.2)


def test_clamping_lanes_moves_no_neighbours_further_apart():
    random = np.random.default_rng(8)
    first = random.integers(-200, 200, size=(500, 40))
    second = first + random.integers(-30, 30, size=first.shape)
    clamped = np.clip(first, -100, 100) - np.clip(second, -100, 100)
    assert (np.linalg.norm(clamped, axis=1) <= np.linalg.norm(first - second, axis=1)).all()
    assert (np.abs(first) > 100).any()


STEP = StepScale(learning_rate=0.5, clip_norm_l2=2.0, expected_batch=64.0)


def share(hospitals=5, colluders=1, noise_multiplier=1.3, **changes):
    fields = {"most_change": 64.0, "lanes": 1000} | changes
    honest = hospitals - colluders
    return noise_share(noise_multiplier, STEP, hospitals=hospitals, honest=honest, **fields)


def test_a_share_is_what_the_honest_hospitals_owe_and_leaves_room_for_its_tail():
    for hospitals, colluders in ((2, 0), (3, 1), (5, 4), (40, 1)):
        found = share(hospitals, colluders)
        owed = (1.3 * found.sensitivity_lanes) ** 2
        assert owed <= found.honest * found.variance < owed * (1 + 1e-5)
        assert found.tail == noise_tail(found.variance)
        assert found.tail >= TAIL_DEVIATIONS * math.sqrt(found.variance)
        assert hospitals * found.limit < 2**31


def test_more_colluders_cost_more_noise_from_everybody():
    deviations = [math.sqrt(share(6, colluders).variance) for colluders in (0, 1, 3)]
    at_one_scale = [share(6, colluders).scale for colluders in (0, 1, 3)]
    assert len(set(at_one_scale)) == 1
    assert deviations[1] / deviations[0] == pytest.approx(math.sqrt(6 / 5), rel=1e-6)
    assert deviations[2] / deviations[0] == pytest.approx(math.sqrt(6 / 3), rel=1e-6)


def test_a_cohort_of_colluders_only_has_no_noise_to_count_on():
    with pytest.raises(BadInput, match="0 honest hospitals, at least 1 was due"):
        share(3, 3)
    with pytest.raises(BadInput, match="0 honest hospitals"):
        share_variance(1.0, sensitivity_lanes=1.0, honest=0)


def test_noise_that_no_lane_can_hold_is_refused_with_a_way_out():
    with pytest.raises(
        BadInput, match=r"deviation is .* at least 1024 .* smaller training\.update"
    ):
        share(1000, noise_multiplier=0.3)
    assert share(1000, noise_multiplier=0.3, most_change=2e-3).variance >= 2**20


ENGINE = {
    "mechanism": "distributed",
    "share_variance": 8,
    "sensitivity_lanes": 3.0,
    "honest": 5,
    "clip_norm_l2": 1.0,
    "sampling_rate": 0.5,
    "records_per_patient": 1,
    "batches_commitment": "0" * 64,
}


def test_what_was_done_is_charged_as_the_noise_of_the_honest_shares():
    engine = parse_engine(ENGINE | {"truncation": 1e-9})
    assert isinstance(engine, DistributedEngine)
    assert engine.steps == 1
    noise = math.sqrt(5 * 8) / 3.0
    assert engine.released == SampledGaussian(noise, 0.5, 1, 1e-9)
    assert parse_engine(engine.body()) == engine


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"share_variance": 0}, "share_variance"),
        ({"share_variance": 8.5}, "share_variance"),
        ({"sensitivity_lanes": 0.0}, "sensitivity_lanes"),
        ({"sensitivity_lanes": math.inf}, "sensitivity_lanes"),
        ({"honest": 0}, "honest"),
        ({"clip_norm_l2": None}, "clip_norm_l2"),
        ({"clipping": "adaptive"}, "clipping"),
        ({"truncation": 1.0}, "truncation"),
        ({"noise_multiplier": 9.0}, "noise_multiplier"),
        ({"steps": 1}, "steps"),
    ],
)
def test_a_report_of_a_share_that_is_none_is_refused(changes, says):
    with pytest.raises(BadInput, match=f"engine: {says}"):
        parse_engine(ENGINE | changes)


@pytest.mark.parametrize("patients", [64, 256, 1024])
def test_what_float32_adds_to_a_sum_is_within_the_sensitivitys_tolerance(patients):
    random = np.random.default_rng(9)
    common = random.normal(size=200)
    rows = random.normal(size=(patients, 200)) + common  # alike, so that the sum grows
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    def total(kept):
        found = np.zeros(200, dtype=np.float32)
        for start in range(0, len(kept), 16):
            found += (
                np.ones(len(kept[start : start + 16]), dtype=np.float32) @ kept[start : start + 16]
            )
        return found.astype(np.float64)

    apart = np.linalg.norm(total(rows) - total(np.delete(rows, 7, axis=0)) - rows[7])
    assert 1e-7 < apart < (TOLERANCE + TOLERANCE_A_PATIENT * patients) / 4
