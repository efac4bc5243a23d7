"""All that the world reaches of the coordinator, over mutual TLS: a hospital's routes, enrolment.

Who speaks is the certificate's holder, never what a request says. Anything else is 404; an error is
a status and a type name. (Decision 0001: Flower's own server also serves its control and runtime
APIs, the first without authentication.)
"""

import asyncio
import logging
import re
from http import HTTPStatus

from wardround.errors import BadInput
from wardround.renewal import RENEW_PATH, RenewalRequest
from wardround.ticket import ENROLMENT_LIMIT_BYTES, EnrolmentAnswer, EnrolmentRequest
from wardround_server.asgi import Receive, Scope, Send, header_of, read_body
from wardround_server.authority import Peer, Role
from wardround_server.enrolment import Enrolment
from wardround_server.flower_adapter import TASK_HEARTBEAT_S, FlowerFleet
from wardround_server.own_certificate import OwnCertificate
from wardround_server.presence import CHECK_EVERY_S, Presence
from wardround_server.refusals import (
    GatewayRefusal,
    MalformedRequest,
    NoSuchRoute,
    Stopping,
    UnknownHospital,
)
from wardround_server.tls_protocol import PEER_KEY, STATE_KEY
from wardround_server.vector_routes import VECTOR_PREFIX, VectorRoutes

log = logging.getLogger(__name__)

FLEET_PREFIX = "/v1/fleet/"
ENROL_PATH = "/v1/enrol"
NEXT_PATH, ANSWER_PATH = "/v1/letters/next", "/v1/letters/answer"
PROTOBUF, TEXT, JSON = b"application/x-protobuf", b"text/plain", b"application/json"
FRAMED = b"application/octet-stream"
LONGEST_POLL_S = 20.0
SMALL_REQUEST_LIMIT_BYTES = 256 * 1024
# Anything larger takes longer to hash than small requests take: it is carried out beside the
# event loop.
INLINE_BYTES = 256 * 1024
_MOST_DIGITS = 9
_DIGEST = re.compile(rb"[0-9a-f]{64}")


