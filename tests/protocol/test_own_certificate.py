"""A coordinator that runs renews its own certificate, and nobody's connection breaks by it."""

import asyncio
import logging
import os
import ssl
import subprocess
import sys
import threading
import time
from datetime import timedelta

import pytest
from flwr.app import Message
from tests.support.fleets import (
    collect,
    connection,
    enrol,
    messages,
    new_coordinator,
    running_fleet,
)
from tests.support.machine import free_port

from wardround.renewal import RENEW_BEFORE, certificate_of, days_left, fingerprint_of
from wardround.wire import pack
from wardround_client.joining import join
from wardround_client.tls import TlsRefused
from wardround_server.authority import (
    NEXT_SERVER_KEY_FILE,
    SERVER_KEY_FILE,
    SERVER_LIFE,
    Authority,
)
from wardround_server.home import CoordinatorHome, CoordinatorSettings
from wardround_server.own_certificate import LOOK_EVERY_S, OwnCertificate, utc_now


def place(directory, life):
    """What the coordinator finds when it starts: its own certificate, and how long it lasts."""
    authority = Authority.load(directory / "authority")
    issued = authority.issue_server([], life=life)
    (authority.directory / "server.pem").write_bytes(issued.certificate)
    (authority.directory / SERVER_KEY_FILE).unlink(missing_ok=True)
    (authority.directory / SERVER_KEY_FILE).write_bytes(issued.key)
    return on_disk(directory)


def due_in(seconds):
    return RENEW_BEFORE + timedelta(seconds=seconds)


def on_disk(directory):
    return fingerprint_of(certificate_of((directory / "authority" / "server.pem").read_bytes()))


def shown_on(fleet):
    """The server's certificate of the hospital's open connection."""
    tls = fleet._https._connection.sock
    return fingerprint_of(certificate_of(pem_of(tls.getpeercert(binary_form=True))))


def pem_of(der):
    return ssl.DER_cert_to_PEM_cert(der).encode()


def wait_until(condition, timeout_s=20):
    ends = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < ends, "it did not come in time"
        time.sleep(0.02)


def look(running):
    """In the loop that accepts the connections, as `keep` does."""
    gateway = running._gateway
    asyncio.run_coroutine_threadsafe(gateway._certificate.look(), gateway._loop).result(10)


@pytest.fixture
def directory(tmp_path):
    return new_coordinator(tmp_path / "coordinator")


