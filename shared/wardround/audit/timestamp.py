"""RFC 3161 time stamps: the word of a third party that a log stood as it is at a moment.

Stamped is the SHA-256 of `logs/coordinator.checkpoint`, the signed head of the coordinator's whole
log. A stamp lies in the bundle beside what was signed, and anybody may add one: no other member
changes by it. Signatures and certificates are checked by rfc3161-client (OpenSSL's CMS), at the
moment of the stamp: a certificate that has run out since is no fault.
"""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.x509.oid import NameOID

from wardround.audit.container import TIME_STAMPS
from wardround.audit.timestamp_der import as_response, in_order
from wardround.errors import BadInput, BadSignature, VerificationFailed

if TYPE_CHECKING:
    from rfc3161_client import TimeStampResponse

ENDING = ".tst"
TOKEN_LIMIT_BYTES = 64 << 10
MOST_STAMPS = 8
LIBRARY = "rfc3161-client"

Authorities = tuple[x509.Certificate, ...]
"""Certificates that a reader trusts to say when something was: roots, and what lies between."""

_AUTHORITIES_LIMIT_BYTES = 1 << 20
_SHA256 = "2.16.840.1.101.3.4.2.1"
_NAME = re.compile(rf"^{TIME_STAMPS}[0-9a-f]{{16}}{re.escape(ENDING)}$")
# Shown in terminals: nothing that moves a cursor.
_UNPRINTABLE = re.compile(r"[^\x20-\x7e\u00a1-\u024f]")
_LONGEST_NAME = 120


class NoLibrary(BadInput):
    """rfc3161-client is not installed here: no time stamp can be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeStamp:
    """What a token says: nothing of it is checked until `verify_time_stamp` did.

    `authority` is the name in the certificate of the signer.
    """

    time: datetime
    accuracy_s: float
    authority: str
    imprint: bytes
    nonce: int | None

    @property
    def time_text(self) -> str:
        """The moment in whole seconds UTC."""
        return self.time.strftime("%Y-%m-%dT%H:%M:%SZ")


def read_time_stamp(token: bytes) -> TimeStamp:
    """What a DER TimeStampToken says. Raises BadInput, and NoLibrary where nothing can read it."""
    return _read(_response(token))


def verify_time_stamp(token: bytes, content: bytes, authorities: Authorities | None) -> TimeStamp:
    """The stamp, which has to be of exactly this content and from one of these authorities.

    Without authorities (None) it is not asked whose it is. Raises BadInput (form),
    VerificationFailed (of other bytes) or BadSignature (of nobody who is trusted).
    """
    response = _response(token)
    found = _read(response)
    if found.imprint != hashlib.sha256(content).digest():
        raise VerificationFailed("time stamp: it is of other bytes than the coordinator's head")
    if authorities is not None:
        _check_signer(response, authorities, found)
    return found


def read_authorities(path: Path) -> Authorities:
    """The PEM certificates of a file. Raises BadInput when there is none in it."""
    what = f"time stamping authority {path.name}"
    try:
        if path.stat().st_size > _AUTHORITIES_LIMIT_BYTES:
            raise BadInput(f"{what}: over {_AUTHORITIES_LIMIT_BYTES} bytes")
        return tuple(dict.fromkeys(x509.load_pem_x509_certificates(path.read_bytes())))
    except (OSError, ValueError) as error:
        raise BadInput(f"{what}: no PEM certificates ({type(error).__name__})") from error


def member_of(token: bytes) -> str:
    """The name of a token in a bundle: of its SHA-256, so that none is there twice.

    >>> member_of(b"")
    'time-stamps/e3b0c44298fc1c14.tst'
    """
    return f"{TIME_STAMPS}{hashlib.sha256(token).hexdigest()[:16]}{ENDING}"


def time_stamps_of(members: Mapping[str, bytes]) -> dict[str, bytes]:
    """The time stamps among a bundle's members, by member, in order."""
    return {name: members[name] for name in sorted(members) if _NAME.fullmatch(name)}


def _response(token: bytes) -> "TimeStampResponse":
    if len(token) > TOKEN_LIMIT_BYTES:
        raise BadInput(f"time stamp: {len(token)} bytes, at most {TOKEN_LIMIT_BYTES} are allowed")
    try:
        from rfc3161_client import decode_timestamp_response  # noqa: PLC0415  # only with a stamp
    except ImportError as error:
        raise NoLibrary(
            f"time stamp: it cannot be read here, since {LIBRARY} is not installed "
            f"(pip install {LIBRARY})"
        ) from error
    try:
        response = decode_timestamp_response(as_response(in_order(token)))
    except ValueError as error:
        raise BadInput("time stamp: not a TimeStampToken of RFC 3161") from error
    if response.time_stamp_token() != token:
        raise BadInput("time stamp: not in the one form that is kept, its certificates in order")
    return response


def _read(response: "TimeStampResponse") -> TimeStamp:
    try:
        said, accuracy = response.tst_info, response.tst_info.accuracy
        algorithm = said.message_imprint.hash_algorithm.dotted_string
        found = TimeStamp(
            time=said.gen_time.astimezone(UTC),
            accuracy_s=_seconds(accuracy) if accuracy else 0.0,
            authority=_signer(response),
            imprint=said.message_imprint.message,
            nonce=said.nonce,
        )
    # The library builds its values on demand, and raises what the part at fault does.
    except Exception as error:
        raise BadInput(f"time stamp: malformed ({type(error).__name__})") from error
    if algorithm != _SHA256:
        raise BadInput(f"time stamp: SHA-256 is due, {algorithm} came")
    return found


def _seconds(accuracy: object) -> float:
    parts = ((1.0, "seconds"), (1e-3, "millis"), (1e-6, "micros"))
    return sum(unit * (getattr(accuracy, name) or 0) for unit, name in parts)


def _signer(response: "TimeStampResponse") -> str:
    """The name in the certificate that the signer's number names."""
    (signer,) = response.signed_data.signer_infos
    for der in response.signed_data.certificates:
        certificate = x509.load_der_x509_certificate(der)
        if (certificate.issuer, certificate.serial_number) == (signer.issuer, signer.serial_number):
            return _shown(certificate.subject)
    raise BadInput("time stamp: the certificate of its signer is not in it")


def _shown(subject: x509.Name) -> str:
    names = subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    text = str(names[0].value) if names else subject.rfc4514_string()
    return _UNPRINTABLE.sub("?", text)[:_LONGEST_NAME] or "?"


def _check_signer(
    response: "TimeStampResponse", authorities: Sequence[x509.Certificate], found: TimeStamp
) -> None:
    from rfc3161_client import VerificationError, VerifierBuilder  # noqa: PLC0415  # see above

    verifier = VerifierBuilder(roots=list(authorities)).build()
    try:
        verifier.verify(response, found.imprint)
    # What it parses for this it parses here for the first time.
    except (VerificationError, ValueError, KeyError, x509.InvalidVersion) as error:
        raise BadSignature(
            f"time stamp of {found.time_text}: its signature is not that of a time stamping "
            "authority that is trusted here"
        ) from error
