"""A real time stamping authority: `openssl ts -reply` behind a small HTTP server, with its CA."""

import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from wardround.audit.timestamp_der import in_order

_CONFIGURATION = """
[authority]
serial = {folder}/serial
crypto_device = builtin
signer_cert = {folder}/unit.pem
signer_key = {folder}/unit.key
certs = {folder}/ca.pem
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256
accuracy = secs:1
ess_cert_id_alg = sha256
"""
_USES = (
    "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n"
    "extendedKeyUsage=critical,timeStamping\n"
)
_CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


@dataclass
class TimeAuthority:
    """Keys and certificates in a folder; `name` is the one that stands in a stamp."""

    folder: Path
    name: str = "Time stamping unit of the tests"
    queries: list[bytes] = field(default_factory=list)

    @classmethod
    def make(cls, folder: Path, *, since: int = 0, **fields: str) -> "TimeAuthority":
        """A root, and under it the certificate of a unit that may stamp times and nothing else.

        `since` is the year from which the root's certificate is valid; 0 for today.
        """
        folder.mkdir(parents=True)
        made = cls(folder, **fields)
        root = ("-x509", *_CURVE, "-keyout", "ca.key", "-out", "ca.pem", "-days", "3650")
        uses = ("basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign")
        made.openssl("req", *root, "-subj", "/CN=Root", *(f"-addext={use}" for use in uses))
        if since:
            key = _private_key(made.folder / "ca.key")
            root_name = _named("Root")
            made.ca.write_bytes(_certificate(root_name, key, root_name, key, (since, 2099)))
        request = ("-keyout", "unit.key", "-out", "unit.csr", "-subj", f"/CN={made.name}")
        made.openssl("req", *_CURVE, *request)
        (folder / "uses").write_text(_USES)
        issue = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30")
        files = ("-in", "unit.csr", "-extfile", "uses", "-out", "unit.pem")
        made.openssl("x509", "-req", *files, *issue)
        (folder / "serial").write_text("01\n")
        (folder / "authority.cnf").write_text(_CONFIGURATION.format(folder=folder))
        return made

    @property
    def ca(self) -> Path:
        """The certificate that a reader trusts."""
        return self.folder / "ca.pem"

    def openssl(self, *arguments: str) -> bytes:
        done = subprocess.run(
            ["openssl", *arguments], cwd=self.folder, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    def reply(self, query: bytes) -> bytes:
        """The TimeStampResp to a query, both in DER."""
        self.queries.append(query)
        (self.folder / "query").write_bytes(query)
        about = ("-config", "authority.cnf", "-section", "authority", "-queryfile", "query")
        self.openssl("ts", "-reply", *about, "-out", "reply")
        return (self.folder / "reply").read_bytes()

    def token(self, content: bytes) -> bytes:
        """A token over these bytes as OpenSSL writes it, without a request of ours."""
        (self.folder / "content").write_bytes(content)
        query = self.openssl("ts", "-query", "-data", "content", "-sha256", "-cert")
        (self.folder / "query").write_bytes(query)
        about = ("-config", "authority.cnf", "-section", "authority", "-queryfile", "query")
        return self.openssl("ts", "-reply", "-token_out", *about)

    def issue_unit(self, first: int, last: int) -> None:
        """`old.pem`: a certificate for the unit's key, valid from one January to another."""
        key, root = (_private_key(self.folder / name) for name in ("unit.key", "ca.key"))
        made = _certificate(_named(self.name), key, _named("Root"), root, (first, last))
        (self.folder / "old.pem").write_bytes(made)

    def signed_anew(self, token: bytes, *, signer: str, year: int | None = None) -> bytes:
        """What a token says (if given: in another year), signed with another certificate."""
        (self.folder / "token").write_bytes(token)
        command = ("cms", "-verify", "-noverify", "-inform", "DER", "-in", "token")
        said = self.openssl(*command)
        if year is not None:
            said = re.sub(rb"\x18\x0f\d{4}", b"\x18\x0f%d" % year, said)
        (self.folder / "said").write_bytes(said)
        kind = ("-econtent_type", "1.2.840.113549.1.9.16.1.4", "-nodetach", "-binary")
        keys = ("-signer", signer, "-inkey", "unit.key", "-nosmimecap", "-md", "sha256")
        return in_order(
            self.openssl("cms", "-sign", *kind, *keys, "-outform", "DER", "-in", "said")
        )

    def accepts(self, token: bytes, content: bytes) -> bool:
        """What `openssl ts -verify` says of a token, with this authority's root."""
        (self.folder / "token").write_bytes(token)
        (self.folder / "content").write_bytes(content)
        command = ("ts", "-verify", "-token_in", "-in", "token", "-data", "content")
        done = subprocess.run(
            ["openssl", *command, "-CAfile", "ca.pem"],
            cwd=self.folder,
            capture_output=True,
            check=False,
        )
        return done.returncode == 0


def _private_key(path: Path) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(path.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _certificate(
    subject: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Name,
    signer: ec.EllipticCurvePrivateKey,
    years: tuple[int, int],
) -> bytes:
    """A root's where subject and issuer are one, else a unit's that may stamp times."""
    first, last = (datetime(year, 1, 1, tzinfo=UTC) for year in years)
    root = subject == issuer
    made = x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(first).not_valid_after(last)
    made = made.add_extension(x509.BasicConstraints(ca=root, path_length=None), critical=True)
    if not root:
        uses = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING])
        made = made.add_extension(uses, critical=True)
    return made.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@dataclass
class Answer:
    """What the server says instead of the authority's own reply."""

    body: bytes | None = None
    status: int = 200
    kind: str = "application/timestamp-reply"
    location: str = ""
    drip_s: float = 0.0
    ended: threading.Event = field(default_factory=threading.Event)


@contextmanager
def serving(authority: TimeAuthority, answer: Answer | None = None) -> Iterator[str]:
    """The authority's URL while the block runs; with `answer` something else comes from there."""
    said = answer or Answer()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = self.rfile.read(int(self.headers["content-length"]))
            assert self.headers["content-type"] == "application/timestamp-query"
            body = authority.reply(query) if said.body is None else said.body
            self.send_response(said.status)
            self.send_header("content-type", said.kind)
            if said.location:
                self.send_header("location", said.location)
            self.end_headers()
            while said.drip_s and not said.ended.wait(said.drip_s):
                self.wfile.write(b"\0")
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing on the terminal of the tests."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/tsr"
    finally:
        said.ended.set()
        server.shutdown()
        server.server_close()
        thread.join()
