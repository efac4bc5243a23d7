"""What a hospital promises with its upload, before anybody has revealed a thing (PROTOCOL 5).

A mask key that is revealed later, by its owner or out of shares, is compared with these.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256

from wardround.canonical import canonical_bytes
from wardround.evidence.merkle import root
from wardround.masking.derivation import expand_key, framed
from wardround.protocol.messages import SealedShare


def self_commitment(transcript: bytes, self_key: bytes) -> str:
    """The commitment to a hospital's own mask key b, 64 hex digits."""
    return sha256(framed(b"commit-self", transcript + self_key)).hexdigest()


def pair_commitment(transcript: bytes, pair_key: bytes) -> str:
    """The commitment to the mask key of a pair, which both ends can compute; 64 hex digits."""
    return sha256(framed(b"commit-pair", transcript + pair_key)).hexdigest()


def self_mask_key(transcript: bytes, self_key: bytes) -> bytes:
    """The keystream key s of a hospital's own mask: shares and reveals are of b, never of s."""
    return expand_key(self_key, purpose=b"self-mask", context=transcript)


def pair_leaf(peer: str, *, commitment: str, sealed: bytes) -> bytes:
    """What a sender signs about one peer, by a root over all peers sorted by name.

    `sealed` are its shares for that peer.
    """
    fields = {"peer": peer, "commitment": commitment, "share": sha256(sealed).hexdigest()}
    return canonical_bytes(fields)


def share_leaves(shares: Mapping[str, SealedShare]) -> list[bytes]:
    """The leaves of a sender's shares for all its peers, sorted by name."""
    return [
        pair_leaf(peer, commitment=share.commitment, sealed=bytes.fromhex(share.sealed))
        for peer, share in sorted(shares.items())
    ]


def pairs_root(leaves: Sequence[bytes]) -> str:
    """The root over the leaves of all peers, sorted by name; 64 hex digits (RFC 6962, 2.1)."""
    return root(leaves).hex()
