"""One pass over a hospital's vector: quantise, mask, pack and hash, block by block in cache."""

import functools
import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from wardround.errors import ProtocolViolation
from wardround.masking.keystream import CHUNK_WORDS, WORD, Keystreams
from wardround.masking.packing import Packed, Packer, packed_size
from wardround.masking.quantise import LANE, Lanes, Quantiser

Values = npt.NDArray[np.floating[Any]] | Lanes
_Fill = Callable[[npt.NDArray[Any], Lanes], int]

_SPAN_LANES: Final = 1 << 19  # a thread's share at a time: opening its streams is then nothing


def mask_packed(
    values: Values,
    *,
    scale: float | None,
    limit: int,
    add: Sequence[bytes],
    subtract: Sequence[bytes],
    bits: int,
    threads: int = 1,
) -> tuple[Packed, str]:
    """Mask a vector with the keystreams of these keys; return it packed, and its SHA-256 in hex.

    With a `scale`, `values` are floats that `quantise` turns into lanes; NaN or an infinity raises
    ProtocolViolation with their count. With none they are int32 lanes, and one beyond +-`limit`
    raises it: clipped it would be wrong. Nothing is returned then. `values` is left as it was, and
    no second vector is made but the packed one. With `threads` the result is the same, and the
    calling thread does the hashing. (Bonawitz et al. 2017, round 2; PROTOCOL 5)
    """
    _check(values, scale)
    masking = _Pass(values, scale=scale, limit=limit, add=add, subtract=subtract, bits=bits)
    alone = threads == 1 or values.size <= _SPAN_LANES
    wrong = masking.run() if alone else masking.run_threaded(threads)
    if wrong and scale is None:
        raise ProtocolViolation(
            f"update: {wrong} of {values.size} lanes are beyond the limit {limit}, "
            "the sum could overflow"
        )
    if wrong:
        raise ProtocolViolation(
            f"update: {wrong} of {values.size} values are NaN or infinite, none may be"
        )
    return masking.packed, masking.digest.hexdigest()


def _check(values: Values, scale: float | None) -> None:
    """Refuse what is no vector of the kind that `scale` says."""
    fits = values.dtype == LANE if scale is None else values.dtype.kind == "f"
    if values.ndim != 1 or not fits:
        due = "int32 lanes" if scale is None else "floats"
        raise ProtocolViolation(
            f"update: {values.dtype} of shape {values.shape} came, a vector of {due} was due"
        )


class _Pass:
    """What the blocks of one vector share, and the packed vector that they fill."""

    def __init__(
        self,
        values: Values,
        *,
        scale: float | None,
        limit: int,
        add: Sequence[bytes],
        subtract: Sequence[bytes],
        bits: int,
    ) -> None:
        self._values, self._scale, self._limit = values, scale, limit
        self._add, self._subtract, self._bits = add, subtract, bits
        self.packed: Packed = np.empty(packed_size(values.size, bits), dtype=np.uint8)
        self.digest = hashlib.sha256()

    def run(self) -> int:
        """Mask all, hash each block while it is in cache; return how many values are wrong."""
        return self._span(0, self._values.size, done=self.digest.update)

    def run_threaded(self, threads: int) -> int:
        """The same by so many threads; the calling one hashes in order what they have done."""
        starts = range(0, self._values.size, _SPAN_LANES)
        wrong = 0
        with ThreadPoolExecutor(threads) as pool:
            counts = pool.map(lambda start: self._span(start, start + _SPAN_LANES), starts)
            for start, count in zip(starts, counts, strict=True):
                wrong += count
                self.digest.update(self._packed(start, start + _SPAN_LANES).data)
        return wrong

    def _span(
        self, start: int, stop: int, *, done: Callable[[memoryview], None] | None = None
    ) -> int:
        keystreams = Keystreams(add=self._add, subtract=self._subtract, first_word=start)
        packer, fill = Packer(self._bits), self._filler()
        lanes = np.empty(CHUNK_WORDS, dtype=LANE)
        wrong = 0
        for first in range(start, min(stop, self._values.size), CHUNK_WORDS):
            block = self._values[first : min(first + CHUNK_WORDS, stop)]
            filled = lanes[: block.size]
            wrong += fill(block, filled)
            if wrong:
                continue  # nothing is returned; only the count goes on
            words = filled.view(WORD)
            keystreams.apply(words)
            packed = self._packed(first, first + block.size)
            packer.pack_into(words, packed)
            if done is not None:
                done(packed.data)
        return wrong

    def _filler(self) -> _Fill:
        if self._scale is not None:
            return Quantiser(scale=self._scale, limit=self._limit).fill
        return functools.partial(_copy_lanes, limit=self._limit)

    def _packed(self, start: int, stop: int) -> Packed:
        """The bytes of these lanes, of which the first begins a byte."""
        stop = min(stop, self._values.size)
        return self.packed[packed_size(start, self._bits) : packed_size(stop, self._bits)]


def _copy_lanes(block: Lanes, lanes: Lanes, *, limit: int) -> int:
    """Fill `lanes`; return how many are beyond the limit."""
    lanes[:] = block
    if -limit <= int(block.min()) and int(block.max()) <= limit:
        return 0
    return int(np.count_nonzero((block > limit) | (block < -limit)))
