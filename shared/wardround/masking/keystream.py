"""The mask of a key: AES-256-CTR keystream, read as little-endian 32-bit words.

Counter block 0 is 12 zero bytes and the big-endian number 2. Each key serves one vector, so no
nonce is needed; starting at 2 makes the stream equal to that of AES-256-GCM over zeros with a zero
IV, and whichever of the two is faster on this machine makes it (NIST SP 800-38A 6.5, SP 800-38D
7.1). The choice changes no byte.
"""

import functools
import hashlib
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from wardround.errors import WardroundError

MaskedLanes = npt.NDArray[np.uint32]

WORD: Final = np.dtype("<u4")
CHUNK_WORDS: Final = 1 << 16  # 256 KiB: vector, zeros and keystream stay in the L2 cache
_CIPHER_WORDS: Final = 4
_COUNTER_START: Final = 2
_ZEROS: Final = bytes(4 * CHUNK_WORDS)
_TRIALS: Final = 8  # of 256 KiB each: the fastest of them is what the engine can do

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


class Engine(NamedTuple):
    """One way to make the keystream of a 32-byte key."""

    name: str
    open: Callable[[bytes], Keystream]


def open_keystream(key: bytes, first_word: int = 0) -> Keystream:
    """Start the keystream of a 32-byte `key` at a word whose number is a multiple of 4."""
    counter = _COUNTER_START + first_word // _CIPHER_WORDS
    return Cipher(algorithms.AES256(key), modes.CTR(counter.to_bytes(16))).encryptor()


def open_gcm(key: bytes) -> Keystream:
    """Start the same keystream as the ciphertext of zeros; its tag is never asked for."""
    return Cipher(algorithms.AES256(key), modes.GCM(bytes(12))).encryptor()


ENGINES: Final = (Engine("AES-256-CTR", open_keystream), Engine("AES-256-GCM", open_gcm))


def self_test(engine: Callable[[bytes], Keystream] = open_keystream) -> None:
    """Raise WardroundError unless `engine` gives the known keystream.

    A build of OpenSSL has given a wrong CTR keystream for long inputs (openssl#32883). One such
    hospital would spoil every sum without a trace, so a whole chunk is compared, not one block.
    """
    stream = bytearray(4 * CHUNK_WORDS)
    engine(bytes(32)).update_into(_ZEROS, stream)
    if stream[:16] != _FIRST_BLOCK or hashlib.sha256(stream).hexdigest() != _CHUNK_SHA256:
        raise WardroundError(
            "AES-256 of this machine's OpenSSL fails its known-answer test: "
            "masks made here would not cancel"
        )


@functools.cache
def fastest_engine() -> Engine:
    """The faster one of ENGINES on this machine; both have passed `self_test`, else it raises.

    Measured once in a process, in a few milliseconds. No result depends on which it is.
    """
    for engine in ENGINES:
        self_test(engine.open)
    return min(ENGINES, key=_seconds_per_chunk)


class Keystreams:
    """The keystreams of many keys, taken from side by side, block after block."""

    def __init__(
        self, *, add: Sequence[bytes], subtract: Sequence[bytes], first_word: int = 0
    ) -> None:
        """Open the streams at `first_word`, a multiple of 4: of GCM only the start can be had."""
        engine = fastest_engine().open
        streams = [
            open_keystream(key, first_word) if first_word else engine(key)
            for key in (*add, *subtract)
        ]
        self._added, self._subtracted = streams[: len(add)], streams[len(add) :]
        self._buffer = bytearray()

    def apply(self, chunk: MaskedLanes) -> None:
        """Add and subtract the next words of every stream, in place, modulo 2^32.

        At most CHUNK_WORDS at once, and a multiple of 4 before the last.
        """
        size = 4 * chunk.size
        if len(self._buffer) < size:  # the first chunk is the largest
            self._buffer = bytearray(size)
        zeros, stream = memoryview(_ZEROS)[:size], memoryview(self._buffer)[:size]
        words = np.frombuffer(stream, dtype=WORD)
        for keystream in self._added:
            keystream.update_into(zeros, stream)
            np.add(chunk, words, out=chunk)
        for keystream in self._subtracted:
            keystream.update_into(zeros, stream)
            np.subtract(chunk, words, out=chunk)


def threads_here() -> int:
    """Threads worth starting on this machine: its cores, and no more than keystreams gain from."""
    return min(4, len(os.sched_getaffinity(0)))


def apply_keystreams(
    vector: MaskedLanes, *, add: Sequence[bytes], subtract: Sequence[bytes], threads: int = 1
) -> None:
    """Add and subtract the keystreams of these keys, in place, modulo 2^32.

    One pass over `vector`: every block takes all keys while it is in cache. Each of `threads` has
    a range of its own. A hospital masks with it, a coordinator takes off what was revealed.
    """
    fastest_engine()
    starts = span_starts(vector.size, threads)

    def apply_to_span(start: int, stop: int) -> None:
        keystreams = Keystreams(add=add, subtract=subtract, first_word=start)
        for first in range(start, stop, CHUNK_WORDS):
            keystreams.apply(vector[first : min(first + CHUNK_WORDS, stop)])

    stops = [*starts[1:], vector.size]
    if len(starts) == 1:
        apply_to_span(0, vector.size)
        return
    with ThreadPoolExecutor(len(starts)) as pool:
        for _ in pool.map(apply_to_span, starts, stops):
            pass  # what a thread raised is raised here


def span_starts(size: int, spans: int) -> list[int]:
    """Where to cut a vector of `size` words: at most `spans` parts, of whole chunks but the last.

    >>> span_starts(300_000, 2), span_starts(100, 2)
    ([0, 196608], [0])
    """
    chunks = max(1, -(-size // CHUNK_WORDS))
    step = -(-chunks // max(1, spans))
    return [chunk * CHUNK_WORDS for chunk in range(0, chunks, step)]


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


def _seconds_per_chunk(engine: Engine) -> float:
    stream, keystream = bytearray(4 * CHUNK_WORDS), engine.open(bytes(32))
    seconds = []
    for _ in range(_TRIALS):
        start = time.perf_counter()
        keystream.update_into(_ZEROS, stream)
        seconds.append(time.perf_counter() - start)
    return min(seconds)
