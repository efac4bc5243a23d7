"""RFC 3161 time stamps in a bundle: by a real authority (OpenSSL), checked by two readers."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
from tests.support.federation_evidence import Federation, federation
from tests.support.forgeries import honest_bundle, only
from tests.support.time_authority import TimeAuthority
from typer.testing import CliRunner

from wardround.audit import check_timestamps
from wardround.audit.bundle import bundle_bytes, bundle_of, evidence_of
from wardround.audit.check_authentic import Pins
from wardround.audit.container import pack, unpack
from wardround.audit.derive import derive_report
from wardround.audit.html import render_html
from wardround.audit.redact import redact
from wardround.audit.standalone import run as standalone
from wardround.audit.timestamp import (
    MOST_STAMPS,
    TOKEN_LIMIT_BYTES,
    member_of,
    read_authorities,
    read_time_stamp,
    verify_time_stamp,
)
from wardround.audit.timestamp_attach import attach_time_stamp
from wardround.audit.timestamp_der import in_order
from wardround.audit.verdicts import Verdicts
from wardround.audit.verify import verify_bytes
from wardround.canonical import canonical_bytes
from wardround.cli.audit import app
from wardround.errors import BadInput, BadSignature, VerificationFailed

HEAD = "logs/coordinator.checkpoint"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> TimeAuthority:
    return TimeAuthority.make(tmp_path_factory.mktemp("authority") / "a")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> TimeAuthority:
    return TimeAuthority.make(tmp_path_factory.mktemp("authority") / "b", name="Somebody else")


@pytest.fixture(scope="module")
def token(authority: TimeAuthority) -> bytes:
    return in_order(authority.token(head(honest_bundle())))


@pytest.fixture(scope="module")
def stamped(token: bytes) -> bytes:
    return attach_time_stamp(honest_bundle(), token)[0]


def head(bundle: bytes) -> bytes:
    return unpack(bundle)[HEAD]


def trusting(*authorities: TimeAuthority) -> Pins:
    found = tuple(each for one in authorities for each in read_authorities(one.ca))
    return Pins(time_stamping=found)


def put_in(token: bytes, bundle: bytes | None = None) -> bytes:
    """Without `attach_time_stamp`, which would refuse it."""
    return pack({**unpack(bundle or honest_bundle()), member_of(token): token})


def sealed(fed: Federation) -> bytes:
    report = canonical_bytes(derive_report(evidence_of(fed.parts())))
    return bundle_bytes(fed.parts(), report, identity=fed.coordinator.identity)


@cache
def other_run() -> bytes:
    return sealed(federation(rounds=1))


def lines(verdicts: Verdicts) -> str:
    return "\n".join(verdicts.lines())


def test_a_stamp_verifies_with_its_authority_and_says_when_and_who(
    stamped: bytes, authority: TimeAuthority
):
    verdicts = verify_bytes(stamped, pins=trusting(authority))
    assert verdicts.ok, lines(verdicts)
    (said,) = verdicts.time_stamps
    assert (said.authority, said.checked) == (authority.name, True)
    told = datetime.fromisoformat(said.time)
    assert abs((datetime.now(UTC) - told).total_seconds()) < 600
    line = f"time stamp  {said.time}, {authority.name}: the coordinator's log stood as it is"
    assert line in list(verdicts.lines())
    assert verdicts.to_json()["time_stamps"] == [
        {"time": said.time, "authority": authority.name, "checked": True}
    ]


def test_openssl_accepts_what_lies_in_the_bundle_and_nothing_else(
    stamped: bytes, authority: TimeAuthority, stranger: TimeAuthority
):
    (name,) = (name for name in unpack(stamped) if name.startswith("time-stamps/"))
    token = unpack(stamped)[name]
    assert authority.accepts(token, head(stamped))
    assert not authority.accepts(token, head(other_run()))
    assert not stranger.accepts(token, head(stamped))


def test_the_command_in_verify_md_checks_it(
    stamped: bytes, authority: TimeAuthority, stranger: TimeAuthority, tmp_path: Path
):
    """The line as it stands there, with the stamp's own name in the place of NAME."""
    members = unpack(stamped)
    for name, content in members.items():
        path = tmp_path / "bundle" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    told = re.findall(r"`(openssl ts -[^`]+)`", members["VERIFY.md"].decode())
    (stem,) = (path.stem for path in (tmp_path / "bundle" / "time-stamps").iterdir())
    check, show = (line.replace("NAME", stem) for line in told)

    def done(line: str, ca: Path) -> subprocess.CompletedProcess[str]:
        (tmp_path / "ca.pem").write_bytes(ca.read_bytes())
        return subprocess.run(
            line.split(), cwd=tmp_path, capture_output=True, text=True, check=False
        )

    assert done(check, authority.ca).returncode == 0
    assert done(check, stranger.ca).returncode != 0
    told_at = datetime.fromisoformat(verify_bytes(stamped).time_stamps[0].time)
    shown = re.sub(r" +", " ", done(show, authority.ca).stdout)
    assert f"{told_at:%b} {told_at.day} {told_at:%H:%M:%S %Y}" in shown


