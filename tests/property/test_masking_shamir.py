"""Shamir's sharing against a second implementation in Python's integers, and what it promises."""

import hashlib
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wardround.errors import ProtocolViolation
from wardround.masking.shamir import PRIME, join, join_checked, split
from wardround.randomness import Randomness, system_randomness

Array = np.ndarray[Any, np.dtype[Any]]


def seeded(seed: int) -> Randomness:
    drawn = itertools.count()
    return lambda count: hashlib.shake_256(f"{seed}/{next(drawn)}".encode()).digest(count)


def scripted(words: Sequence[int]) -> Randomness:
    """Randomness that is these 32-bit words, and no more."""
    left = np.array(words, dtype="<u4").tobytes()

    def randomness(count: int) -> bytes:
        nonlocal left
        given, left = left[:count], left[count:]
        assert len(given) == count, "more randomness was asked for than is due"
        return given

    return randomness


def elements(secret: bytes) -> list[int]:
    value = int.from_bytes(secret, "little")
    return [value >> 30 * e & (2**30 - 1) for e in range(9)]


def plain_value(points: Sequence[int], values: Sequence[int], target: int) -> int:
    """Lagrange's polynomial through the points, at `target`, modulo p."""
    total = 0
    for x, y in zip(points, values, strict=True):
        over = under = 1
        for other in points:
            if other != x:
                over = over * (target - other) % PRIME
                under = under * (x - other) % PRIME
        total += y * over * pow(under, -1, PRIME)
    return total % PRIME


def plain_join(points: Sequence[int], shares: Array) -> bytes:
    """The secret of shares, shape (t, 9)."""
    parts = [plain_value(points, [int(s) for s in shares[:, e]], 0) for e in range(9)]
    return sum(part << 30 * e for e, part in enumerate(parts)).to_bytes(32, "little")


def rows(secrets: Sequence[bytes]) -> Array:
    return np.frombuffer(b"".join(secrets), np.uint8).reshape(-1, 32)


SECRETS = st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=4)


@st.composite
def sizes(draw: st.DrawFn) -> tuple[int, int]:
    holders = draw(st.integers(2, 12))
    return draw(st.integers(2, holders)), holders


@given(secrets=SECRETS, size=sizes(), seed=st.integers(0), data=st.data())
def test_any_threshold_of_the_holders_join_what_was_split(
    secrets: list[bytes], size: tuple[int, int], seed: int, data: st.DataObject
) -> None:
    threshold, holders = size
    shares = split(rows(secrets), threshold=threshold, holders=holders, randomness=seeded(seed))
    assert shares.shape == (holders, len(secrets), 9)
    order = data.draw(st.permutations(range(1, holders + 1)))
    points = order[: data.draw(st.integers(threshold, holders))]
    held = shares[[point - 1 for point in points]]
    assert [bytes(each) for each in join(points, held, threshold=threshold)] == secrets
    first = points[:threshold]
    assert [plain_join(first, held[:threshold, k]) for k in range(len(secrets))] == secrets


@given(secret=st.binary(min_size=32, max_size=32), size=sizes(), data=st.data())
def test_a_share_is_the_value_of_the_polynomial_with_the_drawn_coefficients(
    secret: bytes, size: tuple[int, int], data: st.DataObject
) -> None:
    threshold, holders = size
    drawn = data.draw(
        st.lists(st.integers(0, PRIME - 1), min_size=9 * threshold - 9, max_size=9 * threshold - 9)
    )
    shares = split(rows([secret]), threshold=threshold, holders=holders, randomness=scripted(drawn))
    for holder, element in itertools.product(range(holders), range(9)):
        coefficients = [elements(secret)[element], *drawn[element::9]]
        value = sum(c * (holder + 1) ** power for power, c in enumerate(coefficients)) % PRIME
        assert shares[holder, 0, element] == value


@settings(max_examples=40)
@given(
    secret=st.binary(min_size=32, max_size=32),
    other=st.binary(min_size=32, max_size=32),
    size=sizes(),
    seed=st.integers(0),
    data=st.data(),
)
def test_fewer_than_the_threshold_fit_every_secret_equally(
    secret: bytes, other: bytes, size: tuple[int, int], seed: int, data: st.DataObject
) -> None:
    """For each other secret exactly one draw gives the same shares: they say nothing."""
    threshold, holders = size
    shares = split(rows([secret]), threshold=threshold, holders=holders, randomness=seeded(seed))
    points = data.draw(st.permutations(range(1, holders + 1)))[: threshold - 1]
    drawn = []
    for element, constant in enumerate(elements(other)):
        known = [int(shares[point - 1, 0, element]) for point in points]
        drawn.append(coefficients_of([0, *points], [constant, *known])[1:])
    words = [drawn[element][power] for power in range(threshold - 1) for element in range(9)]
    again = split(rows([other]), threshold=threshold, holders=holders, randomness=scripted(words))
    held = [point - 1 for point in points]
    assert np.array_equal(again[held], shares[held])