class Gateway:
    """The ASGI application. All of it runs in uvicorn's event loop, except `wake` and `stop`."""

    def __init__(
        self,
        fleet: FlowerFleet,
        enrolment: Enrolment,
        presence: Presence,
        certificate: OwnCertificate,
        *,
        longest_poll_s: float = LONGEST_POLL_S,
    ) -> None:
        self._fleet = fleet
        self._enrolment = enrolment
        self._presence = presence
        self._certificate = certificate
        self._vectors = VectorRoutes(fleet, presence)
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
            answered = await self._answer(scope, receive, send)
            if answered is None:  # a vector went out already
                return
            content_type, body = answered
        except GatewayRefusal as refusal:
            status, body = refusal.status, type(refusal).__name__.encode()
            log.info("%s: %s", scope["path"], type(refusal).__name__)
        except Exception as error:  # noqa: BLE001 - the rim: a type name is all that may leave
            status, body = HTTPStatus.INTERNAL_SERVER_ERROR, type(error).__name__.encode()
            log.warning("%s: %s", scope["path"], type(error).__name__)
        headers = [(b"content-type", content_type), (b"content-length", b"%d" % len(body))]
        if status != HTTPStatus.OK and _may_have_rest(scope, status):
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
            self._enrolment.take_up(peer)
            self._recognised.add(peer)
            self._presence.opened(peer.name)
        else:
            self._recognised.discard(peer)
        return recognised

    def connection_closed(self, peer: Peer) -> None:
        """See `ConnectionWatcher`."""
        self._presence.closed(peer.name)

    async def _answer(
        self, scope: Scope, receive: Receive, send: Send
    ) -> tuple[bytes, bytes] | None:
        peer: Peer = scope["state"][PEER_KEY]
        path: str = scope["path"]
        if self._stopping:
            raise Stopping("the coordinator is shutting down")
        if peer.role is Role.ENROLMENT and path == ENROL_PATH and scope["method"] == "POST":
            body = await read_body(scope, receive, limit_bytes=ENROLMENT_LIMIT_BYTES)
            return JSON, self._enrol(peer, body)
        if peer.role is not Role.HOSPITAL or not self._is_served(scope["method"], path):
            raise NoSuchRoute(path)
        if peer not in self._recognised:
            raise UnknownHospital(peer.name)
        self._presence.seen(peer.name)
        if path.startswith(VECTOR_PREFIX):
            return await self._vectors.answer(peer.name, scope, receive, send)
        if path == ANSWER_PATH:
            return TEXT, await self._take_answer(peer.name, scope, receive)
        body = await read_body(scope, receive, limit_bytes=SMALL_REQUEST_LIMIT_BYTES)
        if path == NEXT_PATH:
            return FRAMED, await self._poll(peer.name, body, scope, receive)
        return self._answer_small(peer, path, body)

    def _answer_small(self, peer: Peer, path: str, body: bytes) -> tuple[bytes, bytes]:
        if path == RENEW_PATH:
            return JSON, self._renew(peer, body)
        return PROTOBUF, self._fleet.answer(peer.name, path.removeprefix(FLEET_PREFIX), body)

    def _is_served(self, method: str, path: str) -> bool:
        if path.startswith(VECTOR_PREFIX):
            return True
        if method != "POST":
            return False
        flower = path.startswith(FLEET_PREFIX)
        route = path.removeprefix(FLEET_PREFIX)
        own = path in {NEXT_PATH, ANSWER_PATH, RENEW_PATH}
        return own or (flower and route in self._fleet.routes)

    async def _take_answer(self, hospital: str, scope: Scope, receive: Receive) -> bytes:
        digest = _hex_header(scope, b"wardround-vector")
        # The envelope and the frame's lengths come on top of the objects.
        limit_bytes = self._fleet.limits.message_bytes + SMALL_REQUEST_LIMIT_BYTES
        body = await read_body(scope, receive, limit_bytes=limit_bytes)
        if len(body) > INLINE_BYTES:
            await asyncio.to_thread(self._fleet.take_answer, hospital, body, digest=digest)
        else:
            self._fleet.take_answer(hospital, body, digest=digest)
        return b""

    async def _poll(self, hospital: str, body: bytes, scope: Scope, receive: Receive) -> bytes:
        """Answer when there is a letter, after the wait, or when the hospital has hung up."""
        loop = asyncio.get_running_loop()
        ends = loop.time() + min(_wished_wait_s(scope), self._longest_poll_s)
        received = _hex_header(scope, b"wardround-received")
        event = asyncio.Event()
        self._polls.setdefault(hospital, set()).add(event)
        # A letter handed to a connection that is gone would wait for the hospital's next poll.
        hung_up = asyncio.ensure_future(receive())
        try:
            while not (hung_up.done() or self._stopping):
                letter = self._fleet.next_letter(hospital, body, received=received)
                left_s = ends - loop.time()
                if letter or left_s <= 0:
                    return letter
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

    def _renew(self, peer: Peer, body: bytes) -> bytes:
        try:
            request = RenewalRequest.decode(body)
        except BadInput as error:
            raise MalformedRequest("not a renewal request") from error
        answer = EnrolmentAnswer(certificate=self._enrolment.renew(peer, request))
        log.info("hospital %s has a new certificate", peer.name)
        return answer.encode()

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        self._loop = asyncio.get_running_loop()
        scope["state"][STATE_KEY] = self
        beside = (self._check_presence(), self._beat(), self._certificate.keep())
        tasks = [asyncio.create_task(one) for one in beside]
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


def _may_have_rest(scope: Scope, status: HTTPStatus) -> bool:
    return scope["method"] == "PUT" or status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE


def _hex_header(scope: Scope, name: bytes) -> str:
    """A SHA-256 in hex, or nothing."""
    value = header_of(scope, name)
    if value and not _DIGEST.fullmatch(value):
        raise MalformedRequest(f"{name.decode()}: a SHA-256 in hex was due")
    return value.decode()


def _wished_wait_s(scope: Scope) -> float:
    """How long the hospital wants to wait: `Wardround-Wait-Ms: MILLISECONDS`."""
    value = header_of(scope, b"wardround-wait-ms")
    if not value:
        return LONGEST_POLL_S
    if not value.isdigit() or len(value) > _MOST_DIGITS:
        raise MalformedRequest("wardround-wait-ms: a number of milliseconds was due")
    return int(value) / 1000
