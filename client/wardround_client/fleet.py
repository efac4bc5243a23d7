# ruff: noqa: E402 - Flower reads its environment when it is imported, so it is set before that
"""The hospital's place in the fleet; with `flower_letters` all that touches Flower's internals.

Speaks with the coordinator's gateway over HTTPS with the hospital's certificate: two requests for
each letter and its answer, and one for each large vector. No code ever arrives: a message is
numbers and JSON.
"""

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Self, TypeVar

from wardround.flower_quiet import quiet_flower

quiet_flower()

from flwr.app import Message
from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    ActivateNodeResponse,
    PullMessagesRequest,
    RegisterNodeFleetRequest,
    RegisterNodeFleetResponse,
    UnregisterNodeFleetRequest,
    UnregisterNodeFleetResponse,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest, SendNodeHeartbeatResponse
from flwr.proto.node_pb2 import Node
from google.protobuf.message import DecodeError
from google.protobuf.message import Message as Protobuf

from wardround.errors import BadInput, DeadlineMissed, ProtocolViolation, Unreachable
from wardround.held import attach, references_of
from wardround.randomness import Randomness, system_randomness
from wardround.wire import DEFAULT_LIMITS, WireLimits
from wardround_client.flower_letters import addressed, enveloped, opened, read_letter
from wardround_client.outbox import Outbox, Reply
from wardround_client.tls import Answer, ClientTls, HttpsClient, NotLetIn, TlsRefused, refusal
from wardround_client.transfer import DIGEST_HEADER, Download, Interrupted, Upload

__all__ = ["FleetConnection", "FleetPatience", "NotLetIn"]

log = logging.getLogger(__name__)

ResponseT = TypeVar("ResponseT", bound=Protobuf)
AnswerT = TypeVar("AnswerT")

NEXT_PATH, ANSWER_PATH, FLEET_PREFIX = "/v1/letters/next", "/v1/letters/answer", "/v1/fleet/"
SMALL_RESPONSE_LIMIT_BYTES = 1024 * 1024
NODE_KEY_BYTES = 32
RETRYABLE = frozenset({502, 503, 504, 507})
# The other side is at another place of the same exchange: it is begun again, and asked where.
_OUT_OF_STEP = frozenset({b"WrongOffset", b"UploadElsewhere", b"VectorMissing", b"BadDigest"})


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetPatience:
    """How often the hospital speaks up, and how long it waits.

    A hospital that waits for a letter says nothing in between; one that computes says every
    `heartbeat_s` that it lives.
    """

    longest_poll_s: float = 20.0
    read_timeout_s: float = 60.0
    heartbeat_s: float = 12.0
    first_pause_s: float = 0.1
    longest_pause_s: float = 5.0


