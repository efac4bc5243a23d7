"""The coordinator's own certificate authority: who may open a connection at all.

ECDSA on P-256 with SHA-256, since every TLS stack and inspection proxy in a hospital takes it.
The role of a certificate is its organisational unit: `coordinator`, `hospital` or `enrolment`.
"""

import hashlib
import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from wardround.durable import sync_folder, write_durably
from wardround.errors import BadInput, why
from wardround.identity import write_secret
from wardround.renewal import AUTHORITY_FILE, SERVER_FILE, certificate_of, is_due
from wardround.ticket import hospital_name

ORGANISATION = "Wardround"
CLOCK_SKEW = timedelta(minutes=5)
AUTHORITY_LIFE = timedelta(days=3650)
SERVER_LIFE = timedelta(days=397)
HOSPITAL_LIFE = timedelta(days=825)
THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
KEY_FILE = "authority-key.pem"
SERVER_KEY_FILE, NEXT_SERVER_KEY_FILE = "server-key.pem", "server-key.next.pem"


class Role(StrEnum):
    """What a certificate is good for."""

    COORDINATOR = "coordinator"
    HOSPITAL = "hospital"
    ENROLMENT = "enrolment"


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its private key, PEM."""

    certificate: bytes
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where the TLS server finds its certificate, its key and the authority of its clients."""

    certificate: Path
    key: Path
    authority: Path


@dataclass(frozen=True, slots=True)
class Peer:
    """Who is at the other end of a connection, as its certificate says."""

    name: str
    role: Role
    serial: int
    fingerprint: str
    ends: datetime


