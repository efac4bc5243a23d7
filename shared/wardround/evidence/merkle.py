"""The Merkle tree of RFC 6962: roots, and proofs that a log only grew or that it has an entry.

Leaves are hashed with 0x00 in front and nodes with 0x01, so that a node never passes for a leaf.
Functions take the leaves' bytes; `CompactRange` keeps the root of a growing log in O(log n) memory.
"""

import hashlib
from collections.abc import Iterable, Sequence

from wardround.errors import BadInput
from wardround.evidence.faults import LogFault, LogReason

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()
MAX_PROOF_HASHES = 64


def leaf_hash(leaf: bytes) -> bytes:
    """SHA-256(0x00 || leaf)."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class CompactRange:
    """The full subtrees of a growing tree, largest first: enough for its root.

    >>> grown = CompactRange([b"one"])
    >>> grown.append(b"two")
    >>> grown.root() == root([b"one", b"two"])
    True
    """

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        self.size = 0
        self._subtrees: list[bytes] = []
        for leaf in leaves:
            self.append(leaf)

    def append(self, leaf: bytes) -> None:
        """Add one leaf."""
        self._append_hash(leaf_hash(leaf))

    def root(self) -> bytes:
        """The tree's root, 32 bytes; SHA-256 of nothing for the empty tree (RFC 6962, 2.1)."""
        if not self._subtrees:
            return EMPTY_ROOT
        result = self._subtrees[-1]
        for subtree in reversed(self._subtrees[:-1]):
            result = node_hash(subtree, result)
        return result

    def _append_hash(self, hashed: bytes) -> None:
        # Each trailing 1 bit of the size is a full subtree of that height, to be merged.
        merges = (~self.size & (self.size + 1)).bit_length() - 1
        for _ in range(merges):
            hashed = node_hash(self._subtrees.pop(), hashed)
        self._subtrees.append(hashed)
        self.size += 1


def root(leaves: Sequence[bytes]) -> bytes:
    """The Merkle tree hash of the leaves (RFC 6962, 2.1)."""
    return CompactRange(leaves).root()


def root_of_hashes(hashes: Sequence[bytes]) -> bytes:
    """The Merkle tree hash of leaves of which only the hashes are known."""
    return _root_of_hashes(hashes) if hashes else EMPTY_ROOT


def consistency_proof(leaves: Sequence[bytes], old_size: int, new_size: int) -> list[bytes]:
    """Hashes that show that the first `old_size` leaves are a prefix of the first `new_size`.

    Empty when the sizes are equal or `old_size` is 0. Raises BadInput when the sizes do not fit.
    (RFC 6962, 2.1.2)
    """
    if not 0 <= old_size <= new_size <= len(leaves):
        raise BadInput(
            f"consistency proof: sizes {old_size} and {new_size} of a log of {len(leaves)} entries"
        )
    if old_size in (0, new_size):
        return []
    hashes = [leaf_hash(leaf) for leaf in leaves[:new_size]]
    return _subproof(hashes, old_size, whole=True)


