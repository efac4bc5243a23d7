"""Plain and slow: lanes packed into bits, Shamir's shares, the Merkle tree of RFC 6962.

Part of the second implementation: from PROTOCOL.md and the standards alone.
"""

from collections.abc import Callable

from tests.support.plain_primitives import PlainFault, from_words, sha256

FIELD = 2**31 - 1
ELEMENTS, ELEMENT_BITS = 9, 30
SHARE_BYTES = 4 * ELEMENTS


def pack(words: list[int], bits: int) -> bytes:
    """Lane L in the bits from L x bits on; bit 0 is the lowest of byte 0."""
    whole = sum((word % 2**bits) << (bits * place) for place, word in enumerate(words))
    return whole.to_bytes(-(-bits * len(words) // 8), "little")


def unpack(packed: bytes, bits: int, lanes: int) -> list[int]:
    whole = int.from_bytes(packed, "little")
    if len(packed) != -(-bits * lanes // 8) or whole >> (bits * lanes):
        raise PlainFault("a packed vector of another length, or with padding that is not zero")
    return [whole >> (bits * place) & (2**bits - 1) for place in range(lanes)]


def elements(secret: bytes) -> list[int]:
    value = int.from_bytes(secret, "little")
    return [value >> (ELEMENT_BITS * e) & (2**ELEMENT_BITS - 1) for e in range(ELEMENTS)]


def drawn_element(randomness: Callable[[int], bytes]) -> int:
    """Uniform below the field's size."""
    while True:
        value = int.from_bytes(randomness(4), "little") & FIELD
        if value < FIELD:
            return value


def split(
    secrets: list[bytes], *, threshold: int, holders: int, randomness: Callable[[int], bytes]
) -> list[list[list[int]]]:
    """For each of the points 1 to `holders`, a share (9 words) of each secret (Shamir 1979).

    Drawn are all coefficients of the first power, then of the second, and so on: an implementation
    that draws in this order from the same stream of bytes deals the same shares.
    """
    constants = [element for secret in secrets for element in elements(secret)]
    powers = [[drawn_element(randomness) for _ in constants] for _ in range(threshold - 1)]
    polynomials = list(zip(constants, *powers, strict=True))
    dealt = []
    for x in range(1, holders + 1):
        values = [
            sum(c * pow(x, power, FIELD) for power, c in enumerate(polynomial)) % FIELD
            for polynomial in polynomials
        ]
        dealt.append([values[i : i + ELEMENTS] for i in range(0, len(values), ELEMENTS)])
    return dealt


def join(shares: dict[int, list[int]], threshold: int) -> bytes:
    """The secret from shares by point: Lagrange at 0 over the first `threshold` of them."""
    points = sorted(shares)[:threshold]
    if len(points) < threshold:
        raise PlainFault(f"{len(points)} shares came, {threshold} are due")
    found = []
    for e in range(ELEMENTS):
        total = 0
        for x in points:
            above = below = 1
            for other in points:
                if other != x:
                    above, below = above * other % FIELD, below * (other - x) % FIELD
            total += shares[x][e] * above * pow(below, -1, FIELD)
        found.append(total % FIELD)
    value = sum(element << (ELEMENT_BITS * e) for e, element in enumerate(found))
    if max(found) >> ELEMENT_BITS or value >> 256:
        raise PlainFault("the shares join to no secret of 32 bytes")
    return value.to_bytes(32, "little")


def read_share(content: bytes) -> list[int]:
    words = from_words(content)
    if len(words) != ELEMENTS or max(words) >= FIELD:
        raise PlainFault("a share is 9 words below 2^31 - 1")
    return words


def shares_in(bundle: bytes) -> list[list[int]]:
    """The shares of an opened bundle, nine words each."""
    return [
        read_share(bundle[start : start + SHARE_BYTES])
        for start in range(0, len(bundle), SHARE_BYTES)
    ]


def leaf_hash(leaf: bytes) -> bytes:
    return sha256(b"\0" + leaf)


def tree_root(leaves: list[bytes]) -> bytes:
    """RFC 6962, 2.1."""
    if len(leaves) == 1:
        return leaf_hash(leaves[0])
    split_at = 1 << ((len(leaves) - 1).bit_length() - 1)
    return sha256(b"\1" + tree_root(leaves[:split_at]) + tree_root(leaves[split_at:]))


def inclusion_path(leaves: list[bytes], index: int) -> list[bytes]:
    """RFC 6962, 2.1.1: the hashes beside the way up, the lowest first."""
    if len(leaves) == 1:
        return []
    split_at = 1 << ((len(leaves) - 1).bit_length() - 1)
    left, right = leaves[:split_at], leaves[split_at:]
    if index < split_at:
        return [*inclusion_path(left, index), tree_root(right)]
    return [*inclusion_path(right, index - split_at), tree_root(left)]


def check_inclusion(leaf: bytes, index: int, size: int, path: list[bytes], root: bytes) -> None:
    """RFC 9162, 2.1.3.2."""
    node, last, hashed = index, size - 1, leaf_hash(leaf)
    for beside in path:
        if last == 0:
            raise PlainFault("an inclusion path that is too long")
        if node & 1 or node == last:
            hashed = sha256(b"\1" + beside + hashed)
            while not node & 1 and node:
                node, last = node >> 1, last >> 1
        else:
            hashed = sha256(b"\1" + hashed + beside)
        node, last = node >> 1, last >> 1
    if last or hashed != root:
        raise PlainFault("a share that its sender did not sign for")