@dataclass(frozen=True, slots=True)
class Authority:
    """The authority's key and certificate in one directory of the coordinator."""

    directory: Path
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def create(cls, directory: Path) -> "Authority":
        """Make a fresh authority. Raises BadInput when the directory holds one already."""
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        key = ec.generate_private_key(ec.SECP256R1())
        write_secret(directory / KEY_FILE, _key_pem(key))
        certificate = _self_signed(key)
        write_durably(directory / AUTHORITY_FILE, _pem(certificate))
        return cls(directory, certificate, key)

    @classmethod
    def load(cls, directory: Path) -> "Authority":
        """Read what `create` wrote. Raises BadInput when it is missing or damaged."""
        try:
            certificate = x509.load_pem_x509_certificate((directory / AUTHORITY_FILE).read_bytes())
            key = serialization.load_pem_private_key((directory / KEY_FILE).read_bytes(), None)
        except (OSError, ValueError) as error:
            raise BadInput(f"certificate authority in {directory.name}: {why(error)}") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise BadInput(f"certificate authority in {directory.name}: not an ECDSA key")
        return cls(directory, certificate, key)

    @property
    def certificate_pem(self) -> str:
        """What a hospital pins."""
        return _pem(self.certificate).decode("ascii")

    def server_files(self, hosts: Sequence[str], *, now: datetime | None = None) -> TlsFiles:
        """Certificate for these host names and addresses, and always for this machine itself.

        The one on disk is kept while it covers the hosts, its key is there and it is not due. A new
        one is on disk when this returns.
        """
        files = TlsFiles(
            self.directory / SERVER_FILE,
            self.directory / SERVER_KEY_FILE,
            self.directory / AUTHORITY_FILE,
        )
        if not self._covers(files, hosts, now or datetime.now(UTC)):
            self._store_server(files, self.issue_server(hosts))
        return files

    def is_due(self, certificate: x509.Certificate, now: datetime) -> bool:
        """Whether it ends within 60 days, as for hospitals, and a new one would last longer."""
        last = self.certificate.not_valid_after_utc
        return is_due(certificate, now) and certificate.not_valid_after_utc < last

    def issue_hospital(
        self, hospital: str, signing_request: str, *, life: timedelta = HOSPITAL_LIFE
    ) -> str:
        """Certificate for a hospital's own TLS key; name and use are ours, whatever was asked for.

        Raises BadInput for a request that is damaged, not signed by its key, or not P-256.
        """
        name = _subject(hospital_name(hospital), Role.HOSPITAL)
        try:
            request = x509.load_pem_x509_csr(signing_request.encode("ascii"))
            signed = request.is_signature_valid
            public_key = request.public_key()
        except ValueError as error:
            raise BadInput(f"signing request of {hospital}: {type(error).__name__}") from error
        if not isinstance(public_key, ec.EllipticCurvePublicKey) or not isinstance(
            public_key.curve, ec.SECP256R1
        ):
            raise BadInput(f"signing request of {hospital}: a P-256 key was due")
        if not signed:
            raise BadInput(f"signing request of {hospital}: not signed by its own key")
        # A certificate that outlives its authority opens nothing.
        ends = min(datetime.now(UTC) + life, self.certificate.not_valid_after_utc)
        return _pem(self._sign(name, public_key, ends, ExtendedKeyUsageOID.CLIENT_AUTH)).decode()

    def issue_bootstrap(self, hospital: str, *, expires: datetime) -> Issued:
        """The certificate of a join ticket: good for enrolment only, ends with the ticket."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = _subject(hospital_name(hospital), Role.ENROLMENT)
        usage = ExtendedKeyUsageOID.CLIENT_AUTH
        return Issued(_pem(self._sign(name, key.public_key(), expires, usage)), _key_pem(key))

    def issue_server(self, hosts: Sequence[str], *, life: timedelta = SERVER_LIFE) -> Issued:
        """Certificate and key of the coordinator itself, for these host names and addresses."""
        names = _server_names(hosts)
        key = ec.generate_private_key(ec.SECP256R1())
        # As a hospital's: one that outlives its authority is worth nothing.
        ends = min(datetime.now(UTC) + life, self.certificate.not_valid_after_utc)
        usage = ExtendedKeyUsageOID.SERVER_AUTH
        subject = _subject("coordinator", Role.COORDINATOR)
        return Issued(
            _pem(self._sign(subject, key.public_key(), ends, usage, names)), _key_pem(key)
        )

    def _store_server(self, files: TlsFiles, issued: Issued) -> None:
        """Put both in place. After a crash in between they do not fit, and `_covers` sees it."""
        beside = self.directory / NEXT_SERVER_KEY_FILE
        beside.unlink(missing_ok=True)
        write_secret(beside, issued.key)
        beside.replace(files.key)
        sync_folder(self.directory)
        write_durably(files.certificate, issued.certificate)

    def _covers(self, files: TlsFiles, hosts: Sequence[str], now: datetime) -> bool:
        names = _server_names(hosts)
        if not (files.certificate.exists() and files.key.exists()):
            return False
        try:
            held = certificate_of(files.certificate.read_bytes())
            covered = held.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
            key = serialization.load_pem_private_key(files.key.read_bytes(), None)
        except (BadInput, ValueError, x509.ExtensionNotFound):
            return False
        ours = held.issuer == self.certificate.subject and key.public_key() == held.public_key()
        return ours and not self.is_due(held, now) and set(names) <= set(covered)

    def _sign(
        self,
        subject: x509.Name,
        public_key: ec.EllipticCurvePublicKey,
        ends: datetime,
        usage: x509.ObjectIdentifier,
        names: Sequence[x509.GeneralName] = (),
    ) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.certificate.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(min(datetime.now(UTC), ends) - CLOCK_SKEW)
            .not_valid_after(ends)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()),
                critical=False,
            )
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self.key, hashes.SHA256())


def read_peer(certificate_der: bytes) -> Peer:
    """Read name and role out of a certificate that TLS has verified already.

    Raises BadInput when it is not one of the three kinds this authority issues.
    """
    try:
        certificate = x509.load_der_x509_certificate(certificate_der)
        (name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        (unit,) = certificate.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
        role = Role(str(unit.value))
    except ValueError as error:
        raise BadInput("client certificate: not one of this coordinator's kinds") from error
    digest = hashlib.sha256(certificate_der).hexdigest()
    ends = certificate.not_valid_after_utc
    return Peer(hospital_name(str(name.value)), role, certificate.serial_number, digest, ends)


def peer_of_pem(certificate: bytes) -> Peer:
    """`read_peer` for a certificate that this authority has just issued."""
    parsed = x509.load_pem_x509_certificate(certificate)
    return read_peer(parsed.public_bytes(serialization.Encoding.DER))


def _self_signed(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    # A random part in the name: two coordinators' authorities are never confused in a trust store.
    common_name = f"Wardround authority {x509.random_serial_number():x}"[:40]
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANISATION),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )
    now = datetime.now(UTC)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(signs_certificates=True), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _subject(name: str, role: Role) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANISATION),
            x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, role.value),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )


def _server_names(hosts: Sequence[str]) -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = []
    for host in dict.fromkeys(host.strip("[]") for host in (*hosts, *THIS_MACHINE)):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            try:
                names.append(x509.DNSName(host))
            except ValueError as error:
                raise BadInput(f"host name {host[:80]!r}: not an ASCII name or address") from error
    return names


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
