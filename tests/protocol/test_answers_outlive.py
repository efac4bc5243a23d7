"""A hospital or a coordinator that is killed in the middle of an answer, as processes."""

import subprocess
import sys
import threading
import time

import pytest
from flwr.app import Message
from tests.support.fleets import collect, enrol, messages, new_coordinator, running_fleet
from tests.support.machine import free_port
from tests.support.tcp_cutter import TcpCutter

from wardround.protocol.envelope import seal, unseal
from wardround.protocol.messages import Failed, Keyed, Refusal, Revealed, Signed
from wardround.vectors import digest_of
from wardround.wire import pack, unpack
from wardround_client.daemon import Daemon
from wardround_client.fleet import FleetConnection, FleetPatience
from wardround_client.flower_letters import enveloped
from wardround_client.home import HospitalHome
from wardround_client.outbox import Outbox

# Answers each letter with a vector of its own randomness: a second computation would differ.
HOSPITAL = """
import sys
from pathlib import Path
import numpy as np
from flwr.app import Message
from wardround.errors import DeadlineMissed
from wardround.wire import pack, unpack
from wardround_client.fleet import FleetConnection
from wardround_client.joining import load_membership
from wardround_client.outbox import Outbox
member = load_membership(Path(sys.argv[1]))
outbox = Outbox(Path(sys.argv[1]) / "outbox", 1 << 28)
with FleetConnection(sys.argv[2], member.tls, outbox=outbox) as connection:
    connection.connect()
    print("here", flush=True)
    while True:
        question = connection.receive(20)
        if question is None:
            continue
        print("asked", flush=True)
        vector = np.random.default_rng().integers(0, 256, 25_000_000, dtype=np.uint8)
        answer = Message(pack("update", {}, vector), reply_to=question)
        try:
            connection.reply(answer, keep=True)
            print("answered", flush=True)
        except DeadlineMissed:
            print("late", flush=True)
"""

COORDINATOR = """
import sys, time
from pathlib import Path
from tests.support.fleets import messages, running_fleet
from wardround.wire import pack
with running_fleet(Path(sys.argv[1]), port=int(sys.argv[2])) as fleet, fleet.open_grid() as grid:
    print("here", flush=True)
    grid.wait_for(["north"], 60)
    grid.push_messages(messages(grid, ["north"], pack("ask", {})))
    time.sleep(600)
"""


