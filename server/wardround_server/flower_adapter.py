# ruff: noqa: E402 - Flower reads its environment when it is imported, so it is set before that
"""With `flower_messages` all of the coordinator that touches Flower's internals.

Flower's fleet handlers and in-memory LinkState carry the messages; what each hospital may name is
checked here first (decision 0001). `tests/protocol/test_flower_contract.py` says what is relied on.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from wardround.flower_quiet import quiet_flower

quiet_flower()

from flwr.app import Message, RecordDict
from flwr.app.message import make_message, remove_content_from_message
from flwr.app.metadata import Metadata
from flwr.common.constant import (
    HEARTBEAT_DEFAULT_INTERVAL,
    NOOP_FLWR_AID,
    SUPERLINK_NODE_ID,
    SubStatus,
)
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    PullMessagesRequest,
    PullMessagesResponse,
    RegisterNodeFleetRequest,
    UnregisterNodeFleetRequest,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.message_pb2 import ObjectTree
from flwr.proto.node_pb2 import Node
from flwr.server.superlink.linkstate import InMemoryLinkState
from flwr.supercore.constant import NOOP_FEDERATION_ID, TaskType
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
    no_object_id_recompute,
)
from flwr.supercore.object_store.in_memory_object_store import InMemoryObjectStore
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.federation import NoOpFederationManager
from flwr.superlink.servicer.fleet import fleet_handlers
from google.protobuf.message import Message as Protobuf

from wardround.errors import BadInput, ProtocolViolation, Unreachable
from wardround.framing import frame
from wardround.held import HeldVector, detach
from wardround.wire import WireLimits
from wardround_server.flower_messages import (
    DEFAULT_LIFE_S,
    metadata_of,
    parse,
    read_answer,
    read_answer_frame,
)
from wardround_server.letters import RESUME_S, Letter, Letters
from wardround_server.nodes import Nodes
from wardround_server.refusals import (
    AnswerNotWanted,
    MalformedRequest,
    NodeNotYours,
)
from wardround_server.spool import Spool

__all__ = ["DEFAULT_LIFE_S", "TASK_HEARTBEAT_S", "FlowerFleet", "Run"]

TASK_HEARTBEAT_S = 10.0


class FlowerFleet:
    """Flower's state of one coordinator, with each request checked against its sender.

    Thread-safe. One lock stands around every change of the object store: Flower registers and
    deletes object trees in several steps, and two answers with equal parts would meet in between.
    """

    def __init__(
        self,
        *,
        limits: WireLimits,
        ring: Callable[[], None],
        spools: Path,
        resume_s: float = RESUME_S,
    ) -> None:
        """Large vectors that hospitals send lie in files of the folder `spools`."""
        self.limits = limits
        self._ring = ring
        self._lock = threading.RLock()
        self._store = InMemoryObjectStore(verify=True)
        self._state = InMemoryLinkState(NoOpFederationManager(), self._store)
        self.nodes = Nodes()
        self._letters = Letters(spools, vector_limit_bytes=limits.vector_bytes, resume_s=resume_s)
        self._runs: dict[int, int] = {}
        self._routes: dict[str, Callable[[str, bytes], Protobuf]] = {
            "register-node": self._register,
            "activate-node": self._activate,
            "unregister-node": self._unregister,
            "send-node-heartbeat": self._heartbeat,
        }

    # What a hospital asks, over the gateway.

    @property
    def routes(self) -> frozenset[str]:
        """The last parts of Flower's fleet paths that are answered."""
        return frozenset(self._routes)

    def answer(self, hospital: str, route: str, body: bytes) -> bytes:
        """Carry out one request of one hospital. Raises GatewayRefusal, or Flower's own errors."""
        return self._routes[route](hospital, body).SerializeToString()

    def _register(self, hospital: str, body: bytes) -> Protobuf:
        request = parse(RegisterNodeFleetRequest, body)
        with self._lock:
            self._retire(hospital)
            response = fleet_handlers.register_node(
                request=request, state=self._state, enable_supernode_auth=False
            )
            self.nodes.bind(hospital, response.node_id)
        return response

    def _activate(self, hospital: str, body: bytes) -> Protobuf:
        request = parse(ActivateNodeRequest, body)
        with self._lock:
            node_id = self._state.get_node_id_by_public_key(request.public_key)
            self.nodes.check(hospital, node_id or 0)
            response = fleet_handlers.activate_node(request=request, state=self._state)
            self.nodes.activate(hospital)
        self._ring()
        return response

    def _unregister(self, hospital: str, body: bytes) -> Protobuf:
        request = parse(UnregisterNodeFleetRequest, body)
        with self._lock:
            self.nodes.check(hospital, request.node_id)
            response = fleet_handlers.unregister_node(
                request=request, state=self._state, enable_supernode_auth=False
            )
            self.nodes.forget(hospital)
        self._ring()
        return response

    def _heartbeat(self, hospital: str, body: bytes) -> Protobuf:
        request = parse(SendNodeHeartbeatRequest, body)
        self.nodes.check(hospital, request.node.node_id)
        return fleet_handlers.send_node_heartbeat(request=request, state=self._state)

    def next_letter(self, hospital: str, body: bytes, *, received: str) -> bytes:
        """The next letter with all its objects, framed; nothing when there is none.

        `body` is Flower's PullMessagesRequest; `received` names the letter that was read last,
        which is not handed out again.
        """
        node_id = parse(PullMessagesRequest, body).node.node_id
        with self._lock:
            self.nodes.check(hospital, node_id)
            if received and self._letters.confirm(node_id, received):
                self._store.delete(received)
            if self._letters.forsake(hospital, node_id):
                self._ring()
            again = self._letters.unconfirmed(node_id)
            return self._take_letter(node_id) if again is None else self._framed(again)

    def _take_letter(self, node_id: int) -> bytes:
        self._state.acknowledge_node_heartbeat(node_id, HEARTBEAT_DEFAULT_INTERVAL)
        request = PullMessagesRequest(node=Node(node_id=node_id))
        response = fleet_handlers.pull_messages(
            request=request, state=self._state, store=self._store
        )
        if not response.messages_list:
            return b""
        encoded: bytes = response.SerializeToString()
        self._letters.hand_out(response.messages_list[0].metadata.message_id, encoded)
        return self._framed(encoded)

    def _framed(self, told: bytes) -> bytes:
        (tree,) = PullMessagesResponse.FromString(told).message_object_trees
        return frame([told, *self._contents(tree).values()])

    def take_answer(self, hospital: str, framed: bytes, *, digest: str) -> None:
        """Take a whole answer: Flower's PushMessagesRequest and all its objects, framed.

        `digest` is that of the large vector it refers to, which is here already. The same answer
        again is taken once. It may come from a newer node: a hospital that died while it answered
        keeps its answer. Raises GatewayRefusal.
        """
        request, contents = read_answer_frame(framed, limits=self.limits)
        metadata, tree = request.messages_list[0].metadata, request.message_object_trees[0]
        name = metadata.reply_to_message_id
        with self._lock:
            self.nodes.check(hospital, request.node.node_id)
            self._check_run(metadata.run_id)
            if self._letters.was_taken(hospital, name, tree.object_id):
                return
            letter = self._letters.of(hospital, name)
            # Without this, a reply "from" node 1 would be an instruction to other hospitals.
            if metadata.src_node_id != letter.node_id:
                raise NodeNotYours("the answer names another node as its sender")
            self._letters.check_vector(letter, digest)
            response = fleet_handlers.push_messages(request=request, state=self._state)
            for missing in response.objects_to_push:
                self._state.store_object(
                    metadata.run_id, response.session_id, missing, contents[missing]
                )
            if tree.object_id not in self._store:
                raise MalformedRequest("the answer was not stored")
            if not letter.confirmed:
                letter.confirmed = True
                self._store.delete(name)
            letter.answer = tree.object_id
        self._ring()

    def vector_for(self, hospital: str, letter: str, digest: str) -> HeldVector:
        """The large piece of a letter to this hospital. Raises GatewayRefusal."""
        with self._lock:
            return self._letters.vector_of(hospital, letter, digest)

    def upload_for(self, hospital: str, letter: str, *, nbytes: int, digest: str) -> Spool:
        """Where the large vector of this hospital's answer goes. Raises GatewayRefusal."""
        with self._lock:
            return self._letters.upload(hospital, letter, nbytes=nbytes, digest=digest)

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
        metadata = metadata_of(run_id, kind, source=SUPERLINK_NODE_ID, to=node_id)
        metadata.group_id, metadata.ttl = group, life_s
        return make_message(metadata=metadata, content=content)

    def send(self, run_id: int, messages: Sequence[Message]) -> list[str]:
        """Store messages and all their objects before any hospital can see one of them.

        Raises BadInput for a message of another run, Unreachable for one to nobody's node.
        """
        # Before the lock: a large vector is hashed here, once for all that it goes to.
        parts = [(message.metadata, *detach(message.content)) for message in messages]
        with no_object_id_recompute(), self._lock:
            for metadata, _, _ in parts:
                self._check_addressed(run_id, metadata)
            return [self._send_one(run_id, *part) for part in parts]

    def fetch(self, run_id: int, letters: Sequence[str]) -> Iterator[Message]:
        """Yield the answers that have arrived whole, one in memory at a time; each is deleted.

        An answer that is not what it has to be comes as a message with an error, whose reason is a
        type name: `hospital_of(message.metadata.src_node_id)` says whose it is.
        """
        with self._lock:
            complete = self._letters.complete(letters)
        for letter in complete:
            with self._lock:
                contents = self._contents(self._store.get_object_tree(letter.answer))
                self._drop(letter.letter, settled=True)
            yield read_answer(run_id, letter, contents, limits=self.limits)

    def withdraw(self, letters: Sequence[str]) -> None:
        """Stop waiting: unread messages are not delivered any more, late answers are refused."""
        with self._lock:
            for letter in letters:
                self._drop(letter)

    def orphaned(self, letters: Sequence[str], *, here: frozenset[str]) -> frozenset[str]:
        """Those that nobody answers: their hospital is not here, or asks for new ones by now."""
        with self._lock:
            nodes = {hospital: self.nodes.current(hospital) for hospital in here}
            return self._letters.orphaned(letters, nodes=nodes)

    def stored_objects(self) -> int:
        """How many objects are in memory; none once every answer has been fetched."""
        return len(self._store)

    def _check_addressed(self, run_id: int, metadata: Metadata) -> None:
        if metadata.run_id != run_id:
            raise BadInput(f"message of run {metadata.run_id}, this is run {run_id}")
        if metadata.dst_node_id not in self.nodes.live():
            raise Unreachable(f"node {metadata.dst_node_id} is not connected")

    def _contents(self, tree: ObjectTree) -> dict[str, bytes]:
        names = [node.object_id for node in iterate_object_tree(tree)]
        return {name: self._store.get(name) or b"" for name in names}

    def _send_one(
        self, run_id: int, metadata: Metadata, content: RecordDict, pieces: tuple[HeldVector, ...]
    ) -> str:
        message = make_message(metadata=metadata, content=content)
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
        node_id = message.metadata.dst_node_id
        self._letters.send(Letter(name, self.nodes.hospital_of(node_id), node_id, pieces))
        return name

    def _drop(self, name: str, *, settled: bool = False) -> None:
        letter = self._letters.close(name, settled=settled)
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
