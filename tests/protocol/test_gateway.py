"""What the world reaches of the coordinator, over real TLS on loopback."""

import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import flwr
import pytest
from flwr.proto.fleet_pb2 import PullMessagesRequest
from flwr.proto.node_pb2 import Node
from tests.support.fleets import connection, enrol, new_coordinator, post, running_fleet

from wardround.errors import BadInput, Unreachable
from wardround_client.tls import ClientTls, HttpsClient, NotLetIn, TlsRefused
from wardround_server.authority import Authority
from wardround_server.fleet_server import PortInUse, start_fleet
from wardround_server.gateway import SMALL_REQUEST_LIMIT_BYTES
from wardround_server.presence import CHECK_EVERY_S

ROUTE = re.compile(r"router\.(?:post|get|put|delete|patch)\(\s*\"(/[^\"]+)\"")
PREFIX = re.compile(r"prefix=\"(/v1/[a-z]+)\"")
SERVED = {"register-node", "activate-node", "unregister-node", "send-node-heartbeat"}
LETTER = "ab" * 32


def flower_routes() -> set[str]:
    """Every HTTP route that stands in Flower's installed source."""
    routes = set()
    for path in Path(flwr.__file__).parent.rglob("*.py"):
        text = path.read_text()
        if "APIRouter(" in text:
            prefix = (PREFIX.findall(text) or [""])[0]
            routes |= {prefix + route for route in ROUTE.findall(text)}
    return routes


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with running_fleet(new_coordinator(tmp_path_factory.mktemp("coordinator"))) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def member(running, tmp_path_factory):
    return enrol(running, "st-mary", tmp_path_factory.mktemp("st-mary"))


def test_every_route_of_flower_except_the_four_served_ones_answers_404(running, member):
    routes = flower_routes()
    served = {f"/v1/fleet/{name}" for name in SERVED}
    assert served < routes
    # The search has found the dangerous ones, so that a change of Flower's source shows here.
    assert len([r for r in routes if r.startswith("/v1/control/")]) >= 40
    assert len([r for r in routes if r.startswith("/v1/runtime/")]) >= 20
    others = [*sorted(routes - served), "/", "/health", "/docs", "/openapi.json", "/v1/enrol"]
    for path in others:
        assert post(member, running, path) == (404, b"NoSuchRoute"), path
    # A hospital takes and gives whole letters; it never names an object.
    objects = {f"/v1/fleet/{name}" for name in ("get-fab", "pull-object", "push-object")}
    assert objects <= set(others)


@pytest.mark.parametrize("method", ["GET", "PUT", "HEAD", "DELETE", "PATCH"])
def test_a_served_route_answers_no_other_method(running, member, method):
    for path in ("/v1/fleet/register-node", "/v1/letters/next", "/v1/letters/answer"):
        assert post(member, running, path, method=method)[0] == 404


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", f"/v1/vectors/{LETTER}", 410),
        ("PUT", f"/v1/vectors/{LETTER}", 400),
        ("POST", f"/v1/vectors/{LETTER}", 400),
        ("DELETE", f"/v1/vectors/{LETTER}", 404),
        ("GET", "/v1/vectors/../../etc/passwd", 404),
        ("GET", f"/v1/vectors/{LETTER.upper()}", 404),
        ("GET", "/v1/vectors/", 404),
    ],
)
def test_a_vector_of_a_letter_that_never_was_is_refused(running, member, method, path, status):
    assert post(member, running, path, method=method)[0] == status


def test_an_error_is_a_type_name_and_nothing_else(running, member):
    secret = b"\xff\xff not a protobuf: patient 4711"
    assert post(member, running, "/v1/fleet/register-node", secret) == (400, b"MalformedRequest")


def test_without_a_certificate_nothing_answers(running):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    answer = b""
    with socket.create_connection(("127.0.0.1", running.port)) as raw, suppress(OSError):
        # In TLS 1.3 the client's handshake ends before the server has looked at the certificate.
        tls = context.wrap_socket(raw)
        tls.sendall(b"POST /v1/letters/next HTTP/1.1\r\nhost: a\r\n\r\n")
        answer = tls.recv(1000)
    assert answer == b""


