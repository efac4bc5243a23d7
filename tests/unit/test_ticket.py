"""Join tickets and enrolment requests: strict, and bound to one authority and one key."""

import base64
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wardround.canonical import canonical_bytes
from wardround.errors import BadInput, BadSignature
from wardround.identity import PUBLIC_KEY_BYTES, Identity
from wardround.ticket import (
    TICKET_PREFIX,
    EnrolmentRequest,
    JoinTicket,
    format_time,
    network_address,
    parse_time,
)

PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
FIELDS = {
    "hospital": "st-mary",
    "address": "coordinator.example:443",
    "expires": "2026-01-02T03:04:05Z",
    "authority_certificate": PEM,
    "evidence_key": "ab" * PUBLIC_KEY_BYTES,
    "bootstrap_certificate": PEM,
    "bootstrap_key": PEM.replace("CERTIFICATE", "PRIVATE KEY"),
}


def line_of(value: object) -> str:
    return TICKET_PREFIX + base64.urlsafe_b64encode(canonical_bytes(value)).decode().rstrip("=")


def test_a_ticket_is_one_ascii_line_and_reads_as_it_was_written():
    ticket = JoinTicket(**FIELDS)
    line = ticket.encode()
    assert line.isascii()
    assert line.split() == [line]
    assert JoinTicket.decode(f"  {line}\n") == ticket
    assert "PRIVATE" not in repr(ticket)


@pytest.mark.parametrize(
    "change",
    [
        {"hospital": "../x"},
        {"address": "https://coordinator.example"},
        {"address": "a:99999"},
        {"expires": "tomorrow"},
        {"evidence_key": "AB" * PUBLIC_KEY_BYTES},
        {"bootstrap_key": "x" * 5000},
        {"surprise": 1},
    ],
)
def test_a_ticket_with_a_wrong_or_unknown_field_is_refused_without_showing_its_value(change):
    with pytest.raises(BadInput) as refused:
        JoinTicket.decode(line_of(FIELDS | change))
    assert "PRIVATE" not in str(refused.value)
    assert next(iter(change)) in str(refused.value)


def test_a_ticket_without_a_field_is_refused():
    with pytest.raises(BadInput, match="bootstrap_key"):
        JoinTicket.decode(line_of({k: v for k, v in FIELDS.items() if k != "bootstrap_key"}))


def test_a_ticket_of_another_version_cut_padded_or_far_too_long_is_refused():
    line = JoinTicket(**FIELDS).encode()
    for bad in ("", "wardround-ticket-2." + line[19:], line[:-7], line + "!", line + "A" * 9000):
        with pytest.raises(BadInput, match="join ticket"):
            JoinTicket.decode(bad)


@given(st.text(max_size=200))
def test_no_text_makes_the_ticket_parser_fail_in_another_way(text):
    for line in (text, TICKET_PREFIX + text):
        with pytest.raises(BadInput):
            JoinTicket.decode(line)


def test_a_proof_is_for_one_authority_one_hospital_and_one_signing_request():
    identity = Identity.generate()
    request = EnrolmentRequest.make(
        hospital="a", signing_request=PEM, authority_certificate=PEM, identity=identity
    )
    assert EnrolmentRequest.decode(request.encode()) == request
    request.check_proof(authority_certificate=PEM)
    other = PEM.replace("AAAA", "BBBB")
    with pytest.raises(BadSignature):
        request.check_proof(authority_certificate=other)
    for change in (
        {"hospital": "b"},
        {"signing_request": other},
        {"identity_key": Identity.generate().public_key.hex()},
    ):
        with pytest.raises(BadSignature):
            request.model_copy(update=change).check_proof(authority_certificate=PEM)


def test_times_are_utc_to_the_second():
    moment = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC) + timedelta(days=1)
    assert parse_time(format_time(moment)) == moment
    with pytest.raises(BadInput):
        parse_time("2026-13-01T00:00:00Z")


@pytest.mark.parametrize("text", ["a", "a:", "a:0", "a:65536", ":1", "a b:1", "a:1/x"])
def test_an_address_is_host_and_port(text):
    assert network_address("[::1]:443") == "[::1]:443"
    with pytest.raises(BadInput):
        network_address(text)
