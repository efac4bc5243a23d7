"""A hospital behind a proxy: proxy.py as a process, `wardround hospital join` and `serve`."""

import os
import subprocess
import sys
import time

import pytest
from tests.support.fleets import collect, invite, messages, new_coordinator, running_fleet
from tests.support.machine import free_port
from tests.support.real_proxy import COORDINATOR, interception, real_proxy

from wardround.errors import BadInput
from wardround.protocol.envelope import unseal
from wardround.protocol.messages import Failed
from wardround.wire import pack
from wardround_client.proxy import proxy_for

NAME, PASSWORD = "north", "s3cr3t-patient"
WARDROUND = [sys.executable, "-m", "wardround.cli.main"]


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    directory = new_coordinator(tmp_path_factory.mktemp("coordinator"))
    with running_fleet(directory, names=[COORDINATOR]) as fleet:
        yield fleet


def environment(proxy_url, **more):
    kept = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
    return kept | {"HTTPS_PROXY": proxy_url} | more


def join(running, hospital, directory, proxy_url, **more):
    ticket = directory.with_suffix(".ticket")
    ticket.write_text(invite(running, hospital, host=COORDINATOR).encode())
    command = [*WARDROUND, "hospital", "join", f"@{ticket}", "--dir", str(directory)]
    return subprocess.run(
        command,
        env=environment(proxy_url, **more),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_a_hospital_joins_and_serves_through_a_proxy_that_wants_a_password(running, tmp_path):
    with real_proxy(tmp_path / "proxy", "--basic-auth", f"{NAME}:{PASSWORD}") as proxy:
        url = f"http://{NAME}:{PASSWORD}@{proxy.name}"
        joined = join(running, "north", tmp_path / "north", url)
        assert joined.returncode == 0, joined.stderr
        command = [*WARDROUND, "hospital", "serve", str(tmp_path / "north")]
        log = tmp_path / "serve.log"
        with log.open("w") as file:
            daemon = subprocess.Popen(command, env=environment(url), stdout=file, stderr=file)
        try:
            with running.open_grid() as grid:
                grid.wait_for(["north"], 40)
                sent = grid.push_messages(messages(grid, ["north"], pack("nothing-known", {})))
                (answer,) = collect(grid, sent).values()
                assert isinstance(unseal(answer.content, lanes=1)[0], Failed)
        finally:
            daemon.terminate()
            daemon.wait(20)
        asked = proxy.log()
        assert f"CONNECT {COORDINATOR}:{running.port}" in asked
        # The proxy saw a name and encrypted bytes.
        assert "/v1/" not in asked
        said = log.read_text() + joined.stdout + joined.stderr
        assert PASSWORD not in said


@pytest.mark.parametrize("account", ["", "north:wrong-word@"])
def test_a_proxy_that_refuses_is_named_with_its_status_and_no_password(running, tmp_path, account):
    with real_proxy(tmp_path / "proxy", "--basic-auth", f"{NAME}:{PASSWORD}") as proxy:
        refused = join(running, "south", tmp_path / "south", f"http://{account}{proxy.name}")
    assert refused.returncode == 2
    text = " ".join(refused.stderr.split())
    assert f"proxy {proxy.name} does not connect us to {COORDINATOR}:{running.port}: 407" in text
    assert "wrong-word" not in text
    assert not (tmp_path / "south" / "coordinator.json").exists()


def test_a_proxy_that_cannot_reach_the_coordinator_is_named(running, tmp_path):
    with real_proxy(tmp_path / "proxy") as proxy:
        ticket = tmp_path / "ticket"
        port = free_port()
        made = invite(running, "west", host=COORDINATOR)
        address = f"{COORDINATOR}:{port}"
        ticket.write_text(made.model_copy(update={"address": address}).encode())
        command = [*WARDROUND, "hospital", "join", f"@{ticket}", "--dir", str(tmp_path / "west")]
        refused = subprocess.run(
            command,
            env=environment(f"http://{proxy.name}"),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert refused.returncode == 2
    assert f"proxy {proxy.name} does not connect us to {address}: 502" in refused.stderr


def test_a_proxy_that_is_not_there_is_named(running, tmp_path):
    port = free_port()
    refused = join(running, "south", tmp_path / "south", f"http://127.0.0.1:{port}")
    assert refused.returncode == 2
    assert f"proxy 127.0.0.1:{port} is not reachable (Connection refused)" in refused.stderr


def test_a_proxy_that_opens_tls_is_refused_and_named_even_where_the_machine_trusts_it(
    running, tmp_path
):
    authority = running.enrolment.authority.directory / "authority.pem"
    options = interception(tmp_path / "ca", authority)
    with real_proxy(tmp_path / "proxy", *options) as proxy:
        trusted = {"SSL_CERT_FILE": str(tmp_path / "ca" / "ca.pem")}
        refused = join(running, "south", tmp_path / "south", f"http://{proxy.name}", **trusted)
        # It did open the connection: the certificate that it made for the name is there.
        assert any((tmp_path / "ca" / "made").iterdir())
    assert refused.returncode == 2
    text = " ".join(refused.stderr.split())
    assert "its certificate is refused" in text
    assert f"proxy {proxy.name} seems to open TLS connections (interception)" in text


@pytest.mark.slow
def test_an_interrupted_tunnel_is_taken_up_again(running, tmp_path):
    """The proxy restarts while the daemon serves."""
    with real_proxy(tmp_path / "first") as proxy:
        port = proxy.port
        joined = join(running, "east", tmp_path / "east", f"http://{proxy.name}")
        assert joined.returncode == 0, joined.stderr
        command = [*WARDROUND, "hospital", "serve", str(tmp_path / "east")]
        daemon = subprocess.Popen(command, env=environment(f"http://{proxy.name}"))
        with running.open_grid() as grid:
            grid.wait_for(["east"], 40)
    try:
        with real_proxy(tmp_path / "second", "--port", str(port)), running.open_grid() as grid:
            ends = time.monotonic() + 40
            while "CONNECT" not in (tmp_path / "second" / "log").read_text():
                assert time.monotonic() < ends
                time.sleep(0.1)
            grid.wait_for(["east"], 40)
            sent = grid.push_messages(messages(grid, ["east"], pack("nothing-known", {})))
            assert set(collect(grid, sent)) == {"east"}
    finally:
        daemon.terminate()
        daemon.wait(20)


@pytest.fixture
def clean(monkeypatch):
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    return monkeypatch


@pytest.mark.parametrize(
    ("exempt", "proxied"),
    [
        ("", True),
        ("other.example", True),
        ("coordinator.test", False),
        (".test", False),
        ("coordinator.test:443", False),
        ("coordinator.test:8443", True),
        ("*", False),
    ],
)
def test_no_proxy_is_honoured(clean, exempt, proxied):
    clean.setenv("https_proxy", "proxy.example:3128")
    clean.setenv("no_proxy", exempt)
    found = proxy_for(COORDINATOR, 443)
    assert (found is not None) == proxied
    assert found is None or found.name == "proxy.example:3128"


def test_this_machine_is_never_asked_of_a_proxy(clean):
    clean.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    assert [proxy_for(host, 443) for host in ("127.0.0.1", "::1", "localhost")] == [None] * 3


def test_an_account_is_decoded_and_shows_in_no_repr(clean):
    clean.setenv("HTTPS_PROXY", "http://na%40me:p%3Aw%25@proxy.example")
    found = proxy_for(COORDINATOR, 443)
    assert found.authorization == "Basic bmFAbWU6cDp3JQ=="
    assert found.port == 80
    assert "bmFAb" not in repr(found)


@pytest.mark.parametrize(
    "url", ["https://u:geheim@p:1", "socks5://p:1", "http://", "http://p:99999"]
)
def test_a_proxy_that_cannot_be_used_is_bad_input_without_its_url(clean, url):
    clean.setenv("HTTPS_PROXY", url)
    with pytest.raises(BadInput, match="HTTPS_PROXY") as refused:
        proxy_for(COORDINATOR, 443)
    assert "geheim" not in str(refused.value)