def test_no_stamp_is_no_failure_and_is_said(authority: TimeAuthority):
    for pins in (Pins(), trusting(authority)):
        verdicts = verify_bytes(honest_bundle(), pins=pins)
        assert verdicts.ok
        assert "time stamp  none" in list(verdicts.lines())


def test_without_an_authority_a_stamp_is_told_as_unchecked(stamped: bytes):
    verdicts = verify_bytes(stamped)
    assert verdicts.ok
    assert not verdicts.time_stamps[0].checked
    assert "not checked: give --timestamp-authority" in lines(verdicts)


def test_attaching_changes_no_other_member_and_the_same_stamp_is_there_once(
    stamped: bytes, token: bytes, stranger: TimeAuthority
):
    kept = {n: c for n, c in unpack(stamped).items() if not n.startswith("time-stamps/")}
    assert kept == unpack(honest_bundle())
    assert attach_time_stamp(stamped, token)[0] == stamped
    second = in_order(stranger.token(head(stamped)))
    both = attach_time_stamp(stamped, second)[0]
    assert both == attach_time_stamp(attach_time_stamp(honest_bundle(), second)[0], token)[0]
    assert len(verify_bytes(both).time_stamps) == 2


def test_a_stamp_of_another_head_fails_under_its_name(authority: TimeAuthority):
    foreign = in_order(authority.token(head(other_run())))
    failure = only(verify_bytes(put_in(foreign)), "authentic", "time-stamp-foreign")
    assert failure.log == member_of(foreign)
    with pytest.raises(VerificationFailed, match="other bytes"):
        attach_time_stamp(honest_bundle(), foreign)


def test_a_stamp_of_an_authority_that_the_reader_does_not_trust_fails(
    stamped: bytes, token: bytes, authority: TimeAuthority, stranger: TimeAuthority
):
    verdicts = verify_bytes(stamped, pins=trusting(stranger))
    only(verdicts, "authentic", "time-stamp-authority")
    assert verdicts.time_stamps == ()
    assert verify_bytes(stamped, pins=trusting(stranger, authority)).ok
    asked = read_authorities(stranger.ca)
    with pytest.raises(BadSignature):
        attach_time_stamp(honest_bundle(), token, authorities=asked)


def test_a_certificate_that_may_not_stamp_times_is_no_authority(tmp_path: Path):
    """The unit's certificate is for web servers: the same root does not help."""
    wrong = TimeAuthority.make(tmp_path / "c")
    (wrong.folder / "uses").write_text("extendedKeyUsage=critical,serverAuth\n")
    good = wrong.token(head(honest_bundle()))
    issue = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "30")
    files = ("-in", "unit.csr", "-extfile", "uses", "-out", "web.pem")
    wrong.openssl("x509", "-req", *files, *issue)
    # OpenSSL refuses to stamp with it, so the signature is made as a CMS of the same content.
    forged = wrong.signed_anew(good, signer="web.pem")
    assert verify_bytes(put_in(forged)).ok
    verdicts = verify_bytes(put_in(forged), pins=trusting(wrong))
    only(verdicts, "authentic", "time-stamp-authority")
    assert not wrong.accepts(forged, head(honest_bundle()))


