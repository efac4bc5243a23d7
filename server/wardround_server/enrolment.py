"""Which hospitals there are: invited, then enrolled with an identity key and one certificate.

The identity key stays; the certificate is renewed by its word (decision 0016). While a new one is
on its way the old one is good too, until the new one has opened a connection.
"""

import fcntl
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from wardround.canonical import canonical_bytes
from wardround.errors import BadInput, BadSignature
from wardround.identity import fingerprint, write_secret
from wardround.renewal import RenewalRequest
from wardround.ticket import (
    EnrolmentRequest,
    Hex32,
    HospitalName,
    JoinTicket,
    PublicKeyHex,
    format_time,
    hospital_name,
    network_address,
    parse_model,
    parse_time,
)
from wardround_server.authority import Authority, Peer, peer_of_pem
from wardround_server.refusals import (
    AlreadyEnrolled,
    BadEnrolment,
    BadRenewal,
    NotInvited,
    UnknownHospital,
)

TICKET_LIFE = timedelta(days=7)
RECORD_LIMIT_BYTES = 8192
Time = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]
Clock = Callable[[], datetime]


class EnrolledHospital(BaseModel):
    """One file per hospital: what the coordinator knows about who it is."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    hospital: HospitalName
    identity_key: PublicKeyHex
    fingerprint: Hex32
    certificate_fingerprint: Hex32
    next_certificate_fingerprint: Hex32 | None = None
    enrolled: Time

    def encode(self) -> bytes:
        """Canonical JSON; without a certificate that is on its way as it always was."""
        return canonical_bytes(self.model_dump(exclude_none=True))


class Invitation(BaseModel):
    """One file per ticket that is out, named after the bootstrap certificate's serial number.

    With `identity`, a fingerprint, it renews the certificate of the hospital of that identity.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    hospital: HospitalName
    expires: Time
    identity: Hex32 | None = None