def coefficients_of(points: Sequence[int], values: Sequence[int]) -> list[int]:
    """The one polynomial through the points, lowest power first (Gauss-Jordan modulo p)."""
    size = len(points)
    table = [
        [pow(x, power, PRIME) for power in range(size)] + [y]
        for x, y in zip(points, values, strict=True)
    ]
    for column in range(size):
        pivot = next(row for row in range(column, size) if table[row][column])
        table[column], table[pivot] = table[pivot], table[column]
        inverse = pow(table[column][column], -1, PRIME)
        table[column] = [value * inverse % PRIME for value in table[column]]
        for row in range(size):
            if row != column:
                factor = table[row][column]
                table[row] = [
                    (a - factor * b) % PRIME for a, b in zip(table[row], table[column], strict=True)
                ]
    return [table[row][-1] for row in range(size)]


def test_a_word_that_is_no_element_is_drawn_again() -> None:
    """31 bits of ones would be p: taken as zero, it would come twice as often."""
    words = [0xFFFFFFFF, PRIME, *range(100, 107), 0x80000000, 5]
    shares = split(rows([bytes(32)]), threshold=2, holders=2, randomness=scripted(words))
    assert shares[0, 0].tolist() == [100, 101, 102, 103, 104, 105, 106, 0, 5]


def test_a_hundred_secrets_of_a_hundred_hospitals_join_from_the_last_67() -> None:
    secrets = [hashlib.sha256(bytes([k])).digest() for k in range(100)]
    shares = split(rows(secrets), threshold=67, holders=100, randomness=system_randomness)
    joined = join(range(34, 101), shares[33:], threshold=67)
    assert [bytes(each) for each in joined] == secrets
    assert plain_join(range(34, 101), shares[33:, 41]) == secrets[41]


@settings(deadline=None)
@given(secrets=SECRETS, size=sizes(), seed=st.integers(0), data=st.data())
def test_wrong_shares_are_named_and_the_secrets_are_still_joined(
    secrets: list[bytes], size: tuple[int, int], seed: int, data: st.DataObject
) -> None:
    threshold, holders = size
    shares = split(rows(secrets), threshold=threshold, holders=holders, randomness=seeded(seed))
    wrong = data.draw(st.sets(st.integers(1, holders), max_size=holders - threshold))
    for point in wrong:
        place = data.draw(st.tuples(st.integers(0, len(secrets) - 1), st.integers(0, 8)))
        change = data.draw(st.integers(1, PRIME - 1))
        shares[(point - 1, *place)] = (int(shares[(point - 1, *place)]) + change) % PRIME
    joined, named = join_checked(
        range(1, holders + 1),
        shares,
        threshold=threshold,
        accept=lambda index, secret: secret == secrets[index],
    )
    assert [bytes(each) for each in joined] == secrets
    assert set(named) <= wrong
    if 2 * len(wrong) < holders - threshold + 2:
        assert set(named) == wrong


def test_two_that_deal_in_wrong_shares_together_do_not_get_honest_ones_named() -> None:
    """Changes of 2 and 1 at the points 1 and 2 leave the secret of the points 1 to 5 as it was."""
    secret = hashlib.sha256(b"b").digest()
    honest = split(rows([secret]), threshold=5, holders=8, randomness=seeded(7))
    shares = honest.copy()
    shares[0, 0, 0] = (int(shares[0, 0, 0]) + 2) % PRIME
    shares[1, 0, 0] = (int(shares[1, 0, 0]) + 1) % PRIME
    assert bytes(join(range(1, 6), shares[:5], threshold=5)[0]) == secret
    for held, due in ((7, ()), (8, (1, 2))):
        joined, named = join_checked(
            range(1, held + 1), shares[:held], threshold=5, accept=lambda _, each: each == secret
        )
        assert bytes(joined[0]) == secret
        assert named == due


