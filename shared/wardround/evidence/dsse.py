"""DSSE envelopes: a payload, its type, and one party's two signatures over both (DSSE 1.0).

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

from wardround.canonical import Json, canonical_bytes, parse_canonical
from wardround.errors import BadInput, BadSignature
from wardround.identity import (
    ML_DSA_65_SIGNATURE_BYTES,
    SIGNATURE_BYTES,
    Identity,
    check_ed25519,
    check_ml_dsa_65,
    ed25519_of,
    ml_dsa_65_of,
)

PAYLOAD_TYPE = "application/vnd.in-toto+json"
ENVELOPE_LIMIT_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """An envelope as it came: well formed, its signatures not checked against a key.

    `signature` is the Ed25519 one and, behind it, the ML-DSA-65 one; `key_ids` name the two keys.
    """

    payload: bytes = field(repr=False)
    key_ids: tuple[str, str]
    signature: bytes = field(repr=False)

    def to_bytes(self) -> bytes:
        """The canonical JSON of it."""
        return canonical_bytes(
            {
                "payload": _encoded(self.payload),
                "payloadType": PAYLOAD_TYPE,
                "signatures": [
                    {"keyid": key_id, "sig": _encoded(part)}
                    for key_id, part in zip(self.key_ids, _parts(self.signature), strict=True)
                ],
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
        first, second = _signatures(value["signatures"], what)
        ed25519, ml_dsa_65 = (_decoded(each["sig"], f"{what}: sig") for each in (first, second))
        if (len(ed25519), len(ml_dsa_65)) != (SIGNATURE_BYTES, ML_DSA_65_SIGNATURE_BYTES):
            raise BadInput(f"{what}: sig: an Ed25519 signature is due, then an ML-DSA-65 one")
        return cls(
            payload=_decoded(value["payload"], f"{what}: payload"),
            key_ids=(first["keyid"], second["keyid"]),
            signature=ed25519 + ml_dsa_65,
        )

    def opened(self, public_key: bytes, *, what: str) -> bytes:
        """The payload, when both of these keys signed it. Raises BadSignature."""
        if self.key_ids != key_ids(public_key):
            raise BadSignature(f"{what}: signed with another key")
        ed25519, ml_dsa_65 = _parts(self.signature)
        try:
            check_ed25519(public_key, pae(self.payload), ed25519)
            check_ml_dsa_65(public_key, pae(self.payload), ml_dsa_65)
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


def key_ids(public_key: bytes) -> tuple[str, str]:
    """Hints at the two keys: SHA-256 of the raw bytes of each. They prove nothing by themselves."""
    ed25519, ml_dsa_65 = ed25519_of(public_key), ml_dsa_65_of(public_key)
    return hashlib.sha256(ed25519).hexdigest(), hashlib.sha256(ml_dsa_65).hexdigest()


def seal(payload: bytes, identity: Identity) -> bytes:
    """The envelope of `payload`, signed with both keys of `identity`."""
    signed = pae(payload)
    signature = identity.key.sign(signed) + identity.lasting_key.sign(signed)
    sealed = Envelope(payload=payload, key_ids=key_ids(identity.public_key), signature=signature)
    return sealed.to_bytes()


def open_envelope(content: bytes, public_key: bytes, *, what: str) -> bytes:
    """The payload that this key signed. Raises BadInput (form) or BadSignature (key, payload)."""
    return Envelope.from_bytes(content, what=what).opened(public_key, what=what)


def _parts(signature: bytes) -> tuple[bytes, bytes]:
    return signature[:SIGNATURE_BYTES], signature[SIGNATURE_BYTES:]


def _signatures(value: object, what: str) -> tuple[Json, Json]:
    if isinstance(value, list) and len(value) == 2 and all(_is_signature(each) for each in value):
        return dict(value[0]), dict(value[1])
    raise BadInput(f"{what}: two signatures are due, each with keyid and sig and nothing else")


def _is_signature(value: object) -> bool:
    if not isinstance(value, dict) or set(value) != {"keyid", "sig"}:
        return False
    return all(isinstance(text, str) for text in value.values())


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
