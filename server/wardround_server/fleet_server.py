"""The gateway as a thread of the coordinator's process: started, used, stopped, port free again."""

import errno
import logging
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import uvicorn

from wardround.errors import BadInput, WardroundError
from wardround.wire import DEFAULT_LIMITS, WireLimits
from wardround_server.authority import Authority
from wardround_server.enrolment import Enrolment
from wardround_server.flower_adapter import FlowerFleet
from wardround_server.gateway import LONGEST_POLL_S, Gateway
from wardround_server.grid import HospitalGrid
from wardround_server.letters import RESUME_S
from wardround_server.own_certificate import OwnCertificate
from wardround_server.presence import GRACE_S, SILENCE_S, Bell, Presence
from wardround_server.tls_protocol import PeerProtocol

START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 10.0
KEEP_ALIVE_S = 120
GRACEFUL_STOP_S = 2
BACKLOG = 128
SPOOL_FOLDER = "spool"


class PortInUse(WardroundError):
    """Another process listens there (exit code 1)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetOptions:
    """What sets the gateway's limits and patience."""

    limits: WireLimits = DEFAULT_LIMITS
    longest_poll_s: float = LONGEST_POLL_S
    grace_s: float = GRACE_S
    silence_s: float = SILENCE_S
    resume_s: float = RESUME_S


class RunningFleet:
    """A gateway that answers until `stop`, or the end of the `with` block."""

    def __init__(
        self,
        listener: socket.socket,
        certificate: OwnCertificate,
        enrolment: Enrolment,
        spools: Path,
        options: FleetOptions,
    ) -> None:
        self.enrolment = enrolment
        self.port: int = listener.getsockname()[1]
        self._bell = Bell()
        self._presence = Presence(
            ring=self._bell.ring, grace_s=options.grace_s, silence_s=options.silence_s
        )
        self._fleet = FlowerFleet(
            limits=options.limits, ring=self._bell.ring, spools=spools, resume_s=options.resume_s
        )
        self._gateway = Gateway(
            self._fleet,
            enrolment,
            self._presence,
            certificate,
            longest_poll_s=options.longest_poll_s,
        )
        self._server = uvicorn.Server(_uvicorn_config(self._gateway, certificate.context))
        self._listener = listener
        self._thread = threading.Thread(
            target=self._server.run, args=([listener],), name="gateway", daemon=True
        )

    def open_grid(self) -> HospitalGrid:
        """A fresh run over these hospitals; close it when the study is over."""
        return HospitalGrid(self._fleet, self._presence, self._bell, wake=self._gateway.wake)

    def hospitals_connected(self) -> frozenset[str]:
        """The hospitals that can be sent a message now."""
        return self._fleet.nodes.active() & self._presence.here()

    def stored_objects(self) -> int:
        """How many of Flower's objects are in memory."""
        return self._fleet.stored_objects()

    def requests_answered(self) -> int:
        """How many requests the gateway has answered since it started."""
        return self._server.server_state.total_requests

    def start(self) -> None:
        """Return when the gateway answers."""
        self._thread.start()
        ends = time.monotonic() + START_TIMEOUT_S
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > ends:
                raise WardroundError(f"the gateway did not start on port {self.port}")
            time.sleep(0.01)

    def stop(self) -> None:
        """Send the hospitals away, end the thread, free the port. Twice is once."""
        self._gateway.stop()
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(STOP_TIMEOUT_S)
        self._listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def start_fleet(
    directory: Path,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    names: Sequence[str] = (),
    options: FleetOptions | None = None,
) -> RunningFleet:
    """Start the gateway with the authority and the hospitals of a coordinator's directory.

    `names` are the host names and addresses that hospitals will use, beside `host`. Port 0 takes a
    free one: `.port` says which. Raises PortInUse, or BadInput when the host is not this machine's.
    """
    authority = Authority.load(directory / "authority")
    enrolment = Enrolment.open(directory, authority)
    certificate = OwnCertificate(authority, [host, *names])
    spools = directory / SPOOL_FOLDER
    spools.mkdir(mode=0o700, exist_ok=True)
    chosen = options or FleetOptions()
    running = RunningFleet(_listen(host, port), certificate, enrolment, spools, chosen)
    try:
        running.start()
    except BaseException:
        running.stop()
        raise
    return running


def _listen(host: str, port: int) -> socket.socket:
    bare = host.strip("[]")
    family = socket.AF_INET6 if ":" in bare else socket.AF_INET
    try:
        return socket.create_server((bare, port), family=family, backlog=BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(f"port {port} on {host} is in use by another process") from error
        raise BadInput(f"cannot listen on {host}:{port}: {error.strerror}") from error


def _uvicorn_config(gateway: Gateway, tls: ssl.SSLContext) -> uvicorn.Config:
    def context(config: uvicorn.Config, default: object) -> ssl.SSLContext:
        del config, default
        return tls

    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    return uvicorn.Config(
        gateway,
        http=PeerProtocol,
        loop="uvloop",
        lifespan="on",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACEFUL_STOP_S,
        ssl_context_factory=context,
    )
