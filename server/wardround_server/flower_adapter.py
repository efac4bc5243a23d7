# ruff: noqa: E402 - Flower reads its environment when it is imported, so it is set before that
"""The one module of the coordinator that touches Flower's internals.

Flower's fleet handlers and in-memory LinkState carry the messages; what each hospital may name is
checked here first (decision 0001). `tests/protocol/test_flower_contract.py` says what is relied on.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from wardround.flower_quiet import quiet_flower

quiet_flower()

from flwr.app import Message, RecordDict
from flwr.app.error import Error
from flwr.app.message import make_message, remove_content_from_message
from flwr.app.metadata import Metadata
from flwr.common.constant import NOOP_FLWR_AID, SUPERLINK_NODE_ID, ErrorCode, SubStatus
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    PullMessagesRequest,
    PushMessagesRequest,
    RegisterNodeFleetRequest,
    UnregisterNodeFleetRequest,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import (
    ConfirmMessageReceivedRequest,
    ConfirmMessageReceivedResponse,
    PullObjectRequest,
    PushObjectRequest,
)
from flwr.server.superlink.linkstate import InMemoryLinkState
from flwr.supercore.constant import NOOP_FEDERATION_ID, TaskType
from flwr.supercore.date import now
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.object_store.in_memory_object_store import InMemoryObjectStore
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.federation import NoOpFederationManager
from flwr.superlink.servicer.fleet import fleet_handlers
from google.protobuf.message import DecodeError
from google.protobuf.message import Message as Protobuf

from wardround.errors import BadInput, ProtocolViolation, Unreachable
from wardround.wire import WireLimits, check_objects
from wardround_server.letters import Letter, Letters
from wardround_server.nodes import Nodes
from wardround_server.refusals import AnswerNotWanted, MalformedRequest, NodeNotYours

__all__ = ["DEFAULT_LIFE_S", "TASK_HEARTBEAT_S", "FlowerFleet", "Run"]

RequestT = TypeVar("RequestT", bound=Protobuf)
TASK_HEARTBEAT_S = 10.0
DEFAULT_LIFE_S = 43200.0


class FlowerFleet:
    """Flower's state of one coordinator, with each request checked against its sender.

    Thread-safe. One lock stands around every change of the object store: Flower registers and
    deletes object trees in several steps, and two answers with equal parts would meet in between.
    """

    def __init__(self, *, limits: WireLimits, ring: Callable[[], None]) -> None:
        self.limits = limits
        self._ring = ring
        self._lock = threading.RLock()
        self._store = InMemoryObjectStore(verify=True)
        self._state = InMemoryLinkState(NoOpFederationManager(), self._store)
        self.nodes = Nodes()
        self._letters = Letters(
            answer_limit_bytes=limits.message_bytes, answer_limit_objects=limits.objects
        )
        self._runs: dict[int, int] = {}
        self._routes: dict[str, Callable[[str, bytes], Protobuf]] = {
            "register-node": self._register,
            "activate-node": self._activate,
            "unregister-node": self._unregister,
            "send-node-heartbeat": self._heartbeat,
            "push-messages": self._push_answer,
            "push-object": self._push_object,
            "pull-object": self._pull_object,
            "confirm-message-received": self._confirm,
        }

    # What a hospital asks, over the gateway.

    @property
    def routes(self) -> frozenset[str]:
        """The last parts of the fleet paths that are answered, `pull-messages` among them."""
        return frozenset({*self._routes, "pull-messages"})

    def answer(self, hospital: str, route: str, body: bytes) -> bytes:
        """Carry out one request of one hospital. Raises GatewayRefusal, or Flower's own errors."""
        if route == "pull-messages":
            return self._pull_messages(hospital, body)
        return self._routes[route](hospital, body).SerializeToString()

    def _register(self, hospital: str, body: bytes) -> Protobuf:
        request = _parse(RegisterNodeFleetRequest, body)
        with self._lock:
            self._retire(hospital)
            response = fleet_handlers.register_node(
                request=request, state=self._state, enable_supernode_auth=False
            )
            self.nodes.bind(hospital, response.node_id)
        return response

    def _activate(self, hospital: str, body: bytes) -> Protobuf:
        request = _parse(ActivateNodeRequest, body)
        with self._lock:
            node_id = self._state.get_node_id_by_public_key(request.public_key)
            self.nodes.check(hospital, node_id or 0)
            response = fleet_handlers.activate_node(request=request, state=self._state)
            self.nodes.activate(hospital)
        self._ring()
        return response

    def _unregister(self, hospital: str, body: bytes) -> Protobuf:
        request = _parse(UnregisterNodeFleetRequest, body)
        with self._lock:
            self.nodes.check(hospital, request.node_id)
            response = fleet_handlers.unregister_node(
                request=request, state=self._state, enable_supernode_auth=False
            )
            self.nodes.forget(hospital)
        self._ring()
        return response

    def _heartbeat(self, hospital: str, body: bytes) -> Protobuf:
        request = _parse(SendNodeHeartbeatRequest, body)
        self.nodes.check(hospital, request.node.node_id)
        return fleet_handlers.send_node_heartbeat(request=request, state=self._state)

    def _pull_messages(self, hospital: str, body: bytes) -> bytes:
        request = _parse(PullMessagesRequest, body)
        with self._lock:
            self.nodes.check(hospital, request.node.node_id)
            again = self._letters.unconfirmed(request.node.node_id)
            if again is not None:
                return again
            response = fleet_handlers.pull_messages(
                request=request, state=self._state, store=self._store
            )
            encoded = response.SerializeToString()
            for message in response.messages_list:
                self._letters.hand_out(message.metadata.message_id, encoded)
        return encoded

    def _push_answer(self, hospital: str, body: bytes) -> Protobuf:
        request = _parse(PushMessagesRequest, body)
        if len(request.messages_list) != 1 or len(request.message_object_trees) != 1:
            raise MalformedRequest("one message and one object tree were due")
        metadata, tree = request.messages_list[0].metadata, request.message_object_trees[0]
        node_id = request.node.node_id
        if metadata.message_id != tree.object_id:
            raise MalformedRequest("the object tree is not the message's")
        with self._lock:
            self.nodes.check(hospital, node_id)
            # Without this, a reply "from" node 1 would be an instruction to other hospitals.
            if metadata.src_node_id != node_id:
                raise NodeNotYours("the answer names another node as its sender")
            self._check_run(metadata.run_id)
            letter = metadata.reply_to_message_id
            objects = sum(1 for _ in islice(iterate_object_tree(tree), self.limits.objects + 1))
            self._letters.check_answer(node_id, letter, objects)
            response = fleet_handlers.push_messages(request=request, state=self._state)
            missing = set(response.objects_to_push)
            if not missing and tree.object_id not in self._store:
                raise MalformedRequest("the answer was not stored")
            self._letters.begin_upload(
                letter, answer=tree.object_id, session=response.session_id, missing=missing
            )
        if not missing:
            self._ring()
        return response

    def _push_object(self, hospital: str, body: bytes) -> Protobuf:
        request = _parse(PushObjectRequest, body)
        size = len(request.object_content)
        with self._lock:
            self.nodes.check(hospital, request.node.node_id)
            self._check_run(request.run_id)
            self._letters.check_upload(
                request.node.node_id, request.session_id, request.object_id, size
            )
            response = fleet_handlers.push_object(request, self._state)
            arrived = response.stored and self._letters.uploaded(
                request.session_id, request.object_id, size
            )
        if arrived:
            self._ring()
        return response

    def _pull_object(self, hospital: str, body: bytes) -> Protobuf:
        request = _parse(PullObjectRequest, body)
        with self._lock:
            self.nodes.check(hospital, request.node.node_id)
            self._check_run(request.run_id)
            self._letters.check_pull(request.node.node_id, request.object_id)
            return fleet_handlers.pull_object(request, self._state)

    def _confirm(self, hospital: str, body: bytes) -> Protobuf:
        request = _parse(ConfirmMessageReceivedRequest, body)
        with self._lock:
            self.nodes.check(hospital, request.node.node_id)
            self._check_run(request.run_id)
            first = self._letters.confirm(request.node.node_id, request.message_object_id)
            if not first:
                # Flower deletes any object that is named: what is not waited for is left alone.
                return ConfirmMessageReceivedResponse()
            return fleet_handlers.confirm_message_received(request, self._state, self._store)

    # What the study loop asks, in process.
    def open_run(self) -> Run:
        """Create a run whose primary task is claimed and active; `keep_runs_alive` keeps it so.

        It also becomes the run of this process: `flwr.app.Message` reads it from TaskIdentity.
        """
        with self._lock:
            run_id = self._state.create_run(
                None, None, None, {}, NOOP_FEDERATION_ID, None, None, TaskType.SERVER_APP
            )
            (run,) = self._state.get_run_info(run_ids=[run_id])
            task_id = run.primary_task_id
            if task_id is None or self._state.claim_task(task_id) is None:
                raise ProtocolViolation("Flower's run has no task to claim")
            self._state.activate_task(task_id)
            self._runs[run_id] = task_id
        TaskIdentity.run_id, TaskIdentity.task_id = run_id, task_id
        TaskIdentity.node_id = SUPERLINK_NODE_ID
        (run,) = self._state.get_run_info(run_ids=[run_id])
        return run

    def keep_runs_alive(self) -> None:
        """To be called every `TASK_HEARTBEAT_S`: Flower ends a run that is silent for a minute."""
        with self._lock:
            for task_id in self._runs.values():
                self._state.acknowledge_task_heartbeat(task_id)

    def close_run(self, run_id: int) -> None:
        """End the run and delete everything that was stored for it."""
        with self._lock:
            task_id = self._runs.pop(run_id)
            self._state.finish_task(task_id, SubStatus.COMPLETED, "")
            self._state.cleanup_run(run_id)

    def make_message(
        self,
        run_id: int,
        content: RecordDict,
        *,
        kind: str,
        node_id: int,
        group: str,
        life_s: float,
    ) -> Message:
        """A message of this run, whatever TaskIdentity says: a process may have several runs."""
        metadata = _metadata(run_id, kind, source=SUPERLINK_NODE_ID, to=node_id)
        metadata.group_id, metadata.ttl = group, life_s
        return make_message(metadata=metadata, content=content)

    def send(self, run_id: int, messages: Sequence[Message]) -> list[str]:
        """Store messages and all their objects before any hospital can see one of them.

        Raises BadInput for a message of another run, Unreachable for one to nobody's node.
        """
        with no_object_id_recompute(), self._lock:
            for message in messages:
                self._check_addressed(run_id, message)
            return [self._send_one(run_id, message) for message in messages]

    def fetch(self, run_id: int, letters: Sequence[str]) -> Iterator[Message]:
        """Yield the answers that have arrived whole, one in memory at a time; each is deleted.

        An answer that is not what it has to be comes as a message with an error, whose reason is a
        type name: `hospital_of(message.metadata.src_node_id)` says whose it is.
        """
        with self._lock:
            complete = self._letters.complete(letters)
        for letter in complete:
            with self._lock:
                tree = self._store.get_object_tree(letter.answer)
                names = {node.object_id for node in iterate_object_tree(tree)}
                contents = {name: self._store.get(name) or b"" for name in names}
                self._drop(letter.letter)
            yield self._read_answer(run_id, letter, contents)

    def withdraw(self, letters: Sequence[str]) -> None:
        """Stop waiting: unread messages are not delivered any more, late answers are refused."""
        with self._lock:
            for letter in letters:
                self._drop(letter)

    def orphaned(self, letters: Sequence[str], *, here: frozenset[str]) -> frozenset[str]:
        """Those that nobody answers: their hospital is not here, or has a newer node by now."""
        live = {self.nodes.current(hospital) for hospital in here}
        with self._lock:
            return self._letters.orphaned(letters, live=live)

    def stored_objects(self) -> int:
        """How many objects are in memory; none once every answer has been fetched."""
        return len(self._store)

    def _check_addressed(self, run_id: int, message: Message) -> None:
        if message.metadata.run_id != run_id:
            raise BadInput(f"message of run {message.metadata.run_id}, this is run {run_id}")
        if message.metadata.dst_node_id not in self.nodes.live():
            raise Unreachable(f"node {message.metadata.dst_node_id} is not connected")

    def _send_one(self, run_id: int, message: Message) -> str:
        name: str = message.object_id
        message.metadata.__dict__["_message_id"] = name
        objects = get_all_nested_objects(message)
        # One session for each message: Flower closes it as soon as nothing is missing in it.
        session = self._state.start_session(run_id)
        stored, missing = self._state.store_message_and_object_tree(
            remove_content_from_message(message), get_object_tree(message), session
        )
        if not stored:
            raise BadInput(f"Flower does not take a {message.metadata.message_type} message")
        for object_id in missing:
            self._state.store_object(run_id, session, object_id, objects[object_id].deflate())
        self._letters.send(name, node_id=message.metadata.dst_node_id, objects=objects)
        return name

    def _read_answer(self, run_id: int, letter: Letter, contents: dict[str, bytes]) -> Message:
        try:
            check_objects(contents, limits=self.limits)
            message = inflate_object_from_contents(letter.answer, contents)
            return _checked_answer(message, run_id, letter)
        except Exception as error:  # noqa: BLE001 - inflating raises whatever the bytes provoke
            return _error_answer(run_id, letter, type(error).__name__)

    def _drop(self, name: str) -> None:
        letter = self._letters.close(name)
        self._state.delete_messages({name})
        self._store.delete(name)
        if letter is not None and letter.answer:
            self._store.delete(letter.answer)

    def _retire(self, hospital: str) -> None:
        node_id = self.nodes.current(hospital)
        if node_id is not None:
            self._state.delete_node(NOOP_FLWR_AID, node_id)
            self.nodes.forget(hospital)

    def _check_run(self, run_id: int) -> None:
        if run_id not in self._runs:
            raise AnswerNotWanted("the run has ended")