class FleetConnection:
    """A hospital's place in the fleet, kept over lost connections and restarts of the coordinator.

    Use `receive` and `reply` from one thread. A heartbeat runs in a thread of its own, so that the
    coordinator knows of us during an hour of training. With an `outbox`, answers outlive the
    process: `receive` first delivers what is left in it.
    """

    def __init__(
        self,
        address: str,
        tls: ClientTls,
        *,
        limits: WireLimits = DEFAULT_LIMITS,
        patience: FleetPatience | None = None,
        outbox: Outbox | None = None,
        randomness: Randomness = system_randomness,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Read the TLS files; connect with the first call. Raises BadInput, Unreachable."""
        self.address = address
        self._limits = limits
        self._patience = patience or FleetPatience()
        self._randomness = randomness
        self._sleep = sleep
        timeout_s, context = self._patience.read_timeout_s, tls.context()
        self._https = HttpsClient(address, context, read_timeout_s=timeout_s)
        self._heart_https = HttpsClient(address, context, read_timeout_s=timeout_s)
        self._node = Node()
        self._held: _Held | None = None
        self._received = ""
        self._outbox = outbox
        self._has_left = outbox is not None
        self._closing = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    @property
    def node_id(self) -> int:
        """The node of this process; 0 before it has registered."""
        return int(self._node.node_id)

    def connect(self, timeout_s: float = 30.0) -> None:
        """Register. Raises Unreachable when it did not succeed in time, or cannot."""
        self._retry(self._ensure_node, time.monotonic() + timeout_s)

    def use(self, tls: ClientTls) -> None:
        """Speak with this certificate from now on, in both connections; the node stays the same."""
        context = tls.context()
        for https in (self._heart_https, self._https):
            https.use(context)

    @property
    def requests(self) -> int:
        """How many requests have been sent so far."""
        return self._https.requests + self._heart_https.requests

    def receive(self, timeout_s: float) -> Message | None:
        """Wait for the next message; None when none came in time.

        Each message is returned once, with its vector, however often the connection breaks. Raises
        Unreachable when the coordinator does not answer as the time ends, NotLetIn or TlsRefused at
        once when trying again would not help, and ProtocolViolation for a message that cannot be
        read (it does not come again).
        """
        ends = time.monotonic() + timeout_s
        if self._has_left:
            self._deliver_what_is_left(ends)
        while True:
            message = self._retry(lambda: self._receive_once(ends), ends)
            if message is not None or time.monotonic() >= ends:
                return message

    def reply(self, message: Message, timeout_s: float = 600.0, *, keep: bool = False) -> None:
        """Send an answer, made with `Message(content, reply_to=received)`.

        With `keep` it is in the outbox before the first byte leaves, until the coordinator has it.
        Raises DeadlineMissed when the coordinator does not wait for it any more, Unreachable as
        `receive` does.
        """
        reply = enveloped(message)
        if keep and self._outbox is not None:
            self._keep(self._outbox, reply)
        self._deliver(reply, time.monotonic() + timeout_s, upload=_upload_of(reply))
        # Its letter need not be named again: the answer has confirmed it.
        self._received = ""

    def _keep(self, outbox: Outbox, reply: Reply) -> None:
        self._has_left = True
        try:
            outbox.keep(reply)
        except (OSError, BadInput) as error:
            # A full disk costs the second chance, not the first.
            log.warning("an answer is not in the outbox: %s", type(error).__name__)

    def _deliver(self, reply: Reply, ends: float, *, upload: Upload | None) -> None:
        try:
            self._retry(lambda: self._send(reply, upload), ends)
        except Unreachable:
            raise  # kept: it is delivered when the coordinator is back
        except (DeadlineMissed, ProtocolViolation):
            self._empty_outbox()
            raise
        self._empty_outbox()

    def _deliver_what_is_left(self, ends: float) -> None:
        reply = None if self._outbox is None else self._outbox.left()
        if reply is None:
            self._has_left = False
            return
        upload = _upload_of(reply)
        if upload is not None:
            upload.asks = True
        try:
            self._deliver(reply, ends, upload=upload)
            log.info("an answer that was left in the outbox has been delivered")
        except (DeadlineMissed, ProtocolViolation) as error:
            log.warning("an answer that was left in the outbox is discarded: %s", error)

    def _empty_outbox(self) -> None:
        if self._outbox is not None and self._has_left:
            self._outbox.empty()
            self._has_left = False

    def _send(self, reply: Reply, upload: Upload | None) -> None:
        self._ensure_node()
        headers = {"content-type": "application/octet-stream"}
        if upload is not None:
            # What is not wanted may have been taken already: the answer itself is told which.
            with suppress(DeadlineMissed):
                upload.go_on(self._https, self._check_status)
            headers[DIGEST_HEADER] = reply.digest
        content = addressed(reply, self._node)
        answer = self._https.post(
            ANSWER_PATH, content, limit_bytes=SMALL_RESPONSE_LIMIT_BYTES, headers=headers
        )
        self._check_status(answer)

    def close(self) -> None:
        """Leave the fleet, politely when the coordinator answers. Twice is once."""
        if self._closing.is_set():
            return
        self._closing.set()
        if self.node_id:
            # An interrupt may have left it in the middle of a poll.
            self._https.close()
            try:
                request = UnregisterNodeFleetRequest(node_id=self.node_id)
                self._call("unregister-node", request, UnregisterNodeFleetResponse)
            except (Unreachable, ProtocolViolation, DeadlineMissed) as error:
                log.debug("left without a goodbye: %s", type(error).__name__)
        if self._heart.is_alive():
            self._heart.join(self._patience.heartbeat_s + 1.0)
        self._https.close()
        self._heart_https.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _ensure_node(self) -> None:
        if self.node_id:
            return
        # A key of its own for each attempt: Flower never takes one twice, and the answer to the
        # attempt before may have been lost on the way.
        public_key = self._randomness(NODE_KEY_BYTES)
        registered = self._call(
            "register-node",
            RegisterNodeFleetRequest(public_key=public_key),
            RegisterNodeFleetResponse,
        )
        interval = HEARTBEAT_DEFAULT_INTERVAL
        self._call(
            "activate-node",
            ActivateNodeRequest(public_key=public_key, heartbeat_interval=interval),
            ActivateNodeResponse,
        )
        self._node = Node(node_id=registered.node_id)
        self._held, self._received = None, ""
        if not self._heart.is_alive():
            self._heart.start()

    def _receive_once(self, ends: float) -> Message | None:
        self._ensure_node()
        if self._held is None:
            self._held = self._next_letter(ends)
        if self._held is None:
            return None
        held = self._held
        try:
            pieces = [each.go_on(self._https, self._check_status) for each in held.downloads]
        except ProtocolViolation:
            self._held = None
            raise
        except DeadlineMissed as error:
            log.info("a letter was withdrawn while it came: %s", error)
            self._held = None
            return None
        for download, piece in zip(held.downloads, pieces, strict=True):
            attach(held.message.content, download.reference, piece)
        self._held = None
        return held.message

    def _next_letter(self, ends: float) -> "_Held | None":
        wait_s = max(0.0, min(self._patience.longest_poll_s, ends - time.monotonic()))
        wait_ms = str(round(1000 * wait_s))
        headers = {"content-type": "application/x-protobuf", "wardround-wait-ms": wait_ms}
        if self._received:
            headers["wardround-received"] = self._received
        answer = self._https.post(
            NEXT_PATH,
            PullMessagesRequest(node=self._node).SerializeToString(),
            limit_bytes=self._limits.message_bytes + SMALL_RESPONSE_LIMIT_BYTES,
            headers=headers,
        )
        self._check_status(answer)
        if not answer.content:
            return None
        letter, objects = opened(answer.content, limits=self._limits)
        # From here on it counts as received: what cannot be read now will not be readable later.
        self._received = letter
        message = read_letter(letter, objects, limits=self._limits)
        try:
            references = references_of(message.content, limits=self._limits)
        except BadInput as error:
            raise ProtocolViolation(f"a letter's vector: {error}") from error
        return _Held(message, [Download(letter, reference) for reference in references])

    def _call(
        self,
        route: str,
        request: Protobuf,
        kind: type[ResponseT],
        *,
        https: HttpsClient | None = None,
    ) -> ResponseT:
        answer = (https or self._https).post(
            FLEET_PREFIX + route,
            request.SerializeToString(),
            limit_bytes=SMALL_RESPONSE_LIMIT_BYTES,
            headers={"content-type": "application/x-protobuf"},
        )
        self._check_status(answer)
        try:
            return kind.FromString(answer.content)
        except DecodeError as error:
            raise ProtocolViolation(f"{route}: the answer is not a {kind.__name__}") from error

    def _check_status(self, answer: Answer) -> None:
        if answer.status == HTTPStatus.OK:
            return
        if answer.content == b"NodeNotYours":
            # The coordinator has restarted and knows no nodes: register anew.
            self._node = Node()
            raise Interrupted("the coordinator does not know this node any more")
        if answer.content in _OUT_OF_STEP:
            raise Interrupted(f"out of step: {answer.content.decode()}")
        if answer.content == b"AnswerNotWanted":
            raise DeadlineMissed("the coordinator does not wait for this answer any more")
        if answer.status in RETRYABLE:
            raise Unreachable(f"coordinator at {self.address} is not ready")
        raise refusal(self.address, answer)

    def _retry(self, attempt: Callable[[], AnswerT], ends: float) -> AnswerT:
        """Try until it works, growing the pause; what cannot get better is raised at once."""
        pause_s = self._patience.first_pause_s
        while True:
            try:
                return attempt()
            except (TlsRefused, NotLetIn):
                raise
            except Unreachable as error:
                left_s = ends - time.monotonic()
                if left_s <= 0:
                    raise
                log.debug("%s: again in %.1f s", error, pause_s)
            # Up to a quarter off: hospitals cut off together do not come back together.
            jitter = 1.0 - self._randomness(1)[0] / 1024
            self._sleep(min(pause_s * jitter, left_s))
            pause_s = min(2 * pause_s, self._patience.longest_pause_s)

    def _beat(self) -> None:
        pause_s = self._patience.heartbeat_s
        while not self._closing.wait(pause_s):
            # A request is under way, or was lately: the coordinator knows that we live.
            quiet_s = 0.0 if self._https.busy else time.monotonic() - self._https.last_at
            if not self.node_id or quiet_s < 0.9 * self._patience.heartbeat_s:
                pause_s = max(self._patience.heartbeat_s - quiet_s, 0.1)
                continue
            pause_s = self._patience.heartbeat_s
            request = SendNodeHeartbeatRequest(
                node=self._node, heartbeat_interval=HEARTBEAT_DEFAULT_INTERVAL
            )
            try:
                self._call(
                    "send-node-heartbeat",
                    request,
                    SendNodeHeartbeatResponse,
                    https=self._heart_https,
                )
            except (Unreachable, ProtocolViolation) as error:
                # `receive` meets the same and acts on it; here there is nobody to tell.
                log.debug("no heartbeat: %s", type(error).__name__)


@dataclass(frozen=True, slots=True)
class _Held:
    """A letter that has come, perhaps without all that is beside it."""

    message: Message
    downloads: list[Download]


def _upload_of(reply: Reply) -> Upload | None:
    if reply.vector is None:
        return None
    return Upload(reply.letter, reply.vector, reply.digest)
