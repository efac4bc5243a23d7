"""What happens when somebody dies, comes back, leaves, or comes twice."""

import subprocess
import sys
import threading
import time

import pytest
from tests.support.fleets import (
    EchoHospital,
    collect,
    connection,
    echo,
    enrol,
    messages,
    new_coordinator,
    running_fleet,
)

from wardround.errors import Unreachable
from wardround.wire import pack
from wardround_client.tls import NotLetIn

NAMES = ["north", "south", "west"]


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    directory = new_coordinator(tmp_path_factory.mktemp("coordinator"))
    with running_fleet(directory, grace_s=1.0) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def members(running, tmp_path_factory):
    return {name: enrol(running, name, tmp_path_factory.mktemp(name)) for name in NAMES}


HOSPITAL = """
import sys
from pathlib import Path
from wardround_client.fleet import FleetConnection
from wardround_client.joining import load_membership
member = load_membership(Path(sys.argv[1]))
with FleetConnection(sys.argv[2], member.tls) as connection:
    connection.connect()
    print("here", flush=True)
    while True:
        connection.receive(60)
"""


def start_process(member, running):
    address = f"127.0.0.1:{running.port}"
    command = [sys.executable, "-c", HOSPITAL, str(member.directory), address]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "here\n"
    return process


def test_a_killed_hospital_is_noticed_within_5_s_and_can_come_back_at_once(running, members):
    member = members["south"]
    process = start_process(member, running)
    try:
        with running.open_grid() as grid:
            grid.wait_for(["south"], 5)
            first = grid.node_of("south")
            (letter,) = grid.push_messages(messages(grid, ["south"], pack("ask", {})))
            assert grid.lost([letter]) == frozenset()
            time.sleep(0.3)
            process.kill()
            process.wait()
            killed = time.monotonic()
            while "south" in grid.connected():
                grid.wait(5)
            assert time.monotonic() - killed < 5
            assert grid.lost([letter]) == {letter}
            # Flower itself refuses a killed node for 60 s.
            process = start_process(member, running)
            grid.wait_for(["south"], 5)
            assert grid.node_of("south") != first
            # It delivers first what the killed process has left; then it asks for letters.
            asked = time.monotonic()
            while grid.lost([letter]) != {letter}:
                assert time.monotonic() - asked < 5
                grid.wait(1)
            assert grid.hospital_of(first) == "south"
            old = grid.create_message(pack("ask", {}), "train", first, "1")
            with pytest.raises(Unreachable):
                grid.push_messages([old])
    finally:
        process.kill()
        process.wait()


def test_a_process_that_was_replaced_by_another_gives_up(running, members):
    old = connection(members["west"], running)
    old.connect()
    new = connection(members["west"], running)
    new.connect()
    with pytest.raises(NotLetIn, match="has taken over"):
        old.receive(2)
    new.close()
    old.close()


def test_an_answer_that_was_complete_before_its_hospital_left_is_not_lost(running, members):
    hospital = connection(members["west"], running)
    hospital.connect()
    with running.open_grid() as grid:
        grid.wait_for(["west"], 5)
        waiting = grid.push_messages(messages(grid, ["west"], pack("ask", {})))
        hospital.reply(echo(hospital.receive(5)))
        hospital.close()
        assert "west" not in grid.connected()
        assert grid.lost(waiting) == frozenset()
        assert set(collect(grid, waiting)) == {"west"}


def test_hospitals_come_back_by_themselves_after_a_restart_of_the_coordinator(tmp_path):
    directory = new_coordinator(tmp_path / "c")
    with running_fleet(directory) as first:
        port = first.port
        member = enrol(first, "a", tmp_path / "a")
        hospital = EchoHospital(member, first)
        with first.open_grid() as grid:
            grid.wait_for(["a"], 10)
    with running_fleet(directory, port=port) as second, second.open_grid() as grid:
        grid.wait_for(["a"], 10)
        waiting = grid.push_messages(messages(grid, ["a"], pack("ask", {})))
        assert set(collect(grid, waiting)) == {"a"}
    hospital.stop()


def test_a_new_hospital_ends_the_wait_at_once(running, members):
    with running.open_grid() as grid:
        hospital = connection(members["north"], running)
        arrival = threading.Timer(0.2, hospital.connect)
        arrival.start()
        start = time.monotonic()
        while "north" not in grid.connected():
            grid.wait(10)
        assert time.monotonic() - start < 3
        arrival.join()
        hospital.close()
