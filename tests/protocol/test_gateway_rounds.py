"""Messages there and back, who may name what, and what happens when somebody dies."""

import threading
import time

import numpy as np
import pytest
from flwr.app import Message
from flwr.common.serde import message_to_proto
from flwr.proto.fleet_pb2 import (
    PullMessagesRequest,
    PushMessagesRequest,
    UnregisterNodeFleetRequest,
)
from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest
from flwr.proto.node_pb2 import Node
from flwr.serverapp import Grid
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree
from tests.support.fleets import (
    collect,
    connection,
    echo,
    echo_hospitals,
    enrol,
    messages,
    new_coordinator,
    running_fleet,
)

from wardround.errors import BadInput, DeadlineMissed, ProtocolViolation, Unreachable
from wardround.framing import frame, unframe
from wardround.vectors import SpooledVector, in_memory
from wardround.wire import INLINE_BYTES, WireLimits, pack, unpack
from wardround_client.flower_letters import addressed, enveloped
from wardround_client.tls import HttpsClient

NAMES = ["east", "north", "south", "west"]
PARAMETERS = 122_570


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    directory = new_coordinator(tmp_path_factory.mktemp("coordinator"))
    with running_fleet(directory, grace_s=1.0) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def members(running, tmp_path_factory):
    return {name: enrol(running, name, tmp_path_factory.mktemp(name)) for name in NAMES}


def raw(member, running, path, content, **headers):
    """One request with this hospital's certificate, whatever it says inside."""
    client = HttpsClient(f"127.0.0.1:{running.port}", member.tls.context(), read_timeout_s=10)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        answer = client.post(
            path, content, limit_bytes=10**7, headers={"wardround-wait-ms": "0"} | named
        )
        return answer.status, answer.content
    finally:
        client.close()


@pytest.mark.parametrize("vector", [
    np.random.default_rng(1).standard_normal(PARAMETERS).astype(np.float32),
    np.random.default_rng(2).integers(0, 2**32, 3_000_000, dtype=np.uint32),
])  # fmt: skip
def test_an_echo_over_four_hospitals_is_bit_exact_and_leaves_nothing_behind(
    running, members, vector
):
    with echo_hospitals(running, list(members.values())), running.open_grid() as grid:
        assert isinstance(grid, Grid)
        grid.wait_for(NAMES, 10)
        assert running.hospitals_connected() == set(NAMES)
        for number in range(3):
            content = pack("echo", {"round": number}, vector)
            waiting = grid.push_messages(messages(grid, NAMES, content))
            answers = collect(grid, waiting)
            assert set(answers) == set(NAMES)
            for answer in answers.values():
                parcel = unpack(answer.content)
                assert parcel.body == {"round": number}
                assert isinstance(parcel.vector, SpooledVector) == (vector.nbytes > INLINE_BYTES)
                assert in_memory(parcel.vector).tobytes() == vector.tobytes()
        assert running.stored_objects() == 0


def test_equal_answers_of_all_hospitals_do_not_meet_in_the_object_store(running, members):
    def same(message):
        return Message(pack("same", {}, np.zeros(400_000, np.float32)), reply_to=message)

    with echo_hospitals(running, list(members.values()), same), running.open_grid() as grid:
        grid.wait_for(NAMES, 10)
        for number in range(5):
            content = pack("ask", {"round": number})
            assert len(collect(grid, grid.push_messages(messages(grid, NAMES, content)))) == 4
        assert running.stored_objects() == 0


def test_flowers_own_send_and_receive_works_and_gives_up_at_its_timeout(running, members):
    silent = connection(members["north"], running)
    silent.connect()
    with echo_hospitals(running, [members["east"]]), running.open_grid() as grid:
        grid.wait_for(["east", "north"], 10)
        both = messages(grid, ["east", "north"], pack("ask", {}))
        (answer,) = grid.send_and_receive(both, timeout=1.0)
        assert grid.hospital_of(answer.metadata.src_node_id) == "east"
        assert list(grid.get_node_ids()) == [grid.node_of("east"), grid.node_of("north")]
    silent.close()


