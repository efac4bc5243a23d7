"""The hospital's end of the TLS connection, and what a failure of it means in words."""

import base64
import http.client
import ipaddress
import ssl
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from wardround.errors import BadInput, ProtocolViolation, Unreachable, WardroundError
from wardround.ticket import format_time

CONNECT_TIMEOUT_S = 5.0
ERROR_NAME_LIMIT = 80

_REFUSALS: Mapping[str, str] = {
    "UnknownHospital": "it does not know this hospital's certificate (removed, or enrolled anew?)",
    "NotInvited": "the join ticket is unknown, used, withdrawn, expired or another hospital's",
    "AlreadyEnrolled": "a hospital of this name has enrolled before",
    "BadEnrolment": "it refuses the signing request or the proof of the identity key",
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
            raise BadInput(f"TLS files of this hospital: {type(error).__name__}") from error
        return context

    def _check_certificate(self) -> None:
        try:
            certificate = x509.load_pem_x509_certificate(self.certificate.read_bytes())
            authority = x509.load_pem_x509_certificate(self.authority.read_bytes())
        except (OSError, ValueError) as error:
            raise BadInput(f"{self.certificate.name}: {type(error).__name__}") from error
        try:
            certificate.verify_directly_issued_by(authority)
        except (InvalidSignature, TypeError, ValueError) as error:
            raise BadInput(
                f"{self.certificate.name}: not issued by {self.authority.name}"
            ) from error
        if certificate.not_valid_after_utc <= datetime.now(UTC):
            ended = format_time(certificate.not_valid_after_utc)
            raise Unreachable(
                f"this hospital's certificate expired on {ended}: ask for a new join ticket"
            )


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer, read whole."""

    status: int
    content: bytes


class HttpsClient:
    """One kept connection to the coordinator. For one thread.

    The standard library's client: it costs a fifth of httpx per request, and a round is dozens of
    them (decision 0001). HTTPS_PROXY and NO_PROXY are honoured, with CONNECT: a proxy sees the
    coordinator's name and encrypted bytes. A loopback address is never asked of a proxy. Redirects
    are not followed.
    """

    def __init__(self, address: str, context: ssl.SSLContext, *, read_timeout_s: float) -> None:
        """Connect with the first request. Raises BadInput for a proxy that cannot be used."""
        host, _, port = address.rpartition(":")
        self._address = address
        self._read_timeout_s = read_timeout_s
        self._connection = _prepare(host.strip("[]"), int(port), context)

    def post(
        self, path: str, content: bytes, *, limit_bytes: int, headers: Mapping[str, str]
    ) -> Answer:
        """Send one request; the answer's announced size is checked before it is read.

        Raises Unreachable in words (TlsRefused when trying again does not help) and
        ProtocolViolation for an answer over the limit. Nothing is sent twice.
        """
        connection = self._connection
        try:
            # http.client's types do not say that there is no socket before the first request.
            if getattr(connection, "sock", None) is None:
                connection.connect()
                connection.sock.settimeout(self._read_timeout_s)
            connection.request("POST", path, body=content, headers=dict(headers))
            response = connection.getresponse()
            _check_length(response, path, limit_bytes)
            return Answer(response.status, response.read())
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise _connection_failure(self._address, error) from error
        except ProtocolViolation:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection; the next request opens a new one."""
        self._connection.close()


def _prepare(host: str, port: int, context: ssl.SSLContext) -> http.client.HTTPSConnection:
    url = None if _is_loopback(host) else urllib.request.getproxies().get("https")
    if not url or urllib.request.proxy_bypass(host):
        return http.client.HTTPSConnection(host, port, context=context, timeout=CONNECT_TIMEOUT_S)
    proxy = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
    if proxy.scheme != "http" or not proxy.hostname:
        raise BadInput("HTTPS_PROXY: http://HOST:PORT was due")
    connection = http.client.HTTPSConnection(
        proxy.hostname, proxy.port or 80, context=context, timeout=CONNECT_TIMEOUT_S
    )
    headers = {}
    if proxy.username:
        account = f"{proxy.username}:{proxy.password or ''}"
        token = base64.b64encode(urllib.parse.unquote(account).encode()).decode("ascii")
        headers["Proxy-Authorization"] = f"Basic {token}"
    connection.set_tunnel(host, port, headers=headers)
    return connection


def _check_length(response: http.client.HTTPResponse, path: str, limit_bytes: int) -> None:
    length = response.getheader("content-length", "")
    if not length.isdigit() or int(length) > limit_bytes:
        raise ProtocolViolation(f"{path}: an answer of {length or 'unknown'} bytes")


def _connection_failure(address: str, error: Exception) -> Unreachable:
    """Say in words why there is no connection, and by the type whether trying again can help."""
    where = f"coordinator at {address}"
    if isinstance(error, ssl.SSLCertVerificationError):
        # Ours to judge: not of the pinned authority, for another host name, or not valid now.
        return TlsRefused(f"{where}: its certificate is refused ({error.verify_message})")
    if isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or ""):
        alert = (error.reason or "").lower().replace("_", " ")
        return TlsRefused(f"{where}: it refuses this hospital's certificate or TLS ({alert})")
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


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