def start(script, *arguments):
    command = [sys.executable, "-c", script, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "here\n"
    return process


def kill(process):
    process.kill()
    process.wait()


@pytest.fixture
def coordinator(tmp_path):
    return new_coordinator(tmp_path / "coordinator")


def outbox_of(member):
    return Outbox(member.directory / "outbox", 1 << 28)


def wait_until(condition, timeout_s=30):
    ends = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < ends, "it did not come in time"
        time.sleep(0.005)


def test_a_hospital_killed_while_it_uploads_delivers_its_answer_when_it_is_back(
    coordinator, tmp_path
):
    with running_fleet(coordinator, grace_s=0.5) as running:
        member = enrol(running, "north", tmp_path / "north")
        # The relay stops in the middle of the upload, so that the kill always finds it there.
        cutter = TcpCutter(running.port, [10_000_000])
        cutter.stalls = True
        process = start(HOSPITAL, str(member.directory), f"127.0.0.1:{cutter.port}")
        try:
            with running.open_grid() as grid:
                grid.wait_for(["north"], 10)
                waiting = grid.push_messages(messages(grid, ["north"], pack("ask", {})))
                letters = running._fleet._letters._letters
                wait_until(lambda: (spool := letters[waiting[0]].spool) and spool.arrived > 10**6)
                kill(process)
                cutter.reset()
                kept = outbox_of(member).left()
                assert kept.letter == waiting[0]
                ends = time.monotonic() + 2
                while time.monotonic() < ends:  # four times the grace
                    assert grid.lost(waiting) == frozenset()
                    grid.wait(0.1)
                assert "north" not in grid.connected()
                process = start(HOSPITAL, str(member.directory), f"127.0.0.1:{running.port}")
                (answer,) = collect(grid, waiting, 30).values()
                assert digest_of(unpack(answer.content).vector) == kept.digest
                assert answer.metadata.reply_to_message_id == waiting[0]
                wait_until(lambda: outbox_of(member).path.stat().st_size == 0)
                # It goes on as any hospital does.
                again = grid.push_messages(messages(grid, ["north"], pack("ask", {})))
                assert set(collect(grid, again)) == {"north"}
        finally:
            kill(process)
            cutter.close()


def test_a_hospital_that_does_not_come_back_is_given_up_after_a_while(coordinator, tmp_path):
    with running_fleet(coordinator, grace_s=0.2, resume_s=1.0) as running:
        member = enrol(running, "north", tmp_path / "north")
        cutter = TcpCutter(running.port, [10_000_000])
        cutter.stalls = True
        process = start(HOSPITAL, str(member.directory), f"127.0.0.1:{cutter.port}")
        try:
            with running.open_grid() as grid:
                grid.wait_for(["north"], 10)
                waiting = grid.push_messages(messages(grid, ["north"], pack("ask", {})))
                letters = running._fleet._letters._letters
                wait_until(lambda: (spool := letters[waiting[0]].spool) and spool.arrived > 10**6)
                kill(process)
                cutter.reset()
                killed = time.monotonic()
                while not grid.lost(waiting):
                    grid.wait(0.1)
                assert 0.5 < time.monotonic() - killed < 5
                # What it kept is not wanted any more: it is told so, and empties its outbox.
                grid.withdraw(waiting)
                process = start(HOSPITAL, str(member.directory), f"127.0.0.1:{running.port}")
                wait_until(lambda: outbox_of(member).path.stat().st_size == 0)
                grid.wait_for(["north"], 10)
        finally:
            kill(process)
            cutter.close()


def test_a_hospital_that_lost_its_answer_is_not_waited_for(coordinator, tmp_path):
    """It comes back without an outbox: the letter that it had is lost at once."""
    with running_fleet(coordinator, grace_s=0.2) as running:
        member = enrol(running, "north", tmp_path / "north")
        cutter = TcpCutter(running.port, [10_000_000])
        cutter.stalls = True
        process = start(HOSPITAL, str(member.directory), f"127.0.0.1:{cutter.port}")
        try:
            with running.open_grid() as grid:
                grid.wait_for(["north"], 10)
                waiting = grid.push_messages(messages(grid, ["north"], pack("ask", {})))
                letters = running._fleet._letters._letters
                wait_until(lambda: (spool := letters[waiting[0]].spool) and spool.arrived > 10**6)
                kill(process)
                cutter.reset()
                (member.directory / "outbox").unlink()
                process = start(HOSPITAL, str(member.directory), f"127.0.0.1:{running.port}")
                started = time.monotonic()
                while not grid.lost(waiting):
                    grid.wait(0.1)
                assert time.monotonic() - started < 5
        finally:
            kill(process)
            cutter.close()


def test_a_small_answer_is_taken_from_the_next_process_after_a_loss_of_power(coordinator, tmp_path):
    """It closes no connection: the coordinator sees a newer node while it waits for the older."""
    patience = FleetPatience(heartbeat_s=60.0)
    with running_fleet(coordinator) as running, running.open_grid() as grid:
        member = enrol(running, "north", tmp_path / "north")
        outbox = outbox_of(member)
        before = FleetConnection(member.address, member.tls, patience=patience, outbox=outbox)
        before.connect()
        waiting = grid.push_messages(messages(grid, ["north"], pack("ask", {})))
        question = before.receive(10)
        outbox.keep(enveloped(Message(pack("signed", {"n": 1}), reply_to=question)))
        lost, back = [], threading.Event()

        def look():
            while not back.is_set():
                lost.extend(grid.lost(waiting))

        looking = threading.Thread(target=look)
        looking.start()
        with FleetConnection(member.address, member.tls, outbox=outbox_of(member)) as after:
            assert after.receive(0.3) is None
            back.set()
            looking.join()
            assert lost == []
            (answer,) = collect(grid, waiting).values()
            assert unpack(answer.content).body == {"n": 1}
            # A letter that the next process did not find in the outbox is lost at once.
            again = grid.push_messages(messages(grid, ["north"], pack("ask", {"n": 2})))
            assert after.receive(10) is not None
            with FleetConnection(member.address, member.tls) as third:
                assert third.receive(0.1) is None
                assert grid.lost(again) == frozenset(again)
        before.close()


def test_a_coordinator_that_was_killed_knows_no_letter_and_the_outbox_is_emptied(
    coordinator, tmp_path
):
    port = free_port()
    with running_fleet(coordinator) as running:
        member = enrol(running, "north", tmp_path / "north")
    first = start(COORDINATOR, str(coordinator), str(port))
    cutter = TcpCutter(port, [10_000_000])
    cutter.stalls = True
    hospital = start(HOSPITAL, str(member.directory), f"127.0.0.1:{cutter.port}")
    try:
        assert hospital.stdout.readline() == "asked\n"
        wait_until(lambda: cutter.cut == 1)
        kill(first)
        # Uploads have no names: a coordinator that is killed leaves none of them behind.
        assert list((coordinator / "spool").iterdir()) == []
        with running_fleet(coordinator, port=port) as second, second.open_grid() as grid:
            cutter.reset()
            assert hospital.stdout.readline() == "late\n"
            assert outbox_of(member).left() is None
            grid.wait_for(["north"], 30)
            again = grid.push_messages(messages(grid, ["north"], pack("ask", {})))
            assert set(collect(grid, again)) == {"north"}
            assert hospital.stdout.readline() == "asked\n"
    finally:
        kill(hospital)
        kill(first)
        cutter.close()


BODIES = {
    "signed": (Signed(signature="ab" * 64, checkpoint="x"), True),
    "revealed": (Revealed(self_key="ab" * 32, pair_keys={}, shares={}), True),
    "keyed": (Keyed(hospital="north"), False),
    "refused": (Refusal(code="paused"), False),
    "failed": (Failed(error="ValueError"), False),
}


@pytest.mark.parametrize("kind", BODIES)
def test_the_daemon_keeps_what_is_true_without_its_process_and_nothing_else(
    coordinator, tmp_path, monkeypatch, kind
):
    body, kept = BODIES[kind]
    with running_fleet(coordinator) as running:
        member = enrol(running, "north", tmp_path / "north")
        home = HospitalHome(member.directory)
        # In place of a study, which would have to go on for hours to answer with all of these.
        monkeypatch.setattr(
            "wardround_client.daemon.app",
            lambda message, _: Message(seal(body), reply_to=message),
        )
        outbox = outbox_of(member)
        with FleetConnection(member.address, member.tls, outbox=outbox) as fleet:
            fleet.connect()
            with running.open_grid() as grid:
                grid.wait_for(["north"], 10)
                waiting = grid.push_messages(messages(grid, ["north"], pack("ask", {})))
                Daemon(home)._next(fleet)
                (answer,) = collect(grid, waiting).values()
                assert unseal(answer.content, lanes=1)[0] == body
        # It was written before the answer left, and emptied afterwards.
        assert outbox.path.exists() == kept
        assert outbox.left() is None


def test_a_daemon_goes_on_after_an_answer_that_nobody_took(coordinator, tmp_path, monkeypatch):
    with running_fleet(coordinator) as running:
        member = enrol(running, "north", tmp_path / "north")
        monkeypatch.setattr(
            "wardround_client.daemon.app",
            lambda message, _: Message(seal(Keyed(hospital="north")), reply_to=message),
        )
        with FleetConnection(member.address, member.tls) as fleet:
            fleet.connect()
            with running.open_grid() as grid:
                grid.wait_for(["north"], 10)
                first = grid.push_messages(messages(grid, ["north"], pack("ask", {})))
                question = fleet.receive(10)
                grid.withdraw(first)
                Daemon(HospitalHome(member.directory))._answer(fleet, question)
                again = grid.push_messages(messages(grid, ["north"], pack("ask", {"n": 2})))
                Daemon(HospitalHome(member.directory))._next(fleet)
                assert set(collect(grid, again)) == {"north"}
