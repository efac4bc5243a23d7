# ruff: noqa: E402 - Flower reads its environment when it is imported, so it is set before that
"""The one module of the hospital that touches Flower's internals: its place in the fleet.

Speaks Flower's Fleet API over HTTPS with the hospital's certificate. No code ever arrives: a
message is numbers and JSON, and the routes for code are not even asked.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from types import TracebackType
from typing import Self, TypeVar

from wardround.flower_quiet import quiet_flower

quiet_flower()

from flwr.app import Message
from flwr.app.message import remove_content_from_message
from flwr.common.constant import HEARTBEAT_DEFAULT_INTERVAL
from flwr.common.serde import message_to_proto
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    ActivateNodeResponse,
    PullMessagesRequest,
    PullMessagesResponse,
    PushMessagesRequest,
    PushMessagesResponse,
    RegisterNodeFleetRequest,
    RegisterNodeFleetResponse,
    UnregisterNodeFleetRequest,
    UnregisterNodeFleetResponse,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest, SendNodeHeartbeatResponse
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedRequest,
    ConfirmMessageReceivedResponse,
    ObjectTree,
    PullObjectRequest,
    PullObjectResponse,
    PushObjectRequest,
    PushObjectResponse,
)
from flwr.proto.node_pb2 import Node
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from google.protobuf.message import DecodeError
from google.protobuf.message import Message as Protobuf

from wardround.errors import BadInput, DeadlineMissed, ProtocolViolation, Unreachable
from wardround.randomness import Randomness, system_randomness
from wardround.wire import CHUNK_BYTES, DEFAULT_LIMITS, WireLimits, check_objects
from wardround_client.tls import Answer, ClientTls, HttpsClient, NotLetIn, TlsRefused, refusal

__all__ = ["FleetConnection", "FleetPatience", "NotLetIn"]

log = logging.getLogger(__name__)

ResponseT = TypeVar("ResponseT", bound=Protobuf)
AnswerT = TypeVar("AnswerT")

RESPONSE_LIMIT_BYTES = CHUNK_BYTES + 1024 * 1024
NODE_KEY_BYTES = 32
RETRYABLE = frozenset({502, 503, 504})


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetPatience:
    """How often the hospital speaks up, and how long it waits."""

    longest_poll_s: int = 20
    read_timeout_s: float = 60.0
    heartbeat_s: float = 5.0
    first_pause_s: float = 0.1
    longest_pause_s: float = 5.0


class FleetConnection:
    """A hospital's place in the fleet, kept over lost connections and restarts of the coordinator.

    Use `receive` and `reply` from one thread. A heartbeat runs in a thread of its own, so that the
    coordinator knows of us during an hour of training.
    """

    def __init__(
        self,
        address: str,
        tls: ClientTls,
        *,
        limits: WireLimits = DEFAULT_LIMITS,
        patience: FleetPatience | None = None,
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
        self._closing = threading.Event()
        self._heart = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    @property
    def node_id(self) -> int:
        """The node of this process; 0 before it has registered."""
        return int(self._node.node_id)

    def connect(self, timeout_s: float = 30.0) -> None:
        """Register. Raises Unreachable when it did not succeed in time, or cannot."""
        self._retry(self._ensure_node, time.monotonic() + timeout_s)

    def receive(self, timeout_s: float) -> Message | None:
        """Wait for the next message; None when none came in time.

        Each message is returned once, however often the connection breaks. Raises Unreachable when
        the coordinator does not answer as the time ends, NotLetIn or TlsRefused at once when trying
        again would not help, and ProtocolViolation for a message that cannot be read (which was
        confirmed, so it does not come again).
        """
        ends = time.monotonic() + timeout_s
        while True:
            message = self._retry(lambda: self._receive_once(ends), ends)
            if message is not None or time.monotonic() >= ends:
                return message

    def reply(self, message: Message, timeout_s: float = 600.0) -> None:
        """Send an answer, made with `Message(content, reply_to=received)`.

        Raises DeadlineMissed when the coordinator does not wait for it any more, Unreachable as
        `receive` does.
        """
        with no_object_id_recompute():
            message.metadata.__dict__["_message_id"] = message.object_id
            tree, objects = get_object_tree(message), get_all_nested_objects(message)
            request = PushMessagesRequest(
                node=self._node,
                messages_list=[message_to_proto(remove_content_from_message(message))],
                message_object_trees=[tree],
                clientapp_runtime_list=[0.0],
            )
            contents = {name: part.deflate() for name, part in objects.items()}
        run_id = message.metadata.run_id
        self._retry(lambda: self._push(request, run_id, contents), time.monotonic() + timeout_s)

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
        self._held = None
        if not self._heart.is_alive():
            self._heart.start()

    def _receive_once(self, ends: float) -> Message | None:
        self._ensure_node()
        if self._held is None:
            self._held = self._next_letter(ends)
        if self._held is None:
            return None
        # Held until the receipt has arrived: the coordinator hands a letter out until then, and
        # never again afterwards, so each is read exactly once.
        self._confirm(self._held.run_id, self._held.letter)
        held, self._held = self._held, None
        return self._read(held.letter, held.contents)

    def _next_letter(self, ends: float) -> "_Held | None":
        wait_s = int(max(0.0, min(self._patience.longest_poll_s, ends - time.monotonic())))
        response = self._call(
            "pull-messages",
            PullMessagesRequest(node=self._node),
            PullMessagesResponse,
            wait_s=wait_s,
        )
        if not response.messages_list:
            return None
        metadata = response.messages_list[0].metadata
        contents = self._pull(metadata.run_id, response.message_object_trees[0])
        return _Held(metadata.message_id, metadata.run_id, contents)

    def _pull(self, run_id: int, tree: ObjectTree) -> dict[str, bytes]:
        contents: dict[str, bytes] = {}
        size = 0
        for branch in iterate_object_tree(tree):
            if branch.object_id in contents:
                continue
            request = PullObjectRequest(node=self._node, run_id=run_id, object_id=branch.object_id)
            response = self._call("pull-object", request, PullObjectResponse)
            if not response.object_available:
                raise _Interrupted("an object of the message is not there")
            contents[branch.object_id] = response.object_content
            size += len(response.object_content)
            if len(contents) > self._limits.objects or size > self._limits.message_bytes:
                raise ProtocolViolation(f"a message is over the limit ({size} bytes so far)")
        return contents

    def _read(self, letter: str, contents: dict[str, bytes]) -> Message:
        try:
            check_objects(contents, limits=self._limits)
            message = inflate_object_from_contents(letter, contents)
        except BadInput:
            raise
        except Exception as error:  # Flower's inflating raises whatever the bytes provoke
            raise ProtocolViolation(f"a message cannot be read: {type(error).__name__}") from error
        if not isinstance(message, Message):
            raise ProtocolViolation(f"a Message was due, a {type(message).__name__} came")
        message.metadata.__dict__["_message_id"] = letter
        return message

    def _confirm(self, run_id: int, letter: str) -> None:
        request = ConfirmMessageReceivedRequest(
            node=self._node, run_id=run_id, message_object_id=letter
        )
        self._call("confirm-message-received", request, ConfirmMessageReceivedResponse)

    def _push(self, request: PushMessagesRequest, run_id: int, contents: dict[str, bytes]) -> None:
        if request.node.node_id != self.node_id:
            raise DeadlineMissed("the coordinator has lost the question to this answer")
        response = self._call("push-messages", request, PushMessagesResponse)
        for name in response.objects_to_push:
            part = PushObjectRequest(
                node=self._node,
                run_id=run_id,
                object_id=name,
                object_content=contents[name],
                session_id=response.session_id,
            )
            if not self._call("push-object", part, PushObjectResponse).stored:
                raise _Interrupted("the coordinator has not stored an object")

    def _call(
        self,
        route: str,
        request: Protobuf,
        kind: type[ResponseT],
        *,
        wait_s: int | None = None,
        https: HttpsClient | None = None,
    ) -> ResponseT:
        headers = {"content-type": "application/x-protobuf"}
        if wait_s is not None:
            headers["prefer"] = f"wait={wait_s}"
        answer = (https or self._https).post(
            f"/v1/fleet/{route}",
            request.SerializeToString(),
            limit_bytes=RESPONSE_LIMIT_BYTES,
            headers=headers,
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
            raise _Interrupted("the coordinator does not know this node any more")
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
        while not self._closing.wait(self._patience.heartbeat_s):
            request = SendNodeHeartbeatRequest(
                node=self._node, heartbeat_interval=HEARTBEAT_DEFAULT_INTERVAL
            )
            try:
                if request.node.node_id:
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
    letter: str
    run_id: int
    contents: dict[str, bytes]


class _Interrupted(Unreachable):
    """Something on the way was lost; the whole exchange is begun again."""
