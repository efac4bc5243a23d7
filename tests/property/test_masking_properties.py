"""What holds for every vector, cohort and scale."""

import functools
import itertools
import math
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from tests.support.masked_attempts import MaskedAttempt, as_update, give
from tests.support.masked_hospitals import MaskedFleet, fleet

from wardround.canonical import canonical_bytes, parse_canonical
from wardround.errors import ProtocolViolation
from wardround.masking.coordinator_round import CoordinatorRound
from wardround.masking.keystream import CHUNK_WORDS, add_keystream, subtract_keystream
from wardround.masking.quantise import choose_scale, dequantise, largest_limit, quantise
from wardround.masking.round_spec import RoundSpec
from wardround.masking.survivors import SurvivorsRefused
from wardround.protocol.messages import Survivors

ROUND = itertools.count(1)
cached_fleet = functools.cache(fleet)


def cohort_lanes(limit: int, hospitals: int) -> st.SearchStrategy[np.ndarray[Any, Any]]:
    return st.integers(1, 40).flatmap(
        lambda lanes: hnp.arrays(np.int32, (hospitals, lanes), elements=st.integers(-limit, limit))
    )


@pytest.mark.parametrize("bits", [20, 24, 32])
@pytest.mark.parametrize("hospitals", [2, 3, 5, 10])
@settings(max_examples=6, deadline=None)
@given(data=st.data())
def test_masks_come_off_to_the_exact_sum_of_the_survivors(
    hospitals: int, bits: int, data: st.DataObject
) -> None:
    federation = cached_fleet(hospitals)
    limit = largest_limit(hospitals, bits)
    vectors = data.draw(cohort_lanes(limit, hospitals))
    spec = federation.spec(vectors.shape[1], round=next(ROUND), limit=limit, bits=bits)
    attempt = MaskedAttempt(federation, spec, dict(zip(spec.cohort, vectors, strict=True)))
    going = data.draw(st.permutations(spec.cohort))[: hospitals - spec.threshold]
    stages = data.draw(st.lists(st.integers(0, 2), min_size=len(going), max_size=len(going)))
    gone = [[name for name, at in zip(going, stages, strict=True) if at == n] for n in range(3)]
    got = attempt.run(dropped=gone[0], unsigned=gone[1], silent=gone[2])
    assert got == attempt.plain()
    assert attempt.coordinator.survivors == tuple(n for n in spec.cohort if n not in gone[0])


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_masks_of_one_trip_cancel_to_the_exact_sum(data: st.DataObject) -> None:
    federation = cached_fleet(5)
    bits = data.draw(st.sampled_from([20, 24, 32]))
    members = data.draw(st.sets(st.sampled_from(federation.names), min_size=2).map(sorted))
    spec = federation.spec(7, round=next(ROUND), cohort=members, bits=bits, profile="one-trip")
    attempt = MaskedAttempt(federation, spec)
    attempt.upload(*data.draw(st.permutations(members)))
    assert attempt.coordinator.close_uploads() == {}
    assert attempt.coordinator.open().tolist() == attempt.plain(members)


@pytest.mark.parametrize("bits", [20, 24, 32])
@pytest.mark.parametrize("hospitals", [2, 3, 5, 10])
@pytest.mark.parametrize("sign", [-1, 1])
def test_the_largest_allowed_values_do_not_overflow(hospitals: int, sign: int, bits: int) -> None:
    federation = cached_fleet(hospitals)
    limit = (2 ** (bits - 1) - 1) // hospitals
    spec = federation.spec(3, round=next(ROUND), limit=limit, bits=bits)
    most = np.full(3, sign * limit, np.int32)
    attempt = MaskedAttempt(federation, spec, dict.fromkeys(spec.cohort, most))
    assert attempt.run() == [sign * limit * hospitals] * 3


@settings(max_examples=40, deadline=None)
@given(lane=st.integers(0, 8), bit=st.integers(0, 31))
def test_any_flipped_bit_of_a_masked_update_is_refused(lane: int, bit: int) -> None:
    federation = cached_fleet(2)
    spec = federation.spec(9, round=next(ROUND))
    upload = federation.hospitals[0].answer(np.arange(9, dtype=np.int32), spec)
    upload.packed.view(np.uint32)[lane] ^= np.uint32(1 << bit)
    coordinator = CoordinatorRound(spec, federation.identity_keys)
    with pytest.raises(ProtocolViolation, match="update of h000: its header says update_digest"):
        give(coordinator, "h000", as_update(upload), upload.packed.tobytes())
    assert coordinator.survivors == ()


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_any_flipped_bit_of_a_sealed_share_is_refused(data: st.DataObject) -> None:
    federation = cached_fleet(3)
    attempt = MaskedAttempt(federation, federation.spec(2, round=next(ROUND)))
    attempt.upload(*federation.names)
    attempt.close_uploads()
    asked = attempt.survivors["h001"].model_dump(mode="json")
    share = asked["shares"]["h002"]
    part = data.draw(st.sampled_from(["commitment", "sealed", "proof"]))
    value = share[part] if part != "proof" else share[part][0]
    flipped = int(value, 16) ^ (1 << data.draw(st.integers(0, 4 * len(value) - 1)))
    text = f"{flipped:0{len(value)}x}"
    share[part] = text if part != "proof" else [text]
    with pytest.raises(SurvivorsRefused, match="the shares of h002 are not those that it signed"):
        attempt.rounds["h001"].check_survivors(
            Survivors.model_validate(asked), federation.identity_keys
        )