def test_it_is_renewed_while_it_is_used_and_an_open_connection_goes_on(directory, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    old = place(directory, due_in(600))
    with running_fleet(directory) as running, running.open_grid() as grid:
        member = enrol(running, "north", tmp_path / "north")
        with connection(member) as hospital:
            hospital.connect()
            node, tls = hospital.node_id, hospital._https._connection.sock
            assert shown_on(hospital) == old == on_disk(directory)
            arrived = []
            waiting = threading.Thread(target=lambda: arrived.append(hospital.receive(20)))
            waiting.start()  # its long poll is under way while the certificate changes
            wait_until(lambda: running._gateway._polls.get("north"))
            running._gateway._certificate._clock = lambda: utc_now() + timedelta(seconds=600)
            look(running)
            assert "has renewed its certificate" in caplog.text
            new = on_disk(directory)
            letters = grid.push_messages(messages(grid, ["north"], pack("ask", {})))
            waiting.join()
            hospital.reply(Message(pack("answer", {}), reply_to=arrived[0]))
            assert set(collect(grid, letters)) == {"north"}
            assert hospital._https._connection.sock is tls
            assert (hospital.node_id, shown_on(hospital)) == (node, old)
            hospital._https.close()  # the next request makes a connection
            assert hospital.receive(0.05) is None
            assert (hospital.node_id, shown_on(hospital)) == (node, new)
            assert new != old
        # The pinned authority is what a join ticket has, so tickets go on as well.
        enrol(running, "south", tmp_path / "south")
    held = certificate_of((directory / "authority" / "server.pem").read_bytes())
    assert days_left(held, utc_now()) == SERVER_LIFE.days - 1
    assert (directory / "authority" / SERVER_KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert not (directory / "authority" / NEXT_SERVER_KEY_FILE).exists()


@pytest.mark.slow
def test_the_end_of_the_old_one_cuts_no_connection_and_the_next_one_lets_all_in(
    directory, tmp_path
):
    with running_fleet(directory) as running:
        member = enrol(running, "north", tmp_path / "north")
        place(directory, timedelta(seconds=4))
        own = running._gateway._certificate
        own.context.load_cert_chain(
            *(directory / "authority" / n for n in ("server.pem", SERVER_KEY_FILE))
        )
        own._held = certificate_of((directory / "authority" / "server.pem").read_bytes())
        with connection(member) as open_before, connection(member) as late:
            open_before.connect()
            wait_until(lambda: utc_now() > own.ends)
            with pytest.raises(TlsRefused, match="expired"):
                late.connect(0.1)
            assert open_before.receive(0.05) is None
            look(running)
            assert open_before.receive(0.05) is None
            late.connect(5)
            assert shown_on(late) == on_disk(directory)


def test_where_it_cannot_be_written_the_old_one_serves_on_and_the_log_says_so(
    directory, tmp_path, caplog
):
    old = place(directory, due_in(-5 * 86_400))
    obstacle = directory / "authority" / NEXT_SERVER_KEY_FILE
    with running_fleet(directory) as running:  # renewed at the start: due is due
        first = on_disk(directory)
        assert first != old
        obstacle.mkdir()
        own = running._gateway._certificate
        own._clock = lambda: own.ends - timedelta(days=59, hours=1)
        look(running)
        assert "in 59 days, and was not renewed" in caplog.text
        assert own._pause_s() == LOOK_EVERY_S
        member = enrol(running, "north", tmp_path / "north")
        with connection(member) as hospital:
            hospital.connect()
            assert shown_on(hospital) == first == on_disk(directory)
            obstacle.rmdir()
            look(running)
            hospital._https.close()
            assert hospital.receive(0.05) is None
            assert shown_on(hospital) == on_disk(directory) != first


def test_it_is_renewed_as_soon_as_it_falls_due(directory):
    old = place(directory, due_in(1))

    class Renewed(Exception):
        """It is: `keep` asks the clock how long to sleep now."""

    def clock():
        if on_disk(directory) != old:
            raise Renewed
        return utc_now()

    own = OwnCertificate(Authority.load(directory / "authority"), [], clock=clock)
    with pytest.raises(Renewed):
        asyncio.run(asyncio.wait_for(own.keep(), 30))


def test_it_looks_when_the_certificate_falls_due_and_else_every_hour(directory):
    authority, now = Authority.load(directory / "authority"), [utc_now()]
    own = OwnCertificate(authority, ["127.0.0.1"], clock=lambda: now[0])
    assert own._pause_s() == LOOK_EVERY_S
    now[0] = own.ends - RENEW_BEFORE - timedelta(seconds=20)
    assert own._pause_s() == 20
    before = on_disk(directory)
    asyncio.run(own.look())
    assert on_disk(directory) == before
    now[0] += timedelta(seconds=21)
    assert own._pause_s() == LOOK_EVERY_S
    asyncio.run(own.look())
    assert on_disk(directory) != before


@pytest.mark.slow
def test_a_coordinator_process_renews_and_is_killed_and_comes_back_with_the_new_one(tmp_path):
    """`wardround coordinator serve` itself, from a certificate that falls due while it runs."""
    port = free_port()
    settings = CoordinatorSettings(port=port, address=f"127.0.0.1:{port}")
    home = CoordinatorHome.create(tmp_path / "coordinator", settings)
    old = place(home.directory, due_in(25))
    ticket = home.enrolment().invite(
        "north", address=settings.address, evidence_key=home.identity().public_key
    )
    log = tmp_path / "log"
    process = serving(home, log)
    try:
        wait_until(lambda: "listening" in log.read_text(), 60)
        assert on_disk(home.directory) == old, (
            "this machine was too slow to start before it was due"
        )
        member = join(ticket.encode(), tmp_path / "north")
        with connection(member) as hospital:
            hospital.connect()
            node = hospital.node_id
            wait_until(lambda: "has renewed its certificate" in log.read_text(), 60)
            assert hospital.receive(0.05) is None
            assert (hospital.node_id, shown_on(hospital)) == (node, old)
            new = on_disk(home.directory)
            process.kill()
            process.wait()
            process = serving(home, log)
            wait_until(lambda: log.read_text().count("listening") == 2, 60)
            hospital.connect(30)
            assert hospital.receive(0.05) is None
            assert shown_on(hospital) == new == on_disk(home.directory) != old
    finally:
        process.kill()
        process.wait()


def serving(home, log):
    command = [sys.executable, "-m", "wardround.cli.main", "coordinator", "serve", home.directory]
    with log.open("ab") as file:
        return subprocess.Popen(command, stderr=file, env={**os.environ, "OMP_NUM_THREADS": "1"})
