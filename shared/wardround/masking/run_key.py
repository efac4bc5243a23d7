"""A hospital's keys for one run, and the identity signature that makes them believable.

Two kinds, for a secret that needs both to be broken: X25519 today, ML-KEM-768 for whoever stores
the traffic until X25519 falls.
"""

from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from wardround.canonical import Json, canonical_bytes
from wardround.errors import BadSignature, ProtocolViolation
from wardround.identity import SIGNATURE_BYTES, Identity, verify
from wardround.masking.fields import exact_fields, require_hex, require_hospital
from wardround.randomness import Randomness

RUN_KEY_PURPOSE: Final = b"run-key"
RUN_KEY_BYTES: Final = 32
KEM_KEY_BYTES: Final = 1184
KEM_SEED_BYTES: Final = 64
CIPHERTEXT_BYTES: Final = 1088
_FIELD_PRIME: Final = 2**255 - 19
_ANY_KEY: Final = X25519PrivateKey.from_private_bytes(bytes(RUN_KEY_BYTES))


@dataclass(frozen=True, slots=True)
class RunKey:
    """X25519 (RFC 7748) and ML-KEM-768 (FIPS 203) private keys, in memory, for one run.

    They are never stored. That they die with the process is what keeps a restarted hospital from
    masking two different updates with one mask (PROTOCOL 3).
    """

    key: X25519PrivateKey = field(repr=False)
    secret_kem_key: MLKEM768PrivateKey = field(repr=False)

    @classmethod
    def generate(cls, randomness: Randomness) -> "RunKey":
        """Make fresh keys from 32 and then 64 bytes (d || z of FIPS 203, 7.1) of `randomness`."""
        return cls(
            X25519PrivateKey.from_private_bytes(randomness(RUN_KEY_BYTES)),
            MLKEM768PrivateKey.from_seed_bytes(randomness(KEM_SEED_BYTES)),
        )

    @property
    def public_key(self) -> bytes:
        """The raw 32-byte X25519 public key."""
        return self.key.public_key().public_bytes_raw()

    @property
    def kem_key(self) -> bytes:
        """The raw 1184-byte ML-KEM-768 encapsulation key."""
        return self.secret_kem_key.public_key().public_bytes_raw()

    def agree(self, peer_public_key: bytes, *, peer: str) -> bytes:
        """Return the 32 bytes shared with `peer` by X25519.

        A low-order key, with which the shared value would be zero whatever our key is, raises
        ProtocolViolation (RFC 7748 section 6.1).
        """
        return _exchanged(self.key, peer_public_key, what=f"run key of {peer}")

    def decapsulate(self, ciphertext: bytes, *, peer: str) -> bytes:
        """Return the 32 bytes that `peer` put under our ML-KEM key.

        A ciphertext that was changed gives another secret, not an error (FIPS 203, 6.3); only a
        wrong length raises ProtocolViolation.
        """
        try:
            return self.secret_kem_key.decapsulate(ciphertext)
        except ValueError as error:
            raise ProtocolViolation(
                f"encapsulation of {peer}: {len(ciphertext)} bytes of ciphertext came, "
                f"{CIPHERTEXT_BYTES} were due"
            ) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedRunKey:
    """Both public run keys, signed by their hospital's identity for this run and session."""

    hospital: str
    run: str
    session: str
    public_key: bytes
    kem_key: bytes = field(repr=False)
    signature: bytes = field(repr=False)

    def __post_init__(self) -> None:
        require_hospital(self.hospital, what="run key: hospital")
        what = f"run key of {self.hospital}"
        require_hex(self.run, what=f"{what}: run", size_bytes=16)
        require_hex(self.session, what=f"{what}: session", size_bytes=16)
        for name, came, due in (
            ("public_key", len(self.public_key), RUN_KEY_BYTES),
            ("kem_key", len(self.kem_key), KEM_KEY_BYTES),
            ("signature", len(self.signature), SIGNATURE_BYTES),
        ):
            if came != due:
                raise ProtocolViolation(f"{what}: {came} bytes of {name} came, {due} were due")
        if int.from_bytes(self.public_key, "little") >= _FIELD_PRIME:
            # RFC 7748 reads 2^255 - 19 + u and u as one key: with one spelling a copy is seen.
            raise ProtocolViolation(f"{what}: not a reduced X25519 coordinate")
        _refuse_low_order(self.public_key, what=what)
        try:
            MLKEM768PublicKey.from_public_bytes(self.kem_key)
        except ValueError as error:  # FIPS 203, 7.2: a coefficient is not reduced
            raise ProtocolViolation(f"{what}: not an ML-KEM-768 key") from error

    def signed_bytes(self) -> bytes:
        """What the identity signs: canonical JSON of all fields but the signature."""
        return _signed_bytes(self.hospital, self.run, self.session, self.public_key, self.kem_key)

    def check(self, identity_key: bytes) -> None:
        """Raise BadSignature unless the pinned `identity_key` signed this run key."""
        try:
            verify(identity_key, RUN_KEY_PURPOSE, self.signed_bytes(), self.signature)
        except BadSignature as error:
            raise BadSignature(
                f"run key of {self.hospital}: not signed by the identity key pinned for it"
            ) from error

    def shares_with(self, other: "SignedRunKey") -> bool:
        """Whether one of its two public keys is also the other's."""
        return self.public_key == other.public_key or self.kem_key == other.kem_key

    def to_json(self) -> Json:
        """Return the fields as JSON, bytes in lower-case hex."""
        return {
            "hospital": self.hospital,
            "run": self.run,
            "session": self.session,
            "public_key": self.public_key.hex(),
            "kem_key": self.kem_key.hex(),
            "signature": self.signature.hex(),
        }

    @classmethod
    def from_json(cls, value: object) -> "SignedRunKey":
        """Read a run key that came from outside: exact fields, else ProtocolViolation.

        The signature is not yet checked: that is `check`, and `Directory` calls it.
        """
        names = ("hospital", "run", "session", "public_key", "kem_key", "signature")
        fields = exact_fields(value, names, what="run key")
        parts = {
            name: bytes.fromhex(
                require_hex(fields[name], what=f"run key: {name}", size_bytes=size_bytes)
            )
            for name, size_bytes in (
                ("public_key", RUN_KEY_BYTES),
                ("kem_key", KEM_KEY_BYTES),
                ("signature", SIGNATURE_BYTES),
            )
        }
        return cls(**fields | parts)