def test_a_message_that_is_withdrawn_is_not_delivered_and_its_answer_not_taken(running, members):
    hospital = connection(members["east"], running)
    hospital.connect()
    with running.open_grid() as grid:
        grid.wait_for(["east"], 5)
        unread = grid.push_messages(messages(grid, ["east"], pack("ask", {"n": 1})))
        grid.withdraw(unread)
        assert hospital.receive(0) is None
        read = grid.push_messages(messages(grid, ["east"], pack("ask", {"n": 2})))
        question = hospital.receive(5)
        grid.withdraw(read)
        with pytest.raises(DeadlineMissed, match="does not wait"):
            hospital.reply(echo(question))
        assert running.stored_objects() == 0
        assert list(grid.pull_messages([*unread, *read])) == []
    hospital.close()


def test_a_message_whose_receipt_is_lost_is_handed_out_again_and_read_once(running, members):
    hospital = connection(members["east"], running)
    hospital.connect()
    true_post, lost = hospital._https.post, []

    def post(path, content, **options):
        answer = true_post(path, content, **options)
        if path == "/v1/letters/next" and answer.content and len(lost) < 2:
            lost.append(path)
            raise Unreachable("the answer was lost on the way")
        return answer

    hospital._https.post = post
    with running.open_grid() as grid:
        grid.wait_for(["east"], 5)
        grid.push_messages(messages(grid, ["east"], pack("ask", {"n": 1})))
        assert unpack(hospital.receive(5).content).body == {"n": 1}
        assert len(lost) == 2
        assert hospital.receive(0.3) is None
    hospital.close()


def test_no_hospital_can_name_another_ones_node_message_object_or_session(running, members):
    east, west = (connection(members[name], running) for name in ("east", "west"))
    east.connect()
    west.connect()
    with running.open_grid() as grid:
        grid.wait_for(["east", "west"], 5)
        (letter,) = grid.push_messages(
            messages(grid, ["east"], pack("ask", {"n": 1}, np.zeros(400_000, np.float32)))
        )
        node, mine = Node(node_id=east.node_id), Node(node_id=west.node_id)
        thief = (members["west"], running)
        # Before the true hospital has read it: nobody else can fetch its vector either.
        assert raw(*thief, f"/v1/vectors/{letter}", b"", content_range="bytes */1500000",
                   wardround_vector="ab" * 32) == (403, b"NodeNotYours")  # fmt: skip
        answer = enveloped(echo(east.receive(5)))
        thefts = {
            "/v1/letters/next": PullMessagesRequest(node=node).SerializeToString(),
            "/v1/fleet/send-node-heartbeat": SendNodeHeartbeatRequest(
                node=node, heartbeat_interval=30
            ).SerializeToString(),
            "/v1/fleet/unregister-node": UnregisterNodeFleetRequest(
                node_id=east.node_id
            ).SerializeToString(),
            "/v1/letters/answer": addressed(answer, node),
        }
        for path, content in [*thefts.items(), ("/v1/letters/answer", addressed(answer, mine))]:
            assert raw(*thief, path, content) == (403, b"NodeNotYours"), path
        # Its own receipt is no receipt of another one's letter.
        own = PullMessagesRequest(node=mine).SerializeToString()
        refused = raw(*thief, "/v1/letters/next", own, wardround_received=letter)
        assert refused == (403, b"NodeNotYours")
    east.close()
    west.close()


def test_a_hospital_cannot_send_instructions_or_answers_that_are_not_asked_for(running, members):
    west = connection(members["west"], running)
    west.connect()
    with running.open_grid() as grid:
        grid.wait_for(["west"], 5)
        node = Node(node_id=west.node_id)
        forged = grid.create_message(pack("train", {}), "train", west.node_id, "1")
        forged.metadata.__dict__["_message_id"] = forged.object_id
        request = PushMessagesRequest(
            node=node,
            messages_list=[message_to_proto(forged)],
            message_object_trees=[get_object_tree(forged)],
        )
        part = [object_.deflate() for object_ in get_all_nested_objects(forged).values()]

        def refusal():
            content = frame([request.SerializeToString(), *part])
            return raw(members["west"], running, "/v1/letters/answer", content)

        # "From" node 1 it would be an instruction of the coordinator; it answers no letter at all.
        assert refusal() == (410, b"AnswerNotWanted")
        forged.metadata.__dict__["_src_node_id"] = west.node_id
        request.messages_list[0].metadata.src_node_id = west.node_id
        assert refusal() == (410, b"AnswerNotWanted")
        (letter,) = grid.push_messages(messages(grid, ["west"], pack("ask", {})))
        request.messages_list[0].metadata.reply_to_message_id = letter
        request.messages_list[0].metadata.src_node_id = 1
        assert refusal() == (403, b"NodeNotYours")
        request.messages_list[0].metadata.src_node_id = west.node_id
        part.append(b"one object more")
        assert refusal() == (400, b"MalformedRequest")
        del request.message_object_trees[:]
        assert refusal() == (400, b"MalformedRequest")
    west.close()


