"""Which hospitals there are: invited, then enrolled with an identity key and one certificate."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from wardround.canonical import canonical_bytes
from wardround.errors import BadInput, BadSignature
from wardround.identity import fingerprint, write_secret
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
from wardround_server.refusals import AlreadyEnrolled, BadEnrolment, NotInvited

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
    enrolled: Time


class Invitation(BaseModel):
    """One file per ticket that is out, named after the bootstrap certificate's serial number."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    hospital: HospitalName
    expires: Time


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
        self, hospital: str, *, address: str, evidence_key: bytes, lifetime: timedelta = TICKET_LIFE
    ) -> JoinTicket:
        """Make a join ticket. Raises BadInput when the hospital has enrolled already."""
        if self._record(hospital_name(hospital)).exists():
            raise BadInput(f"hospital {hospital} is enrolled already: remove it first")
        expires = self.clock().replace(microsecond=0) + lifetime
        bootstrap = self.authority.issue_bootstrap(hospital, expires=expires)
        serial = peer_of_pem(bootstrap.certificate).serial
        invitation = Invitation(hospital=hospital, expires=format_time(expires))
        write_secret(self._invitation(serial), canonical_bytes(invitation.model_dump()))
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
        self._check_invited(peer, request.hospital)
        if self._record(request.hospital).exists():
            raise AlreadyEnrolled(f"hospital {request.hospital} has enrolled before")
        try:
            request.check_proof(authority_certificate=self.authority.certificate_pem)
            certificate = self.authority.issue_hospital(request.hospital, request.signing_request)
        except (BadInput, BadSignature) as error:
            raise BadEnrolment(f"enrolment of {request.hospital}: {error}") from error
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
            write_secret(self._record(request.hospital), canonical_bytes(record.model_dump()))
        except BadInput as error:
            raise AlreadyEnrolled(f"hospital {request.hospital} has enrolled before") from error
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
        self.find(hospital)
        self._record(hospital).unlink()

    def recognises(self, peer: Peer) -> bool:
        """Whether the hospital is enrolled, and with this very certificate."""
        with suppress(BadInput):
            return self.find(peer.name).certificate_fingerprint == peer.fingerprint
        return False

    def _check_invited(self, peer: Peer, hospital: str) -> None:
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