def test_plain_http_and_tls_1_2_get_no_answer(running, member):
    with socket.create_connection(("127.0.0.1", running.port)) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        raw.settimeout(5)
        assert not raw.recv(1000).startswith(b"HTTP")
    context = member.tls.context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection(("127.0.0.1", running.port)) as raw,
        pytest.raises(OSError, match=r"(?i)eof|reset|version"),
    ):
        context.wrap_socket(raw, server_hostname="127.0.0.1")


def unchecked_context(tls):
    """What a client sends that does not check its own certificate first."""
    context = ssl.create_default_context(cafile=str(tls.authority))
    context.load_cert_chain(tls.certificate, tls.key)
    return context


def test_a_certificate_of_another_authority_is_refused_by_both_sides(running, member, tmp_path):
    other = Authority.create(tmp_path / "other")
    issued = other.issue_bootstrap("st-mary", expires=datetime.now(UTC) + timedelta(days=1))
    tls = ClientTls(tmp_path / "c.pem", tmp_path / "k.pem", member.tls.authority)
    tls.certificate.write_bytes(issued.certificate)
    tls.key.write_bytes(issued.key)
    with pytest.raises(BadInput, match="not issued by"):
        tls.context()
    address = f"127.0.0.1:{running.port}"
    client = HttpsClient(address, unchecked_context(tls), read_timeout_s=5)
    with pytest.raises(Unreachable, match="does not accept"):
        client.post("/v1/fleet/register-node", b"", limit_bytes=1000, headers={})


def test_an_alert_of_the_other_side_is_final_and_named(running, member, tmp_path):
    other = Authority.create(tmp_path / "other")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    files = running.enrolment.authority.server_files([])
    context.load_cert_chain(files.certificate, files.key)
    context.load_verify_locations(cadata=other.certificate_pem)
    context.verify_mode = ssl.CERT_REQUIRED
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            raw, _ = listener.accept()
            with context.wrap_socket(raw, server_side=True, do_handshake_on_connect=False) as tls:
                with suppress(OSError):
                    tls.do_handshake()
                # Closing with bytes unread would reset the connection and drop the alert.
                with suppress(OSError):
                    socket.socket.shutdown(tls, socket.SHUT_WR)
                    while socket.socket.recv(tls, 1000):
                        pass

        threading.Thread(target=serve, daemon=True).start()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        client = HttpsClient(address, member.tls.context(), read_timeout_s=5)
        with pytest.raises(TlsRefused, match="alert unknown ca"):
            client.post("/v1/enrol", b"", limit_bytes=1000, headers={})


def test_a_coordinator_of_another_authority_is_refused_by_the_hospital(member, tmp_path):
    with (
        running_fleet(new_coordinator(tmp_path)) as impostor,
        pytest.raises(TlsRefused, match="its certificate is refused"),
    ):
        post(member, impostor, "/v1/fleet/register-node")


def test_an_expired_certificate_is_refused_by_the_coordinator_and_named_by_the_hospital(
    running, member, tmp_path
):
    past = datetime.now(UTC) - timedelta(hours=1)
    issued = running.enrolment.authority.issue_bootstrap("late", expires=past)
    tls = ClientTls(tmp_path / "c.pem", tmp_path / "k.pem", member.tls.authority)
    tls.certificate.write_bytes(issued.certificate)
    tls.key.write_bytes(issued.key)
    with pytest.raises(Unreachable, match=r"certificate expired on .*: ask for a renewal ticket"):
        tls.context()
    address = f"127.0.0.1:{running.port}"
    client = HttpsClient(address, unchecked_context(tls), read_timeout_s=5)
    with pytest.raises(Unreachable, match="does not accept"):
        client.post("/v1/enrol", b"", limit_bytes=1000, headers={})


