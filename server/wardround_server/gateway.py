"""All that the world reaches of the coordinator: the fleet routes and enrolment, over mutual TLS.

Who speaks is the certificate's holder, never what a request says. Anything else is 404; an error is
a status and a type name. (Decision 0001: Flower's own server also serves its control and runtime
APIs, the first without authentication.)
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any, TypeAlias

from wardround.errors import BadInput
from wardround.ticket import ENROLMENT_LIMIT_BYTES, EnrolmentAnswer, EnrolmentRequest
from wardround_server.authority import Peer, Role
from wardround_server.enrolment import Enrolment
from wardround_server.flower_adapter import TASK_HEARTBEAT_S, FlowerFleet
from wardround_server.presence import CHECK_EVERY_S, Presence
from wardround_server.refusals import (
    GatewayRefusal,
    MalformedRequest,
    NoSuchRoute,
    RequestTooLarge,
    Stopping,
    UnknownHospital,
)
from wardround_server.tls_protocol import PEER_KEY, STATE_KEY

log = logging.getLogger(__name__)

# ASGI 3.0: https://asgi.readthedocs.io/en/latest/specs/main.html
Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

FLEET_PREFIX = "/v1/fleet/"
ENROL_PATH = "/v1/enrol"
PROTOBUF, TEXT, JSON = b"application/x-protobuf", b"text/plain", b"application/json"
LONGEST_POLL_S = 20.0
# Flower cuts vectors into chunks of 5 MiB; a request with one is a little larger.
REQUEST_LIMIT_BYTES = 6 * 1024 * 1024
SMALL_REQUEST_LIMIT_BYTES = 256 * 1024
# Anything larger takes longer to hash than small requests take: it is carried out beside the
# event loop.
INLINE_BYTES = 256 * 1024


class Gateway:
    """The ASGI application. All of it runs in uvicorn's event loop, except `wake` and `stop`."""

    def __init__(
        self,
        fleet: FlowerFleet,
        enrolment: Enrolment,
        presence: Presence,
        *,
        request_limit_bytes: int = REQUEST_LIMIT_BYTES,
        longest_poll_s: float = LONGEST_POLL_S,
    ) -> None:
        self._fleet = fleet
        self._enrolment = enrolment
        self._presence = presence
        self._request_limit_bytes = request_limit_bytes
        self._longest_poll_s = longest_poll_s
        self._polls: dict[str, set[asyncio.Event]] = {}
        self._recognised: set[Peer] = set()
        self._stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or run the lifespan."""
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
            return
        content_type = TEXT
        try:
            status = HTTPStatus.OK
            content_type, body = await self._answer(scope, receive)
        except GatewayRefusal as refusal:
            status, body = refusal.status, type(refusal).__name__.encode()
            log.info("%s: %s", scope["path"], type(refusal).__name__)
        except Exception as error:  # noqa: BLE001 - the rim: a type name is all that may leave
            status, body = HTTPStatus.INTERNAL_SERVER_ERROR, type(error).__name__.encode()
            log.warning("%s: %s", scope["path"], type(error).__name__)
        headers = [(b"content-type", content_type), (b"content-length", b"%d" % len(body))]
        if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            # The rest of the body is never read, so nothing can follow on this connection.
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": int(status), "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def wake(self) -> None:
        """Let waiting hospitals look for messages; from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake_all)

    def stop(self) -> None:
        """Send waiting hospitals away and answer nothing any more; from any thread."""
        self._stopping = True
        self.wake()

    def connection_opened(self, peer: Peer) -> bool:
        """See `ConnectionWatcher`."""
        recognised = peer.role is Role.HOSPITAL and self._enrolment.recognises(peer)
        if recognised:
            self._recognised.add(peer)
            self._presence.opened(peer.name)
        return recognised

    def connection_closed(self, peer: Peer) -> None:
        """See `ConnectionWatcher`."""
        self._presence.closed(peer.name)

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[bytes, bytes]:
        peer: Peer = scope["state"][PEER_KEY]
        path: str = scope["path"]
        if self._stopping:
            raise Stopping("the coordinator is shutting down")
        if scope["method"] != "POST":
            raise NoSuchRoute(path)
        if peer.role is Role.ENROLMENT and path == ENROL_PATH:
            body = await _read_body(scope, receive, limit_bytes=ENROLMENT_LIMIT_BYTES)
            return JSON, self._enrol(peer, body)
        route = path.removeprefix(FLEET_PREFIX)
        if peer.role is not Role.HOSPITAL or route == path or route not in self._fleet.routes:
            raise NoSuchRoute(path)
        if peer not in self._recognised:
            raise UnknownHospital(peer.name)
        self._presence.seen(peer.name)
        limit = self._request_limit_bytes if route == "push-object" else SMALL_REQUEST_LIMIT_BYTES
        body = await _read_body(scope, receive, limit_bytes=min(limit, self._request_limit_bytes))
        if route == "pull-messages":
            return PROTOBUF, await self._poll(peer.name, body, _wished_wait(scope), receive)
        if len(body) > INLINE_BYTES:
            return PROTOBUF, await asyncio.to_thread(self._fleet.answer, peer.name, route, body)
        return PROTOBUF, self._fleet.answer(peer.name, route, body)

    async def _poll(self, hospital: str, body: bytes, wait_s: float, receive: Receive) -> bytes:
        """Answer when there is a message, after the wait, or when the hospital has hung up."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + min(wait_s, self._longest_poll_s)
        event = asyncio.Event()
        self._polls.setdefault(hospital, set()).add(event)
        # A message handed to a connection that is gone would wait for the hospital's next poll.
        hung_up = asyncio.ensure_future(receive())
        try:
            while not (hung_up.done() or self._stopping):
                response = self._fleet.answer(hospital, "pull-messages", body)
                left_s = ends - loop.time()
                if response or left_s <= 0:
                    return response
                event.clear()
                rung = asyncio.ensure_future(event.wait())
                await asyncio.wait({rung, hung_up}, timeout=left_s, return_when="FIRST_COMPLETED")
                rung.cancel()
            return b""
        finally:
            hung_up.cancel()
            self._polls[hospital].discard(event)

    def _enrol(self, peer: Peer, body: bytes) -> bytes:
        try:
            request = EnrolmentRequest.decode(body)
        except BadInput as error:
            raise MalformedRequest("not an enrolment request") from error
        answer = EnrolmentAnswer(certificate=self._enrolment.admit(peer, request))
        log.info("hospital %s has enrolled", peer.name)
        return answer.encode()

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        self._loop = asyncio.get_running_loop()
        scope["state"][STATE_KEY] = self
        tasks = [asyncio.create_task(self._check_presence()), asyncio.create_task(self._beat())]
        await send({"type": "lifespan.startup.complete"})
        await receive()
        for task in tasks:
            task.cancel()
        await send({"type": "lifespan.shutdown.complete"})

    async def _check_presence(self) -> None:
        while True:
            self._presence.check()
            # A hospital that has been removed is refused soon, not only when it reconnects.
            self._recognised = {p for p in self._recognised if self._enrolment.recognises(p)}
            await asyncio.sleep(CHECK_EVERY_S)

    async def _beat(self) -> None:
        while True:
            self._fleet.keep_runs_alive()
            await asyncio.sleep(TASK_HEARTBEAT_S)

    def _wake_all(self) -> None:
        for events in self._polls.values():
            for event in events:
                event.set()


async def _read_body(scope: Scope, receive: Receive, *, limit_bytes: int) -> bytes:
    """Read the request; refuse it by its announced length, or as soon as it is over the limit."""
    for name, value in scope["headers"]:
        if name == b"content-length" and int(value) > limit_bytes:
            raise RequestTooLarge(f"{int(value)} bytes, at most {limit_bytes} are allowed")
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise MalformedRequest("the connection ended within the request")
        body += message.get("body", b"")
        if len(body) > limit_bytes:
            raise RequestTooLarge(f"more than {limit_bytes} bytes")
        if not message.get("more_body", False):
            return bytes(body)


def _wished_wait(scope: Scope) -> float:
    """How long the hospital wants to wait: `Prefer: wait=SECONDS` (RFC 7240, 4.3)."""
    for name, value in scope["headers"]:
        if name == b"prefer" and value.startswith(b"wait="):
            seconds = value.removeprefix(b"wait=")
            return float(seconds) if seconds.isdigit() else 0.0
    return LONGEST_POLL_S
