"""What a daemon tells its people of a coordinator that is out of reach."""

import errno
import logging
import os
import socket
import ssl
import threading
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from wardround.errors import BadInput, Unreachable
from wardround_client.daemon import Daemon
from wardround_client.home import HospitalHome
from wardround_client.joining import key_pem
from wardround_client.tls import ClientTls, HttpsClient, TlsRefused


class AwayAndBack:
    """A connection whose coordinator is away for three questions, here for two, and away again."""

    def __init__(self, letter=None):
        self.answers = iter([False] * 3 + [True] * 2 + [False])
        self.letter = letter

    def receive(self, _timeout_s):
        if not next(self.answers):
            raise Unreachable("coordinator at localhost:1 is not reachable")
        return self.letter


def full_disk(_home, monkeypatch):
    def show(_home, _status):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(HospitalHome, "show", show)


def damaged(home, _monkeypatch):
    (home.directory / "status.json").write_bytes(b"")


def test_people_hear_once_that_the_coordinator_is_away_and_once_that_it_is_back(tmp_path, caplog):
    caplog.set_level(logging.INFO, logger="wardround.hospital")
    home = HospitalHome(tmp_path)
    home.show({"hospital": "north", "state": "joined"})
    daemon, fleet, lost = Daemon(home), AwayAndBack(), False
    told = []
    for _ in range(6):
        lost = daemon._next(fleet, lost=lost)
        told.append(home.shown().pop("coordinator", "here").partition(" since ")[0])
    assert told == ["out of reach"] * 3 + ["here"] * 2 + ["out of reach"]
    assert home.shown()["state"] == "joined"
    assert [message.rpartition("; ")[2] for message in caplog.messages] == [
        "trying again",
        "the coordinator answers again",
        "trying again",
    ]


@pytest.mark.parametrize("spoil", [full_disk, damaged])
def test_a_status_that_cannot_be_written_costs_no_letter(tmp_path, monkeypatch, caplog, spoil):
    home = HospitalHome(tmp_path)
    home.show({"hospital": "north", "state": "joined"})
    daemon, fleet, answered = Daemon(home), AwayAndBack(letter="a letter"), []
    monkeypatch.setattr(Daemon, "_answer", lambda _self, _fleet, letter: answered.append(letter))
    spoil(home, monkeypatch)
    lost = False
    for _ in range(5):
        lost = daemon._next(fleet, lost=lost)
    assert answered == ["a letter"] * 2
    told = [said for said in caplog.messages if "status" in said]
    assert len(told) == 2


def test_a_damaged_status_is_named(tmp_path):
    (tmp_path / "status.json").write_bytes(b"")
    with pytest.raises(BadInput, match=r"status\.json"):
        HospitalHome(tmp_path).shown()


def test_a_certificate_that_is_not_valid_now_asks_about_this_machines_clock(tmp_path):
    """A real one, of a coordinator whose clock is a day ahead."""
    files = _files(tmp_path, begins=datetime.now(UTC) + timedelta(days=1))
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(files.certificate, files.key)
    with pytest.raises(TlsRefused, match=r"this machine's clock says 20.*Z: is that right"):
        _ask(files, lambda peer: server.wrap_socket(peer, server_side=True))


def test_a_service_without_tls_asks_about_the_port(tmp_path):
    files = _files(tmp_path, begins=datetime.now(UTC) - timedelta(days=1))
    with pytest.raises(Unreachable, match="speaks no TLS; is the port right"):
        _ask(files, lambda peer: peer.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n"))


def _files(folder, begins):
    """An authority that is also both ends' certificate, good for three days."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "alone")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + timedelta(days=3))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = ClientTls(*(folder / name for name in ("certificate.pem", "key.pem", "ca.pem")))
    for path in (files.certificate, files.authority):
        path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    files.key.write_bytes(key_pem(key))
    return files


def _ask(files, answer):
    """One question to a service on loopback that answers the first bytes so."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(10)

        def serve():
            with suppress(OSError):
                peer, _ = listening.accept()
                with peer:
                    peer.settimeout(10)
                    answer(peer)

        address = f"localhost:{listening.getsockname()[1]}"
        client = HttpsClient(address, files.context(), read_timeout_s=5.0)
        service = threading.Thread(target=serve)
        service.start()
        try:
            client.post("/v1/anything", b"", limit_bytes=100, headers={})
        finally:
            client.close()
            service.join()
