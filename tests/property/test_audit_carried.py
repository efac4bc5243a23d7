"""Whoever carries a bundle, without any key, can change no byte of it unseen."""

import pytest
from tests.support.forgeries import (
    VICTIM,
    honest_bundle,
    only,
)

from wardround.audit.container import MANIFEST, MANIFEST_SIGNATURE, pack, unpack
from wardround.audit.verify import verify_bytes

# --- whoever carried the file, without a key ---


def members() -> dict[str, bytes]:
    return unpack(honest_bundle())


MEMBERS = (
    "study.json",
    "keys.json",
    "countersignatures.json",
    "report.json",
    "statement.dsse.json",
    "VERIFY.md",
    "logs/coordinator.jsonl",
    "logs/coordinator.checkpoint",
    f"logs/hospitals/{VICTIM}.jsonl",
    f"logs/hospitals/{VICTIM}.checkpoint",
)


def test_an_honest_bundle_passes_all_four():
    verdicts = verify_bytes(honest_bundle())
    assert verdicts.ok, [str(f) for v in verdicts.four for f in v.failures]
    assert set(members()) >= set(MEMBERS)


@pytest.mark.parametrize("name", MEMBERS)
@pytest.mark.parametrize("where", [0.0, 0.37, 1.0])
def test_one_changed_byte_of_a_member_is_named(name: str, where: float):
    changed = members()
    content = bytearray(changed[name])
    content[round(where * (len(content) - 1))] ^= 0x01
    failure = only(
        verify_bytes(pack({**changed, name: bytes(content)})), "intact", "member-differs"
    )
    assert failure.log == name


def test_a_changed_manifest_is_named():
    changed = members()
    manifest = changed[MANIFEST].replace(b'"bytes":', b'"bytes":1', 1)
    verdicts = verify_bytes(pack({**changed, MANIFEST: manifest}))
    only(verdicts, "intact", "member-differs")
    only(verdicts, "authentic", "manifest-signature")


def test_a_changed_manifest_signature_is_named():
    changed = members()
    signature = bytearray(changed[MANIFEST_SIGNATURE])
    signature[5] = ord("0") if signature[5] != ord("0") else ord("1")
    verdicts = verify_bytes(pack({**changed, MANIFEST_SIGNATURE: bytes(signature)}))
    only(verdicts, "authentic", "manifest-signature")


@pytest.mark.parametrize("name", [*MEMBERS, MANIFEST, MANIFEST_SIGNATURE])
def test_a_missing_member_is_named(name: str):
    changed = members()
    del changed[name]
    verdicts = verify_bytes(pack(changed))
    reasons = [str(failure) for v in verdicts.four for failure in v.failures]
    assert not verdicts.ok
    assert any(name in reason for reason in reasons)


def test_an_added_member_is_named():
    verdicts = verify_bytes(pack({**members(), "logs/extra.txt": b"x"}))
    assert only(verdicts, "intact", "member-differs").log == "logs/extra.txt"