def test_a_log_that_says_it_was_written_after_its_stamp_fails_and_names_the_entry(
    authority: TimeAuthority,
):
    forged = federation(rounds=1).fork()
    party, years = forged.coordinator, 9
    last = party.entries[-1]
    later = replace(last, time=last.time.replace(year=last.time.year + years))
    party.rewrite([*party.entries[:-1], later])
    bundle = sealed(forged)
    token = in_order(authority.token(head(bundle)))
    verdicts = verify_bytes(put_in(token, bundle), pins=trusting(authority))
    failure = only(verdicts, "authentic", "time-stamp-before-log")
    assert (failure.log, failure.seq) == ("coordinator", last.seq)
    with pytest.raises(VerificationFailed, match="no log is stamped before it is written"):
        attach_time_stamp(bundle, token)
    public = put_in(token, redact(bundle))
    only(verify_bytes(public, pins=trusting(authority)), "authentic", "time-stamp-before-log")


@pytest.mark.parametrize(("valid", "holds"), [((2020, 2021), True), ((2021, 2022), False)])
def test_certificates_count_at_the_moment_of_the_stamp(
    valid: tuple[int, int], holds: bool, tmp_path: Path
):
    """A certificate that has run out since is no fault; one that was not valid then is."""
    old = TimeAuthority.make(tmp_path / "d", since=2019)
    old.issue_unit(*valid)
    then = old.signed_anew(old.token(b"content"), signer="old.pem", year=2020)
    trusted = read_authorities(old.ca)
    if holds:
        assert verify_time_stamp(then, b"content", trusted).time.year == 2020
    else:
        with pytest.raises(BadSignature):
            verify_time_stamp(then, b"content", trusted)


@pytest.mark.parametrize("apart_s", [-290, 290, 320])
def test_clocks_may_be_five_minutes_apart(apart_s: int, token: bytes):
    stamp = read_time_stamp(token)
    entry = (7, stamp.time + timedelta(seconds=apart_s))
    faults = list(check_timestamps.written_after([("x", stamp)], [entry]))
    assert bool(faults) == (apart_s > 300 + stamp.accuracy_s)


def test_every_changed_byte_of_a_stamp_is_found(token: bytes, authority: TimeAuthority):
    """By the member's name where nothing was signed, as in a certificate that nobody needs."""
    pins, name = trusting(authority), member_of(token)
    bundle = bundle_of(unpack(put_in(token)))
    assert not check_timestamps.check_time_stamps(bundle, pins).failures
    codes = set()
    for at in range(len(token)):
        changed = bytearray(token)
        changed[at] ^= 1
        forged = replace(bundle, time_stamps={name: bytes(changed)})
        found = check_timestamps.check_time_stamps(forged, pins)
        assert found.failures, at
        codes |= {failure.code for failure in found.failures}
    kinds = ("authority", "foreign", "malformed")
    assert codes == {f"time-stamp-{kind}" for kind in kinds}