def utc_now() -> datetime:
    """The clock of this machine, UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Enrolment:
    """Invitations and hospitals in the coordinator's directory."""

    directory: Path
    authority: Authority
    clock: Clock = utc_now

    @classmethod
    def open(cls, directory: Path, authority: Authority, *, clock: Clock = utc_now) -> "Enrolment":
        """Make the folders when they are missing."""
        for folder in ("hospitals", "invitations"):
            (directory / folder).mkdir(parents=True, exist_ok=True, mode=0o700)
        return cls(directory, authority, clock)

    def invite(
        self,
        hospital: str,
        *,
        address: str,
        evidence_key: bytes,
        lifetime: timedelta = TICKET_LIFE,
        renewal: bool = False,
    ) -> JoinTicket:
        """Make a join ticket. Raises BadInput when the hospital has enrolled already.

        With `renewal` it is for one that has, and whose certificate has ended: only its identity
        can use it. Raises BadInput when the hospital is not enrolled.
        """
        identity = self.find(hospital).fingerprint if renewal else None
        if not renewal and self._record(hospital_name(hospital)).exists():
            raise BadInput(
                f"hospital {hospital} is enrolled already: --renewal makes a ticket for its next "
                "certificate; to let another one have the name, remove it first"
            )
        expires = self.clock().replace(microsecond=0) + lifetime
        bootstrap = self.authority.issue_bootstrap(hospital, expires=expires)
        serial = peer_of_pem(bootstrap.certificate).serial
        invitation = Invitation(hospital=hospital, expires=format_time(expires), identity=identity)
        content = canonical_bytes(invitation.model_dump(exclude_none=True))
        write_secret(self._invitation(serial), content)
        return JoinTicket(
            hospital=hospital,
            address=network_address(address),
            expires=format_time(expires),
            authority_certificate=self.authority.certificate_pem,
            evidence_key=evidence_key.hex(),
            bootstrap_certificate=bootstrap.certificate.decode("ascii"),
            bootstrap_key=bootstrap.key.decode("ascii"),
        )

    def admit(self, peer: Peer, request: EnrolmentRequest) -> str:
        """Enrol the hospital behind a bootstrap certificate; returns its certificate, PEM.

        The invitation is used up by a rename and the hospital's file is created exclusively, so
        that of two requests at the same time one wins. A refusal changes nothing.
        """
        invitation = self._check_invited(peer, request.hospital)
        if invitation.identity is not None:
            return self._renew_invited(peer, request, invitation.identity)
        if self._record(request.hospital).exists():
            raise AlreadyEnrolled(f"hospital {request.hospital} has enrolled before")
        certificate = self._issue(request)
        identity_key = bytes.fromhex(request.identity_key)
        record = EnrolledHospital(
            hospital=request.hospital,
            identity_key=request.identity_key,
            fingerprint=fingerprint(identity_key),
            certificate_fingerprint=peer_of_pem(certificate.encode()).fingerprint,
            enrolled=format_time(self.clock()),
        )
        self._use_up(peer)
        try:
            write_secret(self._record(request.hospital), record.encode())
        except BadInput as error:
            raise AlreadyEnrolled(f"hospital {request.hospital} has enrolled before") from error
        return certificate

    def renew(self, peer: Peer, request: RenewalRequest) -> str:
        """The next certificate of the hospital at the other end, PEM.

        Both are good until the next one opens a connection: an answer that is lost locks nobody
        out. Raises BadRenewal unless the hospital's own identity asks, for itself, in place of the
        certificate in use; UnknownHospital for one that is not enrolled with this certificate.
        """
        with self._alone():
            if not self.recognises(peer):
                raise UnknownHospital(f"{peer.name} is not enrolled with this certificate")
            record = self.find(peer.name)
            if request.hospital != peer.name:
                raise BadRenewal(f"{peer.name} asks for a certificate of {request.hospital}")
            if request.replaces != record.certificate_fingerprint:
                raise BadRenewal(f"renewal of {peer.name}: it replaces another certificate")
            authority = self.authority.certificate_pem
            identity_key = bytes.fromhex(record.identity_key)
            try:
                request.check_proof(identity_key=identity_key, authority_certificate=authority)
                issued = self.authority.issue_hospital(peer.name, request.signing_request)
            except (BadInput, BadSignature) as error:
                raise BadRenewal(f"renewal of {peer.name}: {error}") from error
            digest = peer_of_pem(issued.encode()).fingerprint
            self._replace(record.model_copy(update={"next_certificate_fingerprint": digest}))
            return issued

    def take_up(self, peer: Peer) -> None:
        """A connection with this certificate was made: from now on it is the only one."""
        with self._alone(), suppress(BadInput):
            record = self.find(peer.name)
            if record.next_certificate_fingerprint == peer.fingerprint:
                update = {
                    "certificate_fingerprint": peer.fingerprint,
                    "next_certificate_fingerprint": None,
                }
                self._replace(record.model_copy(update=update))

    def _issue(self, request: EnrolmentRequest) -> str:
        try:
            request.check_proof(authority_certificate=self.authority.certificate_pem)
            return self.authority.issue_hospital(request.hospital, request.signing_request)
        except (BadInput, BadSignature) as error:
            raise BadEnrolment(f"enrolment of {request.hospital}: {error}") from error

    def _renew_invited(self, peer: Peer, request: EnrolmentRequest, identity: str) -> str:
        """A certificate in place of one that has ended: for the identity that enrolled, alone."""
        with self._alone():
            try:
                record = self.find(peer.name)
            except BadInput as error:
                raise NotInvited(f"{peer.name} was removed since") from error
            if {record.fingerprint, fingerprint(bytes.fromhex(request.identity_key))} != {identity}:
                raise BadEnrolment(f"renewal of {peer.name}: another identity asks")
            certificate = self._issue(request)
            self._use_up(peer)
            update = {
                "certificate_fingerprint": peer_of_pem(certificate.encode()).fingerprint,
                "next_certificate_fingerprint": None,
            }
            self._replace(record.model_copy(update=update))
            return certificate

    def find(self, hospital: str) -> EnrolledHospital:
        """Raise BadInput when no hospital of this name is enrolled."""
        path = self._record(hospital_name(hospital))
        try:
            content = path.read_bytes()
        except FileNotFoundError as error:
            raise BadInput(f"hospital {hospital} is not enrolled") from error
        return parse_model(
            EnrolledHospital, content, what=f"record of {hospital}", limit_bytes=RECORD_LIMIT_BYTES
        )

    def all(self) -> list[EnrolledHospital]:
        """Every enrolled hospital, by name."""
        names = sorted(path.stem for path in (self.directory / "hospitals").glob("*.json"))
        return [self.find(name) for name in names]

    def remove(self, hospital: str) -> None:
        """Forget a hospital: its certificate is refused from the next connection on."""
        with self._alone():
            self.find(hospital)
            self._record(hospital).unlink()

    def recognises(self, peer: Peer) -> bool:
        """Whether the hospital is enrolled, with this very certificate, and it has not ended.

        A connection may outlive the certificate that opened it: TLS does not look again.
        """
        with suppress(BadInput):
            record = self.find(peer.name)
            known = {record.certificate_fingerprint, record.next_certificate_fingerprint}
            return peer.fingerprint in known and self.clock() < peer.ends
        return False

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One change of a record at a time, over processes: what is removed stays removed."""
        with (self.directory / "hospitals" / "lock").open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _replace(self, record: EnrolledHospital) -> None:
        path = self._record(record.hospital)
        beside = path.with_suffix(".next")
        beside.unlink(missing_ok=True)
        write_secret(beside, record.encode())
        beside.replace(path)

    def _check_invited(self, peer: Peer, hospital: str) -> Invitation:
        if hospital != peer.name:
            raise NotInvited(f"the ticket is for {peer.name}, {hospital} was asked for")
        try:
            content = self._invitation(peer.serial).read_bytes()
        except FileNotFoundError as error:
            raise NotInvited(f"the ticket of {peer.name} is unknown, used or withdrawn") from error
        invitation = parse_model(
            Invitation, content, what="invitation", limit_bytes=RECORD_LIMIT_BYTES
        )
        if invitation.hospital != peer.name or parse_time(invitation.expires) <= self.clock():
            raise NotInvited(f"the ticket of {peer.name} expired on {invitation.expires}")
        return invitation

    def _use_up(self, peer: Peer) -> None:
        path = self._invitation(peer.serial)
        try:
            path.rename(path.with_suffix(".used"))
        except FileNotFoundError as error:
            raise NotInvited(f"the ticket of {peer.name} is used") from error

    def _record(self, hospital: str) -> Path:
        return self.directory / "hospitals" / f"{hospital}.json"

    def _invitation(self, serial: int) -> Path:
        return self.directory / "invitations" / f"{serial:x}.json"
