"""Asking a time stamping authority over HTTP: a real one, and whatever else may answer there."""

import json
from pathlib import Path

import pytest
from tests.support.forgeries import honest_bundle
from tests.support.small_federation import free_port
from tests.support.time_authority import Answer, TimeAuthority, serving
from typer.testing import CliRunner

from wardround.audit.check_authentic import Pins
from wardround.audit.container import unpack
from wardround.audit.timestamp import Authorities, read_authorities
from wardround.audit.timestamp_attach import stamp_bundle
from wardround.audit.timestamp_request import checked_url, request_time_stamp
from wardround.audit.verify import verify_bytes
from wardround.cli.audit import app
from wardround.errors import (
    BadInput,
    BadSignature,
    ProtocolViolation,
    Unreachable,
    VerificationFailed,
)

CONTENT = b"the head of a log\n"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> TimeAuthority:
    return TimeAuthority.make(tmp_path_factory.mktemp("authority") / "a")


@pytest.fixture(scope="module")
def trusted(authority: TimeAuthority) -> Authorities:
    return read_authorities(authority.ca)


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")


def asked(
    authority: TimeAuthority, trusted: Authorities, answer: Answer | None, *, timeout_s: float = 20
) -> bytes:
    with serving(authority, answer) as url:
        return request_time_stamp(url, CONTENT, authorities=trusted, timeout_s=timeout_s)


def test_a_real_authority_answers_and_openssl_accepts_its_token(
    authority: TimeAuthority, trusted: Authorities
):
    token = asked(authority, trusted, None)
    assert authority.accepts(token, CONTENT)
    (authority.folder / "asked").write_bytes(authority.queries[-1])
    shown = authority.openssl("ts", "-query", "-in", "asked", "-text").decode()
    assert "Hash Algorithm: sha256" in shown
    assert "Nonce: 0x" in shown
    assert CONTENT not in authority.queries[-1]


def test_only_a_hash_leaves_and_each_request_has_its_own_nonce(
    authority: TimeAuthority, trusted: Authorities
):
    before = len(authority.queries)
    for _ in range(2):
        asked(authority, trusted, None)
    first, second = authority.queries[before:]
    assert len(first) < 100
    assert first != second


def test_a_reply_to_another_request_is_refused(authority: TimeAuthority, trusted: Authorities):
    """The same bytes stamped before: hash, signature and authority are right, the nonce is not."""
    (authority.folder / "data").write_bytes(CONTENT)
    query = authority.openssl("ts", "-query", "-data", "data", "-sha256", "-cert")
    with pytest.raises(ProtocolViolation, match="not to this request"):
        asked(authority, trusted, Answer(authority.reply(query)))


def test_a_reply_over_other_bytes_is_refused(authority: TimeAuthority, trusted: Authorities):
    (authority.folder / "data").write_bytes(b"other bytes")
    query = authority.openssl("ts", "-query", "-data", "data", "-sha256", "-cert")
    with pytest.raises(VerificationFailed, match="other bytes"):
        asked(authority, trusted, Answer(authority.reply(query)))


def test_an_authority_that_is_not_the_named_one_is_refused(
    authority: TimeAuthority, tmp_path: Path
):
    other = TimeAuthority.make(tmp_path / "b", name="Somebody else")
    with pytest.raises(BadSignature):
        asked(authority, read_authorities(other.ca), None)


def test_a_refusal_is_said_with_its_status(authority: TimeAuthority, trusted: Authorities):
    """OpenSSL's own refusal: it does not stamp SHA-512 here."""
    (authority.folder / "data").write_bytes(CONTENT)
    query = authority.openssl("ts", "-query", "-data", "data", "-sha512", "-cert")
    with pytest.raises(ProtocolViolation, match=r"it refused \(status 2"):
        asked(authority, trusted, Answer(authority.reply(query)))


ANSWERS: dict[str, tuple[Answer, type[Exception], str]] = {
    "error": (Answer(b"no", status=500), ProtocolViolation, "status 500"),
    "redirect": (
        Answer(b"", status=302, location="http://127.0.0.1:9/"),
        ProtocolViolation,
        "status 302",
    ),
    "page": (Answer(b"<html>", kind="text/html"), ProtocolViolation, "text/html"),
    "text": (Answer(b"no stamp"), BadInput, "DER"),
    "nothing": (Answer(b""), BadInput, "DER"),
    "no DER behind": (Answer(b"\x30\x06\x30\x00\x30\x02\x05\x00"), BadInput, "CMS|DER"),
    "too much": (Answer(bytes(1 << 20)), ProtocolViolation, "bytes came"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_another_answer_is_refused_in_words(
    name: str, authority: TimeAuthority, trusted: Authorities
):
    answer, error, words = ANSWERS[name]
    with pytest.raises(error, match=words):
        asked(authority, trusted, answer)


def test_whoever_drips_bytes_is_left_after_the_whole_time(
    authority: TimeAuthority, trusted: Authorities
):
    with pytest.raises(Unreachable, match=r"no whole answer within 0\.6 s"):
        asked(authority, trusted, Answer(b"", drip_s=0.05), timeout_s=0.6)


def test_nobody_there_is_unreachable(trusted: Authorities):
    with pytest.raises(Unreachable, match="not reached"):
        request_time_stamp(f"http://127.0.0.1:{free_port()}/", CONTENT, authorities=trusted)


@pytest.mark.parametrize(
    "url",
    ["", "file:///etc/passwd", "ftp://x/", "time.example", "http://", "http://x/a b", "http://[x"],
)
def test_what_is_no_url_of_an_authority_is_bad_input(url: str):
    with pytest.raises(BadInput, match="a URL with http or https is due"):
        checked_url(url)


def test_audit_stamp_adds_a_stamp_to_somebody_elses_bundle(
    authority: TimeAuthority, trusted: Authorities, tmp_path: Path
):
    bundle, out = tmp_path / "bundle.zip", tmp_path / "out.zip"
    bundle.write_bytes(honest_bundle())
    with serving(authority) as url:
        options = ["stamp", str(bundle), "--authority", url]
        said = CliRunner().invoke(app, [*options, "--out", str(out)])
        assert said.exit_code == 0, said
        assert said.stdout.endswith(f"by {authority.name}, not checked\n")
        assert bundle.read_bytes() == honest_bundle()
        checked = CliRunner().invoke(
            app, [*options, "--timestamp-authority", str(authority.ca), "--json"]
        )
        assert json.loads(checked.stdout)["time_stamp"]["checked"] is True
    for path in (bundle, out):
        verdicts = verify_bytes(path.read_bytes(), pins=Pins(time_stamping=trusted))
        assert verdicts.ok
        assert len(verdicts.time_stamps) == 1
        kept = {n: c for n, c in unpack(path.read_bytes()).items() if "time-stamps" not in n}
        assert kept == unpack(honest_bundle())


def test_without_an_authority_there_is_no_new_bundle(tmp_path: Path, trusted: Authorities):
    bundle = tmp_path / "bundle.zip"
    bundle.write_bytes(honest_bundle())
    url = f"http://127.0.0.1:{free_port()}/"
    said = CliRunner().invoke(app, ["stamp", str(bundle), "--authority", url])
    assert isinstance(said.exception, Unreachable)
    assert bundle.read_bytes() == honest_bundle()
    with pytest.raises(BadInput, match="https is due"):
        stamp_bundle(honest_bundle(), "time.example", authorities=trusted)
