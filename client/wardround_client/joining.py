"""How a hospital joins: its own keys, one request with the ticket's, its own certificate."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Annotated

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import BaseModel, ConfigDict, Field

from wardround.canonical import canonical_bytes
from wardround.errors import BadInput, Unreachable
from wardround.identity import Identity, write_secret
from wardround.renewal import CERTIFICATE_FILE
from wardround.ticket import (
    ENROLMENT_LIMIT_BYTES,
    EnrolmentAnswer,
    EnrolmentRequest,
    HospitalName,
    JoinTicket,
    PublicKeyHex,
    parse_model,
)
from wardround_client.tls import ClientTls, HttpsClient, refusal

IDENTITY_FILE = "identity.pem"
KEY_FILE = "tls-key.pem"
AUTHORITY_FILE = "coordinator-authority.pem"
COORDINATOR_FILE = "coordinator.json"
RECORD_LIMIT_BYTES = 8192
ENROL_TIMEOUT_S = 30.0


class Coordinator(BaseModel):
    """What a hospital knows of its coordinator after joining."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    hospital: HospitalName
    address: Annotated[str, Field(max_length=300)]
    evidence_key: PublicKeyHex


@dataclass(frozen=True, slots=True)
class Membership:
    """A hospital that has joined: who it is, and how it reaches its coordinator."""

    directory: Path
    coordinator: Coordinator
    identity: Identity

    @property
    def hospital(self) -> str:
        """The hospital's name in certificates and rosters."""
        return self.coordinator.hospital

    @property
    def address(self) -> str:
        """HOST:PORT of the coordinator."""
        return self.coordinator.address

    @property
    def tls(self) -> ClientTls:
        """The files for `FleetConnection`."""
        return ClientTls(
            self.directory / CERTIFICATE_FILE,
            self.directory / KEY_FILE,
            self.directory / AUTHORITY_FILE,
        )


def join(ticket_line: str, directory: Path, *, now: datetime | None = None) -> Membership:
    """Enrol with a join ticket and store everything in `directory`, keys with mode 0600.

    An identity that is there already is kept (a new ticket after the certificate has expired); the
    private keys never leave the directory. When enrolment fails, nothing new is left behind.

    Raises BadInput for a bad ticket or a directory that has joined already, Unreachable when the
    coordinator does not answer or does not let this hospital in.
    """
    ticket = JoinTicket.decode(ticket_line)
    if (directory / COORDINATOR_FILE).exists():
        raise BadInput(f"{directory.name} has joined a coordinator already")
    if ticket.expires_at <= (now or datetime.now(UTC)):
        raise Unreachable(f"the join ticket expired on {ticket.expires}: ask for a new one")
    with _removed_on_failure(directory):
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        identity = _own_identity(directory)
        key = ec.generate_private_key(ec.SECP256R1())
        write_secret(directory / KEY_FILE, key_pem(key))
        request = EnrolmentRequest.make(
            hospital=ticket.hospital,
            signing_request=signing_request(ticket.hospital, key),
            authority_certificate=ticket.authority_certificate,
            identity=identity,
        )
        certificate = enrol(ticket, request)
        check_certificate(certificate, key, ticket.authority_certificate)
        _write(directory / CERTIFICATE_FILE, certificate.encode("ascii"))
        _write(directory / AUTHORITY_FILE, ticket.authority_certificate.encode("ascii"))
        coordinator = Coordinator(
            hospital=ticket.hospital, address=ticket.address, evidence_key=ticket.evidence_key
        )
        # Last: with this file the hospital has joined.
        _write(directory / COORDINATOR_FILE, canonical_bytes(coordinator.model_dump()))
    return Membership(directory, coordinator, identity)


def load_membership(directory: Path) -> Membership:
    """Read what `join` wrote. Raises BadInput when this hospital has not joined."""
    path = directory / COORDINATOR_FILE
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BadInput(
            f"{directory.name} has not joined a coordinator yet: it has no {COORDINATOR_FILE}; "
            f"`wardround hospital join @TICKET --dir {directory.name}` does it"
        ) from error
    coordinator = parse_model(Coordinator, content, what=path.name, limit_bytes=RECORD_LIMIT_BYTES)
    return Membership(directory, coordinator, Identity.load(directory / IDENTITY_FILE))


def enrol(ticket: JoinTicket, request: EnrolmentRequest) -> str:
    """Ask with the ticket's certificate; the answer is the hospital's own, PEM.

    Raises Unreachable, in words, when the coordinator does not answer or refuses.
    """
    with _bootstrap_files(ticket) as tls:
        client = HttpsClient(ticket.address, tls.context(), read_timeout_s=ENROL_TIMEOUT_S)
        try:
            answer = client.post(
                "/v1/enrol",
                request.encode(),
                limit_bytes=ENROLMENT_LIMIT_BYTES,
                headers={"content-type": "application/json"},
            )
        finally:
            client.close()
    if answer.status != HTTPStatus.OK:
        raise refusal(ticket.address, answer)
    return EnrolmentAnswer.decode(answer.content).certificate


@contextmanager
def _bootstrap_files(ticket: JoinTicket) -> Iterator[ClientTls]:
    """OpenSSL reads certificates from files only: 0700 and gone after the one request."""
    with tempfile.TemporaryDirectory(prefix="wardround-join-") as name:
        folder = Path(name)
        tls = ClientTls(folder / "certificate.pem", folder / "key.pem", folder / "authority.pem")
        tls.certificate.write_text(ticket.bootstrap_certificate)
        write_secret(tls.key, ticket.bootstrap_key.encode("ascii"))
        tls.authority.write_text(ticket.authority_certificate)
        yield tls


@contextmanager
def _removed_on_failure(directory: Path) -> Iterator[None]:
    was_there = directory.exists()
    before = {path.name for path in directory.iterdir()} if was_there else set()
    try:
        yield
    except BaseException:
        for name in (
            IDENTITY_FILE,
            KEY_FILE,
            CERTIFICATE_FILE,
            AUTHORITY_FILE,
            COORDINATOR_FILE,
        ):
            if name not in before:
                (directory / name).unlink(missing_ok=True)
        if not was_there:
            with suppress(OSError):  # somebody has put something into it
                directory.rmdir()
        raise


def _own_identity(directory: Path) -> Identity:
    path = directory / IDENTITY_FILE
    if path.exists():
        return Identity.load(path)
    identity = Identity.generate()
    identity.save(path)
    return identity


def signing_request(hospital: str, key: ec.EllipticCurvePrivateKey) -> str:
    """A request for a certificate of this key, PEM, signed by it (RFC 2986)."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hospital)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject)
    signed = request.sign(key, hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.PEM).decode("ascii")


def check_certificate(
    certificate: str, key: ec.EllipticCurvePrivateKey, authority_certificate: str
) -> None:
    """Raise BadInput unless this authority issued it, and for this key."""
    try:
        issued = x509.load_pem_x509_certificate(certificate.encode("ascii"))
        authority = x509.load_pem_x509_certificate(authority_certificate.encode("ascii"))
        issued.verify_directly_issued_by(authority)
    except Exception as error:  # InvalidSignature, ValueError or TypeError: all mean one thing here
        raise BadInput(f"the coordinator's certificate for us: {type(error).__name__}") from error
    if issued.public_key() != key.public_key():
        raise BadInput("the coordinator's certificate for us is for another key")


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key for `write_secret`; without a password, since a daemon has nobody to ask."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _write(path: Path, content: bytes) -> None:
    """Write so that after a crash there is the whole file or none."""
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
