"""A hospital's signature under a run: this study, this run, this history of the coordinator."""

from dataclasses import dataclass

from wardround.canonical import canonical_bytes
from wardround.errors import BadSignature
from wardround.identity import Identity, verify_lasting

COUNTERSIGN_PURPOSE = b"countersignature"


@dataclass(frozen=True, slots=True, kw_only=True)
class Countersignature:
    """What a hospital put its name to at the end; `checkpoint` is the coordinator's signed note."""

    checkpoint: str
    signature: str


def countersign(
    identity: Identity, *, study_digest: str, run: str, checkpoint: str
) -> Countersignature:
    """Sign after the coordinator's log was checked against everything that this hospital saw."""
    message = _message(study_digest, run, checkpoint)
    signature = identity.sign_lasting(COUNTERSIGN_PURPOSE, message).hex()
    return Countersignature(checkpoint=checkpoint, signature=signature)


def verify_countersignature(
    key: bytes, countersignature: Countersignature, *, study_digest: str, run: str
) -> None:
    """Raise BadSignature unless the holder of `key` signed exactly this."""
    try:
        signature = bytes.fromhex(countersignature.signature)
    except ValueError as error:
        raise BadSignature("countersignature: not hex") from error
    message = _message(study_digest, run, countersignature.checkpoint)
    verify_lasting(key, COUNTERSIGN_PURPOSE, message, signature)


def _message(study_digest: str, run: str, checkpoint: str) -> bytes:
    return canonical_bytes({"study_digest": study_digest, "run": run, "checkpoint": checkpoint})
