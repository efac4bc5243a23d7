"""A redacted bundle shows less and proves as much of it; nothing in it can be changed unseen."""

import json
from dataclasses import replace
from functools import cache

import pytest
from tests.support.forgeries import VICTIM, honest, honest_bundle, only
from tests.support.forgeries_redacted import REDACTED_FORGERIES, RedactedForgery
from typer.testing import CliRunner

from wardround.audit.check_authentic import Pins
from wardround.audit.container import pack, unpack
from wardround.audit.redact import REDACTED, redact, withheld_line
from wardround.audit.verdicts import Verdicts
from wardround.audit.verify import verify_bytes
from wardround.cli.audit import app
from wardround.errors import BadInput, VerificationFailed
from wardround.evidence.merkle import root, root_of_hashes

LOG = f"logs/hospitals/{VICTIM}{REDACTED}"
COORDINATOR = f"logs/coordinator{REDACTED}"


@cache
def public() -> bytes:
    return redact(honest_bundle())


@cache
def with_report() -> bytes:
    return redact(honest_bundle(), keep_report=True)


def changed(**members: bytes | None) -> Verdicts:
    """The public bundle with other members; None takes one out."""
    found = unpack(public())
    for name, content in members.items():
        if content is None:
            del found[name]
        else:
            found[name] = content
    return verify_bytes(pack(found))


def lines(name: str = LOG) -> list[bytes]:
    return unpack(public())[name].split(b"\n")[:-1]


