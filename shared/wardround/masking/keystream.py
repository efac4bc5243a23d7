"""The mask of a key: AES-256-CTR keystream, read as little-endian 32-bit words.

Counter block 0 is 12 zero bytes and the big-endian number 2. Each key serves one vector, so no
nonce is needed; starting at 2 makes the stream equal to that of AES-256-GCM with a zero IV, so
that another implementation may use either (NIST SP 800-38A 6.5, SP 800-38D 7.1).
"""

import functools
import hashlib
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from wardround.errors import WardroundError

MaskedLanes = npt.NDArray[np.uint32]

WORD: Final = np.dtype("<u4")
CHUNK_WORDS: Final = 1 << 16  # 256 KiB: vector, zeros and keystream stay in the L2 cache
_COUNTER_START: Final = bytes(15) + b"\x02"
_ZEROS: Final = bytes(4 * CHUNK_WORDS)

# McGrew and Viega, "The Galois/Counter Mode of Operation", test case 14: key and plaintext zero.
_FIRST_BLOCK: Final = bytes.fromhex("cea7403d4d606b6e074ec5d3baf39d18")
# SHA-256 of the first CHUNK_WORDS words for the zero key; tests compare it with AES-256-GCM and a
# plain AES.
_CHUNK_SHA256: Final = "cfa60cb64a10d6b97677c315c194678aad567a16edeec4d89b7f0d4379ffe8a0"


class Keystream(Protocol):
    """What produces a keystream: a cipher context over zeros."""

    def update_into(self, data: bytes | memoryview, buf: bytearray | memoryview) -> int:
        """Encrypt `data` into `buf`; return the number of bytes written."""
        ...


def open_keystream(key: bytes) -> Keystream:
    """Start the keystream of a 32-byte `key`."""
    return Cipher(algorithms.AES256(key), modes.CTR(_COUNTER_START)).encryptor()


def self_test(engine: Callable[[bytes], Keystream] = open_keystream) -> None:
    """Raise WardroundError unless `engine` gives the known keystream.

    A build of OpenSSL has given a wrong CTR keystream for long inputs (openssl#32883). One such
    hospital would spoil every sum without a trace, so a whole chunk is compared, not one block.
    """
    stream = bytearray(4 * CHUNK_WORDS)
    engine(bytes(32)).update_into(_ZEROS, stream)
    if stream[:16] != _FIRST_BLOCK or hashlib.sha256(stream).hexdigest() != _CHUNK_SHA256:
        raise WardroundError(
            "AES-256-CTR of this machine's OpenSSL fails its known-answer test: "
            "masks made here would not cancel"
        )


def apply_keystreams(
    vector: MaskedLanes, *, add: Sequence[bytes], subtract: Sequence[bytes]
) -> None:
    """Add and subtract the keystreams of these keys, in place, modulo 2^32.

    One pass over `vector`: every chunk takes all keys while it is in cache.
    """
    _tested()
    added = [open_keystream(key) for key in add]
    subtracted = [open_keystream(key) for key in subtract]
    buffer = bytearray(4 * min(CHUNK_WORDS, vector.size))
    for start in range(0, vector.size, CHUNK_WORDS):
        chunk = vector[start : start + CHUNK_WORDS]
        zeros, stream = memoryview(_ZEROS)[: 4 * chunk.size], memoryview(buffer)[: 4 * chunk.size]
        words = np.frombuffer(stream, dtype=WORD)
        for keystream in added:
            keystream.update_into(zeros, stream)
            np.add(chunk, words, out=chunk)
        for keystream in subtracted:
            keystream.update_into(zeros, stream)
            np.subtract(chunk, words, out=chunk)


def add_keystream(vector: MaskedLanes, key: bytes) -> None:
    """Add the keystream of `key` to `vector`, in place, modulo 2^32.

    >>> vector = np.zeros(2, dtype=np.uint32)
    >>> add_keystream(vector, bytes(32))
    >>> vector.tobytes().hex()
    'cea7403d4d606b6e'
    >>> subtract_keystream(vector, bytes(32))
    >>> vector.tolist()
    [0, 0]
    """
    apply_keystreams(vector, add=(key,), subtract=())


def subtract_keystream(vector: MaskedLanes, key: bytes) -> None:
    """Undo `add_keystream` with the same key."""
    apply_keystreams(vector, add=(), subtract=(key,))


@functools.cache
def _tested() -> None:
    self_test()
