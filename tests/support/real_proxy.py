"""proxy.py as a process on loopback: a real HTTP proxy of another author."""

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from proxy.http.proxy import HttpProxyBasePlugin

COORDINATOR = "coordinator.test"
"""A name that only the proxy can resolve, as in many a hospital's network."""


class LocalNames(HttpProxyBasePlugin):
    """Resolves the coordinator's name, for the proxy alone."""

    def resolve_dns(self, host: str, port: int) -> tuple[str | None, None]:
        return ("127.0.0.1" if host == COORDINATOR else None), None


class RealProxy:
    """A running proxy: its port, and the log of what was asked of it."""

    def __init__(self, port: int, log: Path) -> None:
        self.port = port
        self._log = log

    @property
    def name(self) -> str:
        return f"127.0.0.1:{self.port}"

    def log(self) -> str:
        return self._log.read_text()


@contextmanager
def real_proxy(folder: Path, *options: str) -> Iterator[RealProxy]:
    """Start it on a free port, end it afterwards."""
    folder.mkdir()
    port_file, log = folder / "port", folder / "log"
    command = [sys.executable, "-m", "proxy", "--hostname", "127.0.0.1", "--port", "0"]
    command += ["--port-file", str(port_file), "--data-dir", str(folder / "data")]
    command += ["--num-workers", "1", "--num-acceptors", "1", "--log-file", str(log)]
    command += ["--plugins", "tests.support.real_proxy.LocalNames", *options]
    process = subprocess.Popen(command)
    try:
        ends = time.monotonic() + 20
        while not (port_file.exists() and port_file.read_text().strip()):
            assert process.poll() is None, log.read_text() if log.exists() else "no log"
            assert time.monotonic() < ends, "the proxy did not start"
            time.sleep(0.05)
        yield RealProxy(int(port_file.read_text().split()[0]), log)
    finally:
        process.terminate()
        process.wait(10)


def interception(folder: Path, upstream_authority: Path) -> Sequence[str]:
    """Options that make it open TLS connections, and its authority's certificate `ca.pem`."""
    folder.mkdir()
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Hospital IT")])
    start = datetime.now(UTC) - timedelta(hours=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    (folder / "ca-key.pem").write_bytes(pem)
    (folder / "signing-key.pem").write_bytes(pem)
    (folder / "ca.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return (
        "--ca-key-file", str(folder / "ca-key.pem"),
        "--ca-cert-file", str(folder / "ca.pem"),
        "--ca-signing-key-file", str(folder / "signing-key.pem"),
        "--ca-cert-dir", str(folder / "made"),
        "--ca-file", str(upstream_authority),
    )  # fmt: skip
