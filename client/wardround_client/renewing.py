"""A hospital's next certificate: asked for by its identity, stored so that no crash locks it out.

Both files of the next one, key and certificate, are on disk before either takes the place of the
old. The coordinator takes the old certificate until the next one has opened a connection.
"""

import fcntl
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from wardround.durable import sync_folder, write_durably
from wardround.errors import BadInput, Unreachable, WardroundError
from wardround.identity import write_secret
from wardround.renewal import (
    CERTIFICATE_FILE,
    RENEW_PATH,
    RenewalRequest,
    certificate_of,
    days_left,
    fingerprint_of,
    is_due,
)
from wardround.ticket import (
    ENROLMENT_LIMIT_BYTES,
    EnrolmentAnswer,
    EnrolmentRequest,
    JoinTicket,
    format_time,
)
from wardround_client.home import HospitalHome
from wardround_client.joining import (
    AUTHORITY_FILE,
    ENROL_TIMEOUT_S,
    KEY_FILE,
    Membership,
    check_certificate,
    enrol,
    key_pem,
    signing_request,
)
from wardround_client.tls import ClientTls, HttpsClient, refusal

log = logging.getLogger("wardround.hospital")

NEXT_KEY_FILE = "tls-key.next.pem"
NEXT_CERTIFICATE_FILE = "tls-certificate.next.pem"
LOCK_FILE = "renewal.lock"
TRY_AGAIN_AFTER = timedelta(hours=6)


def utc_now() -> datetime:
    """The clock of this machine, UTC."""
    return datetime.now(UTC)


def renew(membership: Membership) -> datetime:
    """Get and store a new certificate while the old one is good; returns when it ends.

    A daemon that runs takes it up by itself. Raises Unreachable when the coordinator does not
    answer or refuses (an old certificate that has ended among that), BadInput for its answer.
    """
    with _alone(membership.directory):
        settle(membership.directory)
        old = certificate_of((membership.directory / CERTIFICATE_FILE).read_bytes())
        authority = _authority(membership)
        key = _next_key(membership.directory)
        request = RenewalRequest.make(
            hospital=membership.hospital,
            replaces=fingerprint_of(old),
            signing_request=signing_request(membership.hospital, key),
            authority_certificate=authority,
            identity=membership.identity,
        )
        return _take(membership.directory, _ask(membership, request), key, authority)


def renew_with_ticket(membership: Membership, ticket_line: str) -> datetime:
    """Get and store a new certificate after the old one has ended; returns when it ends.

    The ticket, of `wardround invite NAME --renewal`, only opens the door: the coordinator looks at
    the identity. Raises BadInput for a ticket of another hospital or coordinator, Unreachable when
    the coordinator does not answer or refuses.
    """
    ticket = JoinTicket.decode(ticket_line)
    authority = _authority(membership)
    known = (membership.hospital, authority, membership.coordinator.evidence_key)
    if (ticket.hospital, ticket.authority_certificate, ticket.evidence_key) != known:
        raise BadInput("renewal ticket: it is of another hospital or another coordinator")
    with _alone(membership.directory):
        settle(membership.directory)
        key = _next_key(membership.directory)
        request = EnrolmentRequest.make(
            hospital=membership.hospital,
            signing_request=signing_request(membership.hospital, key),
            authority_certificate=authority,
            identity=membership.identity,
        )
        return _take(membership.directory, enrol(ticket, request), key, authority)


def settle(directory: Path) -> None:
    """Finish a renewal that a crash interrupted; one without its answer is forgotten."""
    if (directory / NEXT_CERTIFICATE_FILE).exists():
        if (directory / NEXT_KEY_FILE).exists():
            (directory / NEXT_KEY_FILE).replace(directory / KEY_FILE)
            sync_folder(directory)
        (directory / NEXT_CERTIFICATE_FILE).replace(directory / CERTIFICATE_FILE)
    (directory / NEXT_KEY_FILE).unlink(missing_ok=True)


@dataclass(slots=True)
class CertificateKeeper:
    """Looks after the daemon's certificate between two messages.

    It renews from 60 days before the end, tries again every six hours, and says so in the log. A
    certificate that `wardround hospital renew` has stored meanwhile is taken up as well.
    """

    home: HospitalHome
    use: Callable[[ClientTls], None]
    clock: Callable[[], datetime] = utc_now
    _used: str = ""
    _next_try: datetime = field(default=datetime.min.replace(tzinfo=UTC))

    def __post_init__(self) -> None:
        """The certificate of now is in use already."""
        self._used = fingerprint_of(self.home.certificate())

    def look(self) -> None:
        """Renew when it is time, and take up what is new. Never raises: the old one is good yet."""
        now = self.clock()
        try:
            held = self.home.certificate()
            if is_due(held, now) and now >= self._next_try:
                self._next_try = now + TRY_AGAIN_AFTER
                log.warning(
                    "this hospital's certificate ends on %s, in %d days: asking for a new one",
                    format_time(held.not_valid_after_utc),
                    days_left(held, now),
                )
                renew(self.home.membership())
                held = self.home.certificate()
            if fingerprint_of(held) != self._used:
                self.use(self.home.membership().tls)
                self._used = fingerprint_of(held)
                log.info("a certificate until %s is used", format_time(held.not_valid_after_utc))
        except (WardroundError, OSError) as error:
            log.warning("the certificate was not renewed: %s", error)


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """One renewal at a time, over processes. Raises BadInput when another is under way."""
    with (directory / LOCK_FILE).open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BadInput(f"{directory.name}: another renewal is under way") from error
        yield


def _authority(membership: Membership) -> str:
    return (membership.directory / AUTHORITY_FILE).read_text(encoding="ascii")


def _next_key(directory: Path) -> ec.EllipticCurvePrivateKey:
    key = ec.generate_private_key(ec.SECP256R1())
    write_secret(directory / NEXT_KEY_FILE, key_pem(key))
    return key


def _ask(membership: Membership, request: RenewalRequest) -> str:
    context = membership.tls.context()
    client = HttpsClient(membership.address, context, read_timeout_s=ENROL_TIMEOUT_S)
    try:
        answer = client.post(
            RENEW_PATH,
            request.encode(),
            limit_bytes=ENROLMENT_LIMIT_BYTES,
            headers={"content-type": "application/json"},
        )
    finally:
        client.close()
    if answer.status == HTTPStatus.SERVICE_UNAVAILABLE:
        raise Unreachable(f"coordinator at {membership.address} is not ready")
    if answer.status != HTTPStatus.OK:
        raise refusal(membership.address, answer)
    return EnrolmentAnswer.decode(answer.content).certificate


def _take(
    directory: Path, certificate: str, key: ec.EllipticCurvePrivateKey, authority: str
) -> datetime:
    check_certificate(certificate, key, authority)
    write_durably(directory / NEXT_CERTIFICATE_FILE, certificate.encode("ascii"))
    settle(directory)
    return certificate_of(certificate.encode("ascii")).not_valid_after_utc
