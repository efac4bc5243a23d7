"""A vector of a message, wherever its bytes lie: in memory, or in a file without a name.

What arrives at a coordinator is never whole in its memory: one hospital's vector may be as large as
the model, and there are many hospitals.
"""

import hashlib
import os
import weakref
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from wardround.errors import BadInput

Vector: TypeAlias = (
    npt.NDArray[np.float32] | npt.NDArray[np.uint32] | npt.NDArray[np.int32] | npt.NDArray[np.uint8]
)

DTYPES = {"float32": "<f4", "uint32": "<u4", "int32": "<i4", "uint8": "|u1"}
"""What travels, and its bytes: little-endian."""
BLOCK_BYTES = 1 << 20


class SpooledVector:
    """A vector that has arrived whole and lies in a file that has no name any more.

    The bytes were hashed as they came and belong to `digest`. Nothing is left of the file after
    `close`, after the last reference, or after a crash.
    """

    def __init__(self, descriptor: int, *, dtype: str, nbytes: int, digest: str) -> None:
        """Take over an open file of `nbytes` bytes. Raises BadInput for no number of entries."""
        self.dtype = np.dtype(DTYPES[dtype])
        if nbytes % self.dtype.itemsize:
            raise BadInput(f"vector: {nbytes} bytes are no number of {dtype} entries")
        self.nbytes = nbytes
        self.digest = digest
        self._descriptor = descriptor
        self._close = weakref.finalize(self, os.close, descriptor)

    @property
    def size(self) -> int:
        """How many entries."""
        return self.nbytes // self.dtype.itemsize

    @property
    def shape(self) -> tuple[int]:
        """As an array's: one dimension."""
        return (self.size,)

    def blocks(self, block_bytes: int = BLOCK_BYTES) -> Iterator[memoryview]:
        """Yield the bytes in order, each time in the same buffer: use one before the next."""
        buffer = memoryview(bytearray(min(block_bytes, self.nbytes)))
        offset = 0
        while offset < self.nbytes:
            count = os.preadv(self._descriptor, [buffer[: self.nbytes - offset]], offset)
            if count == 0:
                raise OSError("a spooled vector is shorter than when it arrived")
            yield buffer[:count]
            offset += count

    def read(self) -> Vector:
        """The whole vector in memory."""
        whole = np.empty(self.nbytes, dtype=np.uint8)
        offset = 0
        for block in self.blocks():
            whole[offset : offset + len(block)] = block
            offset += len(block)
        vector: Vector = whole.view(self.dtype)
        return vector

    def close(self) -> None:
        """Free the disk. Twice is once."""
        self._close()


AnyVector: TypeAlias = npt.NDArray[np.generic] | SpooledVector


def blocks_of(vector: AnyVector, block_bytes: int = BLOCK_BYTES) -> Iterator[memoryview]:
    """The raw bytes of a vector, in order; a block is good until the next is asked for."""
    if isinstance(vector, SpooledVector):
        yield from vector.blocks(block_bytes)
        return
    whole = bytes_of(vector)
    for start in range(0, len(whole), block_bytes):
        yield whole[start : start + block_bytes]


def bytes_of(vector: npt.NDArray[np.generic]) -> memoryview:
    """The raw bytes of a vector in memory; copied only when they do not lie in one piece."""
    return np.ascontiguousarray(vector).view(np.uint8).data


def digest_of(vector: AnyVector) -> str:
    """SHA-256 of the raw bytes, in hex.

    >>> digest_of(np.frombuffer(b"abc", dtype=np.uint8))[:8]
    'ba7816bf'
    """
    if isinstance(vector, SpooledVector):
        return vector.digest
    return hashlib.sha256(bytes_of(vector)).hexdigest()


def in_memory(vector: AnyVector | None) -> npt.NDArray[np.generic] | None:
    """The vector as an array, read from its file when it lies in one."""
    return vector.read() if isinstance(vector, SpooledVector) else vector
