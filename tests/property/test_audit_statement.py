"""The coordinator's statement is about this report, or the bundle fails under that name."""

from tests.support.forgeries import honest, honest_report, only, sealed

from wardround.audit.container import manifest_of, pack, unpack
from wardround.audit.statement import STATEMENT, report_statement
from wardround.audit.verify import verify_bytes
from wardround.evidence.dsse import seal


def with_statement(payload: bytes) -> bytes:
    """The honest bundle with another statement, signed and listed anew by the coordinator."""
    identity = honest().coordinator.identity
    members = unpack(sealed(honest().parts()))
    members[STATEMENT] = seal(payload, identity)
    listed = {n: c for n, c in members.items() if not n.startswith("manifest.")}
    manifest = manifest_of(listed)
    signature = identity.sign_lasting(b"bundle", manifest).hex().encode() + b"\n"
    return pack({**members, "manifest.json": manifest, "manifest.signature": signature})


def test_the_statement_of_this_report_verifies():
    assert verify_bytes(with_statement(report_statement(honest_report()))).ok


def test_a_statement_of_another_report_is_named():
    other = report_statement(honest_report().replace(b'"0.1.0"', b'"0.1.1"') + b"\n")
    failure = only(verify_bytes(with_statement(other)), "authentic", "statement-differs")
    assert failure.log == STATEMENT


def test_a_statement_that_says_more_than_the_report_is_named():
    more = report_statement(honest_report()).replace(b'"predicate":{', b'"predicate":{"good":1,')
    only(verify_bytes(with_statement(more)), "authentic", "statement-differs")


def test_a_statement_that_is_no_envelope_is_named():
    members = unpack(sealed(honest().parts()))
    members[STATEMENT] = b"{}"
    reasons = [f.code for v in verify_bytes(pack(members)).four for f in v.failures]
    assert {"report-signature", "statement-differs", "member-differs"} <= set(reasons)
