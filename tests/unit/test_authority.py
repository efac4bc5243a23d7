"""The coordinator's certificates: what they say, and what is refused."""

import ssl
import stat
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from tests.support.dying_writers import killed_at, steps_of

from wardround.errors import BadInput
from wardround_server.authority import Authority, Role, peer_of_pem, read_peer


@pytest.fixture
def authority(tmp_path):
    return Authority.create(tmp_path / "authority")


def signing_request(key=None, name="anything", digest=hashes.SHA256()):  # noqa: B008 - a constant
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, digest)
    return request.public_bytes(serialization.Encoding.PEM).decode()


def test_a_hospital_certificate_bears_our_name_for_it_whatever_was_asked_for(authority):
    pem = authority.issue_hospital("st-mary", signing_request(name="coordinator"))
    peer = peer_of_pem(pem.encode())
    assert (peer.name, peer.role) == ("st-mary", Role.HOSPITAL)
    certificate = x509.load_pem_x509_certificate(pem.encode())
    certificate.verify_directly_issued_by(authority.certificate)
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    limits = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert not limits.ca


@pytest.mark.parametrize("name", ["", "-a", "A", "a b", "a.b", "a/../b", "a" * 64, "ä"])
def test_a_hospital_name_that_is_no_file_name_and_label_is_refused(authority, name):
    with pytest.raises(BadInput, match="hospital name"):
        authority.issue_hospital(name, signing_request())


@pytest.mark.parametrize(
    ("key", "digest"),
    [
        (ec.generate_private_key(ec.SECP384R1()), hashes.SHA256()),
        (ed25519.Ed25519PrivateKey.generate(), None),
    ],
)
def test_a_signing_request_for_another_kind_of_key_is_refused(authority, key, digest):
    with pytest.raises(BadInput, match="P-256"):
        authority.issue_hospital("a", signing_request(key, digest=digest))


def test_a_signing_request_that_its_key_has_not_signed_is_refused(authority):
    good = x509.load_pem_x509_csr(signing_request(name="aaaa").encode())
    der = good.public_bytes(serialization.Encoding.DER)
    forged = x509.load_der_x509_csr(der.replace(b"aaaa", b"bbbb"))
    pem = forged.public_bytes(serialization.Encoding.PEM).decode()
    with pytest.raises(BadInput, match="not signed by its own key"):
        authority.issue_hospital("a", pem)
    with pytest.raises(BadInput):
        authority.issue_hospital("a", "-----BEGIN NOTHING-----")


def test_a_bootstrap_certificate_ends_with_its_ticket_and_is_for_enrolment(authority):
    ends = datetime.now(UTC).replace(microsecond=0) + timedelta(days=7)
    issued = authority.issue_bootstrap("a", expires=ends)
    certificate = x509.load_pem_x509_certificate(issued.certificate)
    assert certificate.not_valid_after_utc == ends
    assert peer_of_pem(issued.certificate).role is Role.ENROLMENT
    assert "PRIVATE" not in repr(issued)


def test_keys_are_readable_by_their_owner_only_and_never_replaced(authority):
    authority.server_files(["coordinator.example"])
    for name in ("authority-key.pem", "server-key.pem"):
        assert stat.S_IMODE((authority.directory / name).stat().st_mode) == 0o600
    with pytest.raises(BadInput, match="exists already"):
        Authority.create(authority.directory)


def test_the_server_certificate_names_its_hosts_and_this_machine_and_is_kept(authority):
    files = authority.server_files(["coordinator.example", "192.0.2.7"])
    first = files.certificate.read_bytes()
    names = (
        x509.load_pem_x509_certificate(first)
        .extensions.get_extension_for_class(x509.SubjectAlternativeName)
        .value
    )
    assert {"coordinator.example", "localhost"} == set(names.get_values_for_type(x509.DNSName))
    addresses = {str(a) for a in names.get_values_for_type(x509.IPAddress)}
    assert addresses == {"192.0.2.7", "127.0.0.1", "::1"}
    assert authority.server_files(["coordinator.example"]).certificate.read_bytes() == first
    assert authority.server_files(["new.example"]).certificate.read_bytes() != first


@pytest.mark.parametrize(("days", "kept"), [(61, True), (59, False), (-1, False)])
def test_the_server_certificate_is_kept_until_sixty_days_before_its_end(authority, days, kept):
    first = authority.server_files([]).certificate.read_bytes()
    ends = x509.load_pem_x509_certificate(first).not_valid_after_utc
    then = authority.server_files([], now=ends - timedelta(days=days)).certificate.read_bytes()
    assert (then == first) is kept


def test_a_server_certificate_that_lasts_as_long_as_its_authority_is_not_renewed_again(authority):
    ends = authority.certificate.not_valid_after_utc
    issued = authority.issue_server([], life=timedelta(days=99_999))
    held = x509.load_pem_x509_certificate(issued.certificate)
    assert held.not_valid_after_utc == ends
    assert not authority.is_due(held, ends - timedelta(days=1))


def test_a_key_that_is_not_the_server_certificates_is_seen_and_both_are_made_anew(authority):
    files = authority.server_files([])
    first = files.certificate.read_bytes()
    for content in (authority.issue_server([]).key, b"damaged"):
        files.key.write_bytes(content)
        assert not opens_tls(files)
        authority.server_files([])
        assert opens_tls(files)
        assert files.certificate.read_bytes() != first


def test_a_crash_at_any_step_of_a_renewal_leaves_a_coordinator_that_starts(tmp_path):
    def renewed(directory, say):
        authority = Authority.load(directory / "authority")
        say("begun")
        authority.server_files([], now=datetime.now(UTC) + timedelta(days=390))
        say("done")

    def fresh(name):
        authority = Authority.create(tmp_path / name / "authority")
        authority.server_files([])
        return authority

    fresh("counted")
    count = steps_of(renewed, tmp_path / "counted")
    assert count > 10
    torn = 0
    for stop_at in range(count):
        authority = fresh(f"stopped-{stop_at}")
        files = authority.server_files([])
        assert "done" not in killed_at(stop_at, renewed, authority.directory.parent)
        torn += not opens_tls(files)
        assert opens_tls(authority.server_files([]))
    assert torn  # key and certificate are two files


def opens_tls(files):
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(files.certificate, files.key)
    except ssl.SSLError:
        return False
    return True


def test_a_loaded_authority_issues_what_the_created_one_verifies(authority):
    again = Authority.load(authority.directory)
    pem = again.issue_hospital("a", signing_request())
    x509.load_pem_x509_certificate(pem.encode()).verify_directly_issued_by(authority.certificate)
    with pytest.raises(BadInput, match="certificate authority"):
        Authority.load(authority.directory / "nowhere")


def test_a_certificate_of_another_kind_names_no_peer(authority):
    der = authority.certificate.public_bytes(serialization.Encoding.DER)
    for content in (der, b"", b"junk"):
        with pytest.raises(BadInput):
            read_peer(content)
