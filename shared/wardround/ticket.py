"""How a hospital gets in: the join ticket, the enrolment request and the answer to it.

All three are strict, versioned and small. Who can hold which secret is in `JoinTicket`.
"""

import base64
import binascii
import hashlib
import re
from datetime import UTC, datetime
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from wardround.canonical import canonical_bytes, parse_canonical
from wardround.errors import BadInput
from wardround.identity import LASTING_SIGNATURE_BYTES, PUBLIC_KEY_BYTES, Identity, verify_lasting

TICKET_PREFIX = "wardround-ticket-1."
TICKET_LIMIT_BYTES = 16384
ENROLMENT_LIMIT_BYTES = 16384
PROOF_PURPOSE = b"enrolment"
HOSPITAL_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9.-]{1,253}):([0-9]{1,5})")

ModelT = TypeVar("ModelT", bound=BaseModel)


def hospital_name(text: str) -> str:
    """Check a hospital's name: 1 to 63 of a-z, 0-9 and '-', not starting with '-'.

    It becomes a certificate's subject and a file name, so nothing else gets through.

    >>> hospital_name("st-mary")
    'st-mary'
    """
    if HOSPITAL_NAME.fullmatch(text) is None:
        raise BadInput(
            f"hospital name {text[:80]!r}: 1 to 63 of a-z, 0-9 and '-' were due, no '-' first"
        )
    return text


def network_address(text: str) -> str:
    """Check HOST:PORT; an IPv6 host stands in brackets.

    >>> network_address("coordinator.example:443")
    'coordinator.example:443'
    """
    match = ADDRESS.fullmatch(text)
    if match is None or not 0 < int(match[2]) < 65536:
        raise BadInput(f"address {text[:80]!r}: HOST:PORT was due")
    return text


def _hospital(text: str) -> str:
    # pydantic collects ValueErrors only; BadInput would leave the model half named.
    try:
        return hospital_name(text)
    except BadInput as error:
        raise ValueError(str(error)) from error


def _address(text: str) -> str:
    try:
        return network_address(text)
    except BadInput as error:
        raise ValueError(str(error)) from error


HospitalName = Annotated[str, AfterValidator(_hospital)]
Hex32 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
PublicKeyHex = Annotated[
    str,
    Field(pattern=r"^[0-9a-f]+$", min_length=2 * PUBLIC_KEY_BYTES, max_length=2 * PUBLIC_KEY_BYTES),
]
LastingHex = Annotated[
    str,
    Field(
        pattern=r"^[0-9a-f]+$",
        min_length=2 * LASTING_SIGNATURE_BYTES,
        max_length=2 * LASTING_SIGNATURE_BYTES,
    ),
]
Pem = Annotated[
    str, Field(pattern=r"^-----BEGIN [A-Z ]+-----\n[A-Za-z0-9+/=\n]+-----END", max_length=4096)
]


