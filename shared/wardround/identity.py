"""A party's identity: two keys, who signed, for which purpose.

Ed25519 signs everything. ML-DSA-65 signs beside it what has to convince for many years: studies,
final checkpoints, countersignatures, reports. One fingerprint is of both public keys, travels out
of band into the study's roster, and so pins both; the private keys never leave the party's
directory.
"""

import hashlib
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PrivateKey, MLDSA65PublicKey

from wardround.durable import gone_unless_whole
from wardround.errors import BadInput, BadSignature, why

ED25519_KEY_BYTES, ML_DSA_65_KEY_BYTES = 32, 1952
PUBLIC_KEY_BYTES = ED25519_KEY_BYTES + ML_DSA_65_KEY_BYTES
SIGNATURE_BYTES, ML_DSA_65_SIGNATURE_BYTES = 64, 3309
LASTING_SIGNATURE_BYTES = SIGNATURE_BYTES + ML_DSA_65_SIGNATURE_BYTES

_FIELD_PRIME = 2**255 - 19
_SIGN_BIT = 1 << 255
# Points whose order divides 8, by y without the sign of x; the last two are 0 and 1 once more.
# With one of them as public key, signatures hold that nobody has made with a private key.
_SMALL_ORDER_Y = frozenset(
    {
        0,
        1,
        _FIELD_PRIME - 1,
        0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
        0x7A03AC9277FDC74EC6CC392CFA53202A0F67100D760B3CBA4FD84D3D706A17C7,
        _FIELD_PRIME,
        _FIELD_PRIME + 1,
    }
)

_PEM_BLOCK = re.compile(rb"-----BEGIN [A-Z ]+-----\n[A-Za-z0-9+/=\n]+-----END [A-Z ]+-----\n")


def fingerprint(public_key: bytes) -> str:
    """SHA-256 of the 1984 bytes of both raw public keys, 64 lower-case hex digits."""
    if len(public_key) != PUBLIC_KEY_BYTES:
        raise BadInput(f"identity key: {PUBLIC_KEY_BYTES} bytes were due, {len(public_key)} came")
    return hashlib.sha256(public_key).hexdigest()


def ed25519_of(public_key: bytes) -> bytes:
    """The raw Ed25519 key, the first 32 bytes of an identity's public key."""
    return public_key[:ED25519_KEY_BYTES]


def ml_dsa_65_of(public_key: bytes) -> bytes:
    """The raw ML-DSA-65 key (FIPS 204), what follows the Ed25519 key."""
    return public_key[ED25519_KEY_BYTES:]


def _framed(purpose: bytes, message: bytes) -> bytes:
    # A signature made for one purpose must never be valid for another.
    return b"wardround/1 " + purpose + b"\x00" + message


@dataclass(frozen=True, slots=True)
class Identity:
    """An Ed25519 (RFC 8032) and an ML-DSA-65 (FIPS 204) private key with a silent repr."""

    key: Ed25519PrivateKey = field(repr=False)
    lasting_key: MLDSA65PrivateKey = field(repr=False)

    @classmethod
    def generate(cls) -> "Identity":
        """Make a fresh identity from the operating system's randomness."""
        return cls(Ed25519PrivateKey.generate(), MLDSA65PrivateKey.generate())

    @property
    def public_key(self) -> bytes:
        """Both raw public keys: 32 bytes of Ed25519, then 1952 of ML-DSA-65."""
        lasting = self.lasting_key.public_key().public_bytes_raw()
        return self.key.public_key().public_bytes_raw() + lasting

    @property
    def fingerprint(self) -> str:
        """What a roster pins."""
        return fingerprint(self.public_key)

    def sign(self, purpose: bytes, message: bytes) -> bytes:
        """Sign `message` for `purpose` only, with Ed25519: 64 bytes."""
        return self.key.sign(_framed(purpose, message))

    def sign_lasting(self, purpose: bytes, message: bytes) -> bytes:
        """Sign with both keys: 64 bytes of Ed25519, then 3309 of ML-DSA-65.

        The second part has randomness in it and differs each time (FIPS 204, hedged).
        """
        framed = _framed(purpose, message)
        return self.key.sign(framed) + self.lasting_key.sign(framed)

    def save(self, path: Path) -> None:
        """Write both keys, readable by the owner only; an existing file is never replaced."""
        pem = [
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            for key in (self.key, self.lasting_key)
        ]
        write_secret(path, b"".join(pem))

    @classmethod
    def load(cls, path: Path) -> "Identity":
        """Read what `save` wrote. Raises BadInput when a key is missing or another kind."""
        try:
            blocks = _PEM_BLOCK.findall(path.read_bytes())
            keys = [serialization.load_pem_private_key(block, password=None) for block in blocks]
        except (OSError, ValueError, TypeError) as error:  # TypeError: it has a password
            raise BadInput(f"identity key {path.name}: {why(error)}") from error
        if len(keys) == 1 and isinstance(keys[0], Ed25519PrivateKey):
            raise BadInput(
                f"identity key {path.name}: it holds no ML-DSA-65 key, as before 0.1.0: start with "
                "a new directory and a new join ticket"
            )
        if len(keys) == 2:
            key, lasting = keys
            if isinstance(key, Ed25519PrivateKey) and isinstance(lasting, MLDSA65PrivateKey):
                return cls(key, lasting)
        raise BadInput(f"identity key {path.name}: not an Ed25519 key and an ML-DSA-65 key")


