"""The masked pass against its steps, each done plainly; and what it refuses."""

import hashlib
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wardround.errors import ProtocolViolation
from wardround.masking.keystream import CHUNK_WORDS, apply_keystreams
from wardround.masking.masked_pass import mask_packed
from wardround.masking.packing import sign_extended, unpack, unpack_add
from wardround.masking.quantise import quantise

Array = np.ndarray[Any, np.dtype[Any]]
BITS = st.sampled_from([20, 24, 32])
KEYS = st.lists(st.binary(min_size=32, max_size=32), max_size=3)
SPANS = 2**19  # lanes: what a thread takes at a time


def plain_mask(lanes: list[int], add: list[bytes], subtract: list[bytes], bits: int) -> bytes:
    """Masks modulo 2^bits, lanes as one little-endian integer, in Python's numbers."""
    total = list(lanes)
    for sign, key in [(1, key) for key in add] + [(-1, key) for key in subtract]:
        context = Cipher(algorithms.AES256(key), modes.CTR((2).to_bytes(16))).encryptor()
        stream = context.update(bytes(4 * len(lanes)))
        for lane in range(len(lanes)):
            total[lane] += sign * int.from_bytes(stream[4 * lane : 4 * lane + 4], "little")
    whole = sum((value % 2**bits) << (bits * lane) for lane, value in enumerate(total))
    return whole.to_bytes((len(lanes) * bits + 7) // 8, "little")


@settings(deadline=None)
@given(
    values=hnp.arrays(
        st.sampled_from([np.float16, np.float32, np.float64]),
        st.integers(0, 40),
        elements=st.floats(-8, 8, width=16),
    ),
    power=st.integers(-4, 20),
    limit=st.integers(1, 2**18),
    add=KEYS,
    subtract=KEYS,
    bits=BITS,
)
def test_the_pass_is_quantise_then_mask_then_pack_then_hash(
    values: Array, power: int, limit: int, add: list[bytes], subtract: list[bytes], bits: int
) -> None:
    before = values.copy()
    packed, digest = mask_packed(
        values, scale=2.0**power, limit=limit, add=add, subtract=subtract, bits=bits
    )
    lanes = [min(max(round(float(value) * 2.0**power), -limit), limit) for value in values]
    assert packed.tobytes() == plain_mask(lanes, add, subtract, bits)
    assert digest == hashlib.sha256(packed.tobytes()).hexdigest()
    assert np.array_equal(values, before)


@settings(deadline=None)
@given(
    lanes=hnp.arrays(np.int32, st.integers(0, 40), elements=st.integers(-(2**17), 2**17)),
    add=KEYS,
    subtract=KEYS,
    bits=BITS,
)
def test_lanes_are_masked_unchanged(
    lanes: Array, add: list[bytes], subtract: list[bytes], bits: int
) -> None:
    packed, digest = mask_packed(
        lanes, scale=None, limit=2**17, add=add, subtract=subtract, bits=bits
    )
    assert packed.tobytes() == plain_mask(lanes.tolist(), add, subtract, bits)
    assert digest == hashlib.sha256(packed.tobytes()).hexdigest()


@pytest.mark.parametrize("bits", [20, 24, 32])
@pytest.mark.parametrize("size", [CHUNK_WORDS, 2 * CHUNK_WORDS + 3, SPANS + 1, 2 * SPANS + 35_001])
def test_threads_and_blocks_change_no_byte(bits: int, size: int) -> None:
    values = np.random.default_rng(size).normal(0.0, 1.0, size).astype(np.float32)
    keys = [bytes([n]) * 32 for n in range(4)]
    sent = [
        mask_packed(
            values,
            scale=2.0**10,
            limit=2000,
            add=keys[:1],
            subtract=keys[1:],
            bits=bits,
            threads=threads,
        )
        for threads in (1, 2, 3)
    ]
    assert sent[0][1] == sent[1][1] == sent[2][1]
    assert sent[0][0].tobytes() == sent[1][0].tobytes() == sent[2][0].tobytes()
    words = unpack(sent[0][0], bits, size)
    apply_keystreams(words, add=keys[1:], subtract=keys[:1])
    assert np.array_equal(sign_extended(words, bits), quantise(values, scale=2.0**10, limit=2000))


@settings(deadline=None, max_examples=50)
@given(data=st.data(), bits=BITS, hospitals=st.integers(2, 6))
def test_packed_updates_add_up_to_the_exact_sum(
    data: st.DataObject, bits: int, hospitals: int
) -> None:
    limit = (2 ** (bits - 2) - 1) // hospitals
    lanes = data.draw(hnp.arrays(np.int32, (hospitals, 33), elements=st.integers(-limit, limit)))
    keys = {(i, j): bytes([i, j]) * 16 for i in range(hospitals) for j in range(i + 1, hospitals)}
    own = [bytes([99, i]) * 16 for i in range(hospitals)]
    total = np.zeros(33, np.uint32)
    for i in range(hospitals):
        packed, _ = mask_packed(
            lanes[i],
            scale=None,
            limit=limit,
            add=[own[i], *(key for pair, key in keys.items() if pair[0] == i)],
            subtract=[key for pair, key in keys.items() if pair[1] == i],
            bits=bits,
        )
        unpack_add(total, [packed], bits)
    apply_keystreams(total, add=(), subtract=own)
    assert np.array_equal(sign_extended(total, bits), lanes.astype(np.int64).sum(axis=0))


@pytest.mark.parametrize("threads", [1, 2])
def test_values_that_are_not_finite_are_counted_over_the_whole_vector(threads: int) -> None:
    values = np.zeros(SPANS + 9, np.float32)
    values[[0, 5, CHUNK_WORDS, SPANS - 1, SPANS + 8]] = [np.nan, np.inf, -np.inf, np.nan, np.inf]
    with pytest.raises(ProtocolViolation, match=f"5 of {SPANS + 9} values are NaN or infinite"):
        mask_packed(
            values, scale=1.0, limit=3, add=[bytes(32)], subtract=[], bits=20, threads=threads
        )


@pytest.mark.parametrize("threads", [1, 2])
def test_lanes_beyond_the_limit_are_counted_over_the_whole_vector(threads: int) -> None:
    lanes = np.full(SPANS + 9, 3, np.int32)
    lanes[[0, CHUNK_WORDS, SPANS + 8]] = [4, -4, -(2**31)]
    with pytest.raises(ProtocolViolation, match=f"3 of {SPANS + 9} lanes are beyond the limit 3"):
        mask_packed(
            lanes, scale=None, limit=3, add=[bytes(32)], subtract=[], bits=20, threads=threads
        )


@pytest.mark.parametrize(
    ("values", "scale"),
    [
        (np.zeros(3, np.int32), 1.0),
        (np.zeros(3, np.float32), None),
        (np.zeros(3, np.int64), None),
        (np.zeros((3, 1), np.float32), 1.0),
        (np.zeros((3, 1), np.int32), None),
        (np.zeros(3, np.complex64), 1.0),
    ],
)
def test_what_is_no_vector_of_the_right_kind_is_refused(values: Array, scale: float | None) -> None:
    with pytest.raises(ProtocolViolation, match=f"{values.dtype} of shape .* came, a vector of"):
        mask_packed(values, scale=scale, limit=3, add=[], subtract=[], bits=32)


def test_a_vector_that_is_a_view_with_gaps_is_masked_as_its_copy() -> None:
    values = np.random.default_rng(1).normal(0.0, 1.0, 100_001).astype(np.float32)[::3]
    assert not values.flags.c_contiguous
    sent = [
        mask_packed(each, scale=64.0, limit=200, add=[bytes(32)], subtract=[], bits=20)[1]
        for each in (values, values.copy())
    ]
    assert sent[0] == sent[1]


@given(
    values=hnp.arrays(np.float32, st.integers(1, 20), elements=st.floats(-16, 16, width=32)),
    limit=st.integers(2**24 - 2, 2**29),
    power=st.integers(18, 27),
)
def test_limits_that_float32_does_not_have_are_kept_exactly(
    values: Array, limit: int, power: int
) -> None:
    lanes = quantise(values, scale=2.0**power, limit=limit)
    due = [min(max(round(float(value) * 2.0**power), -limit), limit) for value in values]
    assert lanes.tolist() == due


@given(values=hnp.arrays(np.float32, 20), power=st.integers(-60, 52), limit=st.integers(1, 2**29))
def test_the_smallest_and_largest_floats_are_rounded_as_in_float64(
    values: Array, power: int, limit: int
) -> None:
    values = np.nan_to_num(values)
    due = np.rint(np.clip(values.astype(np.float64) * 2.0**power, -limit, limit))
    assert np.array_equal(quantise(values, scale=2.0**power, limit=limit), due)


def most_bytes_held(work: Callable[[], object]) -> int:
    """The most memory that Python and numpy held at once for `work`, its answer included."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("bits", [20, 32])
def test_no_second_vector_is_held_while_masking_adding_or_unmasking(bits: int) -> None:
    lanes, scratch = 4_000_000, 3_000_000
    values = np.zeros(lanes, np.float32)
    keys = [bytes([n]) * 32 for n in range(3)]
    packed, _ = mask_packed(values, scale=1.0, limit=1, add=keys, subtract=[], bits=bits)
    total = np.zeros(lanes, np.uint32)
    blocks = (packed[start : start + 65_000] for start in range(0, packed.size, 65_000))

    def mask() -> object:
        return mask_packed(values, scale=1.0, limit=1, add=keys, subtract=[], bits=bits)

    def unmask() -> object:
        apply_keystreams(total, add=[], subtract=keys)
        return sign_extended(total, bits)

    assert most_bytes_held(mask) < packed.nbytes + scratch
    assert most_bytes_held(lambda: unpack_add(total, blocks, bits)) < scratch
    assert most_bytes_held(unmask) < scratch
    assert not total.any()
