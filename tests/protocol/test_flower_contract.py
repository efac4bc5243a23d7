"""Every internal of Flower 1.41 that Wardround relies upon: when one changes, this says which.

`flwr.app`, `flwr.serverapp`, `flwr.clientapp` and `flwr.simulation` are Flower's public interface;
everything else is named here, with what is relied upon about it.
"""

import ast
import inspect
from pathlib import Path

import flwr.common.constant
import flwr.supercore.constant
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.proto import fleet_pb2, heartbeat_pb2, message_pb2
from flwr.server.superlink.linkstate import InMemoryLinkState
from flwr.serverapp import Grid
from flwr.supercore.constant import NodeStatus
from flwr.supercore.inflatable import inflatable_object as objects
from flwr.supercore.object_store.in_memory_object_store import InMemoryObjectStore
from flwr.supercore.task_identity import TaskIdentity
from flwr.superlink.federation import NoOpFederationManager
from flwr.superlink.servicer.fleet import fleet_handlers

import wardround
import wardround_client
import wardround_server
from wardround.wire import CHUNK_BYTES, pack

PUBLIC = {"flwr.app", "flwr.serverapp", "flwr.clientapp", "flwr.simulation"}
INFLATABLE = "flwr.supercore.inflatable.inflatable_object"
INTERNALS = {
    "flower_adapter.py": {
        "flwr.app.message": {"make_message", "remove_content_from_message"},
        "flwr.app.metadata": {"Metadata"},
        "flwr.common.constant": {
            "HEARTBEAT_DEFAULT_INTERVAL",
            "NOOP_FLWR_AID",
            "SUPERLINK_NODE_ID",
            "SubStatus",
        },
        "flwr.proto.fleet_pb2": {
            "ActivateNodeRequest",
            "PullMessagesRequest",
            "PullMessagesResponse",
            "RegisterNodeFleetRequest",
            "UnregisterNodeFleetRequest",
        },
        "flwr.proto.heartbeat_pb2": {"SendNodeHeartbeatRequest"},
        "flwr.proto.message_pb2": {"ObjectTree"},
        "flwr.proto.node_pb2": {"Node"},
        "flwr.server.superlink.linkstate": {"InMemoryLinkState"},
        "flwr.supercore.constant": {"NOOP_FEDERATION_ID", "TaskType"},
        INFLATABLE: {
            "get_all_nested_objects",
            "get_object_tree",
            "iterate_object_tree",
            "no_object_id_recompute",
        },
        "flwr.supercore.object_store.in_memory_object_store": {"InMemoryObjectStore"},
        "flwr.supercore.run": {"Run"},
        "flwr.supercore.task_identity": {"TaskIdentity"},
        "flwr.superlink.federation": {"NoOpFederationManager"},
        "flwr.superlink.servicer.fleet": {"fleet_handlers"},
    },
    "flower_messages.py": {
        "flwr.app.error": {"Error"},
        "flwr.app.message": {"make_message"},
        "flwr.app.metadata": {"Metadata"},
        "flwr.common.constant": {"SUPERLINK_NODE_ID", "ErrorCode"},
        "flwr.proto.fleet_pb2": {"PushMessagesRequest"},
        "flwr.supercore.date": {"now"},
        INFLATABLE: {"iterate_object_tree"},
        "flwr.supercore.inflatable.inflatable_utils": {"inflate_object_from_contents"},
    },
    "fleet.py": {
        "flwr.common.constant": {"HEARTBEAT_DEFAULT_INTERVAL"},
        "flwr.proto.fleet_pb2": {
            "PullMessagesRequest",
            *(
                f"{name}{part}"
                for name in ("ActivateNode", "RegisterNodeFleet", "UnregisterNodeFleet")
                for part in ("Request", "Response")
            ),
        },
        "flwr.proto.heartbeat_pb2": {"SendNodeHeartbeatRequest", "SendNodeHeartbeatResponse"},
        "flwr.proto.node_pb2": {"Node"},
    },
    "flower_letters.py": {
        "flwr.app.message": {"remove_content_from_message"},
        "flwr.common.serde": {"message_to_proto"},
        "flwr.proto.fleet_pb2": {"PullMessagesResponse", "PushMessagesRequest"},
        "flwr.proto.node_pb2": {"Node"},
        INFLATABLE: {"get_all_nested_objects", "get_object_tree", "no_object_id_recompute"},
        "flwr.supercore.inflatable.inflatable_utils": {"inflate_object_from_contents"},
    },
}


def flower_imports(path):
    found = {}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "flwr":
            found.setdefault(node.module, set()).update(alias.name for alias in node.names)
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.split(".")[0] == "flwr":
                    found.setdefault(alias.name, set()).add("*")
    return {module: names for module, names in found.items() if module not in PUBLIC}


def sources():
    for package in (wardround, wardround_server, wardround_client):
        yield from Path(package.__file__).parent.rglob("*.py")


@pytest.mark.parametrize("path", sorted(sources()), ids=lambda path: path.name)
def test_two_modules_per_side_touch_flowers_internals_and_name_them_here(path):
    assert flower_imports(path) == INTERNALS.get(path.name, {})


def test_the_installed_flower_is_the_pinned_one():
    from importlib.metadata import version

    assert version("flwr").startswith("1.41.")


def parameters(function):
    return list(inspect.signature(function).parameters)