def verify(public_key: bytes, purpose: bytes, message: bytes, signature: bytes) -> None:
    """Check a signature of `sign`. Raises BadSignature; returns nothing, so none can ignore it."""
    try:
        _check_length(public_key)
        check_ed25519(public_key, _framed(purpose, message), signature)
    except (InvalidSignature, ValueError) as error:
        raise _no_match(purpose) from error


def verify_lasting(public_key: bytes, purpose: bytes, message: bytes, signature: bytes) -> None:
    """Check a signature of `sign_lasting`: both parts have to hold. Raises BadSignature."""
    framed = _framed(purpose, message)
    try:
        _check_length(public_key)
        check_ed25519(public_key, framed, signature[:SIGNATURE_BYTES])
        check_ml_dsa_65(public_key, framed, signature[SIGNATURE_BYTES:])
    except (InvalidSignature, ValueError) as error:
        raise _no_match(purpose) from error


def check_ed25519(public_key: bytes, signed: bytes, signature: bytes) -> None:
    """Raises InvalidSignature or ValueError unless the Ed25519 key signed exactly these bytes.

    By the equation without cofactor and with S below the group's order, as OpenSSL does it. A key
    of small order is refused, which RFC 8032 leaves open: whoever enrols one could deny all that
    it signs, and have others sign for it (Chalkias, Garillot and Nikolaenko 2020).
    """
    raw = ed25519_of(public_key)
    if int.from_bytes(raw, "little") % _SIGN_BIT in _SMALL_ORDER_Y:
        raise ValueError("an Ed25519 key of small order")
    Ed25519PublicKey.from_public_bytes(raw).verify(signature, signed)


def check_ml_dsa_65(public_key: bytes, signed: bytes, signature: bytes) -> None:
    """Raises InvalidSignature or ValueError unless the ML-DSA-65 key signed exactly these bytes.

    Pure ML-DSA with an empty context (FIPS 204, 5.2).
    """
    key = MLDSA65PublicKey.from_public_bytes(ml_dsa_65_of(public_key))
    key.verify(signature, signed)


def _check_length(public_key: bytes) -> None:
    if len(public_key) != PUBLIC_KEY_BYTES:
        raise ValueError(f"{PUBLIC_KEY_BYTES} bytes of public keys were due")


def _no_match(purpose: bytes) -> BadSignature:
    name = purpose.decode("ascii", "replace")
    return BadSignature(f"signature for {name!r} does not match its key")


def write_secret(path: Path, content: bytes) -> None:
    """Create `path` with mode 0600, synced to disk. Raises BadInput when it exists or cannot be."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise BadInput(f"{path.name} exists already: a key is never overwritten") from error
    except OSError as error:
        raise BadInput(f"{path.name} cannot be written: {why(error)}") from error
    with gone_unless_whole(path), os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
