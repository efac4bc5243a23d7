"""The hospital's way out through a proxy: HTTPS_PROXY, NO_PROXY, CONNECT (RFC 9110, 9.3.6).

The proxy sees the coordinator's name and encrypted bytes. Its name and password stay out of every
error and log.
"""

import base64
import http.client
import ipaddress
import socket
import ssl
import urllib.parse
import urllib.request
from dataclasses import dataclass, field
from http import HTTPStatus

from wardround.errors import BadInput, Unreachable

_REASON_LIMIT = 60


class ProxyFailed(Unreachable):
    """The proxy is not there, or does not connect us; the text names it and its status."""


@dataclass(frozen=True, slots=True)
class Proxy:
    """Where the proxy is, and what it wants to see."""

    host: str
    port: int
    authorization: str = field(default="", repr=False)

    @property
    def name(self) -> str:
        """HOST:PORT, for errors."""
        return f"{self.host}:{self.port}"


def proxy_for(host: str, port: int) -> Proxy | None:
    """The proxy that the environment names for this address. A loopback address has none.

    Raises BadInput for a proxy that cannot be used; the text does not repeat what it found.
    """
    if is_loopback(host):
        return None
    url = urllib.request.getproxies().get("https")
    if not url or urllib.request.proxy_bypass(f"{host}:{port}"):
        return None
    try:
        parsed = urllib.parse.urlsplit(url if "://" in url else f"http://{url}")
        proxy_host, proxy_port = parsed.hostname, parsed.port or 80
    except ValueError as error:
        raise BadInput("HTTPS_PROXY: http://HOST:PORT was due") from error
    if parsed.scheme != "http" or not proxy_host:
        raise BadInput("HTTPS_PROXY: http://HOST:PORT was due")
    authorization = ""
    if parsed.username:
        name, password = (
            urllib.parse.unquote(part) for part in (parsed.username, parsed.password or "")
        )
        token = base64.b64encode(f"{name}:{password}".encode()).decode("ascii")
        authorization = f"Basic {token}"
    return Proxy(proxy_host, proxy_port, authorization)


def is_loopback(host: str) -> bool:
    """Whether the address is this machine's own, of which no proxy is asked."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class ProxiedConnection(http.client.HTTPSConnection):
    """An HTTPS connection through a proxy's tunnel; the TLS inside ends at the coordinator."""

    def __init__(
        self, proxy: Proxy, host: str, port: int, *, context: ssl.SSLContext, timeout_s: float
    ) -> None:
        super().__init__(host, port, context=context, timeout=timeout_s)
        self._proxy = proxy
        self._tls = context
        self._wait_s = timeout_s

    def connect(self) -> None:
        """Ask the proxy for a tunnel, then speak TLS in it. Raises ProxyFailed."""
        try:
            raw = socket.create_connection((self._proxy.host, self._proxy.port), self._wait_s)
        except OSError as error:
            why = error.strerror or type(error).__name__
            raise ProxyFailed(f"proxy {self._proxy.name} is not reachable ({why})") from error
        try:
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open_tunnel(raw)
            self.sock = self._tls.wrap_socket(raw, server_hostname=self.host)
        except BaseException:
            raw.close()
            raise

    def _open_tunnel(self, raw: socket.socket) -> None:
        host = f"[{self.host}]" if ":" in self.host else self.host
        lines = [f"CONNECT {host}:{self.port} HTTP/1.1", f"Host: {host}:{self.port}"]
        if self._proxy.authorization:
            lines.append(f"Proxy-Authorization: {self._proxy.authorization}")
        response = http.client.HTTPResponse(raw, method="CONNECT")
        try:
            raw.sendall("\r\n".join([*lines, "", ""]).encode("ascii"))
            response.begin()
        except (OSError, http.client.HTTPException) as error:
            why = type(error).__name__
            raise ProxyFailed(f"proxy {self._proxy.name} gives no answer ({why})") from error
        finally:
            response.close()
        if response.status != HTTPStatus.OK:
            raise ProxyFailed(_refusal(self._proxy, f"{host}:{self.port}", response))


def _refusal(proxy: Proxy, address: str, response: http.client.HTTPResponse) -> str:
    reason = "".join(c for c in response.reason[:_REASON_LIMIT] if c.isprintable())
    text = f"proxy {proxy.name} does not connect us to {address}: {response.status} {reason}"
    if response.status == HTTPStatus.PROXY_AUTHENTICATION_REQUIRED:
        text += " (HTTPS_PROXY may hold a name and a password: http://NAME:PASSWORD@HOST:PORT)"
    return text.rstrip()