def verify_consistency(
    old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]
) -> None:
    """Check a consistency proof (RFC 9162, 2.1.4.2). Raises LogFault (not-consistent)."""
    if old_size < 0 or new_size < old_size:
        raise _inconsistent(f"a log of {old_size} entries cannot have become one of {new_size}")
    if len(proof) > MAX_PROOF_HASHES or any(len(item) != HASH_BYTES for item in proof):
        raise _inconsistent("the proof is not a short list of 32-byte hashes")
    if old_size in (0, new_size):
        _verify_without_proof(old_size, old_root, new_size, new_root, proof)
        return
    # A complete old tree is its own first hash, which the proof therefore leaves out.
    complete = old_size & (old_size - 1) == 0
    path = [old_root, *proof] if complete else list(proof)
    old, new = _roots_of_path(old_size, new_size, path)
    if old != old_root:
        raise _inconsistent(f"the proof does not lead to the root of the first {old_size} entries")
    if new != new_root:
        raise _inconsistent(f"the proof does not lead to the root of the {new_size} entries")


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Hashes that show that leaf number `index` is one of `leaves` (RFC 6962, 2.1.1).

    Empty for a tree of one. Raises BadInput when there is no such leaf.
    """
    if not 0 <= index < len(leaves):
        raise BadInput(f"inclusion proof: entry {index} of a tree of {len(leaves)}")
    return inclusion_proofs(leaves)[index]


def inclusion_proofs(leaves: Sequence[bytes]) -> list[list[bytes]]:
    """The `inclusion_proof` of every leaf, in one walk over the tree; none for an empty one."""
    return _paths([leaf_hash(leaf) for leaf in leaves])[1] if leaves else []


def verify_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], tree_root: bytes
) -> None:
    """Check an inclusion proof (RFC 9162, 2.1.3.2). Raises LogFault (not-included)."""
    if not 0 <= index < size:
        raise _not_included(f"entry {index} of a tree of {size}")
    if len(proof) > MAX_PROOF_HASHES or any(len(item) != HASH_BYTES for item in proof):
        raise _not_included("the proof is not a short list of 32-byte hashes")
    node, last, hashed = index, size - 1, leaf_hash(leaf)
    for item in proof:
        if last == 0:
            raise _not_included("the proof is too long")
        if node & 1 or node == last:
            hashed = node_hash(item, hashed)
            while node and not node & 1:
                node, last = node >> 1, last >> 1
        else:
            hashed = node_hash(hashed, item)
        node, last = node >> 1, last >> 1
    if last or hashed != tree_root:
        raise _not_included(f"the proof does not lead from entry {index} to the root of {size}")


def _paths(hashes: Sequence[bytes]) -> tuple[bytes, list[list[bytes]]]:
    """A subtree's root, and the way up to it from each of its leaves."""
    if len(hashes) == 1:
        return hashes[0], [[]]
    split = 1 << ((len(hashes) - 1).bit_length() - 1)
    left, left_paths = _paths(hashes[:split])
    right, right_paths = _paths(hashes[split:])
    paths = [[*path, right] for path in left_paths] + [[*path, left] for path in right_paths]
    return node_hash(left, right), paths


def _roots_of_path(old_size: int, new_size: int, path: Sequence[bytes]) -> tuple[bytes, bytes]:
    node, last = old_size - 1, new_size - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    if not path:
        raise _inconsistent("the proof is empty")
    old = new = path[0]
    for item in path[1:]:
        if last == 0:
            raise _inconsistent("the proof is too long")
        if node & 1 or node == last:
            old, new = node_hash(item, old), node_hash(item, new)
            while node and not node & 1:
                node, last = node >> 1, last >> 1
        else:
            new = node_hash(new, item)
        node, last = node >> 1, last >> 1
    if last:
        raise _inconsistent("the proof is too short")
    return old, new


def _verify_without_proof(
    old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]
) -> None:
    if proof:
        raise _inconsistent("an empty proof was due")
    if old_size == 0 and old_root != EMPTY_ROOT:
        raise _inconsistent("the root of the empty log is wrong")
    if old_size == new_size and old_root != new_root:
        raise _inconsistent(f"two roots for the same {old_size} entries")


def _subproof(hashes: Sequence[bytes], old_size: int, *, whole: bool) -> list[bytes]:
    if old_size == len(hashes):
        return [] if whole else [_root_of_hashes(hashes)]
    split = 1 << ((len(hashes) - 1).bit_length() - 1)
    left, right = hashes[:split], hashes[split:]
    if old_size <= split:
        return [*_subproof(left, old_size, whole=whole), _root_of_hashes(right)]
    return [*_subproof(right, old_size - split, whole=False), _root_of_hashes(left)]


def _root_of_hashes(hashes: Sequence[bytes]) -> bytes:
    if len(hashes) == 1:
        return hashes[0]
    split = 1 << ((len(hashes) - 1).bit_length() - 1)
    return node_hash(_root_of_hashes(hashes[:split]), _root_of_hashes(hashes[split:]))


def _not_included(message: str) -> LogFault:
    return LogFault(LogReason.NOT_INCLUDED, message)


def _inconsistent(message: str) -> LogFault:
    return LogFault(LogReason.NOT_CONSISTENT, message)