def test_more_wrong_shares_than_are_spare_are_refused() -> None:
    secret = hashlib.sha256(b"b").digest()
    shares = split(rows([secret]), threshold=3, holders=5, randomness=seeded(1))
    for place in (0, 2, 4):
        shares[place, 0, 8] = int.from_bytes(hashlib.sha256(bytes([place])).digest()[:3])
    with pytest.raises(ProtocolViolation, match="no 3 of 5 give 1 of 1 secrets: too many are"):
        join_checked(range(1, 6), shares, threshold=3, accept=lambda _, each: each == secret)


@pytest.mark.parametrize("wrong_ones", [1, 4, 11])
def test_half_of_the_spare_shares_may_be_wrong_and_are_found_at_once(wrong_ones: int) -> None:
    """Of 90 holders with a threshold of 67, 23 are spare."""
    secrets = [hashlib.sha256(bytes([k])).digest() for k in range(11)]
    shares = split(rows(secrets), threshold=67, holders=90, randomness=seeded(2))
    wrong = tuple(range(2, 90, 8))[:wrong_ones]
    for point in wrong:
        shares[point - 1, point % 11, 0] = 1000 * point
    tried = 0

    def accept(index: int, secret: bytes) -> bool:
        nonlocal tried
        tried += 1
        return secret == secrets[index]

    joined, named = join_checked(range(1, 91), shares, threshold=67, accept=accept)
    assert [bytes(each) for each in joined] == secrets
    assert named == wrong
    assert tried <= 2 * len(secrets)


def test_more_wrong_ones_than_decoding_finds_are_found_among_subsets() -> None:
    secret = hashlib.sha256(b"b").digest()
    shares = split(rows([secret]), threshold=6, holders=9, randomness=seeded(8))
    for place in (0, 3, 4):
        shares[place, 0, place] = 7
    joined, named = join_checked(
        range(1, 10), shares, threshold=6, accept=lambda _, each: each == secret
    )
    assert bytes(joined[0]) == secret
    assert named == (1, 4, 5)


def test_a_wrong_share_that_gives_no_secret_is_refused_without_a_commitment() -> None:
    shares = split(rows([bytes(32)]), threshold=2, holders=3, randomness=seeded(3))
    shares[1, 0, 8] = (int(shares[1, 0, 8]) + 2**30) % PRIME
    with pytest.raises(ProtocolViolation, match="1 of 1 secrets do not have 32 bytes"):
        join((1, 2), shares[:2], threshold=2)


def good() -> Array:
    return split(rows([bytes(32)]), threshold=2, holders=3, randomness=seeded(4))


@pytest.mark.parametrize(
    ("points", "shares", "reason"),
    [
        ((1, 2), good(), "2 different points came for 3 holders"),
        ((1, 2, 2), good(), "2 different points came for 3 holders"),
        ((0, 1, 2), good(), "a point is not from 1"),
        ((1, 2, PRIME + 1), good(), "a point is not from 1"),
        ((1,), good()[:1], "1 came, at least 2 were due"),
        ((1, 2, 3), good().astype(np.int64), "int64 of shape"),
        ((1, 2, 3), good()[:, :, :8], r"shape \(3, 1, 8\) came"),
        ((1, 2, 3), good()[:, :0], r"shape \(3, 0, 9\) came"),
        ((1, 2, 3), good()[:, 0], r"shape \(3, 9\) came"),
        ((1, 2, 3), np.full((3, 1, 9), PRIME, np.uint32), "27 elements are not below"),
    ],
)
def test_malformed_shares_are_refused(points: Any, shares: Array, reason: str) -> None:
    with pytest.raises(ProtocolViolation, match=reason):
        join(points, shares, threshold=2)
    with pytest.raises(ProtocolViolation, match=reason):
        join_checked(points, shares, threshold=2, accept=lambda *_: True)


@pytest.mark.parametrize(("threshold", "holders"), [(1, 3), (0, 3), (4, 3), (2, 70_000)])
def test_a_threshold_that_protects_nobody_or_that_nobody_reaches_is_refused(
    threshold: int, holders: int
) -> None:
    with pytest.raises(ProtocolViolation, match="2 <= threshold <= holders"):
        split(rows([bytes(32)]), threshold=threshold, holders=holders, randomness=seeded(5))


@pytest.mark.parametrize("shape", [(1, 31), (1, 33), (32,), (0, 32), (1, 1, 32)])
def test_secrets_of_another_size_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ProtocolViolation, match="was due"):
        split(np.zeros(shape, np.uint8), threshold=2, holders=3, randomness=seeded(6))
