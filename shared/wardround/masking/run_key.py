"""A hospital's key for one run, and the identity signature that makes it believable."""

from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from wardround.canonical import Json, canonical_bytes
from wardround.errors import BadSignature, ProtocolViolation
from wardround.identity import SIGNATURE_BYTES, Identity, verify
from wardround.masking.fields import exact_fields, require_hex, require_hospital
from wardround.randomness import Randomness

RUN_KEY_PURPOSE: Final = b"run-key"
RUN_KEY_BYTES: Final = 32
_FIELD_PRIME: Final = 2**255 - 19


@dataclass(frozen=True, slots=True)
class RunKey:
    """An X25519 private key (RFC 7748) that lives in memory, for one run, and is never stored.

    That it dies with the process is what keeps a restarted hospital from masking two different
    updates with one mask (PROTOCOL 3).
    """

    key: X25519PrivateKey = field(repr=False)

    @classmethod
    def generate(cls, randomness: Randomness) -> "RunKey":
        """Make a fresh key from 32 bytes of `randomness`."""
        return cls(X25519PrivateKey.from_private_bytes(randomness(RUN_KEY_BYTES)))

    @property
    def public_key(self) -> bytes:
        """The raw 32-byte public key."""
        return self.key.public_key().public_bytes_raw()

    def agree(self, peer_public_key: bytes, *, peer: str) -> bytes:
        """Return the 32 bytes shared with `peer`.

        A low-order key, with which the shared value would be zero whatever our key is, raises
        ProtocolViolation (RFC 7748 section 6.1).
        """
        try:
            return self.key.exchange(X25519PublicKey.from_public_bytes(peer_public_key))
        except ValueError as error:
            raise ProtocolViolation(
                f"run key of {peer}: a low-order point came, which agrees on no secret"
            ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedRunKey:
    """A run key's public half, signed by its hospital's identity for this run and session."""

    hospital: str
    run: str
    session: str
    public_key: bytes
    signature: bytes

    def __post_init__(self) -> None:
        require_hospital(self.hospital, what="run key: hospital")
        what = f"run key of {self.hospital}"
        require_hex(self.run, what=f"{what}: run", size_bytes=16)
        require_hex(self.session, what=f"{what}: session", size_bytes=16)
        if len(self.public_key) != RUN_KEY_BYTES or len(self.signature) != SIGNATURE_BYTES:
            raise ProtocolViolation(
                f"{what}: {len(self.public_key)} + {len(self.signature)} bytes of key and "
                f"signature came, {RUN_KEY_BYTES} + {SIGNATURE_BYTES} were due"
            )
        if int.from_bytes(self.public_key, "little") >= _FIELD_PRIME:
            # RFC 7748 reads 2^255 - 19 + u and u as one key: with one spelling a copy is seen.
            raise ProtocolViolation(f"{what}: not a reduced X25519 coordinate")

    def signed_bytes(self) -> bytes:
        """What the identity signs: canonical JSON of all fields but the signature."""
        return _signed_bytes(self.hospital, self.run, self.session, self.public_key)

    def check(self, identity_key: bytes) -> None:
        """Raise BadSignature unless the pinned `identity_key` signed this run key."""
        try:
            verify(identity_key, RUN_KEY_PURPOSE, self.signed_bytes(), self.signature)
        except BadSignature as error:
            raise BadSignature(
                f"run key of {self.hospital}: not signed by the identity key pinned for it"
            ) from error

    def to_json(self) -> Json:
        """Return the fields as JSON, bytes in lower-case hex."""
        return {
            "hospital": self.hospital,
            "run": self.run,
            "session": self.session,
            "public_key": self.public_key.hex(),
            "signature": self.signature.hex(),
        }

    @classmethod
    def from_json(cls, value: object) -> "SignedRunKey":
        """Read a run key that came from outside: exact fields, else ProtocolViolation.

        The signature is not yet checked: that is `check`, and `Directory` calls it.
        """
        names = ("hospital", "run", "session", "public_key", "signature")
        fields = exact_fields(value, names, what="run key")
        key = require_hex(fields["public_key"], what="run key: public_key", size_bytes=32)
        signature = require_hex(fields["signature"], what="run key: signature", size_bytes=64)
        return cls(
            **fields | {"public_key": bytes.fromhex(key), "signature": bytes.fromhex(signature)}
        )


def sign_run_key(
    identity: Identity, run_key: RunKey, *, run: str, session: str, hospital: str
) -> SignedRunKey:
    """Sign the public half of `run_key` for this run and session, and for nothing else."""
    message = _signed_bytes(hospital, run, session, run_key.public_key)
    return SignedRunKey(
        hospital=hospital,
        run=run,
        session=session,
        public_key=run_key.public_key,
        signature=identity.sign(RUN_KEY_PURPOSE, message),
    )


def _signed_bytes(hospital: str, run: str, session: str, public_key: bytes) -> bytes:
    return canonical_bytes(
        {"hospital": hospital, "run": run, "session": session, "public_key": public_key.hex()}
    )
