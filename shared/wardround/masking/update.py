"""The header of a masked update: what its hospital signs, and what everybody checks by it."""

import hashlib
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from wardround.canonical import Json, canonical_bytes
from wardround.errors import BadSignature, ProtocolViolation
from wardround.identity import verify
from wardround.masking.fields import exact_fields, require_hex, require_hospital
from wardround.masking.round_spec import Profile

UPDATE_PURPOSE: Final = b"masked-update"


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateHeader:
    """Who sent which vector for which attempt; the hospital's identity signs it.

    `update_digest` is the SHA-256 of the packed vector. `self_commitment` and `pairs_root` bind
    the keys of its masks and the shares of them; both are None with one trip.
    """

    hospital: str
    transcript: str
    update_digest: str
    self_commitment: str | None
    pairs_root: str | None

    def __post_init__(self) -> None:
        require_hospital(self.hospital, what="update header: hospital")
        what = f"update header of {self.hospital}"
        for name in ("transcript", "update_digest", "self_commitment", "pairs_root"):
            value = getattr(self, name)
            if value is not None or name in ("transcript", "update_digest"):
                require_hex(value, what=f"{what}: {name}", size_bytes=32)
        if (self.self_commitment is None) != (self.pairs_root is None):
            raise ProtocolViolation(f"{what}: self_commitment and pairs_root come together")

    def to_json(self) -> Json:
        """Return the fields as JSON."""
        return {
            "hospital": self.hospital,
            "transcript": self.transcript,
            "update_digest": self.update_digest,
            "self_commitment": self.self_commitment,
            "pairs_root": self.pairs_root,
        }

    @classmethod
    def from_json(cls, value: object) -> "UpdateHeader":
        """Read a header that came from outside: exact fields, else ProtocolViolation."""
        names = ("hospital", "transcript", "update_digest", "self_commitment", "pairs_root")
        return cls(**exact_fields(value, names, what="update header"))

    def signed_bytes(self) -> bytes:
        """What the identity signs: the canonical JSON."""
        return canonical_bytes(self.to_json())

    def check(
        self,
        signature: bytes,
        identity_key: bytes,
        *,
        hospital: str,
        transcript: str,
        profile: Profile,
    ) -> None:
        """Raise unless it is this hospital's, for this transcript and profile, and signed by it.

        Raises ProtocolViolation or BadSignature naming the hospital. Whether vector and shares are
        those of the header is not seen here.
        """
        what = f"update of {hospital}"
        for name, came, due in (
            ("hospital", self.hospital, hospital),
            ("transcript", self.transcript, transcript),
        ):
            if came != due:
                raise ProtocolViolation(f"{what}: its header says {name} {came}, {due} was due")
        if (self.pairs_root is None) != (profile is Profile.ONE_TRIP):
            has = "no commitments" if self.pairs_root is None else "commitments"
            raise ProtocolViolation(
                f"{what}: its header has {has}, the round's profile is {profile.value}"
            )
        try:
            verify(identity_key, UPDATE_PURPOSE, self.signed_bytes(), signature)
        except BadSignature as error:
            raise BadSignature(
                f"{what}: its header is not signed by the identity key pinned for it"
            ) from error


def update_digest(values: npt.NDArray[np.uint32] | npt.NDArray[np.int32]) -> str:
    """SHA-256 over the 32-bit words in little-endian order, 64 hex digits: of a sum of lanes.

    >>> update_digest(np.zeros(2, dtype=np.int32))[:8]
    'af5570f5'
    """
    words = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    return hashlib.sha256(words.data).hexdigest()
