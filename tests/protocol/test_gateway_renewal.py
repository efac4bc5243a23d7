"""Certificates are renewed by a hospital's own identity, for itself; nobody is locked out."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from tests.support.fleets import (
    EVIDENCE_KEY,
    bootstrap_tls,
    connection,
    enrol,
    invite,
    new_coordinator,
    post,
    running_fleet,
)

from wardround.errors import BadInput, Unreachable
from wardround.identity import Identity
from wardround.renewal import RENEW_PATH, RenewalRequest, days_left, fingerprint_of
from wardround.ticket import EnrolmentAnswer, EnrolmentRequest
from wardround_client.home import HospitalHome
from wardround_client.joining import join, key_pem, signing_request
from wardround_client.renewing import (
    NEXT_CERTIFICATE_FILE,
    NEXT_KEY_FILE,
    CertificateKeeper,
    renew,
    renew_with_ticket,
    settle,
)
from wardround_client.tls import ClientTls, NotLetIn
from wardround_server.authority import peer_of_pem
from wardround_server.enrolment import Enrolment
from wardround_server.presence import CHECK_EVERY_S
from wardround_server.refusals import UnknownHospital


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with running_fleet(new_coordinator(tmp_path_factory.mktemp("coordinator"))) as fleet:
        yield fleet


def certificate(member):
    return HospitalHome(member.directory).certificate()


def request_of(member, *, hospital=None, identity=None, replaces=None, authority=None):
    key = ec.generate_private_key(ec.SECP256R1())
    return RenewalRequest.make(
        hospital=hospital or member.hospital,
        replaces=replaces or fingerprint_of(certificate(member)),
        signing_request=signing_request(member.hospital, key),
        authority_certificate=authority or member.tls.authority.read_text(),
        identity=identity or member.identity,
    )


def ask(member, running, request):
    return post(member, running, RENEW_PATH, request.encode())


def copied(member, folder):
    """The TLS files of now, as an old daemon or a thief of them has them."""
    folder.mkdir()
    tls = ClientTls(folder / "c.pem", folder / "k.pem", member.tls.authority)
    tls.certificate.write_bytes(member.tls.certificate.read_bytes())
    tls.key.write_bytes(member.tls.key.read_bytes())
    return tls


def lets_in(running, member_or_tls):
    status, content = post(member_or_tls, running, "/v1/fleet/register-node")
    return content != b"UnknownHospital" and status != 403


def test_a_new_certificate_for_a_new_key_takes_the_place_of_the_old_one(running, tmp_path):
    member = enrol(running, "simple", tmp_path / "h")
    old, key = copied(member, tmp_path / "old"), member.tls.key.read_bytes()
    ends = renew(member)
    assert ends == certificate(member).not_valid_after_utc
    assert member.tls.key.read_bytes() != key
    assert member.tls.key.stat().st_mode & 0o777 == 0o600
    assert lets_in(running, old)  # until the new one has been seen
    assert lets_in(running, member)
    assert not lets_in(running, old)
    record = running.enrolment.find("simple")
    assert record.certificate_fingerprint == fingerprint_of(certificate(member))
    assert record.next_certificate_fingerprint is None
    assert record.fingerprint == member.identity.fingerprint
    assert not (member.directory / NEXT_KEY_FILE).exists()


def test_an_answer_that_is_lost_locks_nobody_out(running, tmp_path):
    member = enrol(running, "cutoff", tmp_path / "h")
    for _ in range(3):
        status, _ = ask(member, running, request_of(member))  # and nothing is stored
        assert status == 200
    renew(member)
    assert lets_in(running, member)


def test_nobody_gets_a_certificate_of_another_hospital(running, tmp_path):
    victim, thief = (enrol(running, name, tmp_path / name) for name in ("victim", "thief"))
    before = running.enrolment.find("victim")
    honest = request_of(victim)
    forged = request_of(thief, hospital="victim")
    with_theirs = request_of(thief, hospital="victim", replaces=honest.replaces)
    renamed = honest.model_copy(update={"hospital": "thief"})
    for bad in (honest, forged, with_theirs, renamed):
        assert ask(thief, running, bad) == (403, b"BadRenewal")
    assert running.enrolment.find("victim") == before
    assert running.enrolment.find("thief").next_certificate_fingerprint is None
    assert ask(victim, running, honest)[0] == 200


def test_who_has_the_tls_key_alone_renews_nothing(running, tmp_path):
    member = enrol(running, "stolen", tmp_path / "h")
    thief = copied(member, tmp_path / "thief")
    request = request_of(member, identity=Identity.generate())
    assert post(thief, running, RENEW_PATH, request.encode()) == (403, b"BadRenewal")


def test_a_request_serves_once(running, tmp_path):
    member = enrol(running, "replayed", tmp_path / "h")
    request = request_of(member)
    first = EnrolmentAnswer.decode(ask(member, running, request)[1]).certificate
    renew(member)
    assert lets_in(running, member)
    assert ask(member, running, request) == (403, b"BadRenewal")
    assert peer_of_pem(first.encode()).fingerprint != fingerprint_of(certificate(member))


def test_a_request_for_another_authority_is_refused(running, tmp_path):
    member = enrol(running, "elsewhere", tmp_path / "h")
    other = new_coordinator(tmp_path / "other") / "authority" / "authority.pem"
    request = request_of(member, authority=other.read_text())
    assert ask(member, running, request) == (403, b"BadRenewal")


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 1000, b'{"version":2}'])
def test_what_is_no_request_is_refused_by_its_form(running, tmp_path, content):
    member = enrol(running, f"form{len(content)}", tmp_path / "h")
    assert post(member, running, RENEW_PATH, content) == (400, b"MalformedRequest")


def test_a_ticket_s_certificate_does_not_reach_renewal(running, tmp_path):
    tls = bootstrap_tls(invite(running, "curious"), tmp_path / "b")
    assert post(tls, running, RENEW_PATH, b"{}") == (404, b"NoSuchRoute")


def test_a_removed_hospital_renews_nothing_and_stays_removed(running, tmp_path):
    member = enrol(running, "removed", tmp_path / "h")
    issued = EnrolmentAnswer.decode(ask(member, running, request_of(member))[1]).certificate
    running.enrolment.remove("removed")
    assert ask(member, running, request_of(member)) == (403, b"UnknownHospital")
    with pytest.raises(NotLetIn):
        renew(member)
    running.enrolment.take_up(peer_of_pem(issued.encode()))
    with pytest.raises(BadInput, match="not enrolled"):
        running.enrolment.find("removed")


def test_an_ended_certificate_renews_nothing_over_a_connection_that_outlives_it(running, tmp_path):
    member = enrol(running, "ended", tmp_path / "h")
    peer = peer_of_pem(member.tls.certificate.read_bytes())
    late = Enrolment(running.enrolment.directory, running.enrolment.authority, lambda: peer.ends)
    assert running.enrolment.recognises(peer)
    assert not late.recognises(peer)
    with pytest.raises(UnknownHospital):
        late.renew(peer, request_of(member))


def test_after_the_end_a_renewal_ticket_serves_the_identity_that_enrolled(running, tmp_path):
    member = enrol(running, "back", tmp_path / "h")
    with pytest.raises(BadInput, match="--renewal"):
        invite(running, "back")
    ticket = invite(running, "back", renewal=True)
    assert renew_with_ticket(member, ticket.encode()) > datetime.now(UTC)
    assert lets_in(running, member)
    with pytest.raises(NotLetIn, match="used"):
        renew_with_ticket(member, ticket.encode())
    assert lets_in(running, member)


def test_a_renewal_ticket_in_other_hands_is_worth_nothing(running, tmp_path):
    member = enrol(running, "envied", tmp_path / "h")
    before = running.enrolment.find("envied")
    ticket = invite(running, "envied", renewal=True)
    with pytest.raises(NotLetIn, match="refuses the signing request or the proof"):
        join(ticket.encode(), tmp_path / "thief")
    assert running.enrolment.find("envied") == before
    renew_with_ticket(member, ticket.encode())  # it is still good for the hospital itself
    other = enrol(running, "bystander", tmp_path / "b")
    with pytest.raises(BadInput, match="another hospital"):
        renew_with_ticket(other, invite(running, "envied", renewal=True).encode())


def test_a_renewal_ticket_does_not_bring_back_who_was_removed(running, tmp_path):
    member = enrol(running, "gone", tmp_path / "h")
    ticket = invite(running, "gone", renewal=True)
    running.enrolment.remove("gone")
    with pytest.raises(NotLetIn):
        renew_with_ticket(member, ticket.encode())
    with pytest.raises(BadInput, match="not enrolled"):
        invite(running, "gone", renewal=True)


def test_a_renewal_ticket_does_not_enrol_anew_under_another_request(running, tmp_path):
    enrol(running, "kept", tmp_path / "h")
    ticket = invite(running, "kept", renewal=True)
    running.enrolment.remove("kept")
    enrol(running, "kept", tmp_path / "second")  # the name belongs to another identity now
    request = EnrolmentRequest.make(
        hospital="kept",
        signing_request=signing_request("kept", ec.generate_private_key(ec.SECP256R1())),
        authority_certificate=ticket.authority_certificate,
        identity=Identity.load(tmp_path / "h" / "identity.pem"),
    )
    tls = bootstrap_tls(ticket, tmp_path / "b")
    assert post(tls, running, "/v1/enrol", request.encode()) == (400, b"BadEnrolment")


@pytest.mark.parametrize("stage", ["no answer", "both are there", "the key has moved"])
def test_a_crash_in_the_middle_leaves_a_key_and_a_certificate_that_fit(running, tmp_path, stage):
    member = enrol(running, f"crash{len(stage)}", tmp_path / "h")
    key = ec.generate_private_key(ec.SECP256R1())
    folder = member.directory
    (folder / NEXT_KEY_FILE).write_bytes(key_pem(key))
    if stage != "no answer":
        issued = running.enrolment.authority.issue_hospital(
            member.hospital, signing_request(member.hospital, key)
        )
        (folder / NEXT_CERTIFICATE_FILE).write_text(issued)
    if stage == "the key has moved":
        (folder / NEXT_KEY_FILE).replace(member.tls.key)
    settle(folder)
    member.tls.context()  # raises when they do not belong together
    assert not (folder / NEXT_KEY_FILE).exists()
    assert not (folder / NEXT_CERTIFICATE_FILE).exists()


def test_a_daemon_takes_the_new_certificate_up_without_leaving(running, tmp_path):
    member = enrol(running, "steady", tmp_path / "h")
    old = copied(member, tmp_path / "old")
    with connection(member) as fleet:
        fleet.connect()
        node = fleet.node_id
        keeper = CertificateKeeper(HospitalHome(member.directory), fleet.use)
        keeper.look()
        renew(member)  # as `wardround hospital renew` beside the daemon
        keeper.look()
        assert fleet.receive(0.05) is None
        assert fleet.node_id == node
        assert "steady" in running.hospitals_connected()
        time.sleep(2 * CHECK_EVERY_S)
        assert not lets_in(running, old)
        assert fleet.receive(0.05) is None
        assert "steady" in running.hospitals_connected()


def test_the_daemon_renews_from_sixty_days_before_the_end_and_tries_again(running, tmp_path):
    member = enrol(running, "keeper", tmp_path / "h")
    ends, now, used = certificate(member).not_valid_after_utc, [datetime.now(UTC)], []
    keeper = CertificateKeeper(HospitalHome(member.directory), used.append, lambda: now[0])
    now[0] = ends - timedelta(days=61)
    keeper.look()
    assert certificate(member).not_valid_after_utc == ends
    running.enrolment.remove("keeper")
    now[0] = ends - timedelta(days=59)
    keeper.look()  # it is refused, which stops nothing
    assert certificate(member).not_valid_after_utc == ends
    assert used == []
    enrolled = invite(running, "keeper")
    (member.directory / "coordinator.json").unlink()
    for name in ("tls-key.pem", "tls-certificate.pem"):
        (member.directory / name).unlink()
    member = join(enrolled.encode(), member.directory)
    first = fingerprint_of(certificate(member))
    now[0] += timedelta(hours=5)
    keeper.look()  # a new one, since it was stored meanwhile; none is asked for so soon
    assert len(used) == 1
    assert fingerprint_of(certificate(member)) == first
    now[0] += timedelta(hours=2)
    keeper.look()
    assert len(used) == 2
    assert fingerprint_of(certificate(member)) != first
    assert lets_in(running, member)


def test_a_coordinator_that_is_away_is_said_in_words(running, tmp_path):
    member = enrol(running, "lonely", tmp_path / "h")
    nowhere = member.coordinator.model_copy(update={"address": "127.0.0.1:1"})
    with pytest.raises(Unreachable, match="not reachable"):
        renew(type(member)(member.directory, nowhere, member.identity))
    assert days_left(certificate(member), datetime.now(UTC)) > 800
    renew(member)  # what the failed attempt has left behind is no obstacle


def test_no_certificate_outlives_its_authority(running, tmp_path):
    member = enrol(running, "long", tmp_path / "h")
    authority = running.enrolment.authority
    key = ec.generate_private_key(ec.SECP256R1())
    issued = authority.issue_hospital(
        "long", signing_request("long", key), life=timedelta(days=99_999)
    )
    assert peer_of_pem(issued.encode()).ends == authority.certificate.not_valid_after_utc
    assert EVIDENCE_KEY.hex() == member.coordinator.evidence_key
