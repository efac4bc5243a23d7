"""Keystreams: two engines, any start and any number of threads give the same words."""

import itertools
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st

from wardround.errors import WardroundError
from wardround.masking import keystream
from wardround.masking.keystream import (
    CHUNK_WORDS,
    ENGINES,
    Engine,
    Keystream,
    Keystreams,
    apply_keystreams,
    fastest_engine,
    open_keystream,
    span_starts,
)

KEYS = st.binary(min_size=32, max_size=32)
Words = np.ndarray[Any, np.dtype[np.uint32]]


def plain_words(key: bytes, words: int) -> Words:
    """The whole stream by one call of another mode's cipher: block L is AES(key, L + 2)."""
    counters = b"".join((block + 2).to_bytes(16) for block in range(-(-words // 4)))
    context = Cipher(algorithms.AES256(key), modes.ECB()).encryptor()
    return np.frombuffer(context.update(counters), dtype="<u4")[:words]


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)
def test_each_engine_gives_aes_of_the_counter_over_many_chunks(engine: Engine) -> None:
    key, words = bytes(range(32)), 5 * CHUNK_WORDS
    stream, opened = bytearray(4 * words), engine.open(key)
    for start in range(0, len(stream), 4 * CHUNK_WORDS):
        part = memoryview(stream)[start : start + 4 * CHUNK_WORDS]
        opened.update_into(bytes(len(part)), part)
    assert np.array_equal(np.frombuffer(stream, "<u4"), plain_words(key, words))


@given(key=KEYS, start=st.integers(0, 2**16).map(lambda block: 4 * block), words=st.integers(0, 99))
def test_a_stream_can_be_opened_at_any_block(key: bytes, start: int, words: int) -> None:
    stream = bytearray(4 * words)
    open_keystream(key, start).update_into(bytes(4 * words), stream)
    assert np.array_equal(np.frombuffer(stream, "<u4"), plain_words(key, start + words)[start:])


@settings(max_examples=25, deadline=None)
@given(
    keys=st.lists(KEYS, max_size=5),
    added=st.integers(0, 5),
    words=st.one_of(
        st.integers(0, 50),
        st.integers(-9, 9).flatmap(
            lambda extra: st.integers(1, 5).map(lambda chunks: chunks * CHUNK_WORDS + extra)
        ),
    ),
    threads=st.integers(1, 4),
)
def test_any_number_of_threads_adds_and_subtracts_whole_streams(
    keys: list[bytes], added: int, words: int, threads: int
) -> None:
    vector = np.arange(words, dtype=np.uint32)
    due = vector.copy()
    for place, key in enumerate(keys):
        due = due + plain_words(key, words) if place < added else due - plain_words(key, words)
    apply_keystreams(vector, add=keys[:added], subtract=keys[added:], threads=threads)
    assert np.array_equal(vector, due)


@given(size=st.integers(0, 2**24), threads=st.integers(1, 64))
def test_threads_share_a_vector_in_whole_chunks(size: int, threads: int) -> None:
    starts = span_starts(size, threads)
    lengths = [b - a for a, b in itertools.pairwise([*starts, max(size, 1)])]
    assert starts[0] == 0
    assert len(starts) <= threads
    assert all(start % CHUNK_WORDS == 0 for start in starts)
    assert 0 < max(lengths) <= (-(-max(size, 1) // CHUNK_WORDS // threads) + 1) * CHUNK_WORDS
    assert min(lengths) > 0


def test_streams_go_on_from_block_to_block() -> None:
    keys, words = [bytes([n]) * 32 for n in range(3)], 3 * CHUNK_WORDS + 5
    vector = np.zeros(words, np.uint32)
    streams = Keystreams(add=keys[:2], subtract=keys[2:])
    for start in range(0, words, CHUNK_WORDS):
        streams.apply(vector[start : start + CHUNK_WORDS])
    one, two, three = (plain_words(key, words) for key in keys)
    assert np.array_equal(vector, one + two - three)


def test_the_chosen_engine_is_one_of_the_two_and_stays() -> None:
    assert fastest_engine() in ENGINES
    assert fastest_engine() is fastest_engine()


class WrongByte:
    """An engine whose bytes are right but one."""

    def __init__(self, key: bytes) -> None:
        self._inner: Keystream = open_keystream(key)

    def update_into(self, data: bytes | memoryview, buf: bytearray | memoryview) -> int:
        done = self._inner.update_into(data, buf)
        buf[done - 1] ^= 1
        return done


@pytest.mark.parametrize("broken", [0, 1])
def test_no_mask_is_made_where_one_of_the_engines_is_broken(
    broken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines = list(ENGINES)
    engines[broken] = Engine(engines[broken].name, WrongByte)
    monkeypatch.setattr(keystream, "ENGINES", tuple(engines))
    fastest_engine.cache_clear()
    try:
        with pytest.raises(WardroundError, match="fails its known-answer test"):
            apply_keystreams(np.zeros(4, np.uint32), add=[bytes(32)], subtract=[])
    finally:
        fastest_engine.cache_clear()
