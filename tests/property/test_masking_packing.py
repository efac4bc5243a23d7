"""Packed lanes against Python's big integers: bytes, sizes, blocks of any lengths, one spelling."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from wardround.errors import ProtocolViolation
from wardround.masking.keystream import CHUNK_WORDS
from wardround.masking.packing import pack, packed_size, sign_extended, unpack, unpack_add

BITS = st.sampled_from([20, 24, 32])
WORDS = hnp.arrays(np.uint32, st.integers(0, 70))
Words = np.ndarray[Any, np.dtype[np.uint32]]


def plain_bytes(words: Words, bits: int) -> bytes:
    """Lane L is the bits [L*b, (L+1)*b) of one little-endian integer."""
    digits = "".join(f"{int(word) % 2**bits:0{bits}b}" for word in reversed(words))
    return int(digits or "0", base=2).to_bytes((len(words) * bits + 7) // 8, "little")


def drawn(lanes: int) -> Words:
    return np.random.default_rng(lanes).integers(0, 2**32, lanes, dtype=np.uint32)


@given(words=WORDS, bits=BITS)
def test_packing_is_one_little_endian_integer(words: Words, bits: int) -> None:
    before = words.copy()
    packed = pack(words, bits)
    assert packed.tobytes() == plain_bytes(words, bits)
    assert packed.size == packed_size(words.size, bits)
    assert np.array_equal(words, before)


@given(words=WORDS, bits=BITS)
def test_unpacking_gives_the_low_bits_of_every_word(words: Words, bits: int) -> None:
    assert unpack(pack(words, bits), bits, words.size).tolist() == [
        int(word) % 2**bits for word in words
    ]


@pytest.mark.parametrize("bits", [20, 24, 32])
@pytest.mark.parametrize("extra", [-3, -1, 0, 1, 2, 5])
def test_no_lane_is_lost_where_blocks_meet(bits: int, extra: int) -> None:
    words = drawn(2 * CHUNK_WORDS + extra)
    packed = pack(words, bits)
    assert packed.tobytes() == plain_bytes(words, bits)
    assert np.array_equal(unpack(packed, bits, words.size), words % np.uint64(2**bits))


@settings(max_examples=60, deadline=None)
@given(data=st.data(), bits=BITS, lanes=st.sampled_from([1, 7, 64, 65, CHUNK_WORDS + 9]))
def test_blocks_of_any_lengths_add_up_to_the_same(
    data: st.DataObject, bits: int, lanes: int
) -> None:
    words, total = drawn(lanes), drawn(lanes)[::-1].copy()
    packed = pack(words, bits).tobytes()
    cuts = data.draw(st.lists(st.integers(0, len(packed)), max_size=9).map(sorted))
    ends = [*cuts, len(packed)]
    blocks = [memoryview(packed)[a:b] for a, b in zip([0, *cuts], ends, strict=True)]
    due = (total.astype(np.uint64) + words) % np.uint64(2**bits)
    unpack_add(total, iter(blocks), bits)
    assert np.array_equal(total % np.uint64(2**bits), due)


@given(words=hnp.arrays(np.uint32, st.integers(1, 40)), bits=BITS, change=st.integers(-6, 6))
def test_any_other_number_of_bytes_is_refused(words: Words, bits: int, change: int) -> None:
    packed = pack(words, bits).tobytes()
    other = packed[:change] if change < 0 else packed + bytes(change)
    if len(other) == len(packed):
        return
    with pytest.raises(ProtocolViolation, match=f"{len(packed)} (bytes that )?were due"):
        unpack_add(np.zeros(words.size, np.uint32), [other], bits)


def test_a_vector_that_goes_on_after_its_last_byte_is_refused_before_it_is_taken() -> None:
    taken = []

    def endless() -> Iterator[bytes]:
        while True:
            taken.append(1)
            yield bytes(4096)

    with pytest.raises(ProtocolViolation, match="more than the 5000 bytes that were due came"):
        unpack_add(np.zeros(2000, np.uint32), endless(), 20)
    assert len(taken) == 2


@given(
    words=hnp.arrays(np.uint32, st.integers(0, 20).map(lambda n: 2 * n + 1)), bit=st.integers(4, 7)
)
def test_a_bit_beyond_the_last_lane_is_refused(words: Words, bit: int) -> None:
    packed = pack(words, 20)
    packed[-1] |= np.uint8(1 << bit)
    with pytest.raises(ProtocolViolation, match=f"a bit beyond its {words.size} lanes is set"):
        unpack(packed, 20, words.size)


@given(
    words=hnp.arrays(np.uint32, st.integers(1, 30)),
    bits=BITS,
    place=st.integers(0),
    bit=st.integers(0, 7),
)
def test_two_packed_vectors_that_differ_are_two_vectors(
    words: Words, bits: int, place: int, bit: int
) -> None:
    packed = pack(words, bits)
    other = packed.copy()
    other[place % packed.size] ^= np.uint8(1 << bit)
    try:
        again = unpack(other, bits, words.size)
    except ProtocolViolation:
        return
    assert not np.array_equal(again, unpack(packed, bits, words.size))


@given(bits=BITS, data=st.data())
def test_signed_lanes_come_back_through_any_bits_above_them(bits: int, data: st.DataObject) -> None:
    half = 2 ** (bits - 1)
    lanes = data.draw(
        hnp.arrays(np.int64, st.integers(0, 30), elements=st.integers(-half, half - 1))
    )
    above = data.draw(hnp.arrays(np.int64, lanes.shape, elements=st.integers(0, 2**32)))
    words = ((lanes + above * 2**bits) % 2**32).astype(np.uint32)
    assert np.array_equal(sign_extended(words, bits), lanes)


@pytest.mark.parametrize("bits", [0, 8, 16, 21, 31, 64])
def test_lanes_of_another_width_are_refused(bits: int) -> None:
    with pytest.raises(ProtocolViolation, match=f"lanes of {bits} bits came"):
        pack(np.zeros(2, np.uint32), bits)
    with pytest.raises(ProtocolViolation, match=f"lanes of {bits} bits came"):
        unpack_add(np.zeros(2, np.uint32), [bytes(5)], bits)
