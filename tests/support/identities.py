"""Identities that depend on a seed alone."""

import hashlib

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey

from wardround.identity import Identity


def identity_of(seed: bytes) -> Identity:
    """Ed25519 from these 32 bytes, ML-DSA-65 from their hash."""
    lasting = MLDSA65PrivateKey.from_seed_bytes(hashlib.sha256(seed).digest())
    return Identity(Ed25519PrivateKey.from_private_bytes(seed), lasting)