def test_the_server_certificate_does_not_serve_as_a_client_certificate(running, member):
    folder = running.enrolment.authority.directory
    tls = ClientTls(folder / "server.pem", folder / "server-key.pem", member.tls.authority)
    with pytest.raises(Unreachable):
        post(tls, running, "/v1/fleet/register-node")


def test_a_removed_hospital_is_not_let_in_any_more(running, tmp_path):
    member = enrol(running, "removed", tmp_path / "removed")
    hospital = connection(member, running)
    hospital.connect()
    running.enrolment.remove("removed")
    time.sleep(2 * CHECK_EVERY_S)
    with pytest.raises(NotLetIn, match="does not know this hospital's certificate"):
        hospital.receive(5)
    hospital.close()
    with pytest.raises(NotLetIn):
        connection(member, running).connect()


def test_an_outdated_certificate_of_a_hospital_does_not_disturb_its_presence(running, tmp_path):
    old = enrol(running, "renewed", tmp_path / "old")
    running.enrolment.remove("renewed")
    hospital = connection(enrol(running, "renewed", tmp_path / "new"), running)
    hospital.connect()
    for _ in range(3):
        assert post(old, running, "/v1/fleet/register-node") == (403, b"UnknownHospital")
    assert "renewed" in running.hospitals_connected()
    hospital.close()


def test_a_request_over_the_limit_is_refused_by_its_announced_length(running, member):
    content = bytes(300 * 1024)
    assert post(member, running, "/v1/fleet/register-node", content)[0] == 413


def test_a_chunked_request_over_the_limit_is_refused_while_it_comes(running, member):
    context = member.tls.context()
    with (
        socket.create_connection(("127.0.0.1", running.port), timeout=10) as raw,
        context.wrap_socket(raw, server_hostname="127.0.0.1") as tls,
    ):
        tls.sendall(
            b"POST /v1/fleet/register-node HTTP/1.1\r\nhost: a\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        # One piece more than the limit: the request itself never ends.
        for _ in range(SMALL_REQUEST_LIMIT_BYTES // 0x8000 + 1):
            tls.sendall(b"8000\r\n" + bytes(0x8000) + b"\r\n")
        assert b" 413 " in tls.recv(100)


def test_the_port_is_free_after_the_end_and_a_taken_one_is_named(tmp_path):
    directory = new_coordinator(tmp_path)
    with start_fleet(directory) as fleet:
        port = fleet.port
        with pytest.raises(PortInUse, match=f"port {port} on 127.0.0.1 is in use") as taken:
            start_fleet(directory, port=port)
        assert taken.value.exit_code == 1
    with start_fleet(directory, port=port) as fleet:
        assert fleet.port == port
    with pytest.raises(BadInput, match="cannot listen"):
        start_fleet(directory, host="192.0.2.1")


def test_a_poll_ends_after_the_wait_that_the_hospital_wishes(running, member):
    hospital = connection(member, running)
    start = datetime.now(UTC)
    assert hospital.receive(1.0) is None
    assert 0.9 < (datetime.now(UTC) - start).total_seconds() < 3
    hospital.close()


def test_flower_does_not_phone_home_and_says_nothing(running, member, capfd):
    script = (
        "import wardround_client.fleet, flwr.supercore.telemetry as telemetry, logging, os\n"
        "assert telemetry.FLWR_TELEMETRY_ENABLED == '0'\n"
        "assert os.environ['FLWR_DISABLE_UPDATE_CHECK'] == '1'\n"
        "logging.getLogger('flwr').error('an error of a hospital')\n"
    )
    loud = os.environ | {"FLWR_TELEMETRY_ENABLED": "1", "FLWR_LOG_LEVEL": "DEBUG"}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=loud, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")
    assert "hospital" not in done.stderr
    request = PullMessagesRequest(node=Node(node_id=7)).SerializeToString()
    assert post(member, running, "/v1/letters/next", request) == (403, b"NodeNotYours")
    assert "flwr" not in capfd.readouterr().err.lower()