class JoinTicket(BaseModel):
    """What `wardround invite` hands to one hospital, over a channel that both sides trust.

    The ticket holds a SECRET, the key of a bootstrap certificate: without a certificate of the
    coordinator's own authority nothing answers there, so a hospital that has none yet could not
    even ask for one. Who finds the ticket can enrol in the hospital's place, once, until it expires
    (seven days unless said otherwise), and can do nothing else: a bootstrap certificate reaches
    `/v1/enrol` only. Enrolment then fails for the real hospital, which is how the theft shows, and
    the thief's identity key is not the one whose fingerprint stands in the study's roster.

    The authority's certificate and the coordinator's evidence key are in it so that the hospital
    trusts exactly this coordinator from the first byte on.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    hospital: HospitalName
    address: Annotated[str, AfterValidator(_address)]
    expires: Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]
    authority_certificate: Pem
    evidence_key: PublicKeyHex
    bootstrap_certificate: Pem
    bootstrap_key: Pem = Field(repr=False)

    def encode(self) -> str:
        """One ASCII line: prefix and base64url (RFC 4648, 5; no padding) of canonical JSON."""
        return TICKET_PREFIX + base64.urlsafe_b64encode(_bytes(self)).decode("ascii").rstrip("=")

    @classmethod
    def decode(cls, text: str) -> "JoinTicket":
        """Read what `encode` wrote; surrounding white space is allowed.

        Raises BadInput. The text of the error holds nothing of the ticket.
        """
        line = text.strip()
        if len(line) > TICKET_LIMIT_BYTES:
            raise BadInput(
                f"join ticket: {len(line)} characters came, at most {TICKET_LIMIT_BYTES} are due"
            )
        if not line.startswith(TICKET_PREFIX):
            raise BadInput(f"join ticket: it has to begin with {TICKET_PREFIX!r}")
        encoded = line.removeprefix(TICKET_PREFIX)
        try:
            # urlsafe_b64decode drops foreign characters silently; b64decode can be told not to.
            content = base64.b64decode(
                encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True
            )
        except (binascii.Error, ValueError) as error:
            raise BadInput("join ticket: not base64url; was it cut when it was copied?") from error
        return parse_model(cls, content, what="join ticket", limit_bytes=TICKET_LIMIT_BYTES)

    @property
    def expires_at(self) -> datetime:
        """When the bootstrap certificate ends, UTC."""
        return parse_time(self.expires)


class EnrolmentRequest(BaseModel):
    """A hospital's request for a certificate, with proof that it holds the identity key."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    version: Literal[1] = 1
    hospital: HospitalName
    signing_request: Pem
    identity_key: PublicKeyHex
    proof: LastingHex

    @classmethod
    def make(
        cls, *, hospital: str, signing_request: str, authority_certificate: str, identity: Identity
    ) -> "EnrolmentRequest":
        """Sign with the hospital's identity, for this authority and this TLS key only."""
        message = _proven(hospital, signing_request, authority_certificate)
        return cls(
            hospital=hospital,
            signing_request=signing_request,
            identity_key=identity.public_key.hex(),
            proof=identity.sign_lasting(PROOF_PURPOSE, message).hex(),
        )

    def encode(self) -> bytes:
        """Canonical JSON."""
        return _bytes(self)

    @classmethod
    def decode(cls, content: bytes) -> "EnrolmentRequest":
        """Read what `encode` wrote. Raises BadInput."""
        return parse_model(
            cls, content, what="enrolment request", limit_bytes=ENROLMENT_LIMIT_BYTES
        )

    def check_proof(self, *, authority_certificate: str) -> None:
        """Raise BadSignature unless `identity_key` made this request, for this authority."""
        message = _proven(self.hospital, self.signing_request, authority_certificate)
        key, proof = bytes.fromhex(self.identity_key), bytes.fromhex(self.proof)
        verify_lasting(key, PROOF_PURPOSE, message, proof)


class EnrolmentAnswer(BaseModel):
    """The coordinator's answer: the hospital's certificate."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    version: Literal[1] = 1
    certificate: Pem

    def encode(self) -> bytes:
        """Canonical JSON."""
        return _bytes(self)

    @classmethod
    def decode(cls, content: bytes) -> "EnrolmentAnswer":
        """Read what `encode` wrote. Raises BadInput."""
        return parse_model(cls, content, what="enrolment answer", limit_bytes=ENROLMENT_LIMIT_BYTES)


def parse_model(model: type[ModelT], content: bytes, *, what: str, limit_bytes: int) -> ModelT:
    """Read canonical JSON into a strict model. BadInput names the fields and never their values."""
    value = parse_canonical(content, what=what, limit_bytes=limit_bytes)
    try:
        return model.model_validate(value)
    except ValidationError as error:
        fields = sorted({".".join(str(part) for part in item["loc"]) for item in error.errors()})
        raise BadInput(f"{what}: wrong or unknown field: {', '.join(fields)}") from error


def format_time(moment: datetime) -> str:
    """RFC 3339 in UTC, to the second.

    >>> format_time(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    '2026-01-02T03:04:05Z'
    """
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str) -> datetime:
    """Read what `format_time` wrote. Raises BadInput."""
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise BadInput(f"time {text[:40]!r}: YYYY-MM-DDTHH:MM:SSZ was due") from error


def _bytes(model: BaseModel) -> bytes:
    return canonical_bytes(model.model_dump())


def _proven(hospital: str, signing_request: str, authority_certificate: str) -> bytes:
    return canonical_bytes(
        {
            "authority": hashlib.sha256(authority_certificate.encode()).hexdigest(),
            "hospital": hospital,
            "signing_request": hashlib.sha256(signing_request.encode()).hexdigest(),
        }
    )
