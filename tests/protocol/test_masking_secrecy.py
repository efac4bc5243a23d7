"""What the coordinator sees before the sum is full looks like noise; each test can fail."""

import itertools
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import chisquare
from tests.support.masked_attempts import MaskedAttempt, as_update, give
from tests.support.masked_hospitals import MaskedFleet, MaskedHospital, constant_lanes, fleet

from wardround.errors import ProtocolViolation
from wardround.masking.commitments import self_mask_key
from wardround.masking.coordinator_round import CoordinatorRound
from wardround.masking.keystream import apply_keystreams
from wardround.masking.packing import unpack
from wardround.masking.round_spec import RoundSpec

LANES = 40_000
UNIFORM = 1e-6  # ML-KEM draws fresh randomness: of 10,000 runs about one fails by chance
SEEN = 1e-9

Words = npt.NDArray[np.uint32]


def byte_p_value(words: Words) -> float:
    """Chi-square of all bytes against uniform: 160,000 bytes in 256 bins."""
    return float(chisquare(np.bincount(words.view(np.uint8), minlength=256)).pvalue)


def masked(hospitals: Iterable[MaskedHospital], spec: RoundSpec) -> list[Words]:
    return [
        unpack(each.answer(constant_lanes(spec.lanes), spec).packed, spec.bits, spec.lanes)
        for each in hospitals
    ]


def total(vectors: list[Words]) -> Words:
    return np.sum(vectors, axis=0, dtype=np.uint32)


@pytest.fixture
def four() -> MaskedFleet:
    return fleet(4)


def test_every_sum_of_one_trip_that_lacks_a_hospital_is_uniform(four: MaskedFleet) -> None:
    vectors = masked(four.hospitals, four.spec(LANES, profile="one-trip"))
    for size in (1, 2, 3):
        for subset in itertools.combinations(vectors, size):
            assert byte_p_value(total(list(subset))) > UNIFORM
    assert total(vectors).tolist() == [28] * LANES


def test_with_double_masks_every_sum_is_uniform_even_that_of_all(four: MaskedFleet) -> None:
    vectors = masked(four.hospitals, four.spec(LANES))
    for size in (1, 2, 3, 4):
        for subset in itertools.combinations(vectors, size):
            assert byte_p_value(total(list(subset))) > UNIFORM


def test_masks_of_20_bits_are_uniform_in_the_bytes_that_travel(four: MaskedFleet) -> None:
    packed = four.hospitals[0].answer(constant_lanes(LANES), four.spec(LANES, bits=20)).packed
    assert packed.size == 2.5 * LANES
    counts = np.bincount(packed, minlength=256)
    assert float(chisquare(counts).pvalue) > UNIFORM
    unmasked = np.tile(np.array([7, 0x70, 0, 7, 0x70], np.uint8), LANES // 2)
    assert float(chisquare(np.bincount(unmasked, minlength=256)).pvalue) < SEEN


def test_sealed_shares_are_uniform(four: MaskedFleet) -> None:
    shares = four.hospitals[0].answer(constant_lanes(1), four.spec(1)).shares
    sealed = b"".join(bytes.fromhex(share.sealed) for share in shares.values())
    assert len(sealed) == 3 * (4 * 36 + 16)
    for attempt in range(2, 60):
        shares = four.hospitals[0].answer(constant_lanes(1), four.spec(1, attempt=attempt)).shares
        sealed += b"".join(bytes.fromhex(share.sealed) for share in shares.values())
    counts = np.bincount(np.frombuffer(sealed, np.uint8), minlength=256)
    assert float(chisquare(counts).pvalue) > UNIFORM


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
    specs = [
        four.spec(LANES, profile="one-trip"),
        four.spec(LANES, profile="one-trip", attempt=2),
        four.spec(LANES, profile="one-trip", round=2),
        four.spec(LANES, round=2, attempt=2),
    ]
    vectors = [masked([own], spec)[0] for spec in specs]
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
        {"round": 2},
        {"partition": [["a", "b"], ["h000", "h001", "h002", "h003"]]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_one_hospital_that_was_told_something_else_turns_the_sum_to_noise(
    four: MaskedFleet, change: dict[str, object]
) -> None:
    vectors = masked(four.hospitals[:3], four.spec(LANES, profile="one-trip"))
    vectors += masked(four.hospitals[3:], four.spec(LANES, profile="one-trip", **change))
    assert byte_p_value(total(vectors)) > UNIFORM


def test_two_directories_for_one_run_turn_the_sum_to_noise(four: MaskedFleet) -> None:
    other = fleet(5)  # the same four hospitals and keys, and one more
    assert four.identity_keys.items() <= other.identity_keys.items()
    names = [each.name for each in four.hospitals]
    vectors = masked(four.hospitals[:3], four.spec(LANES, profile="one-trip"))
    vectors += masked([other.hospitals[3]], other.spec(LANES, profile="one-trip", cohort=names))
    assert byte_p_value(total(vectors)) > UNIFORM


def test_a_sum_whose_masks_did_not_cancel_is_refused_even_when_all_headers_fit(
    four: MaskedFleet,
) -> None:
    spec = four.spec(100, profile="one-trip")
    coordinator = CoordinatorRound(spec, four.identity_keys)
    for each in four.hospitals:
        if each.name == "h003":  # it masks with other keys than its peers
            each.secrets._later["h000"] = bytes(32)
        upload = each.answer(constant_lanes(100), spec)
        give(coordinator, each.name, as_update(upload), upload.packed.tobytes())
    coordinator.close_uploads()
    with pytest.raises(
        ProtocolViolation, match=r"round 2, attempt 1: \d+ of 100 lanes .* did not cancel"
    ):
        coordinator.open()
    with pytest.raises(ProtocolViolation, match="the sum is not open"):
        _ = coordinator.sum_digest


def test_what_opens_the_sum_of_the_survivors_opens_no_smaller_one(four: MaskedFleet) -> None:
    """The coordinator keeps every vector and all that is revealed; parts of U stay uniform."""
    spec = four.spec(LANES)
    attempt = MaskedAttempt(four, spec, dict.fromkeys(four.names, constant_lanes(LANES)))
    assert attempt.run(dropped=["h002"]) == [21] * LANES
    keys = attempt.coordinator.mask_keys()
    assert list(keys["pair_keys"]) == ["h000|h002", "h001|h002", "h002|h003"]
    vectors = {name: unpack(up.packed, 32, LANES) for name, up in attempt.uploads.items()}
    for name, vector in vectors.items():
        self_key = self_mask_key(spec.transcript(), bytes.fromhex(keys["self_keys"][name]))
        pair = bytes.fromhex(keys["pair_keys"]["|".join(sorted((name, "h002")))])
        add, subtract = ([], [self_key, pair]) if name < "h002" else ([pair], [self_key])
        apply_keystreams(vector, add=add, subtract=subtract)
    for size in (1, 2):
        for subset in itertools.combinations(vectors.values(), size):
            assert byte_p_value(total(list(subset))) > UNIFORM
    assert total(list(vectors.values())).tolist() == [21] * LANES