def test_an_answer_inside_another_envelope_comes_as_an_error(running, members):
    west = connection(members["west"], running)
    west.connect()
    with running.open_grid() as grid:
        grid.wait_for(["west"], 5)
        waiting = grid.push_messages(messages(grid, ["west"], pack("ask", {})))
        answer = echo(west.receive(5))
        true_post = west._https.post

        def post(path, content, **options):
            # The envelope is right; the letter inside is a reply from another node.
            if path == "/v1/letters/answer":
                told, *objects = unframe(content, most_parts=10)
                request = PushMessagesRequest.FromString(told)
                request.messages_list[0].metadata.src_node_id = west.node_id
                content = frame([request.SerializeToString(), *objects])
            return true_post(path, content, **options)

        west._https.post = post
        answer.metadata.__dict__["_src_node_id"] = 4711
        west.reply(answer)
        (arrived,) = collect(grid, waiting).values()
        assert arrived.has_error()
        assert arrived.error.reason == "ProtocolViolation"
        assert running.stored_objects() == 0
    west.close()


def test_an_answer_over_the_limit_is_refused_before_it_is_held(tmp_path):
    limits = WireLimits(body_bytes=1000, vector_bytes=400)
    with running_fleet(new_coordinator(tmp_path / "c"), limits=limits) as small:
        hospital = connection(enrol(small, "a", tmp_path / "a"), small)
        hospital.connect()
        with small.open_grid() as grid:
            grid.wait_for(["a"], 5)
            grid.push_messages(messages(grid, ["a"], pack("ask", {})))
            question = hospital.receive(5)
            large = Message(pack("x", {}, np.zeros(10**6, np.float32)), reply_to=question)
            with pytest.raises(ProtocolViolation, match=r"413 .RequestTooLarge."):
                hospital.reply(large)
        hospital.close()


def test_waiting_for_a_hospital_that_does_not_come_names_it(running, members):
    with running.open_grid() as grid:
        with pytest.raises(DeadlineMissed, match="nobody"):
            grid.wait_for(["nobody"], 0.1)
        with pytest.raises(Unreachable, match="nobody"):
            grid.node_of("nobody")
        with pytest.raises(BadInput):
            grid.hospital_of(1)


def test_a_message_of_another_run_is_not_sent(running, members):
    hospital = connection(members["north"], running)
    hospital.connect()
    with running.open_grid() as one, running.open_grid() as two:
        one.wait_for(["north"], 5)
        with pytest.raises(BadInput, match="this is run"):
            one.push_messages(messages(two, ["north"], pack("ask", {})))
        with pytest.raises(BadInput):
            one.set_run(two.run)
        one.set_run(one.run)
    hospital.close()


def test_large_uploads_do_not_hold_up_small_requests(running, members):
    """While three hospitals send 20 MB each, a fourth one's heartbeats are answered."""
    vector = np.arange(5_000_000, dtype=np.uint32)
    waits = []
    stop = threading.Event()
    probe = connection(members["east"], running)

    with echo_hospitals(running, [members[name] for name in NAMES[1:]]):
        probe.connect()

        def beat():
            node = Node(node_id=probe.node_id)
            while not stop.wait(0.01):
                start = time.monotonic()
                request = SendNodeHeartbeatRequest(node=node, heartbeat_interval=30)
                client.post("/v1/fleet/send-node-heartbeat", request.SerializeToString(),
                            limit_bytes=1000, headers={})  # fmt: skip
                waits.append(time.monotonic() - start)

        address = f"127.0.0.1:{running.port}"
        client = HttpsClient(address, members["east"].tls.context(), read_timeout_s=10)
        thread = threading.Thread(target=beat)
        with running.open_grid() as grid:
            grid.wait_for(NAMES, 10)
            thread.start()
            sent = grid.push_messages(messages(grid, NAMES[1:], pack("ask", {}, vector)))
            assert len(collect(grid, sent, 60)) == 3
            answered_meanwhile = len(waits)
        stop.set()
        thread.join()
        client.close()
        probe.close()
    # A gateway that worked on one upload at a time would have answered one between two of them.
    assert answered_meanwhile > 6
    print(f"slowest heartbeat {max(waits):.3f} s, median {sorted(waits)[len(waits) // 2]:.4f} s")
