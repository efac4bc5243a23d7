"""How a hospital gets in: tickets, proofs, and everything that does not count as one."""

import socket
from datetime import UTC, datetime, timedelta

import pytest
from tests.protocol.test_gateway import SERVED
from tests.support.fleets import (
    EVIDENCE_KEY,
    bootstrap_tls,
    enrol,
    invite,
    new_coordinator,
    post,
    running_fleet,
)

from wardround.errors import BadInput, Unreachable
from wardround.identity import Identity
from wardround.ticket import EnrolmentRequest
from wardround_client.joining import join, load_membership
from wardround_client.tls import NotLetIn


@pytest.fixture(scope="module")
def running(tmp_path_factory):
    with running_fleet(new_coordinator(tmp_path_factory.mktemp("coordinator"))) as fleet:
        yield fleet


def test_a_bootstrap_certificate_reaches_enrolment_only(running, tmp_path):
    tls = bootstrap_tls(invite(running, "curious"), tmp_path / "b")
    for route in sorted(SERVED):
        assert post(tls, running, f"/v1/fleet/{route}") == (404, b"NoSuchRoute")
    assert post(tls, running, "/v1/enrol", b"{}") == (400, b"MalformedRequest")


def test_a_ticket_works_once(running, tmp_path):
    ticket = invite(running, "once").encode()
    member = join(ticket, tmp_path / "one")
    record = running.enrolment.find("once")
    assert record.fingerprint == member.identity.fingerprint
    with pytest.raises(NotLetIn, match="used") as refused:
        join(ticket, tmp_path / "two")
    assert refused.value.exit_code == 2
    assert not (tmp_path / "two").exists()
    with pytest.raises(BadInput, match="has joined a coordinator already"):
        join(ticket, tmp_path / "one")
    with pytest.raises(BadInput, match="enrolled already"):
        invite(running, "once")


def test_of_two_tickets_for_one_hospital_the_second_is_refused(running, tmp_path):
    first, second = invite(running, "twice"), invite(running, "twice")
    join(first.encode(), tmp_path / "one")
    with pytest.raises(NotLetIn, match="has enrolled before"):
        join(second.encode(), tmp_path / "two")


def test_a_ticket_does_not_enrol_another_hospital(running, tmp_path):
    ticket = invite(running, "honest")
    tls = bootstrap_tls(ticket, tmp_path / "b")
    identity = Identity.generate()
    request = EnrolmentRequest.make(
        hospital="victim",
        signing_request=ticket.authority_certificate,
        authority_certificate=ticket.authority_certificate,
        identity=identity,
    )
    assert post(tls, running, "/v1/enrol", request.encode()) == (403, b"NotInvited")


def test_a_request_without_proof_of_the_identity_key_is_refused_and_the_ticket_stays_good(
    running, tmp_path
):
    ticket = invite(running, "proof")
    tls = bootstrap_tls(ticket, tmp_path / "b")
    request = EnrolmentRequest.make(
        hospital="proof",
        signing_request=ticket.authority_certificate,
        authority_certificate=ticket.authority_certificate,
        identity=Identity.generate(),
    )
    stolen = request.model_copy(update={"identity_key": Identity.generate().public_key.hex()})
    for bad in (stolen, request):  # the second is proven, but holds no signing request
        assert post(tls, running, "/v1/enrol", bad.encode()) == (400, b"BadEnrolment")
    join(ticket.encode(), tmp_path / "hospital")


def test_an_expired_ticket_is_refused_on_both_sides(running, tmp_path):
    ticket = invite(running, "slow", lifetime=timedelta(days=1))
    later = datetime.now(UTC) + timedelta(days=2)
    with pytest.raises(Unreachable, match="join ticket expired"):
        join(ticket.encode(), tmp_path / "h", now=later)
    with pytest.raises(Unreachable, match="expired"):
        join(invite(running, "dead", lifetime=timedelta(days=-1)).encode(), tmp_path / "h")


def test_joining_leaves_keys_of_mode_0600_and_a_second_ticket_keeps_the_identity(running, tmp_path):
    folder = tmp_path / "again"
    first = enrol(running, "again", folder)
    for name in ("identity.pem", "tls-key.pem"):
        assert (folder / name).stat().st_mode & 0o777 == 0o600
    assert load_membership(folder) == first or load_membership(folder).hospital == "again"
    assert first.coordinator.evidence_key == EVIDENCE_KEY.hex()
    running.enrolment.remove("again")
    for name in ("coordinator.json", "tls-key.pem", "tls-certificate.pem"):
        (folder / name).unlink()
    assert enrol(running, "again", folder).identity.fingerprint == first.identity.fingerprint


def test_nothing_listening_is_said_in_words(tmp_path, running):
    ticket = invite(running, "lonely")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    moved = ticket.model_copy(update={"address": f"127.0.0.1:{port}"})
    with pytest.raises(Unreachable, match="not reachable"):
        join(moved.encode(), tmp_path / "h")
    assert not (tmp_path / "h").exists()
