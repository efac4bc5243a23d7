"""Shamir's secret sharing of 32-byte secrets, many at once (Shamir 1979; Bonawitz et al. 2017).

A secret is nine elements of 30 bits, least significant first, of the field of p = 2^31 - 1. Each
is the constant term of its own polynomial of degree threshold - 1; a holder's share is the values
at its point, nine 32-bit words (PROTOCOL 5).
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, islice
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from wardround.errors import ProtocolViolation
from wardround.randomness import Randomness

Secrets = npt.NDArray[np.uint8]
Shares = npt.NDArray[np.uint32]

PRIME: Final = 2**31 - 1
SECRET_BYTES: Final = 32
ELEMENTS: Final = 9
MOST_HOLDERS: Final = 1 << 16
_ELEMENT_BITS: Final = 30
_TOP_BITS: Final = 8 * SECRET_BYTES - (ELEMENTS - 1) * _ELEMENT_BITS
_MOST_SUBSETS: Final = 5_000
_Field = npt.NDArray[np.uint64]
_LIMB: Final = np.uint64(16)
_PRIME: Final = np.uint64(PRIME)


def split(secrets: Secrets, *, threshold: int, holders: int, randomness: Randomness) -> Shares:
    """Share secrets, shape (k, 32), among the points 1 .. `holders`: shape (holders, k, 9).

    Any `threshold` of the holders can `join` them; fewer learn nothing, whatever they compute.
    Raises ProtocolViolation unless 2 <= threshold <= holders <= 65536.
    """
    if not 2 <= threshold <= holders <= MOST_HOLDERS:
        raise ProtocolViolation(
            f"shares: a threshold of {threshold} of {holders} holders came, "
            f"2 <= threshold <= holders <= {MOST_HOLDERS} was due"
        )
    if secrets.dtype != np.uint8 or secrets.shape != (max(1, len(secrets)), SECRET_BYTES):
        raise ProtocolViolation(
            f"shares: secrets of {secrets.dtype} and shape {secrets.shape} came, "
            f"uint8 of shape (k, {SECRET_BYTES}) with k >= 1 was due"
        )
    coefficients = np.empty((threshold, len(secrets) * ELEMENTS), dtype=np.uint64)
    coefficients[0] = _to_elements(secrets).reshape(-1)
    coefficients[1:] = _uniform(coefficients[1:].size, randomness).reshape(threshold - 1, -1)
    shares = _product(_powers(range(1, holders + 1), threshold), coefficients)
    return shares.astype(np.uint32).reshape(holders, len(secrets), ELEMENTS)


def join(points: Sequence[int], shares: Shares, *, threshold: int) -> Secrets:
    """Return the secrets, shape (k, 32), of shares, shape (m, k, 9), at these points.

    The first `threshold` of them are used. Raises ProtocolViolation when they are fewer, malformed
    (a point twice, an element not of the field), or when no 32-byte secret has such shares.
    A wrong share that happens to give one is not seen here: see `join_checked`.
    """
    _check_shares(points, shares, threshold)
    joined, fits = _join(points[:threshold], _field(shares[:threshold]))
    if not fits.all():
        raise ProtocolViolation(
            f"shares: {int(np.count_nonzero(~fits))} of {len(fits)} secrets do not have 32 bytes: "
            "a share is wrong"
        )
    return joined


def join_checked(
    points: Sequence[int],
    shares: Shares,
    *,
    threshold: int,
    accept: Callable[[int, bytes], bool],
) -> tuple[Secrets, tuple[int, ...]]:
    """`join`, though some shares may be wrong: the secrets, and the points that gave wrong ones.

    `accept(index, secret)` says whether this is the secret number `index`: its commitment does.
    What the first points do not give is looked for among those that decoding finds right, which
    is so when at most (m - threshold) // 2 points are wrong, then among other subsets, at most
    5,000. Wrong points are the fewest that are not on one polynomial with an accepted secret. When
    two sets are equally small nobody is named: of two that deal in wrong shares together each
    could name somebody honest. Whether a point's holder or the dealer is at fault, no third party
    can tell. Raises ProtocolViolation as `join` does, and when a secret is not found.
    """
    _check_shares(points, shares, threshold)
    field, spare = _field(shares), len(points) - threshold
    secrets = np.zeros((shares.shape[1], SECRET_BYTES), dtype=np.uint8)
    found: dict[int, set[frozenset[int]]] = {index: set() for index in range(len(secrets))}
    open_ones = list(found)
    for left_out, subset in islice(_subsets(points, field, threshold), _MOST_SUBSETS):
        open_ones = [index for index in open_ones if not _settled(found[index], left_out, spare)]
        if not open_ones:
            break
        joined, fits = _join([points[place] for place in subset], field[subset][:, open_ones])
        good = [
            row
            for row, index in enumerate(open_ones)
            if fits[row] and accept(index, joined[row].tobytes())
        ]
        accepted = [open_ones[row] for row in good]
        secrets[accepted] = joined[good]
        for index, wrong in zip(
            accepted, _off_polynomials(points, field[:, accepted], subset), strict=True
        ):
            found[index].add(wrong)
    lost = sum(not sets for sets in found.values())
    if lost:
        raise ProtocolViolation(
            f"shares: no {threshold} of {len(points)} give {lost} of {len(secrets)} secrets: "
            "too many are wrong"
        )
    settled = [found[index] for index in set(found) - set(open_ones)]
    named = frozenset[int]().union(*map(_only_smallest, settled))
    return secrets, tuple(point for point in points if point in named)


def _subsets(
    points: Sequence[int], field: _Field, threshold: int
) -> Iterator[tuple[int, list[int]]]:
    """How many wrong places are looked for, and the subset of `threshold` places to try.

    For each number every choice of so many places is left out once at least: the places are cut
    into runs, and every choice of so many runs is left out.
    """
    first = list(range(threshold))
    yield 0, first
    size, spare = len(points), len(points) - threshold
    yield 1, (_decoded(points, field, threshold) or first)
    for wrong in range(1, spare + 1):
        run = spare // wrong
        runs = [range(start, min(start + run, size)) for start in range(0, size, run)]
        for left_out in combinations(runs, wrong):
            gone = {place for places in left_out for place in places}
            yield wrong, [place for place in range(size) if place not in gone][:threshold]
    yield spare + 1, first  # all was tried


def _decoded(points: Sequence[int], field: _Field, threshold: int) -> list[int]:
    """`threshold` places that are right if at most (m - threshold) // 2 are wrong, or none.

    All polynomials are decoded as one, their sum with weights that depend on every share. With a
    polynomial E of degree e that is zero where a value y is wrong, and P the right polynomial,
    Q = P * E has Q(x) = y * E(x) everywhere: linear in the coefficients of Q and E. Whatever
    solves it, E is zero at all wrong places. (Berlekamp and Welch 1986)
    """
    most = (len(points) - threshold) // 2
    values = field.reshape(len(points), -1)
    drawn = hashlib.shake_256(values.tobytes()).digest(8 * values.shape[1])
    weights = np.frombuffer(drawn, dtype="<u8") % _PRIME
    given = _product(values, weights[:, None])
    powers = _powers(points, threshold + most)
    highest = _powers(points, most + 1)
    times_given = _reduced(given * highest)
    table = np.hstack((powers, _PRIME - times_given[:, :most], times_given[:, most:]))
    locator = np.append(_solution(table)[threshold + most :], np.uint64(1))
    right = np.flatnonzero(_product(highest, locator[:, None])[:, 0]).tolist()
    return right[:threshold] if len(right) >= threshold else []


def _solution(table: _Field) -> _Field:
    """Solve linear equations modulo p, each a row with its right side last (Gauss and Jordan).

    An unknown that they leave free is zero; what contradicts the other equations is passed over.
    """
    table = _reduced(table)
    pivots: list[int] = []
    for column in range(table.shape[1] - 1):
        row = len(pivots)
        below = np.flatnonzero(table[row:, column])
        if not below.size:
            continue
        table[[row, row + below[0]]] = table[[row + below[0], row]]
        table[row] = _reduced(table[row] * _inverses(table[row, column : column + 1]))
        others = _PRIME - table[:, column : column + 1]
        others[row] = 0
        table = _reduced(table + _reduced(others * table[row]))
        pivots.append(column)
    solution = np.zeros(table.shape[1] - 1, dtype=np.uint64)
    solution[pivots] = table[: len(pivots), -1]
    return solution


def _settled(sets: set[frozenset[int]], left_out: int, spare: int) -> bool:
    """Whether no set of wrong points can be as small as the smallest, or all so small were tried.

    Two polynomials with one secret meet at no more than threshold - 2 points, so another one's
    set has at least spare + 2 points less those of this one.
    """
    return any(len(wrong) < left_out or 2 * len(wrong) < spare + 2 for wrong in sets)


def _only_smallest(sets: set[frozenset[int]]) -> frozenset[int]:
    least = min(map(len, sets))
    smallest = [wrong for wrong in sets if len(wrong) == least]
    return smallest[0] if len(smallest) == 1 else frozenset()


def _off_polynomials(
    points: Sequence[int], field: _Field, subset: list[int]
) -> list[frozenset[int]]:
    """Of each secret the points whose shares are not on its polynomials through `subset`.

    `field` has shape (m, k, 9); the answer has k sets.
    """
    others = sorted(set(range(len(points))) - set(subset))
    if not others or not field.size:
        return [frozenset()] * field.shape[1]
    weights = _lagrange([points[place] for place in subset], [points[place] for place in others])
    due = _product(weights, field[subset].reshape(len(subset), -1))
    differs = np.any(due.reshape(len(others), -1, ELEMENTS) != field[others], axis=2)
    return [
        frozenset(points[place] for place, off in zip(others, column, strict=True) if off)
        for column in differs.T
    ]


def _check_shares(points: Sequence[int], shares: Shares, threshold: int) -> None:
    kind = shares.dtype == np.uint32 and shares.ndim == 3
    if not kind or shares.shape[1] < 1 or shares.shape[2] != ELEMENTS:
        raise ProtocolViolation(
            f"shares: {shares.dtype} of shape {shares.shape} came, "
            f"uint32 of shape (m, k, {ELEMENTS}) with k >= 1 was due"
        )
    if len(points) != len(shares) or len(set(points)) != len(points):
        raise ProtocolViolation(
            f"shares: {len(set(points))} different points came for {len(shares)} holders"
        )
    if not all(1 <= point <= MOST_HOLDERS for point in points):
        raise ProtocolViolation(f"shares: a point is not from 1 to {MOST_HOLDERS}")
    if not 2 <= threshold <= len(points):
        raise ProtocolViolation(f"shares: {len(points)} came, at least {threshold} were due")
    beyond = int(np.count_nonzero(shares >= PRIME))
    if beyond:
        raise ProtocolViolation(f"shares: {beyond} elements are not below 2^31 - 1")


def _join(points: Sequence[int], field: _Field) -> tuple[Secrets, npt.NDArray[np.bool_]]:
    """Secrets of shares, shape (t, k, 9), and which of them are 32 bytes at all."""
    elements = _product(_lagrange(points, (0,)), field.reshape(len(points), -1))
    elements = elements.reshape(-1, ELEMENTS)
    below = np.full(ELEMENTS, 1 << _ELEMENT_BITS, dtype=np.uint64)
    below[-1] = 1 << _TOP_BITS
    return _from_elements(elements), np.all(elements < below, axis=1)


def _to_elements(secrets: Secrets) -> _Field:
    bits = np.unpackbits(secrets, axis=1, bitorder="little")
    padded = np.zeros((len(secrets), ELEMENTS * _ELEMENT_BITS), dtype=np.uint64)
    padded[:, : bits.shape[1]] = bits
    places = np.uint64(1) << np.arange(_ELEMENT_BITS, dtype=np.uint64)
    elements: _Field = padded.reshape(-1, ELEMENTS, _ELEMENT_BITS) @ places
    return elements


def _from_elements(elements: _Field) -> Secrets:
    places = np.arange(_ELEMENT_BITS, dtype=np.uint64)
    bits = (elements[:, :, None] >> places & np.uint64(1)).astype(np.uint8)
    kept = bits.reshape(len(elements), -1)[:, : 8 * SECRET_BYTES]
    return np.packbits(kept, axis=1, bitorder="little")


def _uniform(count: int, randomness: Randomness) -> _Field:
    """`count` elements, each of 0 .. p - 1 equally likely: of 31 random bits all but p itself."""
    elements = np.empty(count, dtype=np.uint64)
    filled = 0
    while filled < count:
        words = np.frombuffer(randomness(4 * (count - filled)), dtype="<u4") & np.uint32(PRIME)
        drawn = words[words != PRIME]
        elements[filled : filled + drawn.size] = drawn
        filled += drawn.size
    return elements


def _powers(points: Sequence[int], count: int) -> _Field:
    """The powers 0 .. count - 1 of each point, shape (points, count)."""
    base = np.array(points, dtype=np.uint64)
    powers = np.ones((len(points), count), dtype=np.uint64)
    for power in range(1, count):
        powers[:, power] = _reduced(powers[:, power - 1] * base)
    return powers


def _lagrange(points: Sequence[int], targets: Sequence[int]) -> _Field:
    """Weights that take values at `points` to values at `targets`: shape (targets, points).

    No target is one of the points.
    """
    at, to = np.array(points, dtype=np.int64), np.array(targets, dtype=np.int64)
    gaps = at[:, None] - at
    np.fill_diagonal(gaps, 1)
    away = (to[:, None] - at) % PRIME
    below = _reduced(_row_products(gaps % PRIME) * away.astype(np.uint64))
    return _reduced(_row_products(away)[:, None] * _inverses(below))


def _row_products(rows: npt.NDArray[np.int64]) -> _Field:
    """The product of each row modulo p, of elements of the field."""
    factors = rows.astype(np.uint64)
    while factors.shape[1] > 1:
        half = factors.shape[1] // 2
        odd = factors[:, 2 * half :]
        factors = np.hstack((_reduced(factors[:, :half] * factors[:, half : 2 * half]), odd))
    return factors[:, 0]


def _inverses(values: _Field) -> _Field:
    """values^(p - 2), the inverses by Fermat's little theorem; none is zero."""
    power, inverses = values, np.ones_like(values)
    for bit in range(31):
        if (PRIME - 2) >> bit & 1:
            inverses = _reduced(inverses * power)
        power = _reduced(power * power)
    return inverses


def _product(left: _Field, right: _Field) -> _Field:
    """Multiply matrices modulo p.

    In limbs of 16 bits every sum of products stays below 2^53, so that float64, and with it the
    fast matrix product, is exact: 2^32 * MOST_HOLDERS = 2^48.
    """
    a, b = _limbs(left), _limbs(right)
    low, high = a[0] @ b[0], a[1] @ b[1]
    middle = a[0] @ b[1] + a[1] @ b[0]
    total = _reduced(high.astype(np.uint64)) << _LIMB
    total = _reduced(total + _reduced(middle.astype(np.uint64))) << _LIMB
    return _reduced(total + low.astype(np.uint64))


def _limbs(values: _Field) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    low = values & np.uint64(0xFFFF)
    return low.astype(np.float64), (values >> _LIMB).astype(np.float64)


def _reduced(values: _Field) -> _Field:
    """Values below 2^62 modulo p: since 2^31 = 1, the upper bits are added to the lower ones."""
    folded = (values & _PRIME) + (values >> np.uint64(31))
    folded = (folded & _PRIME) + (folded >> np.uint64(31))
    return np.where(folded == _PRIME, np.uint64(0), folded)


def _field(shares: Shares) -> _Field:
    return shares.astype(np.uint64)
