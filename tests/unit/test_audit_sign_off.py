"""Officers' decisions in a bundle: whose, about which report, one each."""

import json
from datetime import UTC, datetime
from functools import cache

import pytest
from securesystemslib import dsse
from securesystemslib.signer import SSlibKey
from tests.support.federation_evidence import federation, new_identity
from tests.support.forgeries import honest, honest_bundle, only
from typer.testing import CliRunner

from wardround.audit.attach import attach
from wardround.audit.container import pack, unpack
from wardround.audit.sign_off import (
    SIGN_OFF_PREDICATE,
    Decision,
    SignedBytes,
    SignOff,
    member_of,
    read_sign_off,
    sign_off,
)
from wardround.audit.verify import verify_bytes
from wardround.canonical import Json
from wardround.cli.audit import app
from wardround.errors import BadInput, BadSignature, VerificationFailed
from wardround.evidence.dsse import key_ids, seal
from wardround.evidence.entry import time_text
from wardround.identity import ed25519_of

BERGEN, COIMBRA = "bergen", "coimbra"
NOW = time_text(datetime(2026, 4, 1, 9, tzinfo=UTC))


def about(bundle: bytes) -> SignedBytes:
    members = unpack(bundle)
    return SignedBytes.of(members["report.json"], members["manifest.json"])


def decided(
    hospital: str = BERGEN, decision: Decision = Decision.APPROVE, remark: str | None = None
) -> SignOff:
    return SignOff(
        hospital=hospital, officer="Dr Ada", decision=decision, remark=remark, signed_at=NOW
    )


def signed(word: SignOff, *, signer: str | None = None, bundle: bytes | None = None) -> bytes:
    identity = honest().hospitals[signer or word.hospital].identity
    return sign_off(identity, word, about(bundle or honest_bundle()))


@cache
def other_bundle() -> bytes:
    """Another run's bundle, of the same parties."""
    from wardround.audit.bundle import bundle_bytes, evidence_of
    from wardround.audit.derive import derive_report
    from wardround.canonical import canonical_bytes

    fed = federation(rounds=1)
    report = canonical_bytes(derive_report(evidence_of(fed.parts())))
    return bundle_bytes(fed.parts(), report, identity=fed.coordinator.identity)


def added(content: bytes, hospital: str = BERGEN) -> bytes:
    """Put in without `attach`, which would refuse it."""
    return pack({**unpack(honest_bundle()), member_of(hospital): content})


def test_decisions_are_attached_verified_and_listed():
    remarked = decided(COIMBRA, Decision.REMARK, "the unit is the admission, not the person")
    content, words = attach(honest_bundle(), [signed(decided()), signed(remarked)])
    assert words == [decided(), remarked]
    verdicts = verify_bytes(content)
    assert verdicts.ok
    assert verdicts.sign_offs == (decided(), remarked)
    lines = list(verdicts.lines())
    assert "sign-off    bergen, Dr Ada: approve" in lines
    assert any("approve-with-remark: the unit is the admission" in line for line in lines)
    assert [s["hospital"] for s in verdicts.to_json()["sign_offs"]] == [BERGEN, COIMBRA]
    nobody = "sign-off    by no hospital in this bundle"
    assert nobody in list(verify_bytes(honest_bundle()).lines())


def test_attaching_changes_no_other_member_and_needs_no_order():
    one, two = signed(decided()), signed(decided(COIMBRA))
    first, _ = attach(honest_bundle(), [one, two])
    second, _ = attach(attach(honest_bundle(), [two])[0], [one])
    assert first == second
    kept = {n: c for n, c in unpack(first).items() if not n.startswith("sign-offs/")}
    assert kept == unpack(honest_bundle())
    assert attach(first, [one])[0] == first


def test_a_refusal_verifies_too_and_says_so():
    refusal = decided(BERGEN, Decision.REFUSE, "epsilon is more than we agreed to")
    verdicts = verify_bytes(added(signed(refusal)))
    assert verdicts.ok
    assert "refuse: epsilon is more" in " ".join(verdicts.lines())


def test_another_implementation_reads_and_verifies_a_sign_off():
    content = signed(decided())
    key = honest().hospitals[BERGEN].identity.public_key
    envelope = dsse.Envelope.from_dict(json.loads(content))
    public = SSlibKey(key_ids(key)[0], "ed25519", "ed25519", {"public": ed25519_of(key).hex()})
    envelope.verify([public], threshold=1)
    assert json.loads(envelope.payload)["predicateType"] == SIGN_OFF_PREDICATE


