"""Logs beside messages, with and without a model, over cut connections: whole, and once."""

import numpy as np
import pytest
from flwr.app import Message
from tests.protocol.test_cut_connections import noted_puts, through
from tests.support.fleets import QUICK, collect, enrol, messages, new_coordinator, running_fleet
from tests.support.tcp_cutter import TcpCutter

from wardround.held import detach
from wardround.protocol.envelope import seal, unseal
from wardround.protocol.messages import Close
from wardround.vectors import digest_of
from wardround.wire import pack, unpack
from wardround_client.fleet import FleetConnection

ENTRIES = 25_000_000 // 4
MODEL = np.random.default_rng(1).standard_normal(ENTRIES, dtype=np.float32)
PACKED = np.random.default_rng(2).integers(0, 256, 2_000_000, dtype=np.uint8)
LOG = "entry " * 600_000


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with running_fleet(new_coordinator(tmp_path_factory.mktemp("coordinator"))) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def member(running, tmp_path_factory):
    return enrol(running, "north", tmp_path_factory.mktemp("north"))


def note_gets(hospital, note):
    """Tell which piece it asks for from now on, and from which byte on."""
    true_get = hospital._https.get_into

    def get_into(path, into, *, headers, arrived):
        note(headers["wardround-vector"], int(headers["range"].strip("bytes=-")))
        return true_get(path, into, headers=headers, arrived=arrived)

    hospital._https.get_into = get_into


def test_a_large_log_at_the_end_of_a_run_goes_on_where_it_broke_off(running, member):
    body = {"log": LOG}
    cutter = TcpCutter(running.port, [2_000_000])
    try:
        hospital = through(cutter, member)
        sent = noted_puts(hospital)
        with hospital, running.open_grid() as grid:
            hospital.connect()
            grid.wait_for(["north"], 10)
            waiting = grid.push_messages(messages(grid, ["north"], pack("close", {})))
            hospital.reply(Message(pack("closed", body), reply_to=hospital.receive(10)))
            (answer,) = collect(grid, waiting).values()
            assert unpack(answer.content).body == body
    finally:
        cutter.close()
    assert sent[0] > 3_600_000
    assert len(sent) == 2
    assert sent[1] < sent[0]


def test_a_large_log_comes_to_a_hospital_over_a_cut_connection(running, member):
    body = {"log": LOG}
    cutter = TcpCutter(running.port, [2_000_000, 1_000_000])
    try:
        with through(cutter, member) as hospital, running.open_grid() as grid:
            hospital.connect()
            grid.wait_for(["north"], 10)
            waiting = grid.push_messages(messages(grid, ["north"], pack("close", body)))
            question = hospital.receive(30)
            assert unpack(question.content).body == body
            hospital.reply(Message(pack("closed", {}), reply_to=question))
            assert len(collect(grid, waiting)) == 1
        assert cutter.cut == 2
    finally:
        cutter.close()


def test_the_whole_log_and_the_model_of_a_close_come_over_cut_connections_once(running, member):
    """Cut within the model, then within the log: either goes on where it broke off."""
    close = Close(run="ab" * 16, log=LOG, checkpoint="head")
    cutter = TcpCutter(running.port, [20_000_000])
    asked = []

    def ask(digest, start):
        asked.append(("model" if digest == digest_of(MODEL) else "log", start))
        if asked[-1] == ("log", 0):
            cutter.cut_after(2_000_000)

    try:
        hospital = through(cutter, member)
        note_gets(hospital, ask)
        with hospital, running.open_grid() as grid:
            hospital.connect()
            grid.wait_for(["north"], 10)
            waiting = grid.push_messages(messages(grid, ["north"], seal(close, MODEL)))
            question = hospital.receive(60)
            body, model = unseal(question.content, lanes=ENTRIES)
            assert body == close
            assert digest_of(model) == digest_of(MODEL)
            hospital.reply(Message(pack("closed", {}), reply_to=question))
            assert len(collect(grid, waiting)) == 1
        assert cutter.cut == 2
    finally:
        cutter.close()
    assert [name for name, _ in asked] == ["model", "model", "log", "log"]
    (_, from_model), (_, from_log) = asked[1], asked[3]
    assert 5_000_000 < from_model <= 20_000_000
    assert 0 < from_log <= 2_000_000
    assert running.stored_objects() == 0


def test_an_answer_has_one_large_piece_beside_it_and_one_inside(running, member):
    body = {"log": LOG}
    with FleetConnection(member.address, member.tls, patience=QUICK) as hospital:
        hospital.connect()
        with running.open_grid() as grid:
            grid.wait_for(["north"], 5)
            waiting = grid.push_messages(messages(grid, ["north"], pack("ask", {})))
            hospital.reply(Message(pack("closed", body, PACKED), reply_to=hospital.receive(10)))
            (answer,) = collect(grid, waiting).values()
            parcel = unpack(answer.content)
            assert parcel.body == body
            assert parcel.vector.digest == digest_of(PACKED)


def test_an_answer_that_refers_to_two_pieces_is_refused(running, member):
    slim, _ = detach(pack("closed", {"log": LOG}, PACKED))
    with FleetConnection(member.address, member.tls, patience=QUICK) as hospital:
        hospital.connect()
        with running.open_grid() as grid:
            grid.wait_for(["north"], 5)
            waiting = grid.push_messages(messages(grid, ["north"], pack("ask", {})))
            hospital.reply(Message(slim, reply_to=hospital.receive(10)))
            (answer,) = collect(grid, waiting).values()
            assert answer.error.reason == "ProtocolViolation"
