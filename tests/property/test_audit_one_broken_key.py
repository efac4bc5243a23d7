"""If Ed25519 or ML-DSA-65 falls, the other still convinces: half a key signs nothing."""

from dataclasses import replace

import pytest
from tests.support.federation_evidence import Federation, new_identity
from tests.support.forgeries import VICTIM, honest, honest_report, only

from wardround.audit.bundle import LogExport, RunEvidence, bundle_bytes
from wardround.audit.countersign import countersign
from wardround.audit.verify import verify_bytes
from wardround.canonical import canonical_bytes, parse_canonical
from wardround.evidence.checkpoint import checkpoint_of, sign_checkpoint
from wardround.identity import Identity
from wardround.study.files import sign_study


def without_ml_dsa_65(identity: Identity) -> Identity:
    """Whoever breaks Ed25519 has this key, and an ML-DSA-65 key of their own."""
    return Identity(identity.key, new_identity("thief").lasting_key)


def without_ed25519(identity: Identity) -> Identity:
    return Identity(new_identity("thief").key, identity.lasting_key)


HALVES = [without_ml_dsa_65, without_ed25519]


def bundle(parts: RunEvidence, identity: Identity | None = None) -> bytes:
    signer = identity or honest().coordinator.identity
    return bundle_bytes(parts, honest_report(), identity=signer)


def note(fed: Federation, name: str, identity: Identity, *, lasting: bool = True) -> LogExport:
    party = fed.coordinator if name == "coordinator" else fed.hospitals[name]
    checkpoint = checkpoint_of(party.entries, actor=name)
    signed = sign_checkpoint(identity, checkpoint, lasting=lasting)
    return replace(party.export(), checkpoint=signed)


@pytest.mark.parametrize("half", HALVES)
def test_manifest_and_statement_need_both_keys(half):
    verdicts = verify_bytes(bundle(honest().parts(), half(honest().coordinator.identity)))
    assert {f.code for f in verdicts.authentic.failures} == {
        "report-signature",
        "manifest-signature",
    }


@pytest.mark.parametrize("half", HALVES)
def test_the_last_checkpoint_of_a_log_needs_both_keys(half):
    fed = honest()
    export = note(fed, VICTIM, half(fed.hospitals[VICTIM].identity))
    parts = replace(fed.parts(), hospitals={**fed.parts().hospitals, VICTIM: export})
    failure = only(verify_bytes(bundle(parts)), "authentic", "checkpoint-signature")
    assert failure.log == f"hospitals/{VICTIM}"


@pytest.mark.parametrize("name", ["coordinator", VICTIM])
def test_a_last_checkpoint_without_its_second_line_is_named(name: str):
    fed, parts = honest(), honest().parts()
    identity = (fed.coordinator if name == "coordinator" else fed.hospitals[name]).identity
    export = note(fed, name, identity, lasting=False)
    if name == "coordinator":
        parts = replace(parts, coordinator=export)
    else:
        parts = replace(parts, hospitals={**parts.hospitals, name: export})
    failure = only(verify_bytes(bundle(parts)), "authentic", "checkpoint-signature")
    assert "no ML-DSA-65 signature" in failure.reason


@pytest.mark.parametrize("half", HALVES)
def test_a_countersignature_needs_both_keys(half):
    fed, parts = honest(), honest().parts()
    signed = countersign(
        half(fed.hospitals[VICTIM].identity),
        study_digest=fed.study.digest,
        run=parse_run(fed),
        checkpoint=parts.countersignatures[VICTIM].checkpoint,
    )
    forged = replace(parts, countersignatures={**parts.countersignatures, VICTIM: signed})
    assert VICTIM in only(verify_bytes(bundle(forged)), "authentic", "countersignature").reason


def parse_run(fed: Federation) -> str:
    return str(fed.coordinator.entries[0].body["run"])


@pytest.mark.parametrize("half", HALVES)
def test_a_study_needs_both_keys(half):
    fed = honest()
    identity = fed.coordinator.identity
    signed = parse_canonical(
        sign_study(fed.study, half(identity)), what="study", limit_bytes=1 << 20
    )
    named = canonical_bytes({**signed, "key": identity.public_key.hex()})
    parts = replace(fed.parts(), signed_study=named)
    only(verify_bytes(bundle(parts)), "authentic", "study-signature")


@pytest.mark.parametrize("half", HALVES)
def test_half_a_key_does_not_pass_for_a_party_of_the_roster(half):
    fed = honest()
    key = half(fed.hospitals[VICTIM].identity).public_key
    parts = replace(fed.parts(), hospital_keys={**fed.parts().hospital_keys, VICTIM: key})
    codes = {failure.code for failure in verify_bytes(bundle(parts)).authentic.failures}
    assert "roster-differs" in codes
