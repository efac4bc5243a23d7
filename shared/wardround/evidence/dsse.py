"""DSSE envelopes: a payload, its type, and one signature over both (DSSE 1.0).

What is signed is PAE = "DSSEv1 28 application/vnd.in-toto+json LENGTH PAYLOAD", LENGTH in decimal.
It cannot be mistaken for what `Identity.sign` signs, which begins with "wardround/1 ", nor for a
signed note, which begins with "wardround/". Envelopes are canonical JSON, so that one envelope has
one spelling. (github.com/secure-systems-lab/dsse, protocol.md and envelope.md)
"""

import base64
import binascii
import hashlib
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from wardround.canonical import Json, canonical_bytes, parse_canonical
from wardround.errors import BadInput, BadSignature
from wardround.identity import SIGNATURE_BYTES, Identity

PAYLOAD_TYPE = "application/vnd.in-toto+json"
ENVELOPE_LIMIT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """An envelope as it came: well formed, its signature not checked against a key."""

    payload: bytes = field(repr=False)
    key_id: str
    signature: bytes

    def to_bytes(self) -> bytes:
        """The canonical JSON of it."""
        return canonical_bytes(
            {
                "payload": _encoded(self.payload),
                "payloadType": PAYLOAD_TYPE,
                "signatures": [{"keyid": self.key_id, "sig": _encoded(self.signature)}],
            }
        )

    @classmethod
    def from_bytes(cls, content: bytes, *, what: str) -> "Envelope":
        """Read what `to_bytes` wrote, and nothing else. Raises BadInput naming `what`."""
        value = parse_canonical(content, what=what, limit_bytes=ENVELOPE_LIMIT_BYTES)
        if set(value) != {"payload", "payloadType", "signatures"}:
            raise BadInput(f"{what}: payload, payloadType and signatures are due, nothing else")
        if value["payloadType"] != PAYLOAD_TYPE:
            raise BadInput(f"{what}: payloadType {PAYLOAD_TYPE} is due")
        signed = _signature(value["signatures"], what)
        signature = _decoded(signed["sig"], f"{what}: sig")
        if len(signature) != SIGNATURE_BYTES:
            raise BadInput(f"{what}: sig: {SIGNATURE_BYTES} bytes are due, {len(signature)} came")
        return cls(
            payload=_decoded(value["payload"], f"{what}: payload"),
            key_id=signed["keyid"],
            signature=signature,
        )

    def opened(self, public_key: bytes, *, what: str) -> bytes:
        """The payload, when this key signed it. Raises BadSignature."""
        if self.key_id != key_id(public_key):
            raise BadSignature(f"{what}: signed with another key")
        try:
            key = Ed25519PublicKey.from_public_bytes(public_key)
            key.verify(self.signature, pae(self.payload))
        except (InvalidSignature, ValueError) as error:
            raise BadSignature(f"{what}: the signature does not fit the payload") from error
        return self.payload


def pae(payload: bytes) -> bytes:
    """The bytes that are signed: the pre-authentication encoding of a payload of our one type.

    >>> pae(b"{}")
    b'DSSEv1 28 application/vnd.in-toto+json 2 {}'
    """
    kind = PAYLOAD_TYPE.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def key_id(public_key: bytes) -> str:
    """A hint at the key: SHA-256 of its raw bytes. It proves nothing by itself."""
    return hashlib.sha256(public_key).hexdigest()


def seal(payload: bytes, identity: Identity) -> bytes:
    """The envelope of `payload`, signed by `identity`."""
    signature = identity.key.sign(pae(payload))
    sealed = Envelope(payload=payload, key_id=key_id(identity.public_key), signature=signature)
    return sealed.to_bytes()


def open_envelope(content: bytes, public_key: bytes, *, what: str) -> bytes:
    """The payload that this key signed. Raises BadInput (form) or BadSignature (key, payload)."""
    return Envelope.from_bytes(content, what=what).opened(public_key, what=what)


def _signature(value: object, what: str) -> Json:
    if isinstance(value, list) and len(value) == 1:
        found = value[0]
        texts = isinstance(found, dict) and all(isinstance(text, str) for text in found.values())
        if texts and set(found) == {"keyid", "sig"}:
            return dict(found)
    raise BadInput(f"{what}: one signature is due, with keyid and sig and nothing else")


def _encoded(content: bytes) -> str:
    return base64.b64encode(content).decode("ascii")


def _decoded(text: object, what: str) -> bytes:
    if not isinstance(text, str):
        raise BadInput(f"{what}: text is due")
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadInput(f"{what}: not base64") from error
    if _encoded(content) != text:
        raise BadInput(f"{what}: base64 with stray bits")
    return content