def _parse(kind: type[RequestT], body: bytes) -> RequestT:
    try:
        return kind.FromString(body)
    except DecodeError as error:
        raise MalformedRequest(f"not a {kind.__name__}") from error


def _metadata(run_id: int, kind: str, *, source: int, to: int, answers: str = "") -> Metadata:
    return Metadata(
        run_id=run_id,
        message_id="",
        src_node_id=source,
        dst_node_id=to,
        reply_to_message_id=answers,
        group_id="",
        created_at=now().timestamp(),
        ttl=DEFAULT_LIFE_S,
        message_type=kind,
    )


def _error_answer(run_id: int, letter: Letter, reason: str) -> Message:
    source, answers = letter.node_id, letter.letter
    metadata = _metadata(run_id, "query", source=source, to=SUPERLINK_NODE_ID, answers=answers)
    error = Error(code=ErrorCode.MESSAGE_UNAVAILABLE, reason=reason)
    return make_message(metadata=metadata, error=error)


def _checked_answer(message: object, run_id: int, letter: Letter) -> Message:
    """The envelope was checked on arrival; this is the letter inside it."""
    if not isinstance(message, Message):
        raise ProtocolViolation(f"a Message was due, a {type(message).__name__} came")
    claimed = message.metadata
    due = (run_id, letter.node_id, letter.letter)
    if (claimed.run_id, claimed.src_node_id, claimed.reply_to_message_id) != due:
        raise ProtocolViolation("the answer is for another letter than its envelope")
    claimed.__dict__["_message_id"] = letter.answer
    return message
