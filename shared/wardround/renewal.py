"""How a hospital gets a new certificate before the old one ends: by its identity, and only so.

The request goes over a connection that the old certificate still opens. What it proves is the
identity key, which the roster pins: who has got hold of the TLS key alone renews nothing. It names
the certificate that it takes the place of, so that a request serves once.
"""

import hashlib
from datetime import datetime, timedelta
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import BaseModel, ConfigDict

from wardround.canonical import canonical_bytes
from wardround.errors import BadInput
from wardround.identity import Identity, verify_lasting
from wardround.ticket import (
    ENROLMENT_LIMIT_BYTES,
    Hex32,
    HospitalName,
    LastingHex,
    Pem,
    parse_model,
)

CERTIFICATE_FILE = "tls-certificate.pem"  # in a hospital's directory
COORDINATOR_AUTHORITY = "authority"  # in a coordinator's directory, with these two in it
AUTHORITY_FILE, SERVER_FILE = "authority.pem", "server.pem"
RENEW_PATH = "/v1/renew"
RENEWAL_PURPOSE = b"renewal"
RENEW_BEFORE = timedelta(days=60)


class RenewalRequest(BaseModel):
    """A hospital's request for a certificate in place of the one it holds."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    version: Literal[1] = 1
    hospital: HospitalName
    replaces: Hex32
    signing_request: Pem
    proof: LastingHex

    @classmethod
    def make(
        cls,
        *,
        hospital: str,
        replaces: str,
        signing_request: str,
        authority_certificate: str,
        identity: Identity,
    ) -> "RenewalRequest":
        """Sign with the hospital's identity, for this authority, old certificate and new key."""
        message = _proven(hospital, replaces, signing_request, authority_certificate)
        return cls(
            hospital=hospital,
            replaces=replaces,
            signing_request=signing_request,
            proof=identity.sign_lasting(RENEWAL_PURPOSE, message).hex(),
        )

    def encode(self) -> bytes:
        """Canonical JSON."""
        return canonical_bytes(self.model_dump())

    @classmethod
    def decode(cls, content: bytes) -> "RenewalRequest":
        """Read what `encode` wrote. Raises BadInput."""
        return parse_model(cls, content, what="renewal request", limit_bytes=ENROLMENT_LIMIT_BYTES)

    def check_proof(self, *, identity_key: bytes, authority_certificate: str) -> None:
        """Raise BadSignature unless this identity made this request, for this authority."""
        message = _proven(self.hospital, self.replaces, self.signing_request, authority_certificate)
        verify_lasting(identity_key, RENEWAL_PURPOSE, message, bytes.fromhex(self.proof))


def certificate_of(pem: bytes) -> x509.Certificate:
    """Read a certificate. Raises BadInput."""
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError as error:
        raise BadInput(f"certificate: {type(error).__name__}") from error


def fingerprint_of(certificate: x509.Certificate) -> str:
    """SHA-256 of its DER bytes in hex, as the coordinator's record names it."""
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


def days_left(certificate: x509.Certificate, now: datetime) -> int:
    """Whole days until it ends; below 0 after its end."""
    return (certificate.not_valid_after_utc - now).days


def is_due(certificate: x509.Certificate, now: datetime) -> bool:
    """Whether it ends within 60 days."""
    return certificate.not_valid_after_utc - now < RENEW_BEFORE


def _proven(
    hospital: str, replaces: str, signing_request: str, authority_certificate: str
) -> bytes:
    return canonical_bytes(
        {
            "authority": hashlib.sha256(authority_certificate.encode()).hexdigest(),
            "hospital": hospital,
            "replaces": replaces,
            "signing_request": hashlib.sha256(signing_request.encode()).hexdigest(),
        }
    )
