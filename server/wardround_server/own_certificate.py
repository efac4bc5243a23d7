"""The coordinator's own certificate: renewed while it serves, in the midst of open connections.

Hospitals pin the authority, not this certificate: they notice nothing. A new one is used for the
connections that are made from then on; those that are open keep what they began with. (OpenSSL,
SSL_CTX_use_certificate(3): what is set later is of no consequence for an SSL that was made before.)
"""

import asyncio
import logging
import ssl
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from cryptography import x509

from wardround.errors import WardroundError
from wardround.renewal import RENEW_BEFORE, certificate_of, days_left
from wardround.ticket import format_time
from wardround_server.authority import Authority, TlsFiles

log = logging.getLogger("wardround.coordinator")

LOOK_EVERY_S = 3600.0


def utc_now() -> datetime:
    """The clock of this machine, UTC."""
    return datetime.now(UTC)


class OwnCertificate:
    """The certificate that the gateway shows, and the TLS context that shows it.

    `look` and `keep` belong into the event loop that accepts connections, so that no handshake
    meets a context which is half changed.
    """

    def __init__(
        self, authority: Authority, hosts: Sequence[str], *, clock: Callable[[], datetime] = utc_now
    ) -> None:
        """Take the one on disk, or issue one. Raises BadInput, OSError."""
        self._authority = authority
        self._hosts = tuple(hosts)
        self._clock = clock
        files = authority.server_files(self._hosts, now=clock())
        self.context = _tls_context(files)
        self._held = _held(files)

    @property
    def ends(self) -> datetime:
        """When the one that is shown ends."""
        return self._held.not_valid_after_utc

    async def keep(self) -> None:
        """Look for ever: when it falls due, and every hour since clocks are set and disks fill."""
        while True:
            await asyncio.sleep(self._pause_s())
            await self.look()

    async def look(self) -> None:
        """Renew when it is time. Never raises: the old one is good yet."""
        now = self._clock()
        if not self._authority.is_due(self._held, now):
            return
        try:
            files = await asyncio.to_thread(self._authority.server_files, self._hosts, now=now)
            _tls_context(files)  # refused here and not half loaded there
            self.context.load_cert_chain(files.certificate, files.key)
            self._held = _held(files)
        except (WardroundError, OSError) as error:
            ends, left = format_time(self.ends), days_left(self._held, now)
            log.warning(
                "the coordinator's certificate ends on %s, in %d days, and was not renewed: %s",
                ends,
                left,
                error,
            )
            return
        log.info(
            "the coordinator has renewed its certificate: new connections get one until %s",
            format_time(self.ends),
        )

    def _pause_s(self) -> float:
        left_s = (self.ends - RENEW_BEFORE - self._clock()).total_seconds()
        return left_s if 0 < left_s < LOOK_EVERY_S else LOOK_EVERY_S


def _held(files: TlsFiles) -> x509.Certificate:
    return certificate_of(files.certificate.read_bytes())


def _tls_context(files: TlsFiles) -> ssl.SSLContext:
    """TLS 1.3 only; who has no certificate of the authority does not get past the handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(files.certificate, files.key)
    context.load_verify_locations(files.authority)
    context.verify_mode = ssl.CERT_REQUIRED
    # No session tickets: a resumed session would outlive the certificate it was made with.
    context.num_tickets = 0
    return context
