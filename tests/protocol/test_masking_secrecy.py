"""What the coordinator sees before the sum is full looks like noise; each test can fail."""

import itertools
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import chisquare
from tests.support.masked_hospitals import MaskedFleet, MaskedHospital, constant_lanes, fleet

from wardround.errors import ProtocolViolation
from wardround.masking.accumulator import Accumulator
from wardround.masking.round_spec import RoundSpec
from wardround.masking.update import MaskedUpdate, UpdateHeader

LANES = 40_000
UNIFORM = 1e-4  # run keys are seeded: the p-values below are the same in every run
SEEN = 1e-6

Words = npt.NDArray[np.uint32]


def byte_p_value(words: Words) -> float:
    """Chi-square of all bytes against uniform: 160,000 bytes in 256 bins."""
    return float(chisquare(np.bincount(words.view(np.uint8), minlength=256)).pvalue)


def masked(hospitals: Iterable[MaskedHospital], spec: RoundSpec) -> list[Words]:
    return [each.answer(constant_lanes(LANES), spec)[0].values for each in hospitals]


def total(vectors: list[Words]) -> Words:
    return np.sum(vectors, axis=0, dtype=np.uint32)


@pytest.fixture
def four() -> MaskedFleet:
    return fleet(4)


def test_every_sum_that_lacks_a_hospital_is_uniform(four: MaskedFleet) -> None:
    vectors = masked(four.hospitals, four.spec(LANES))
    for size in (1, 2, 3):
        for subset in itertools.combinations(vectors, size):
            assert byte_p_value(total(list(subset))) > UNIFORM
    assert total(vectors).tolist() == [28] * LANES


def test_the_uniformity_test_can_fail(four: MaskedFleet) -> None:
    partial = total(masked(four.hospitals[:3], four.spec(LANES)))
    assert byte_p_value(constant_lanes(LANES).view(np.uint32)) < SEEN
    leaking = partial.copy()
    leaking[: LANES // 10] = 7  # one lane in ten left open
    assert byte_p_value(leaking) < SEEN
    assert byte_p_value(partial & np.uint32(0xFFFFFFFE)) < SEEN  # the lowest bit left open


def test_a_round_without_masks_fails_the_test_that_masks_pass() -> None:
    noisy = np.random.default_rng(1).normal(0.0, 1e6, LANES).astype(np.int32)
    assert byte_p_value(noisy.view(np.uint32)) < SEEN


def test_two_rounds_and_two_attempts_have_unrelated_masks(four: MaskedFleet) -> None:
    own = four.hospitals[0]
    specs = [four.spec(LANES), four.spec(LANES, attempt=2), four.spec(LANES, round=2)]
    vectors = [own.answer(constant_lanes(LANES), spec)[0].values for spec in specs]
    for one, other in itertools.combinations(vectors, 2):
        assert byte_p_value(one - other) > UNIFORM
    assert byte_p_value(vectors[0] - vectors[0]) < SEEN


@pytest.mark.parametrize(
    "change",
    [
        {"model_digest": "ab" * 32},
        {"study_digest": "ab" * 32},
        {"scale": 2048.0},
        {"limit": 5000},
        {"minimum": 3},
        {"purpose": "evaluate"},
        {"attempt": 2},
    ],
    ids=lambda change: next(iter(change)),
)
def test_one_hospital_that_was_told_something_else_turns_the_sum_to_noise(
    four: MaskedFleet, change: dict[str, object]
) -> None:
    vectors = masked(four.hospitals[:3], four.spec(LANES))
    vectors += masked(four.hospitals[3:], four.spec(LANES, **change))
    assert byte_p_value(total(vectors)) > UNIFORM


def test_two_directories_for_one_run_turn_the_sum_to_noise(four: MaskedFleet) -> None:
    other = fleet(5)  # the same four hospitals and keys, and one more
    assert four.identity_keys.items() <= other.identity_keys.items()
    names = [each.name for each in four.hospitals]
    vectors = masked(four.hospitals[:3], four.spec(LANES))
    vectors += masked([other.hospitals[3]], other.spec(LANES, cohort=names))
    assert byte_p_value(total(vectors)) > UNIFORM


def test_a_sum_whose_masks_did_not_cancel_is_refused_even_when_all_headers_fit(
    four: MaskedFleet,
) -> None:
    spec, other = four.spec(100), four.spec(100, model_digest="ab" * 32)
    accumulator = Accumulator(spec)
    for each in four.hospitals:
        told = other if each.name == "h003" else spec
        values = each.answer(constant_lanes(100), told)[0].values
        header = UpdateHeader(
            hospital=each.name, transcript=spec.transcript().hex(), update_digest="00" * 32
        )
        accumulator.add(each.name, MaskedUpdate(values, header))
    assert accumulator.missing == ()
    with pytest.raises(ProtocolViolation, match=r"of 100 lanes of the sum .* did not cancel"):
        accumulator.sum()
