"""DSSE envelopes: one spelling, our parser and another implementation agree."""

import base64
import json
from functools import cache

import pytest
from securesystemslib import dsse
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey
from tests.support.federation_evidence import federation, new_identity

from wardround.audit.statement import (
    REPORT_PREDICATE,
    STATEMENT_TYPE,
    check_statement,
    report_statement,
)
from wardround.canonical import canonical_bytes
from wardround.errors import BadInput, BadSignature, VerificationFailed
from wardround.evidence.dsse import PAYLOAD_TYPE, Envelope, key_ids, open_envelope, pae, seal
from wardround.identity import ed25519_of

SIGNER, OTHER = new_identity("signer"), new_identity("other")
PAYLOAD = b'{"_type":"https://in-toto.io/Statement/v1"}'
WHAT = "envelope"


def oracle_key(identity) -> SSlibKey:
    public = {"public": ed25519_of(identity.public_key).hex()}
    return SSlibKey(key_ids(identity.public_key)[0], "ed25519", "ed25519", public)


@cache
def sealed() -> bytes:
    return seal(PAYLOAD, SIGNER)


def changed(**fields: object) -> bytes:
    return canonical_bytes({**json.loads(sealed()), **fields})


def signatures(at: int = 0, **fields: object) -> list[object]:
    found = json.loads(sealed())["signatures"]
    found[at] |= fields
    return found


def test_the_payload_comes_back_for_the_key_that_signed():
    assert open_envelope(sealed(), SIGNER.public_key, what=WHAT) == PAYLOAD


def test_another_implementation_accepts_the_envelope_and_encodes_it_alike():
    envelope = dsse.Envelope.from_dict(json.loads(sealed()))
    assert envelope.pae() == pae(PAYLOAD)
    assert envelope.payload == PAYLOAD
    accepted = envelope.verify([oracle_key(SIGNER)], threshold=1)
    assert set(accepted) == {key_ids(SIGNER.public_key)[0]}


def test_another_implementation_refuses_what_we_refuse():
    payload = base64.b64encode(PAYLOAD + b" ").decode()
    forged = changed(payload=payload)
    with pytest.raises(BadSignature, match="does not fit"):
        open_envelope(forged, SIGNER.public_key, what=WHAT)
    with pytest.raises(VerificationError):
        dsse.Envelope.from_dict(json.loads(forged)).verify([oracle_key(SIGNER)], threshold=1)


def test_the_encoding_is_the_one_of_the_specification():
    # The example of DSSE's protocol.md, with our one payload type.
    assert pae(b"hello world") == b"DSSEv1 28 application/vnd.in-toto+json 11 hello world"
    assert len(PAYLOAD_TYPE) == 28


def test_another_key_does_not_open_it():
    with pytest.raises(BadSignature, match="another key"):
        open_envelope(sealed(), OTHER.public_key, what=WHAT)
    ids = key_ids(OTHER.public_key)
    named = [{**s, "keyid": i} for s, i in zip(signatures(), ids, strict=True)]
    stolen = changed(signatures=named)
    with pytest.raises(BadSignature, match="does not fit"):
        open_envelope(stolen, OTHER.public_key, what=WHAT)


@pytest.mark.parametrize("at", [0, 1])
def test_each_of_the_two_signatures_has_to_hold_alone(at: int):
    """If one of the two algorithms falls, the other still convinces."""
    foreign = json.loads(seal(PAYLOAD + b" ", SIGNER))["signatures"][at]["sig"]
    with pytest.raises(BadSignature, match="does not fit"):
        open_envelope(changed(signatures=signatures(at, sig=foreign)), SIGNER.public_key, what=WHAT)


def test_a_signature_made_for_anything_else_is_none_of_an_envelope():
    framed = SIGNER.sign_lasting(b"report", PAYLOAD)
    envelope = Envelope(payload=PAYLOAD, key_ids=key_ids(SIGNER.public_key), signature=framed)
    with pytest.raises(BadSignature):
        open_envelope(envelope.to_bytes(), SIGNER.public_key, what=WHAT)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        sealed() + b"\n",
        sealed().replace(b":", b": ", 1),
        changed(extra=1),
        changed(payloadType="application/json"),
        changed(payload=3),
        changed(payload="e30"),
        changed(payload="e30=\n"),
        changed(payload="e31="),
        changed(signatures=[]),
        changed(signatures={}),
        changed(signatures=signatures()[:1]),
        changed(signatures=signatures()[::-1]),
        changed(signatures=signatures() * 2),
        changed(signatures=["x"]),
        changed(signatures=signatures(cert="x")),
        changed(signatures=signatures(keyid=3)),
        changed(signatures=signatures(sig="AA==")),
        b'{"payload":"e30="}',
    ],
)
def test_any_other_spelling_is_refused(content: bytes):
    with pytest.raises(BadInput, match=WHAT):
        Envelope.from_bytes(content, what=WHAT)


def test_a_report_is_attested_with_its_study_and_its_model():
    fed = federation(rounds=1)
    from wardround.audit.bundle import evidence_of
    from wardround.audit.derive import derive_report

    report = canonical_bytes(derive_report(evidence_of(fed.parts())))
    value = json.loads(report_statement(report))
    assert (value["_type"], value["predicateType"]) == (STATEMENT_TYPE, REPORT_PREDICATE)
    subjects = {entry["name"]: entry["digest"]["sha256"] for entry in value["subject"]}
    assert subjects["study"] == fed.study.digest
    closed = fed.coordinator.entries[-1]
    assert subjects["model"] == closed.body["model"]
    envelope = seal(report_statement(report), SIGNER)
    check_statement(envelope, report)
    with pytest.raises(VerificationFailed, match="not the statement of this report"):
        check_statement(envelope, report.replace(b"FORMAL", b"formal", 1) + b" ")