def joined(found: list[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in found)


@pytest.mark.parametrize("make", [public, with_report], ids=["public", "with report"])
def test_a_redacted_bundle_is_authentic_and_intact_and_says_what_was_not_recomputed(make):
    pins = Pins(
        coordinator=honest().coordinator.identity.fingerprint,
        hospitals={n: p.identity.fingerprint for n, p in honest().hospitals.items()},
    )
    verdicts = verify_bytes(make(), pins=pins)
    assert (verdicts.authentic.failures, verdicts.intact.failures) == ((), ())
    assert not verdicts.ok
    text = list(verdicts.lines())
    assert "complete    redacted" in text
    assert "recomputed  redacted" in text
    assert any("redacted, not recomputed" in line for line in text)


def test_officers_budgets_and_accounts_are_gone_and_what_both_sides_tell_is_there():
    whole, content = unpack(honest_bundle()), unpack(public())
    officer = json.loads(whole[f"logs/hospitals/{VICTIM}.jsonl"].split(b"\n")[0])["body"]["officer"]
    everything = b"".join(content.values())
    assert officer.encode() in b"".join(whole.values())
    for secret in (officer.encode(), b"epsilon_budget", b"epsilon_dataset", b"officer"):
        assert secret not in everything, secret
    assert "report.json" not in content
    shown = {json.loads(line).get("type") for line in lines()}
    told = {"run-joined", "release-sent", "survivors-signed", "checkpoint-witnessed"}
    assert shown == {None, *told}
    assert all(json.loads(line).get("type") for line in lines(COORDINATOR))


def test_the_report_can_be_kept():
    assert unpack(with_report())["report.json"] == unpack(honest_bundle())["report.json"]


def test_no_other_member_changes():
    whole = unpack(honest_bundle())
    same = {n: c for n, c in unpack(public()).items() if not n.endswith(REDACTED)}
    assert same.items() <= whole.items()
    assert {n for n in whole.keys() - same.keys() if not n.endswith(".jsonl")} == {"report.json"}


def test_the_root_of_hashes_is_the_root_of_the_leaves():
    from wardround.evidence.merkle import leaf_hash

    for count in (0, 1, 2, 3, 7, 8, 33):
        leaves = [bytes([at]) for at in range(count)]
        assert root_of_hashes([leaf_hash(leaf) for leaf in leaves]) == root(leaves)


WITHHELD = next(line for line in lines() if line.startswith(b'{"withheld"'))
SHOWN = next(line for line in lines() if not line.startswith(b'{"withheld"'))
CHANGES = {
    "entry edited": lambda x: [line.replace(b"digest", b"digset", 1) for line in x],
    "another leaf": lambda x: [withheld_line(b"x") if line == WITHHELD else line for line in x],
    "one withheld more": lambda x: [WITHHELD, *x],
    "one taken out": lambda x: x[:-1],
    "two swapped": lambda x: [x[1], x[0], *x[2:]],
    "leaf in capitals": lambda x: [x[0].replace(b"a", b"A").replace(b"e", b"E"), *x[1:]],
    "leaf with a word": lambda x: [x[0][:-1] + b',"why":"x"}', *x[1:]],
    "leaf cut": lambda x: [WITHHELD[:-4] + b'"}', *x[1:]],
    "leaf of no hex": lambda x: [b'{"withheld":"' + b"z" * 64 + b'"}', *x[1:]],
    "empty": lambda _: [],
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_in_a_redacted_log_is_named(name: str):
    failure = only(
        changed(**{LOG: joined(CHANGES[name](lines()))}), "intact", "redacted-log-differs"
    )
    assert failure.log == f"hospitals/{VICTIM}"


def test_an_entry_may_be_withheld_further_and_still_proves_the_same():
    """Withholding needs no key; what is gone is counted."""
    more = [withheld_line(line) if line == SHOWN else line for line in lines()]
    verdicts = changed(**{LOG: joined(more)})
    assert (verdicts.authentic.failures, verdicts.intact.failures) == ((), ())


@pytest.mark.parametrize(
    "name",
    ["keys.json", "study.json", "statement.dsse.json", "countersignatures.json", "VERIFY.md"],
)
def test_a_changed_member_is_named(name: str):
    content = bytearray(unpack(public())[name])
    content[len(content) // 2] ^= 1
    verdicts = changed(**{name: bytes(content)})
    assert not verdicts.intact.ok


def test_a_member_that_is_missing_or_added_is_named():
    assert not changed(**{"VERIFY.md": None}).intact.ok
    assert not changed(**{LOG: None}).intact.ok
    assert not changed(**{f"logs/hospitals/oslo{REDACTED}": b""}).intact.ok
    other = unpack(honest_bundle())[f"logs/hospitals/{VICTIM}.jsonl"]
    assert not changed(**{f"logs/hospitals/{VICTIM}.jsonl": other}).intact.ok
    assert not changed(**{"sign-offs/bergen.dsse.json": b"{}"}).intact.ok


def test_a_statement_of_another_report_is_named_without_the_report():
    from wardround.audit.statement import report_statement
    from wardround.evidence.dsse import seal

    other = seal(report_statement(b"{}"), honest().coordinator.identity)
    only(changed(**{"statement.dsse.json": other}), "authentic", "statement-differs")


def test_a_hospital_that_saw_another_history_is_named_in_a_redacted_bundle_too():
    from tests.support.forgeries import sealed, split_view

    fed = honest().fork()
    split_view(fed)
    verdicts = verify_bytes(redact(sealed(fed.parts())))
    assert "history-differs" in [failure.code for failure in verdicts.complete.failures]
    assert verdicts.complete.word == "FAILED"


def test_a_countersignature_of_another_history_is_named():
    from tests.support.forgeries import sealed

    parts = honest().fork().parts()
    signed = dict(parts.countersignatures)
    names = sorted(signed)
    signed[names[0]] = replace(signed[names[0]], signature=signed[names[1]].signature)
    verdicts = verify_bytes(redact(sealed(replace(parts, countersignatures=signed))))
    only(verdicts, "authentic", "countersignature")


def test_what_is_damaged_or_redacted_already_is_not_redacted():
    with pytest.raises(BadInput, match="already"):
        redact(public())
    members = unpack(honest_bundle())
    members["logs/coordinator.jsonl"] = members["logs/coordinator.jsonl"].replace(b"1", b"2", 1)
    with pytest.raises(VerificationFailed):
        redact(pack(members))


def test_redact_on_the_command_line_and_verify_says_7(tmp_path):
    bundle, out = tmp_path / "bundle.zip", tmp_path / "public.zip"
    bundle.write_bytes(honest_bundle())
    said = CliRunner().invoke(app, ["redact", str(bundle), "--out", str(out)])
    assert said.exit_code == 0, said
    assert out.read_bytes() == public()
    said = CliRunner().invoke(app, ["verify", str(out)])
    assert said.exit_code == 7
    assert "recomputed  redacted" in said.stdout


@pytest.mark.parametrize("forgery", REDACTED_FORGERIES, ids=lambda forgery: forgery.name)
def test_what_a_coordinator_hides_by_redacting_is_named(forgery: RedactedForgery):
    failures = getattr(verify_bytes(forgery.forge()), forgery.verdict).failures
    assert (forgery.code, forgery.place) in {(each.code, each.log) for each in failures}


def test_what_may_be_withheld_of_the_coordinators_log_leaves_the_rest_to_be_checked():
    """An attempt that is not shown cannot be checked, and neither can the entries that follow."""
    found = lines(COORDINATOR)
    opened = next(line for line in found if json.loads(line)["type"] == "round-opened")
    more = [withheld_line(line) if line == opened else line for line in found]
    verdicts = changed(**{COORDINATOR: joined(more)})
    assert (verdicts.authentic.failures, verdicts.intact.failures) == ((), ())
    assert "complete    redacted" in list(verdicts.lines())
