"""A bundle that was made once verifies for ever, with every sentence of its report.

When a test here fails, no file in tests/vectors/golden is made anew: the report's words are part of
what was signed. A change needs a new schema number, beside the old one (BUNDLE.md, "For ever").
"""

import hashlib
import json
from pathlib import Path

import pytest
from tests.support.golden_bundle import BUNDLE, VERDICTS, said

from wardround.audit.bundle import bundle_of, evidence_of
from wardround.audit.check_authentic import Pins
from wardround.audit.container import BUNDLE_SCHEMA, unpack
from wardround.audit.derive import derive_report
from wardround.audit.verify import verify_bytes
from wardround.canonical import canonical_bytes

GOLDEN = Path(__file__).parents[1] / "vectors" / "golden"
SHA256 = {
    "report-1": "a0be80d65a9570dfb2814e14bcd3b5123147443a942a5d91c46633794154c51e",
}
MOST_BYTES = 300_000

every_golden = pytest.mark.parametrize("name", sorted(SHA256))


def bundle(name: str) -> bytes:
    return (GOLDEN / name / BUNDLE).read_bytes()


@every_golden
def test_it_is_the_bundle_that_was_made(name: str):
    content = bundle(name)
    assert hashlib.sha256(content).hexdigest() == SHA256[name]
    assert len(content) < MOST_BYTES


@every_golden
def test_it_verifies_with_the_same_words_as_on_its_first_day(name: str):
    verdicts = verify_bytes(bundle(name))
    assert verdicts.ok
    assert said(verdicts) == (GOLDEN / name / VERDICTS).read_bytes()


@every_golden
def test_its_report_follows_from_its_evidence_byte_for_byte(name: str):
    members = unpack(bundle(name))
    accountant = json.loads(members["report.json"])["guarantee"]["accountant"]
    derived = derive_report(evidence_of(bundle_of(members).parts), accountant=accountant)
    assert canonical_bytes(derived) == members["report.json"]


@every_golden
def test_it_rests_on_the_keys_of_its_first_day_and_fails_for_others(name: str):
    keys = dict(verify_bytes(bundle(name)).rests_on)
    coordinator = keys.pop("coordinator")
    assert verify_bytes(bundle(name), pins=Pins(coordinator=coordinator, hospitals=keys)).ok
    assert not verify_bytes(bundle(name), pins=Pins(coordinator="0" * 64)).ok


@every_golden
def test_a_byte_of_it_that_changes_is_named(name: str):
    content = bundle(name)
    at = content.index(b'"guarantee"') + 3
    verdicts = verify_bytes(content[:at] + b"x" + content[at + 1 :])
    assert [verdict.ok for verdict in verdicts.four].count(False) >= 1


def test_the_schemas_of_today_have_a_golden_bundle():
    """Whoever raises a schema number makes one, and keeps the older ones."""
    found = set()
    for name in SHA256:
        members = unpack(bundle(name))
        schemas = [json.loads(members[n])["schema"] for n in ("manifest.json", "report.json")]
        found.add(tuple(schemas))
    report = json.loads(unpack(bundle(max(SHA256)))["report.json"])
    assert (BUNDLE_SCHEMA, report["schema"]) in found
    assert {path.name for path in GOLDEN.iterdir()} == set(SHA256)
