"""How seldom an idle hospital speaks, and how soon it hears."""

import threading
import time

import pytest
from flwr.app import Message
from tests.support.fleets import (  # fmt: skip
    collect,
    connection,
    echo,
    enrol,
    messages,
    new_coordinator,
    running_fleet,
)

from wardround.wire import pack
from wardround_client.fleet import FleetConnection, FleetPatience
from wardround_server.presence import SILENCE_S


@pytest.fixture
def running(tmp_path):
    with running_fleet(new_coordinator(tmp_path / "coordinator")) as fleet:
        yield fleet


@pytest.fixture
def member(running, tmp_path):
    return enrol(running, "north", tmp_path / "north")


@pytest.mark.slow
def test_an_idle_hospital_costs_less_than_a_request_in_ten_seconds(running, member):
    """Over 35 s, as the daemon waits: with its own patience, letter after letter of nothing."""
    with FleetConnection(member.address, member.tls) as hospital:
        hospital.connect()
        stop = time.monotonic() + 35
        before = running.requests_answered()
        while (left_s := stop - time.monotonic()) > 0.1:
            assert hospital.receive(min(20.0, left_s)) is None
            assert "north" in running.hospitals_connected()
        assert running.requests_answered() - before <= 3


@pytest.mark.slow
def test_a_hospital_that_computes_for_longer_than_the_silence_stays_present(running, member):
    with FleetConnection(member.address, member.tls) as hospital, running.open_grid() as grid:
        hospital.connect()
        grid.wait_for(["north"], 5)
        waiting = grid.push_messages(messages(grid, ["north"], pack("ask", {})))
        question = hospital.receive(5)
        before = running.requests_answered()
        ends = time.monotonic() + SILENCE_S + 6
        while time.monotonic() < ends:
            assert grid.lost(waiting) == frozenset()
            time.sleep(0.5)
        assert 1 <= running.requests_answered() - before <= 4
        hospital.reply(echo(question))
        assert set(collect(grid, waiting)) == {"north"}


@pytest.mark.slow
def test_a_waiting_hospital_hears_within_50_ms(running, member):
    """20 letters, each while a long poll waits; the median, since the machine has other work."""
    heard = []
    hospital = connection(member, running)
    hospital.connect()

    def listen():
        for _ in range(20):
            question = hospital.receive(20)
            heard.append(time.monotonic())
            hospital.reply(Message(pack("heard", {}), reply_to=question))

    listener = threading.Thread(target=listen)
    listener.start()
    delays = []
    with running.open_grid() as grid:
        grid.wait_for(["north"], 5)
        for number in range(20):
            time.sleep(0.05)  # the poll is there again
            sent = time.monotonic()
            waiting = grid.push_messages(messages(grid, ["north"], pack("ask", {"n": number})))
            assert set(collect(grid, waiting)) == {"north"}
            delays.append(heard[number] - sent)
    listener.join()
    hospital.close()
    assert sorted(delays)[len(delays) // 2] < 0.05


def test_a_poll_is_answered_by_the_letter_that_comes_and_by_no_second_request(running, member):
    """The order, without a clock: one poll waits, a letter comes, one answer leaves."""
    paths = []
    hospital = connection(member, running)
    hospital.connect()
    true_post = hospital._https.post

    def post(path, content, **options):
        paths.append(path)
        return true_post(path, content, **options)

    hospital._https.post = post
    asked = threading.Event()
    with running.open_grid() as grid:
        grid.wait_for(["north"], 5)

        def send_later():
            while not running._gateway._polls.get("north"):
                time.sleep(0.001)
            asked.set()
            grid.push_messages(messages(grid, ["north"], pack("ask", {})))

        sender = threading.Thread(target=send_later)
        sender.start()
        question = hospital.receive(20)
        assert asked.is_set()
        hospital.reply(echo(question))
        sender.join()
    assert paths == ["/v1/letters/next", "/v1/letters/answer"]
    hospital.close()


def test_no_heartbeat_is_sent_while_a_request_is_under_way_or_was_lately(running, member):
    beats = []
    patience = FleetPatience(heartbeat_s=0.4)
    hospital = FleetConnection(member.address, member.tls, patience=patience)
    true_post = hospital._heart_https.post

    def post(path, content, **options):
        beats.append(path)
        return true_post(path, content, **options)

    hospital._heart_https.post = post
    hospital.connect()
    assert hospital.receive(2.0) is None
    assert beats == []
    time.sleep(1.5)
    assert beats
    assert set(beats) == {"/v1/fleet/send-node-heartbeat"}
    hospital.close()
