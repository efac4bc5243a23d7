"""Lanes of 20, 24 or 32 bits, packed without a gap: what of a masked vector travels.

Lane L occupies the bits [L*b, (L+1)*b) of the byte string; bit 0 is the least significant bit of
byte 0 (PROTOCOL 5). Two lanes fill whole bytes, and are read and written as words that may start
at any byte: numpy copies such words fast.
"""

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

from wardround.errors import ProtocolViolation
from wardround.masking.keystream import CHUNK_WORDS, WORD, MaskedLanes
from wardround.masking.quantise import LANE, Lanes
from wardround.masking.round_spec import LANE_BITS

Packed = npt.NDArray[np.uint8]

_TWO: Final = np.dtype("<u8")  # two words, or lanes, at once


def packed_size(lanes: int, bits: int) -> int:
    """How many bytes so many lanes of so many bits travel in.

    >>> packed_size(1_000_000, 20), packed_size(3, 20)
    (2500000, 8)
    """
    return -(-lanes * bits // 8)


def pack(words: MaskedLanes, bits: int) -> Packed:
    """Keep the low `bits` of every 32-bit word, and put them side by side.

    Bits beyond the last lane are zero. `words` is left as it was.

    >>> pack(np.array([0x11111, 0xFFFFFFFF], dtype=np.uint32), 20).tobytes().hex()
    '1111f1ffff'
    """
    packed = np.empty(packed_size(words.size, bits), dtype=np.uint8)
    packer = Packer(bits)
    for start in range(0, words.size, CHUNK_WORDS):
        block = words[start : start + CHUNK_WORDS]
        first = packed_size(start, bits)
        packer.pack_into(block, packed[first : first + packed_size(block.size, bits)])
    return packed


def unpack(packed: Packed, bits: int, lanes: int) -> MaskedLanes:
    """Undo `pack`: every word lies from 0 to 2^bits - 1.

    Raises ProtocolViolation when `packed` is not the one spelling of so many lanes: another size,
    or a bit beyond the last lane.

    >>> packed = np.frombuffer(bytes.fromhex("1111f1ffff"), dtype=np.uint8)
    >>> [hex(word) for word in unpack(packed, 20, 2)]
    ['0x11111', '0xfffff']
    """
    total = np.zeros(lanes, dtype=WORD)
    unpack_add(total, (packed,), bits)
    return np.bitwise_and(total, np.uint32((1 << bits) - 1), out=total)


def unpack_add(
    total: MaskedLanes, blocks: Iterable[bytes | bytearray | memoryview | Packed], bits: int
) -> None:
    """Add a packed vector, which comes in `blocks` of any lengths, to `total`, modulo 2^bits.

    What stands in `total` above the low `bits` means nothing; `sign_extended` takes it away. Never
    holds more of the vector than one block. Raises ProtocolViolation when the bytes are too few or
    too many, or when a bit beyond the last lane is set: one value has one spelling. `total` is
    then spoilt, unless the digest of the blocks was checked before.
    """
    unpacker = Unpacker(bits)
    staged = unpacker.staged
    due = packed_size(total.size, bits)
    done = filled = 0
    for block in _pieces(blocks, staged.size):
        if done + filled + block.size > due:
            raise ProtocolViolation(f"packed vector: more than the {due} bytes that were due came")
        direct = 0 if filled else unpacker.add_directly(total, done, block)
        done, piece = done + direct, block[direct:]
        room = min(piece.size, staged.size - filled)
        staged[filled : filled + room] = piece[:room]
        filled += room
        if filled == staged.size:
            unpacker.add_to(_lanes_from(total, done, bits))
            done += filled
            filled = piece.size - room
            staged[:filled] = piece[room:]
    if done + filled != due:
        raise ProtocolViolation(f"packed vector: {done + filled} bytes came, {due} were due")
    last = _lanes_from(total, done, bits)
    spare = 8 * filled - last.size * bits
    if spare and staged[filled - 1] >> (8 - spare):
        raise ProtocolViolation(f"packed vector: a bit beyond its {total.size} lanes is set")
    staged[filled:] = 0
    unpacker.add_to(last)


def sign_extended(total: MaskedLanes, bits: int) -> Lanes:
    """Read words modulo 2^bits as signed numbers, in place: the answer is the same memory.

    >>> sign_extended(np.array([0xFFFFF, 0x7FFFF, 0x100001], dtype=np.uint32), 20).tolist()
    [-1, 524287, 1]
    """
    signed = total.view(LANE)
    for start in range(0, signed.size if bits < 32 else 0, CHUNK_WORDS):
        chunk = signed[start : start + CHUNK_WORDS]
        np.left_shift(chunk, 32 - bits, out=chunk)
        np.right_shift(chunk, 32 - bits, out=chunk)  # of signed numbers: copies the sign
    return signed


class Packer:
    """Packs block after block with the same scratch memory."""

    def __init__(self, bits: int) -> None:
        self._bits = _known(bits)
        self._twos = np.empty(CHUNK_WORDS // 2, dtype=_TWO)
        self._first = np.empty(CHUNK_WORDS // 2, dtype=WORD)
        self._second = np.empty(CHUNK_WORDS // 2, dtype=WORD)

    def pack_into(self, words: MaskedLanes, packed: Packed) -> None:
        """Pack at most CHUNK_WORDS words into `packed`, which has exactly their packed size."""
        if self._bits == 32:
            packed.view(WORD)[:] = words
            return
        even = words.size - words.size % 2
        split = packed_size(even, self._bits)
        self._pack_twos(words[:even], packed[:split])
        if even < words.size:
            last = int(words[even]) & ((1 << self._bits) - 1)
            packed[split:] = np.frombuffer(last.to_bytes(packed.size - split, "little"), np.uint8)

    def _pack_twos(self, words: MaskedLanes, packed: Packed) -> None:
        """Two lanes fill a 32-bit word and the 8 (b = 20) or 16 (b = 24) bits behind it."""
        bits, stride, size = self._bits, self._bits // 4, words.size // 2
        if not size:
            return
        twos, low = self._twos[:size], (1 << bits) - 1
        first, second = self._first[:size], self._second[:size]
        # In the lower half of `twos` the upper 32 - b bits are the second lane's, in their place;
        # the upper half begins with the rest of it.
        np.right_shift(words.view(_TWO), np.uint64(32 - bits), out=twos)
        first[:], second[:] = words.view(_TWO), twos  # numpy keeps the lower halves
        np.bitwise_and(first, np.uint32(low), out=first)
        np.bitwise_and(second, np.uint32(0xFFFFFFFF ^ low), out=second)
        np.bitwise_or(first, second, out=first)
        # From memory without gaps numpy copies fast to words at any byte, else slowly.
        np.ndarray((size,), WORD, packed, 0, (stride,))[:] = first
        rest = np.dtype(f"<u{stride - WORD.itemsize}")
        rests = twos.view(rest)[WORD.itemsize // rest.itemsize :: _TWO.itemsize // rest.itemsize]
        np.ndarray((size,), rest, packed, WORD.itemsize, (stride,))[:] = rests


class Unpacker:
    """Adds block after block with the same scratch memory; a block is put into `staged` first."""

    def __init__(self, bits: int) -> None:
        self._bits = _known(bits)
        size = packed_size(CHUNK_WORDS, bits)
        self._memory = np.zeros(size + _TWO.itemsize, dtype=np.uint8)  # the last read goes beyond
        self._twos = np.empty(CHUNK_WORDS // 2, dtype=_TWO)
        self._first = np.empty(CHUNK_WORDS // 2, dtype=WORD)
        self.staged: Packed = self._memory[:size]

    def add_directly(self, total: MaskedLanes, done: int, block: Packed) -> int:
        """Add what need not be staged, after so many bytes; return how many bytes of `block`."""
        if self._bits != 32:
            return 0
        words = block[: block.size - block.size % WORD.itemsize].view(WORD)
        part = total[done // WORD.itemsize :][: words.size]
        np.add(part, words, out=part)
        return words.nbytes

    def add_to(self, total: MaskedLanes) -> None:
        """Add the first `total.size` lanes of what is staged to `total`, modulo 2^bits."""
        words = self.staged.view(WORD) if self._bits == 32 else self._words(total.size)
        np.add(total, words[: total.size], out=total)

    def _words(self, lanes: int) -> MaskedLanes:
        """Each lane in a word of its own; what follows it in the string stays above it."""
        stride, size = self._bits // 4, -(-lanes // 2)
        twos, first = self._twos[:size], self._first[:size]
        twos[:] = np.ndarray((size,), _TWO, self._memory, 0, (stride,))
        first[:] = twos  # numpy keeps the lower half
        np.left_shift(twos, np.uint64(32 - self._bits), out=twos)
        words = twos.view(WORD)
        words[0::2] = first
        return words


def _known(bits: int) -> int:
    if bits not in LANE_BITS:
        raise ProtocolViolation(f"packing: lanes of {bits} bits came, one of {LANE_BITS} was due")
    return bits


def _lanes_from(total: MaskedLanes, packed_bytes: int, bits: int) -> MaskedLanes:
    """The next block of `total`, when so many packed bytes of it are done."""
    start = 8 * packed_bytes // bits
    return total[start : start + CHUNK_WORDS]


def _pieces(
    blocks: Iterable[bytes | bytearray | memoryview | Packed], most: int
) -> Iterator[Packed]:
    """Cut the buffers into pieces of at most `most` bytes; nothing is copied."""
    for block in blocks:
        whole = np.frombuffer(block, dtype=np.uint8)
        for start in range(0, whole.size, most):
            yield whole[start : start + most]
