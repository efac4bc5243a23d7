"""Ask a time stamping authority over HTTP, as RFC 3161, 3.4 says. Nothing but a hash leaves."""

import http.client
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import IO, TypeVar
from urllib.parse import urlsplit

from wardround.audit.timestamp import (
    LIBRARY,
    TOKEN_LIMIT_BYTES,
    Authorities,
    NoLibrary,
    verify_time_stamp,
)
from wardround.audit.timestamp_der import token_of
from wardround.errors import BadInput, ProtocolViolation, Unreachable

TIMEOUT_S = 30.0
_ASKS, _ANSWERS = "application/timestamp-query", "application/timestamp-reply"
_REPLY_LIMIT_BYTES = TOKEN_LIMIT_BYTES + 1024
_Found = TypeVar("_Found")


def request_time_stamp(
    url: str, content: bytes, *, authorities: Authorities | None, timeout_s: float = TIMEOUT_S
) -> bytes:
    """A token over the SHA-256 of `content`: of this request (nonce) and, if given, whose.

    The whole exchange takes `timeout_s` at most. HTTP_PROXY and NO_PROXY are honoured, redirects
    are not followed. Raises BadInput for a URL that is none, Unreachable when no answer comes,
    ProtocolViolation for an answer that is none or refuses; BadSignature, VerificationFailed or
    BadInput for a token that would not verify.
    """
    checked_url(url)
    try:
        from rfc3161_client import HashAlgorithm, TimestampRequestBuilder  # noqa: PLC0415  # only when asked
    except ImportError as error:
        raise NoLibrary(
            f"time stamp: {LIBRARY} is not installed (pip install {LIBRARY})"
        ) from error
    builder = TimestampRequestBuilder(data=content, hash_algorithm=HashAlgorithm.SHA256)
    request = builder.nonce(nonce=True).cert_request(cert_request=True).build()
    reply = _within(timeout_s, lambda: _post(url, request.as_bytes(), timeout_s))
    token = token_of(reply)
    if token is None:
        raise ProtocolViolation(f"time stamping authority: it refused ({_refusal(reply)})")
    found = verify_time_stamp(token, content, authorities)
    if found.nonce != request.nonce:
        raise ProtocolViolation("time stamping authority: its answer is not to this request")
    return token


def checked_url(url: str) -> str:
    """The URL of an authority as it came. Raises BadInput for other schemes than http and https.

    >>> checked_url("http://time.example/tsr")
    'http://time.example/tsr'
    """
    try:
        parts = urlsplit(url)
        holds = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        holds = False
    if not holds or not url.isascii() or not url.isprintable() or " " in url:
        raise BadInput("time stamping authority: a URL with http or https is due")
    return url


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Who is named is asked, and nobody else."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> None:
        del req, fp, code, msg, headers, newurl


def _post(url: str, query: bytes, timeout_s: float) -> bytes:
    headers = {"content-type": _ASKS, "accept": _ANSWERS}
    asked = urllib.request.Request(url, data=query, headers=headers)  # noqa: S310  # checked_url
    opener = urllib.request.build_opener(_NoRedirects)
    with opener.open(asked, timeout=timeout_s) as answer:
        kind = answer.headers.get_content_type()
        if answer.status != http.client.OK or kind != _ANSWERS:
            raise ProtocolViolation(
                f"time stamping authority: status {answer.status} and {kind[:80]!r} came, "
                f"{_ANSWERS} is due"
            )
        content: bytes = answer.read(_REPLY_LIMIT_BYTES + 1)
    if len(content) > _REPLY_LIMIT_BYTES:
        raise ProtocolViolation(f"time stamping authority: over {_REPLY_LIMIT_BYTES} bytes came")
    return content


def _within(timeout_s: float, ask: Callable[[], _Found]) -> _Found:
    """What `ask` returns or raises, in words; Unreachable when it takes longer.

    A socket's own timeout is for one read: whoever sends a byte now and then would hold us.
    """
    found: list[_Found] = []
    faults: list[Exception] = []

    def work() -> None:
        try:
            found.append(ask())
        except Exception as error:  # noqa: BLE001  # handed over, and raised below
            faults.append(error)

    worker = threading.Thread(target=work, name="time stamp", daemon=True)
    worker.start()
    worker.join(timeout_s)
    if found:
        return found[0]
    if not faults:
        raise Unreachable(f"time stamping authority: no whole answer within {timeout_s:g} s")
    raise _in_words(faults[0]) from faults[0]


def _in_words(fault: Exception) -> Exception:
    if isinstance(fault, urllib.error.HTTPError):
        return ProtocolViolation(f"time stamping authority: status {fault.code} came, 200 is due")
    if isinstance(fault, OSError | http.client.HTTPException):
        reason = getattr(fault, "reason", fault)
        return Unreachable(f"time stamping authority: not reached ({type(reason).__name__})")
    return fault


def _refusal(reply: bytes) -> str:
    from rfc3161_client import decode_timestamp_response  # noqa: PLC0415  # as above

    try:
        status = decode_timestamp_response(reply).status
    except ValueError as error:
        raise BadInput("time stamp reply: not one of RFC 3161") from error
    return f"status {status}"
