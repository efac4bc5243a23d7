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
from tests.support.masked_hospitals import MaskedFleet, fleet

from wardround.canonical import canonical_bytes, parse_canonical
from wardround.errors import ProtocolViolation
from wardround.masking.accumulator import Accumulator
from wardround.masking.keystream import CHUNK_WORDS, add_keystream, subtract_keystream
from wardround.masking.quantise import choose_scale, dequantise, largest_limit, quantise
from wardround.masking.round_spec import RoundSpec
from wardround.masking.update import check_update

ROUND = itertools.count(1)
cached_fleet = functools.cache(fleet)


def cohort_lanes(limit: int, hospitals: int) -> st.SearchStrategy[np.ndarray[Any, Any]]:
    return st.integers(1, 40).flatmap(
        lambda lanes: hnp.arrays(np.int32, (hospitals, lanes), elements=st.integers(-limit, limit))
    )


@pytest.mark.parametrize("hospitals", [2, 3, 5, 10, 32])
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_masks_cancel_to_the_exact_sum(hospitals: int, data: st.DataObject) -> None:
    federation = cached_fleet(hospitals)
    limit = largest_limit(hospitals)
    vectors = data.draw(cohort_lanes(limit, hospitals))
    spec = federation.spec(vectors.shape[1], round=next(ROUND), limit=limit)
    accumulator = Accumulator(spec)
    for each, lanes in zip(federation.hospitals, vectors, strict=True):
        accumulator.add(each.name, each.answer(lanes, spec)[0])
    assert np.array_equal(accumulator.sum(), vectors.astype(np.int64).sum(axis=0))


@pytest.mark.parametrize("hospitals", [2, 3, 5, 10, 32])
@pytest.mark.parametrize("sign", [-1, 1])
def test_the_largest_allowed_values_do_not_overflow(hospitals: int, sign: int) -> None:
    federation = cached_fleet(hospitals)
    limit = (2**31 - 1) // hospitals
    spec = federation.spec(3, round=next(ROUND), limit=limit)
    accumulator = Accumulator(spec)
    for each in federation.hospitals:
        accumulator.add(each.name, each.answer(np.full(3, sign * limit, np.int32), spec)[0])
    assert accumulator.sum().tolist() == [sign * limit * hospitals] * 3


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_masks_cancel_for_any_cohort_within_the_directory(data: st.DataObject) -> None:
    federation = cached_fleet(5)
    members = data.draw(st.sets(st.sampled_from(federation.hospitals), min_size=2))
    spec = federation.spec(5, round=next(ROUND), cohort=sorted(each.name for each in members))
    accumulator = Accumulator(spec)
    for each in members:
        accumulator.add(each.name, each.answer(np.arange(5, dtype=np.int32), spec)[0])
    assert accumulator.sum().tolist() == [len(members) * lane for lane in range(5)]


@settings(max_examples=40, deadline=None)
@given(lane=st.integers(0, 8), bit=st.integers(0, 31))
def test_any_flipped_bit_of_a_masked_update_is_refused(lane: int, bit: int) -> None:
    federation = cached_fleet(2)
    sender = federation.hospitals[0]
    spec = federation.spec(9, round=next(ROUND))
    update, signature = sender.answer(np.arange(9, dtype=np.int32), spec)
    update.values[lane] ^= np.uint32(1 << bit)
    with pytest.raises(ProtocolViolation, match="update of h000: its header says update_digest"):
        check_update(
            update.values,
            update.header.to_json(),
            signature,
            spec=spec,
            identity_key=sender.identity.public_key,
            hospital=sender.name,
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
            "limit": st.integers(1, (2**31 - 1) // len(names)),
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
