"""The hospital's end of the TLS connection, and what a failure of it means in words."""

import http.client
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from wardround.errors import BadInput, ProtocolViolation, Unreachable, WardroundError, why
from wardround.ticket import format_time
from wardround_client.proxy import ProxiedConnection, Proxy, ProxyFailed, proxy_for

CONNECT_TIMEOUT_S = 5.0
ERROR_NAME_LIMIT = 80
BLOCK_BYTES = 1 << 20

_REFUSALS: Mapping[str, str] = {
    "UnknownHospital": "it does not know this hospital's certificate (removed, renewed or ended?)",
    "NotInvited": "the join ticket is unknown, used, withdrawn, expired or another hospital's",
    "AlreadyEnrolled": "a hospital of this name has enrolled before",
    "BadEnrolment": "it refuses the signing request or the proof of the identity key",
    "BadRenewal": "it refuses the request for a new certificate: not ours, or used before",
    "NodeReplaced": "another process with this hospital's certificate has taken over",
    "NoSuchRoute": "it has nothing for this kind of certificate",
}


class TlsRefused(Unreachable):
    """One side does not accept the other's certificate: trying again does not help."""


class NotLetIn(Unreachable):
    """The coordinator refuses this hospital: trying again does not help."""


@dataclass(frozen=True, slots=True)
class ClientTls:
    """Where the hospital's certificate, its key and the coordinator's authority are."""

    certificate: Path
    key: Path
    authority: Path

    def context(self) -> ssl.SSLContext:
        """TLS 1.3, this authority and no other.

        Raises BadInput for files that do not belong together, Unreachable for an expired
        certificate: what we can know here is said here, since a coordinator that refuses a
        certificate may just close the connection.
        """
        self._check_certificate()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        try:
            context.load_verify_locations(self.authority)
            context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            raise BadInput(f"TLS files of this hospital: {why(error)}") from error
        return context

    def _check_certificate(self) -> None:
        try:
            certificate = x509.load_pem_x509_certificate(self.certificate.read_bytes())
            authority = x509.load_pem_x509_certificate(self.authority.read_bytes())
        except (OSError, ValueError) as error:
            raise BadInput(f"{self.certificate.name}: {why(error)}") from error
        try:
            certificate.verify_directly_issued_by(authority)
        except (InvalidSignature, TypeError, ValueError) as error:
            raise BadInput(
                f"{self.certificate.name}: not issued by {self.authority.name}"
            ) from error
        if certificate.not_valid_after_utc <= datetime.now(UTC):
            ended = format_time(certificate.not_valid_after_utc)
            raise Unreachable(
                f"this hospital's certificate expired on {ended}: ask for a renewal ticket "
                "(`wardround invite NAME --renewal`), then `wardround hospital renew`"
            )


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer, read whole."""

    status: int
    content: bytes


class HttpsClient:
    """One kept connection to the coordinator. For one thread.

    The standard library's client: it costs a fifth of httpx per request (decision 0001).
    HTTPS_PROXY and NO_PROXY are honoured (`wardround_client.proxy`). Redirects are not followed.
    `requests` counts, `busy` and `last_at` (time.monotonic) say whether and when it spoke last.
    """

    def __init__(self, address: str, context: ssl.SSLContext, *, read_timeout_s: float) -> None:
        """Connect with the first request. Raises BadInput for a proxy that cannot be used."""
        host, _, port = address.rpartition(":")
        self.requests = 0
        self.busy = False
        self.last_at = time.monotonic()
        self._address = address
        self._read_timeout_s = read_timeout_s
        self._proxy = proxy_for(host.strip("[]"), int(port))
        self._connection = _prepare(host.strip("[]"), int(port), context, self._proxy)

    def post(
        self, path: str, content: bytes, *, limit_bytes: int, headers: Mapping[str, str]
    ) -> Answer:
        """Send one request; the answer's announced size is checked before it is read.

        Raises Unreachable in words (TlsRefused when trying again does not help) and
        ProtocolViolation for an answer over the limit. Nothing is sent twice.
        """
        return self._exchange(
            "POST", path, content, headers, lambda response: _read(response, path, limit_bytes)
        )

    def put(
        self, path: str, content: memoryview, *, limit_bytes: int, headers: Mapping[str, str]
    ) -> Answer:
        """Send a large body from where it lies, without a copy; else as `post`."""
        return self._exchange(
            "PUT", path, content, headers, lambda response: _read(response, path, limit_bytes)
        )

    def get_into(
        self,
        path: str,
        into: memoryview,
        *,
        headers: Mapping[str, str],
        arrived: Callable[[memoryview], None],
    ) -> Answer:
        """Fetch exactly `into`; `arrived` gets each part of it as soon as it is there.

        The answer is 206 and empty, or a refusal. When the connection breaks, what had arrived is
        there. Else as `post`.
        """

        def read(response: http.client.HTTPResponse) -> Answer:
            if response.status != HTTPStatus.PARTIAL_CONTENT:
                return _read(response, path, BLOCK_BYTES)
            if response.getheader("content-length", "") != str(len(into)):
                raise ProtocolViolation(f"{path}: {len(into)} bytes were due")
            offset = 0
            while offset < len(into):
                count = response.readinto(into[offset : offset + BLOCK_BYTES])
                if count == 0:
                    raise http.client.IncompleteRead(b"", len(into) - offset)
                arrived(into[offset : offset + count])
                offset += count
            response.read()
            return Answer(response.status, b"")

        return self._exchange("GET", path, None, headers, read)

    def use(self, context: ssl.SSLContext) -> None:
        """From the next request on a connection with this context's certificate; now none."""
        host, _, port = self._address.rpartition(":")
        old = self._connection
        self._connection = _prepare(host.strip("[]"), int(port), context, self._proxy)
        old.close()

    def close(self) -> None:
        """Close the connection; the next request opens a new one."""
        self._connection.close()

    def _exchange(
        self,
        method: str,
        path: str,
        content: bytes | memoryview | None,
        headers: Mapping[str, str],
        read: Callable[[http.client.HTTPResponse], Answer],
    ) -> Answer:
        connection = self._connection
        self.busy = True
        self.requests += 1
        try:
            # http.client's types do not say that there is no socket before the first request.
            if getattr(connection, "sock", None) is None:
                connection.connect()
                connection.sock.settimeout(self._read_timeout_s)
            connection.request(method, path, body=content, headers=dict(headers))
            return read(connection.getresponse())
        except ProxyFailed:
            self.close()
            raise
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise _connection_failure(self._address, error, self._proxy) from error
        except ProtocolViolation:
            self.close()
            raise
        finally:
            self.busy, self.last_at = False, time.monotonic()


