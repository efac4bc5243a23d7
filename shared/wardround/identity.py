"""A party's Ed25519 identity: who signed, for which purpose.

The fingerprint travels out of band into the study's roster; the private key never leaves the
party's directory.
"""

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from wardround.errors import BadInput, BadSignature

PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64


def fingerprint(public_key: bytes) -> str:
    """SHA-256 of the raw 32-byte public key, 64 lower-case hex digits."""
    if len(public_key) != PUBLIC_KEY_BYTES:
        raise BadInput(f"identity key: {PUBLIC_KEY_BYTES} bytes were due, {len(public_key)} came")
    return hashlib.sha256(public_key).hexdigest()


def _framed(purpose: bytes, message: bytes) -> bytes:
    # A signature made for one purpose must never be valid for another.
    return b"wardround/1 " + purpose + b"\x00" + message


@dataclass(frozen=True, slots=True)
class Identity:
    """An Ed25519 private key (RFC 8032) with a silent repr."""

    key: Ed25519PrivateKey = field(repr=False)

    @classmethod
    def generate(cls) -> "Identity":
        """Make a fresh identity from the operating system's randomness."""
        return cls(Ed25519PrivateKey.generate())

    @property
    def public_key(self) -> bytes:
        """The raw 32-byte public key."""
        return self.key.public_key().public_bytes_raw()

    @property
    def fingerprint(self) -> str:
        """What a roster pins."""
        return fingerprint(self.public_key)

    def sign(self, purpose: bytes, message: bytes) -> bytes:
        """Sign `message` for `purpose` only: 64 bytes."""
        return self.key.sign(_framed(purpose, message))

    def save(self, path: Path) -> None:
        """Write the private key, readable by its owner only; an existing file is never replaced."""
        pem = self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        write_secret(path, pem)

    @classmethod
    def load(cls, path: Path) -> "Identity":
        """Read a key that `save` wrote. Raises BadInput when it is missing or another kind."""
        try:
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except (OSError, ValueError, TypeError) as error:  # TypeError: it has a password
            raise BadInput(f"identity key {path.name}: {type(error).__name__}") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise BadInput(f"identity key {path.name}: not an Ed25519 key")
        return cls(key)


def verify(public_key: bytes, purpose: bytes, message: bytes, signature: bytes) -> None:
    """Check a signature. Raises BadSignature; returns nothing, so it cannot be ignored."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, _framed(purpose, message))
    except (InvalidSignature, ValueError) as error:
        name = purpose.decode("ascii", "replace")
        raise BadSignature(f"signature for {name!r} does not match its key") from error


def write_secret(path: Path, content: bytes) -> None:
    """Create `path` with mode 0600, synced to disk. Raises BadInput when it exists or cannot be."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise BadInput(f"{path.name} exists already: a key is never overwritten") from error
    except OSError as error:
        raise BadInput(f"{path.name} cannot be written: {type(error).__name__}") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
