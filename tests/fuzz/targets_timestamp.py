"""Readers of time stamps: DER from an authority or from a bundle, fed with a real token."""

from pathlib import Path

from tests.fuzz.target import Target

from wardround.audit.timestamp import read_authorities, read_time_stamp, verify_time_stamp
from wardround.audit.timestamp_der import as_response, token_of
from wardround.errors import BadInput

FOLDER = Path(__file__).parents[1] / "vectors" / "time-stamp"
HEAD = (FOLDER / "head.checkpoint").read_bytes()
TRUSTED = read_authorities(FOLDER / "ca.pem")
NO_TOKEN = b"\x30\x05\x30\x03\x02\x01\x02"


def token() -> bytes:
    """A token that OpenSSL made over HEAD, with the certificates of its signer and its root."""
    return (FOLDER / "head.tst").read_bytes()


def read_and_verify(data: bytes) -> None:
    read_time_stamp(data)
    verify_time_stamp(data, HEAD, TRUSTED)


def read_reply(data: bytes) -> None:
    """An HTTP answer's body: with a token, or a refusal."""
    found = token_of(data)
    if found is None:
        raise BadInput("time stamp reply: no token")
    read_time_stamp(found)


TARGETS = (
    Target(name="time-stamp", read=read_and_verify, seeds=lambda: [token()], json=False),
    Target(
        name="time-stamp-reply",
        read=read_reply,
        seeds=lambda: [as_response(token())],
        refused=lambda: [NO_TOKEN],
        json=False,
    ),
)