def _prepare(
    host: str, port: int, context: ssl.SSLContext, proxy: Proxy | None
) -> http.client.HTTPSConnection:
    if proxy is None:
        return http.client.HTTPSConnection(host, port, context=context, timeout=CONNECT_TIMEOUT_S)
    return ProxiedConnection(proxy, host, port, context=context, timeout_s=CONNECT_TIMEOUT_S)


def _read(response: http.client.HTTPResponse, path: str, limit_bytes: int) -> Answer:
    _check_length(response, path, limit_bytes)
    return Answer(response.status, response.read())


def _check_length(response: http.client.HTTPResponse, path: str, limit_bytes: int) -> None:
    length = response.getheader("content-length", "")
    if not length.isdigit() or int(length) > limit_bytes:
        raise ProtocolViolation(f"{path}: an answer of {length or 'unknown'} bytes")


# X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED (OpenSSL, x509_vfy.h).
_OF_TIME = {9, 10}
# What OpenSSL calls the first bytes of a service without TLS.
_NO_TLS = {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG"}


def _connection_failure(address: str, error: Exception, proxy: Proxy | None) -> Unreachable:
    """Say in words why there is no connection, and by the type whether trying again can help."""
    where = f"coordinator at {address}"
    if isinstance(error, ssl.SSLCertVerificationError):
        # Ours to judge: not of the pinned authority, for another host name, or not valid now.
        refused = f"{where}: its certificate is refused ({error.verify_message})"
        if error.verify_code in _OF_TIME:
            now = format_time(datetime.now(UTC))
            refused += f"; this machine's clock says {now}: is that right?"
        if proxy is not None:
            refused += (
                f"; proxy {proxy.name} seems to open TLS connections (interception): it has to "
                f"let {address} through untouched, since no other authority than the one of the "
                "join ticket is trusted"
            )
        return TlsRefused(refused)
    if isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or ""):
        alert = (error.reason or "").lower().replace("_", " ")
        return TlsRefused(f"{where}: it refuses this hospital's certificate or TLS ({alert})")
    if isinstance(error, ssl.SSLError) and error.reason in _NO_TLS:
        return Unreachable(f"{where}: what answers there speaks no TLS; is the port right?")
    if isinstance(error, ConnectionResetError | BrokenPipeError | ssl.SSLEOFError):
        # What a refused certificate looks like from here when the other side sends no alert.
        return Unreachable(
            f"{where} closed the connection without an answer: it is stopping, or does not accept "
            "this hospital's certificate"
        )
    if isinstance(error, TimeoutError):
        return Unreachable(f"{where} does not answer in time")
    return Unreachable(f"{where} is not reachable ({str(error)[:200] or type(error).__name__})")


def refusal(address: str, answer: Answer) -> WardroundError:
    """Say in words what the gateway's type name means: NotLetIn, or else ProtocolViolation."""
    name = answer.content[:ERROR_NAME_LIMIT].decode("ascii", "replace")
    if name in _REFUSALS:
        return NotLetIn(f"coordinator at {address}: {_REFUSALS[name]}")
    if not name.isidentifier():
        name = "no reason given"
    return ProtocolViolation(f"coordinator at {address} answers {answer.status} ({name})")