@given(key=st.binary(min_size=32, max_size=32), words=st.integers(0, 3000))
def test_a_keystream_is_aes_256_ctr_from_counter_2(key: bytes, words: int) -> None:
    vector = np.zeros(words, np.uint32)
    add_keystream(vector, key)
    context = Cipher(algorithms.AES256(key), modes.CTR((2).to_bytes(16, "big"))).encryptor()
    assert vector.astype("<u4").tobytes() == context.update(bytes(4 * words))


@pytest.mark.parametrize("extra", [-1, 0, 1, CHUNK_WORDS, CHUNK_WORDS + 17])
def test_a_keystream_does_not_depend_on_the_chunks(extra: int) -> None:
    key, words = bytes(range(32)), CHUNK_WORDS + extra
    vector = np.arange(words, dtype=np.uint32)
    add_keystream(vector, key)
    context = Cipher(algorithms.AES256(key), modes.CTR((2).to_bytes(16, "big"))).encryptor()
    stream = np.frombuffer(context.update(bytes(4 * words)), dtype="<u4")
    assert np.array_equal(vector, np.arange(words, dtype=np.uint32) + stream)
    subtract_keystream(vector, key)
    assert np.array_equal(vector, np.arange(words, dtype=np.uint32))


def spec_changes(federation: MaskedFleet) -> st.SearchStrategy[dict[str, object]]:
    digests = st.binary(min_size=32, max_size=32).map(bytes.hex)
    short = st.binary(min_size=16, max_size=16).map(bytes.hex)
    names = list(federation.directory.names)
    return st.fixed_dictionaries(
        {},
        optional={
            "purpose": st.sampled_from(["train", "evaluate"]),
            "run": short,
            "session": short,
            "study_digest": digests,
            "round": st.integers(0, 2**31 - 1),
            "attempt": st.integers(1, 2**31 - 1),
            "cohort": st.sets(st.sampled_from(names), min_size=2).map(sorted),
            "directory_digest": digests,
            "model_digest": digests,
            "lanes": st.integers(1, 2**28),
            "scale": st.integers(-60, 52).map(lambda power: 2.0**power),
            "limit": st.integers(1, (2**19 - 1) // len(names)),
            "bits": st.sampled_from([20, 24, 32]),
            "profile": st.sampled_from(["double-mask", "one-trip"]),
        },
    )


@given(changes=spec_changes(cached_fleet(5)))
def test_a_spec_survives_its_canonical_bytes(changes: dict[str, object]) -> None:
    spec = cached_fleet(5).spec(9, **changes)
    text = canonical_bytes(spec.to_json())
    again = RoundSpec.from_json(parse_canonical(text, what="spec", limit_bytes=10_000))
    assert again == spec
    assert again.transcript() == spec.transcript()


@given(one=spec_changes(cached_fleet(5)), other=spec_changes(cached_fleet(5)))
def test_two_specs_share_a_transcript_only_when_they_are_equal(
    one: dict[str, object], other: dict[str, object]
) -> None:
    first, second = cached_fleet(5).spec(9, **one), cached_fleet(5).spec(9, **other)
    assert (first.transcript() == second.transcript()) == (first == second)


FLOATS = st.floats(-4.0, 4.0, width=32)


@given(
    values=hnp.arrays(np.float32, st.integers(0, 50), elements=FLOATS),
    power=st.integers(-3, 26),
    limit=st.integers(1, 2**29),
)
def test_quantising_is_pythons_round_half_to_even_then_clipping(
    values: np.ndarray[Any, Any], power: int, limit: int
) -> None:
    scale = 2.0**power
    lanes = quantise(values, scale=scale, limit=limit)
    due = [min(max(round(float(value) * scale), -limit), limit) for value in values]
    assert lanes.dtype == np.int32
    assert lanes.tolist() == due


@given(values=hnp.arrays(np.float32, 20, elements=FLOATS), hospitals=st.integers(2, 100))
def test_what_comes_back_is_within_half_a_step(
    values: np.ndarray[Any, Any], hospitals: int
) -> None:
    scale = choose_scale(4.0, hospitals)
    lanes = quantise(values, scale=scale, limit=largest_limit(hospitals))
    assert np.max(np.abs(dequantise(lanes, scale=scale) - values)) <= 0.5 / scale


@given(
    bound=st.floats(1e-6, 1e6, allow_nan=False),
    hospitals=st.integers(2, 1000),
)
def test_the_chosen_scale_is_the_largest_power_of_two_that_fits(
    bound: float, hospitals: int
) -> None:
    scale, limit = choose_scale(bound, hospitals), largest_limit(hospitals)
    assert math.frexp(scale)[0] == 0.5
    assert scale * bound <= limit < 2 * scale * bound
    assert hospitals * limit < 2**30


@given(values=hnp.arrays(np.float64, 12), power=st.integers(-60, 52))
def test_no_float_breaks_quantising_but_nan_and_infinity(
    values: np.ndarray[Any, Any], power: int
) -> None:
    wrong = int(np.count_nonzero(~np.isfinite(values)))
    if wrong:
        with pytest.raises(ProtocolViolation, match=f"{wrong} of 12 values are NaN or infinite"):
            quantise(values, scale=2.0**power, limit=1000)
    else:
        assert np.max(np.abs(quantise(values, scale=2.0**power, limit=1000))) <= 1000