def sign_run_key(
    identity: Identity, run_key: RunKey, *, run: str, session: str, hospital: str
) -> SignedRunKey:
    """Sign the public halves of `run_key` for this run and session, and for nothing else."""
    public_key, kem_key = run_key.public_key, run_key.kem_key
    message = _signed_bytes(hospital, run, session, public_key, kem_key)
    return SignedRunKey(
        hospital=hospital,
        run=run,
        session=session,
        public_key=public_key,
        kem_key=kem_key,
        signature=identity.sign(RUN_KEY_PURPOSE, message),
    )


def _exchanged(key: X25519PrivateKey, public_key: bytes, *, what: str) -> bytes:
    try:
        return key.exchange(X25519PublicKey.from_public_bytes(public_key))
    except ValueError as error:
        raise ProtocolViolation(
            f"{what}: a low-order point came, which agrees on no secret"
        ) from error


def _refuse_low_order(public_key: bytes, *, what: str) -> None:
    """Refuse a point that agrees on zero with everybody, before anybody has tried to.

    Whoever relays a directory with such a key sees every honest hospital refuse it, and none says
    whose it is. X25519 multiplies by eight times a number, so any private key finds such a point.
    """
    _exchanged(_ANY_KEY, public_key, what=what)


def _signed_bytes(
    hospital: str, run: str, session: str, public_key: bytes, kem_key: bytes
) -> bytes:
    return canonical_bytes(
        {
            "hospital": hospital,
            "run": run,
            "session": session,
            "public_key": public_key.hex(),
            "kem_key": kem_key.hex(),
        }
    )
