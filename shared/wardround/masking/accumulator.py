"""The coordinator's one vector per attempt: updates go in, masks come off, the sum comes out."""

from collections.abc import Callable, Iterable, Sequence
from typing import Final

import numpy as np

from wardround.errors import ProtocolViolation
from wardround.masking.keystream import WORD, MaskedLanes, apply_keystreams
from wardround.masking.packing import Packed, packed_size, sign_extended, unpack_add
from wardround.masking.quantise import Lanes

# Starts reading a packed vector from its beginning, from memory or a file; it may be asked again.
Blocks = Callable[[], Iterable[bytes | bytearray | memoryview | Packed]]

_BLOCK: Final = 1 << 16  # lanes: scratch for counting stays small


class Accumulator:
    """Adds packed vectors of one attempt and keeps none of them (PROTOCOL 5).

    Promises: one vector of memory whatever the cohort's size; a vector that is refused has left
    nothing in it.
    """

    __slots__ = ("_bits", "_spoilt", "_total")

    def __init__(self, *, lanes: int, bits: int) -> None:
        self._bits = bits
        self._total: MaskedLanes = np.zeros(lanes, dtype=WORD)
        self._spoilt = False

    def add(self, blocks: Blocks, *, size_bytes: int) -> None:
        """Add a packed vector of `size_bytes`, block by block.

        Raises ProtocolViolation when it is not one of our lanes and bits; the sum is then what it
        was. When reading breaks off for another reason, nothing can be added or opened any more.
        """
        due = packed_size(self._total.size, self._bits)
        if size_bytes != due:
            raise ProtocolViolation(f"packed vector: {size_bytes} bytes came, {due} were due")
        self._whole()
        self._spoilt = True
        try:
            unpack_add(self._total, blocks(), self._bits)
        except ProtocolViolation:
            self._take_back(blocks)
            self._spoilt = False
            raise
        self._spoilt = False

    def unmask(self, *, add: Sequence[bytes], subtract: Sequence[bytes], threads: int = 1) -> None:
        """Add and subtract the keystreams of these keys, modulo 2^32 and so modulo 2^bits."""
        self._whole()
        apply_keystreams(self._total, add=add, subtract=subtract, threads=threads)

    def signed(self, most: int) -> Lanes:
        """The sum modulo 2^bits, read as signed: the accumulator's own memory, handed over.

        Raises ProtocolViolation when lanes lie beyond +-`most`, which masks that did not cancel
        show (see `largest_limit`).
        """
        self._whole()
        self._spoilt = True  # nothing is added to a vector that somebody else has now
        total = sign_extended(self._total, self._bits)
        beyond = 0
        for start in range(0, total.size, _BLOCK):
            block = total[start : start + _BLOCK]
            beyond += int(np.count_nonzero((block > most) | (block < -most)))
        if beyond:
            raise ProtocolViolation(
                f"{beyond} of {total.size} lanes of the sum are beyond {most}: "
                "the masks did not cancel"
            )
        return total

    def _take_back(self, blocks: Blocks) -> None:
        """Remove what a vector has added up to the place where it was refused.

        The same bytes are refused at the same place, so adding them to the negated sum undoes it:
        no second vector is needed.
        """
        np.negative(self._total, out=self._total)
        try:
            unpack_add(self._total, blocks(), self._bits)
        except ProtocolViolation:
            np.negative(self._total, out=self._total)

    def _whole(self) -> None:
        if self._spoilt:
            raise ProtocolViolation("the sum of this attempt was opened, or reading for it broke")
