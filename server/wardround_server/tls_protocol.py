"""uvicorn's HTTP protocol, which tells the application whose certificate is at the other end."""

import asyncio
import logging
from typing import Protocol, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from wardround.errors import BadInput
from wardround_server.authority import Peer, read_peer

log = logging.getLogger(__name__)

STATE_KEY = "connections"
PEER_KEY = "peer"
# uvloop's own would be half a MiB each way for each hospital.
BUFFER_BYTES = 128 * 1024


class ConnectionWatcher(Protocol):
    """What the application puts into the lifespan state under `STATE_KEY`."""

    def connection_opened(self, peer: Peer) -> bool:
        """A TLS connection with this certificate has been made; True when its end matters."""
        ...

    def connection_closed(self, peer: Peer) -> None:
        """It is gone; called only when `connection_opened` said True."""
        ...


class ReadLimited(Protocol):
    """What asyncio's and uvloop's TLS transports have, and asyncio's types do not say."""

    def set_read_buffer_limits(self, high: int) -> None:
        """How much may wait encrypted before reading from the network stops."""
        ...


class PeerProtocol(HttpToolsProtocol):
    """Adds `scope["state"]["peer"]`, the `Peer` that the verified client certificate names.

    uvicorn has no TLS extension for ASGI. A connection without a certificate of this coordinator's
    authority never gets here; one whose certificate is of none of its kinds is closed unanswered.
    """

    peer: Peer | None = None
    watched = False

    # asyncio declares any transport; uvicorn narrows it to one that reads and writes, as all of a
    # TLS server's do, and we override uvicorn's method.
    def connection_made(  # type: ignore[override]
        self, transport: asyncio.Transport
    ) -> None:
        """Read the certificate, then go on as uvicorn does."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=BUFFER_BYTES)
        tls_transport = cast("ReadLimited", transport)
        tls_transport.set_read_buffer_limits(high=BUFFER_BYTES)
        tls = transport.get_extra_info("ssl_object")
        certificate = tls.getpeercert(binary_form=True) if tls is not None else None
        try:
            self.peer = read_peer(certificate or b"")
        except BadInput as error:
            log.warning("connection closed: %s", error)
            transport.abort()
            return
        self.watched = self._watcher.connection_opened(self.peer)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the watcher, then go on as uvicorn does."""
        if self.watched and self.peer is not None:
            self._watcher.connection_closed(self.peer)
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """Put the peer into the state of each request."""
        super().on_message_begin()
        self.scope["state"][PEER_KEY] = self.peer

    @property
    def _watcher(self) -> ConnectionWatcher:
        return cast("ConnectionWatcher", self.app_state[STATE_KEY])
