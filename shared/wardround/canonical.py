"""One byte string for one value: RFC 8785 canonical JSON, its digest, and a strict parser.

What is signed, hashed or compared goes through here, so that no two readers of the same bytes can
understand different things.
"""

import hashlib
import json
import math
from collections import Counter
from json.encoder import encode_basestring
from typing import Any

import rfc8785

from wardround.errors import BadInput

Json = dict[str, Any]

_NAMED = 200  # characters of what a message did wrong, in the text that says so


def canonical_bytes(value: object) -> bytes:
    """Encode a JSON value as RFC 8785 bytes.

    NaN, infinities and integers beyond 2^53 raise BadInput: RFC 8785 has no form for them. So does
    a value that is nested too deeply, or a text that is not Unicode.

    >>> canonical_bytes({"b": 1.0, "a": "x"})
    b'{"a":"x","b":1}'
    """
    try:
        return _text_of(value).encode()
    except rfc8785.CanonicalizationError as error:
        raise BadInput(f"no canonical JSON form: {error}") from error
    except RecursionError as error:
        raise BadInput("no canonical JSON form: nested too deeply") from error
    except UnicodeEncodeError as error:  # half of a surrogate pair
        raise BadInput("no canonical JSON form: a text is not Unicode") from error


def _text_of(value: object) -> str:
    """What `rfc8785.dumps` writes, several times as fast: it was a third of a round.

    Texts are escaped by Python's JSON encoder, which has the same rules; numbers that are not
    small integers, and what is not JSON, are left to the library.
    """
    if isinstance(value, str):
        return encode_basestring(value)
    if isinstance(value, dict):
        members = [f"{encode_basestring(name)}:{_text_of(value[name])}" for name in _names(value)]
        return "{" + ",".join(members) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join([_text_of(each) for each in value]) + "]"
    if type(value) is int and abs(value) < 2**53:
        return str(value)
    return rfc8785.dumps(value).decode()  # type: ignore[arg-type]  # it raises on what is not JSON


def _names(value: dict[Any, Any]) -> list[str]:
    """The names of an object in the order of their UTF-16 code units (RFC 8785, 3.2.3)."""
    try:
        ascii_only = "".join(value).isascii()
    except TypeError as error:
        raise rfc8785.CanonicalizationError("object keys must be strings") from error
    return sorted(value, key=None if ascii_only else lambda name: name.encode("utf-16-be"))


def digest(value: object) -> str:
    """SHA-256 of the canonical bytes, 64 lower-case hex digits."""
    return hashlib.sha256(canonical_bytes(value)).hexdigest()


def parse_json(text: bytes, *, what: str, limit_bytes: int) -> Json:
    """Read one JSON object from outside: size limit first, no duplicate key, finite numbers only.

    Texts have to be Unicode. Raises BadInput naming `what`.
    """
    if len(text) > limit_bytes:
        raise BadInput(f"{what}: {len(text)} bytes came, at most {limit_bytes} are allowed")
    try:
        value = json.loads(
            text.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_float=_finite,
            parse_int=_integer,
        )
    except (ValueError, RecursionError) as error:
        raise BadInput(f"{what}: not JSON ({type(error).__name__}: {error})") from error
    if not isinstance(value, dict):
        raise BadInput(f"{what}: a JSON object was due, a {type(value).__name__} came")
    if b"\\u" in text:
        _all_unicode(value, what)
    return value


def parse_canonical(text: bytes, *, what: str, limit_bytes: int) -> Json:
    """Like `parse_json`, and the bytes must be the canonical ones: one value, one spelling."""
    value = parse_json(text, what=what, limit_bytes=limit_bytes)
    if canonical_bytes(value) != text:
        raise BadInput(f"{what}: not canonical JSON (RFC 8785)")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> Json:
    value = dict(pairs)
    if len(value) != len(pairs):
        counts = Counter(name for name, _ in pairs)
        twice = sorted(name for name, count in counts.items() if count > 1)
        raise ValueError(f"duplicate key {', '.join(twice)[:_NAMED]}")
    return value


def _all_unicode(value: Json, what: str) -> None:
    """Refuse half of a surrogate pair, which JSON can escape and no UTF-8 can hold."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except (UnicodeEncodeError, RecursionError) as error:
        raise BadInput(f"{what}: a text is not Unicode, or nested too deeply") from error


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _integer(text: str) -> int | float:
    whole = int(text)
    if abs(whole) < 2**53:
        return whole
    number = _finite(text)  # RFC 8785 writes 1e18 as 1000000000000000000
    if rfc8785.dumps(number) != text.encode():
        raise ValueError("an integer beyond 2^53 that no float is written as")
    return number


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):  # 1e400 is JSON, and reads as an infinity
        raise ValueError("a number is too large")
    return number