MALFORMED = {
    "nothing": b"",
    "text": b"no stamp",
    "an empty sequence": b"\x30\x00",
    "a length without end": b"\x30\x84\xff\xff\xff\xff",
    "a length of lengths": b"\x30\x89" + bytes(9),
    "too large": b"\x30\x83\x01\x00\x00" + bytes(TOKEN_LIMIT_BYTES),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_no_token_fails_as_malformed(name: str):
    only(verify_bytes(put_in(MALFORMED[name])), "authentic", "time-stamp-malformed")
    with pytest.raises(BadInput):
        attach_time_stamp(honest_bundle(), MALFORMED[name])


def test_certificates_in_another_order_are_another_form_of_the_token(token: bytes):
    """OpenSSL leaves them as they come, DER sorts them: what is kept is one form."""
    certificates = _certificates(token)
    assert len(certificates) == 2
    swapped = b"".join(reversed(certificates))
    turned = token.replace(b"".join(certificates), swapped)
    assert turned != token
    assert in_order(turned) == token
    only(verify_bytes(put_in(turned)), "authentic", "time-stamp-malformed")


def _certificates(token: bytes) -> list[bytes]:
    from wardround.audit.timestamp_der import whole

    _, content = whole(token, "token").children()
    (signed,) = content.children()
    (found,) = (part for part in signed.children() if part.tag == 0xA0)
    return [child.encoded for child in found.children()]


def test_a_stamp_that_was_made_once_verifies_for_ever():
    """By a root that nobody has the key of any more, over a signed head."""
    vectors = Path(__file__).parents[1] / "vectors"
    content = (vectors / "time-stamp" / "head.checkpoint").read_bytes()
    token = (vectors / "time-stamp" / "head.tst").read_bytes()
    trusted = read_authorities(vectors / "time-stamp" / "ca.pem")
    stamp = verify_time_stamp(token, content, trusted)
    assert stamp.time_text == "2026-11-23T00:05:45Z"
    assert (stamp.authority, stamp.accuracy_s) == ("Time stamping unit of the tests", 1.0)


def test_a_member_with_another_name_has_no_place(token: bytes):
    content = pack({**unpack(honest_bundle()), "time-stamps/mine.tst": token})
    only(verify_bytes(content), "intact", "container-malformed")


def test_too_many_stamps_are_refused(token: bytes):
    names = [f"time-stamps/{number:016x}.tst" for number in range(MOST_STAMPS + 1)]
    content = pack({**unpack(honest_bundle()), **dict.fromkeys(names, token)})
    only(verify_bytes(content), "intact", "container-malformed")


def test_a_redacted_copy_keeps_its_stamp_and_takes_no_new_one(
    stamped: bytes, token: bytes, authority: TimeAuthority
):
    for keep in (False, True):
        public = redact(stamped, keep_report=keep)
        verdicts = verify_bytes(public, pins=trusting(authority))
        assert verdicts.authentic.ok, lines(verdicts)
        assert verdicts.time_stamps[0].checked
    with pytest.raises(BadInput, match="redacted"):
        attach_time_stamp(public, token)


def test_the_page_says_what_was_found(stamped: bytes, authority: TimeAuthority):
    report = json.loads(unpack(stamped)["report.json"])
    pages = {
        "is added after the report is fixed": None,
        "No time stamp of a third party": verify_bytes(honest_bundle()),
        "whom nobody has checked": verify_bytes(stamped),
        f"So says {authority.name}, and": verify_bytes(stamped, pins=trusting(authority)),
    }
    for words, verdicts in pages.items():
        assert [other for other in pages if other in render_html(report, verdicts)] == [words]
        assert "Zeitstempel" in render_html(report, verdicts, lang="de")


def test_both_command_lines_verify_it_and_end_with_7_for_a_stranger(
    stamped: bytes, authority: TimeAuthority, stranger: TimeAuthority, tmp_path: Path, capsys
):
    bundle = tmp_path / "bundle.zip"
    bundle.write_bytes(stamped)
    for one, code in ((authority, 0), (stranger, 7)):
        options = ["verify", str(bundle), "--timestamp-authority", str(one.ca)]
        assert CliRunner().invoke(app, options).exit_code == code
        assert standalone(options) == code
    assert "time-stamp-authority" in capsys.readouterr().out
    wrong = ["verify", str(bundle), "--timestamp-authority", str(bundle)]
    assert isinstance(CliRunner().invoke(app, wrong).exception, BadInput)


def test_without_the_library_only_a_bundle_with_a_stamp_misses_it(
    stamped: bytes, authority: TimeAuthority, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "rfc3161_client", None)  # as if it was not installed
    assert verify_bytes(honest_bundle(), pins=trusting(authority)).ok
    unasked = verify_bytes(stamped)
    assert unasked.ok
    said = "it cannot be read here, since rfc3161-client is not installed"
    assert any(said in remark for remark in unasked.remarks)
    asked = verify_bytes(stamped, pins=trusting(authority))
    assert said in only(asked, "authentic", "time-stamp-unread").reason