@pytest.mark.parametrize(
    ("handler", "expected"),
    [
        ("register_node", ["request", "state", "enable_supernode_auth"]),
        ("activate_node", ["request", "state"]),
        ("unregister_node", ["request", "state", "enable_supernode_auth"]),
        ("send_node_heartbeat", ["request", "state"]),
        ("pull_messages", ["request", "state", "store"]),
        ("push_messages", ["request", "state"]),
    ],
)
def test_a_fleet_handler_takes_what_the_adapter_gives(handler, expected):
    assert parameters(getattr(fleet_handlers, handler)) == expected


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("get_node_id_by_public_key", ["public_key"]),
        ("delete_node", ["owner_aid", "node_id"]),
        ("claim_task", ["task_id"]),
        ("activate_task", ["task_id"]),
        ("finish_task", ["task_id", "sub_status", "details"]),
        ("acknowledge_task_heartbeat", ["task_id"]),
        ("acknowledge_node_heartbeat", ["node_id", "heartbeat_interval"]),
        ("cleanup_run", ["run_id"]),
        ("start_session", ["run_id"]),
        ("store_message_and_object_tree", ["message", "object_tree", "session_id"]),
        ("store_object", ["run_id", "session_id", "object_id", "object_content"]),
        ("delete_messages", ["message_ins_ids"]),
    ],
)
def test_the_link_state_has_the_methods_that_the_adapter_calls(method, expected):
    assert parameters(getattr(InMemoryLinkState, method))[1:] == expected


def test_create_run_takes_eight_arguments_in_this_order():
    assert parameters(InMemoryLinkState.create_run)[1:9] == [
        "fab_id",
        "fab_version",
        "fab_hash",
        "override_config",
        "federation_id",
        "federation_config",
        "flwr_aid",
        "primary_task_type",
    ]


def test_a_public_key_is_never_taken_twice_so_that_each_registration_needs_a_new_one():
    state = InMemoryLinkState(NoOpFederationManager(), InMemoryObjectStore(verify=True))
    request = fleet_pb2.RegisterNodeFleetRequest(public_key=b"k" * 32)
    first = fleet_handlers.register_node(request, state, enable_supernode_auth=False)
    (node,) = state.get_node_info(node_ids=[first.node_id])
    state.delete_node(node.owner_aid, first.node_id)
    (node,) = state.get_node_info(node_ids=[first.node_id])
    assert node.status == NodeStatus.UNREGISTERED
    with pytest.raises(Exception, match=r"(?i)key"):
        fleet_handlers.register_node(request, state, enable_supernode_auth=False)


def test_the_object_store_checks_that_an_object_is_what_its_name_says():
    store = InMemoryObjectStore(verify=True)
    part = ConfigRecord({"a": 1})
    store.preregister(1, objects.get_object_tree(part))
    with pytest.raises(ValueError, match="does not match"):
        store.put(part.object_id, b"ConfigRecord  1\x00x")
    store.put(part.object_id, part.deflate())
    assert store.get(part.object_id) == part.deflate()
    assert part.object_id in store
    assert len(store) == 1


def test_messages_read_their_run_from_the_task_identity_of_the_process():
    TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = 5, 6, 7
    message = Message(RecordDict(), 8, "train")
    assert (message.metadata.run_id, message.metadata.src_node_id) == (5, 7)
    message.metadata.__dict__["_message_id"] = "x"
    assert message.metadata.message_id == "x"


def test_a_small_message_is_three_objects_and_a_stock_flower_cuts_a_large_vector_in_chunks():
    import numpy as np

    small = Message(pack("a", {}, np.zeros(1000, np.float32)), 8, "train")
    assert len(objects.get_all_nested_objects(small)) == 3
    large = pack("a", {}, np.arange(CHUNK_BYTES // 2, dtype=np.uint32))
    assert len(objects.get_all_nested_objects(large)) == 2 + 2 + 2
    assert flwr.common.constant.FLWR_PRIVATE_MAX_ARRAY_CHUNK_SIZE == CHUNK_BYTES


def test_an_object_is_a_head_of_three_words_a_zero_byte_and_a_body():
    assert flwr.supercore.constant.HEAD_BODY_DIVIDER == b"\x00"
    assert flwr.supercore.constant.HEAD_VALUE_DIVIDER == " "
    array = Array(dtype="uint8", shape=(4,), stype="wardround/1 bytes", data=b"abcd")
    head, _, body = array.deflate().partition(b"\x00")
    name, children, size = head.split(b" ")
    assert (name, int(size)) == (b"Array", len(body))
    assert children.decode().split(",") == list(array.children)
    assert ArrayRecord({"0": array})["0"].data == b"abcd"


def test_heartbeats_and_ids_are_what_the_two_sides_assume():
    constants = flwr.common.constant
    assert constants.SUPERLINK_NODE_ID == 1
    assert constants.HEARTBEAT_MIN_INTERVAL <= constants.HEARTBEAT_DEFAULT_INTERVAL == 30
    # The adapter keeps a run alive every 10 s; Flower ends it after this.
    assert constants.HEARTBEAT_PATIENCE * constants.HEARTBEAT_DEFAULT_INTERVAL == 60


def test_the_messages_have_the_fields_that_are_checked():
    fields = {
        fleet_pb2.PullMessagesRequest: {"node"},
        fleet_pb2.PushMessagesRequest: {"node", "messages_list", "message_object_trees"},
        fleet_pb2.PushMessagesResponse: {"objects_to_push", "session_id"},
        fleet_pb2.PullMessagesResponse: {"messages_list", "message_object_trees"},
        heartbeat_pb2.SendNodeHeartbeatRequest: {"node", "heartbeat_interval"},
        message_pb2.ObjectTree: {"object_id", "children"},
    }
    for message, due in fields.items():
        assert due <= set(message.DESCRIPTOR.fields_by_name), message


def test_the_grid_has_these_abstract_methods_and_no_other():
    assert Grid.__abstractmethods__ == {
        "set_run",
        "run",
        "create_message",
        "get_node_ids",
        "push_messages",
        "pull_messages",
        "send_and_receive",
    }
