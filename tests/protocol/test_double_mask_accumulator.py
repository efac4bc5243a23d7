"""The one vector of an attempt: what is refused leaves nothing in it."""

from collections.abc import Iterator

import numpy as np
import pytest

from wardround.errors import ProtocolViolation
from wardround.masking.accumulator import Accumulator
from wardround.masking.packing import pack


def packed(bits: int, *words: int) -> bytes:
    return pack(np.array(words, np.uint32), bits).tobytes()


@pytest.mark.parametrize("bits", [20, 24, 32])
def test_a_vector_that_is_refused_in_the_middle_leaves_nothing_in_the_sum(bits: int) -> None:
    lanes = 100_001  # some blocks, and half a byte to spare with 20 bits
    generator = np.random.default_rng(2)
    vectors = [generator.integers(0, 2**bits, lanes, np.uint32) for _ in range(2)]
    total = Accumulator(lanes=lanes, bits=bits)
    good, other = (pack(vector, bits).tobytes() for vector in vectors)
    total.add(lambda: [good], size_bytes=len(good))
    bad = [other[:-1], other + b"x"]
    if bits == 20:
        bad.append(other[:-1] + bytes([other[-1] | 0x10]))  # a bit beyond the last lane
    for wrong in bad:
        blocks = [wrong[start : start + 70_000] for start in range(0, len(wrong), 70_000)]
        with pytest.raises(ProtocolViolation, match="packed vector: "):
            total.add(lambda blocks=blocks: iter(blocks), size_bytes=len(good))
    total.add(lambda: [other], size_bytes=len(other))
    due = (vectors[0].astype(np.int64) + vectors[1]) % 2**bits
    due = np.where(due >= 2 ** (bits - 1), due - 2**bits, due)
    assert np.array_equal(total.signed(2**31 - 1), due)


def test_a_vector_that_could_not_be_read_to_its_end_closes_the_sum() -> None:
    total = Accumulator(lanes=2, bits=32)

    def broken() -> Iterator[bytes]:
        yield packed(32, 1, 2)[:4]
        raise OSError("the disk is gone")

    with pytest.raises(OSError, match="the disk is gone"):
        total.add(broken, size_bytes=8)
    for refused in (lambda: total.signed(10), lambda: total.add(list, size_bytes=8)):
        with pytest.raises(ProtocolViolation, match="reading for it broke"):
            refused()


def test_lanes_beyond_what_a_cohort_can_sum_to_are_masks_that_did_not_cancel() -> None:
    for lanes, wrong in (((-101, 100, 5), 1), ((2**18, -(2**18), 101), 3)):
        total = Accumulator(lanes=3, bits=20)
        total.add(lambda lanes=lanes: [packed(20, *(lane % 2**20 for lane in lanes))], size_bytes=8)
        with pytest.raises(
            ProtocolViolation, match=f"{wrong} of 3 lanes of the sum are beyond 100"
        ):
            total.signed(100)


def test_nothing_is_added_to_a_sum_that_was_handed_out() -> None:
    total = Accumulator(lanes=2, bits=24)
    total.add(lambda: [packed(24, 1, 2**24 - 2)], size_bytes=6)
    assert total.signed(10).tolist() == [1, -2]
    for refused in (
        lambda: total.add(lambda: [packed(24, 1, 2)], size_bytes=6),
        lambda: total.unmask(add=[bytes(32)], subtract=[]),
        lambda: total.signed(10),
    ):
        with pytest.raises(ProtocolViolation, match="was opened"):
            refused()
