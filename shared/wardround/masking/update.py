"""A masked update: the only kind of update that may leave a hospital."""

import hashlib
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from wardround.canonical import Json, canonical_bytes
from wardround.errors import BadSignature, ProtocolViolation
from wardround.identity import Identity, verify
from wardround.masking.fields import exact_fields, require_hex, require_hospital
from wardround.masking.keystream import WORD, MaskedLanes, apply_keystreams
from wardround.masking.pairs import RoundMasks
from wardround.masking.quantise import LANE, Lanes
from wardround.masking.round_spec import RoundSpec

UPDATE_PURPOSE: Final = b"masked-update"


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateHeader:
    """Who sent which vector for which attempt; the hospital's identity signs it."""

    hospital: str
    transcript: str
    update_digest: str

    def __post_init__(self) -> None:
        require_hospital(self.hospital, what="update header: hospital")
        what = f"update header of {self.hospital}"
        require_hex(self.transcript, what=f"{what}: transcript", size_bytes=32)
        require_hex(self.update_digest, what=f"{what}: update_digest", size_bytes=32)

    def to_json(self) -> Json:
        """Return the fields as JSON."""
        return {
            "hospital": self.hospital,
            "transcript": self.transcript,
            "update_digest": self.update_digest,
        }

    @classmethod
    def from_json(cls, value: object) -> "UpdateHeader":
        """Read a header that came from outside: exact fields, else ProtocolViolation."""
        names = ("hospital", "transcript", "update_digest")
        return cls(**exact_fields(value, names, what="update header"))

    def signed_bytes(self) -> bytes:
        """What the identity signs: the canonical JSON."""
        return canonical_bytes(self.to_json())


@dataclass(frozen=True, slots=True, eq=False)
class MaskedUpdate:
    """A vector of uniform-looking 32-bit words and its header: the last stage of privacy."""

    values: MaskedLanes
    header: UpdateHeader

    def __repr__(self) -> str:
        """Name the sender and the size, not the values."""
        return f"MaskedUpdate({self.header.hospital}, {self.values.size} lanes)"


def update_digest(values: npt.NDArray[np.uint32] | npt.NDArray[np.int32]) -> str:
    """SHA-256 over the 32-bit words in little-endian order, 64 hex digits.

    >>> update_digest(np.zeros(2, dtype=np.uint32))[:8]
    'af5570f5'
    """
    words = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    return hashlib.sha256(words.data).hexdigest()


def mask(
    lanes: Lanes, spec: RoundSpec, masks: RoundMasks, *, identity: Identity, hospital: str
) -> tuple[MaskedUpdate, bytes]:
    """Hide `lanes` under the masks of `spec` and sign the header; `masks` are spent by it.

    Raises ProtocolViolation when the lanes are not what the spec says, when one is beyond its
    limit, or when the masks are another spec's or hospital's. `lanes` is left as it was.
    (Bonawitz et al. 2017, without the self-mask; PROTOCOL 5)
    """
    _check_masks(spec, masks, hospital)
    if lanes.dtype != LANE or lanes.shape != (spec.lanes,):
        raise ProtocolViolation(
            f"update of {hospital}: {lanes.dtype} of shape {lanes.shape} came, "
            f"int32 of shape ({spec.lanes},) was due"
        )
    beyond = int(np.count_nonzero((lanes > spec.limit) | (lanes < -spec.limit)))
    if beyond:
        raise ProtocolViolation(
            f"update of {hospital}: {beyond} of {spec.lanes} lanes are beyond the limit "
            f"{spec.limit}, the sum could overflow"
        )
    values: MaskedLanes = np.array(lanes, dtype=LANE, order="C").view(WORD)
    add, subtract = masks.take()
    apply_keystreams(values, add=add, subtract=subtract)
    header = UpdateHeader(
        hospital=hospital,
        transcript=masks.transcript.hex(),
        update_digest=update_digest(values),
    )
    signature = identity.sign(UPDATE_PURPOSE, header.signed_bytes())
    return MaskedUpdate(values, header), signature


def check_update(
    values: npt.NDArray[Any],
    header_json: object,
    signature: bytes,
    *,
    spec: RoundSpec,
    identity_key: bytes,
    hospital: str,
) -> MaskedUpdate:
    """Accept what `hospital` sent for `spec`, or say why not.

    Raises ProtocolViolation (cohort, dtype, shape, name, transcript, digest) or BadSignature; the
    message names the hospital and the reason.
    """
    what = f"update of {hospital}"
    if hospital not in spec.cohort:
        raise ProtocolViolation(f"{what}: it is not in the cohort of round {spec.round}")
    if values.dtype != WORD or values.shape != (spec.lanes,):
        raise ProtocolViolation(
            f"{what}: {values.dtype} of shape {values.shape} came, "
            f"uint32 of shape ({spec.lanes},) was due"
        )
    header = UpdateHeader.from_json(header_json)
    for name, came, due in (
        ("hospital", header.hospital, hospital),
        ("transcript", header.transcript, spec.transcript().hex()),
        ("update_digest", header.update_digest, update_digest(values)),
    ):
        if came != due:
            raise ProtocolViolation(f"{what}: its header says {name} {came}, {due} was due")
    try:
        verify(identity_key, UPDATE_PURPOSE, header.signed_bytes(), signature)
    except BadSignature as error:
        raise BadSignature(
            f"{what}: its header is not signed by the identity key pinned for it"
        ) from error
    return MaskedUpdate(values, header)


def _check_masks(spec: RoundSpec, masks: RoundMasks, hospital: str) -> None:
    if masks.hospital != hospital or masks.transcript != spec.transcript():
        raise ProtocolViolation(
            f"update of {hospital}: the masks are {masks.hospital}'s for transcript "
            f"{masks.transcript.hex()}, {spec.transcript().hex()} was due"
        )