def forged(change: Json) -> bytes:
    """A sign-off of bergen's own key over another payload."""
    payload = json.loads(_payload(signed(decided())))
    from wardround.canonical import canonical_bytes

    return seal(canonical_bytes({**payload, **change}), honest().hospitals[BERGEN].identity)


def _payload(content: bytes) -> bytes:
    from wardround.evidence.dsse import Envelope

    return Envelope.from_bytes(content, what="x").payload


def predicate(**change: object) -> Json:
    return {"predicate": {**decided().model_dump(mode="json"), **change}}


WRONG = {
    "another-key": (signed(decided(), signer=COIMBRA), BERGEN, "signature"),
    "stranger's-key": (
        sign_off(new_identity("thief"), decided(), about(honest_bundle())),
        BERGEN,
        "signature",
    ),
    "in-another's-place": (signed(decided(BERGEN), signer=COIMBRA), COIMBRA, "foreign"),
    "another-run's": (signed(decided(), bundle=other_bundle()), BERGEN, "foreign"),
    "no-hospital": (signed(decided()), "atlantis", "foreign"),
    "more-fields": (forged(predicate(nice=True)), BERGEN, "malformed"),
    "other-subjects": (forged({"subject": []}), BERGEN, "foreign"),
    "other-predicate": (forged({"predicateType": "x"}), BERGEN, "malformed"),
    "no-predicate": (forged({"predicate": 3}), BERGEN, "malformed"),
    "approval-with-remark": (forged(predicate(remark="but")), BERGEN, "malformed"),
    "refusal-without-reason": (forged(predicate(decision="refuse")), BERGEN, "malformed"),
    "terminal-codes": (forged(predicate(officer="Dr \u001b[2J")), BERGEN, "malformed"),
    "no-envelope": (b"{}", BERGEN, "malformed"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_not_a_hospitals_word_about_this_report_fails_under_its_name(name: str):
    content, hospital, code = WRONG[name]
    verdicts = verify_bytes(added(content, hospital))
    failure = only(verdicts, "authentic", f"sign-off-{code}")
    assert failure.log == member_of(hospital)
    assert verdicts.sign_offs == ()


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("another-key", BadSignature),
        ("another-run's", VerificationFailed),
        ("more-fields", BadInput),
        ("no-envelope", BadInput),
    ],
)
def test_attach_refuses_what_would_not_verify(name: str, error: type[Exception]):
    with pytest.raises(error):
        attach(honest_bundle(), [WRONG[name][0]])


def test_a_hospital_has_one_decision():
    once, _ = attach(honest_bundle(), [signed(decided())])
    with pytest.raises(BadInput, match="holds a decision"):
        attach(once, [signed(decided(decision=Decision.REFUSE, remark="no"))])


def test_attach_refuses_a_hospital_that_is_not_of_this_study():
    stranger = sign_off(new_identity("x"), decided("atlantis"), about(honest_bundle()))
    with pytest.raises(VerificationFailed, match="no hospital of this study"):
        attach(honest_bundle(), [stranger])


def test_a_changed_report_makes_every_sign_off_foreign():
    content, _ = attach(honest_bundle(), [signed(decided())])
    members = unpack(content)
    members["report.json"] = members["report.json"].replace(b'"bergen"', b'"gerben"', 1)
    codes = [f.code for f in verify_bytes(pack(members)).authentic.failures]
    assert "sign-off-foreign" in codes


def test_attach_on_the_command_line_writes_into_the_bundle_or_beside_it(tmp_path):
    bundle, file, out = (tmp_path / name for name in ("bundle.zip", "s.dsse.json", "out.zip"))
    bundle.write_bytes(honest_bundle())
    file.write_bytes(signed(decided()))
    said = CliRunner().invoke(app, ["attach", str(bundle), str(file), "--out", str(out)])
    assert said.exit_code == 0, said
    assert bundle.read_bytes() == honest_bundle()
    assert verify_bytes(out.read_bytes()).sign_offs == (read_sign_off(file.read_bytes()),)
    said = CliRunner().invoke(app, ["attach", str(bundle), str(file), "--json"])
    assert json.loads(said.stdout)["sign_offs"][0]["decision"] == "approve"
    assert bundle.read_bytes() == out.read_bytes()
    missing = CliRunner().invoke(app, ["attach", str(bundle), str(tmp_path / "no.json")])
    assert isinstance(missing.exception, BadInput)
