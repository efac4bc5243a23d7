"""Checks of the fields of a message: each raises ProtocolViolation naming field and reason."""

import re
from collections.abc import Sequence

from wardround.canonical import Json
from wardround.errors import ProtocolViolation

# The same names as in a study's roster; free of "\0", so a pair of them is unambiguous.
_HOSPITAL = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


def exact_fields(value: object, names: Sequence[str], *, what: str) -> Json:
    """Return `value` as a JSON object with these fields: none more, none less."""
    if not isinstance(value, dict):
        raise ProtocolViolation(f"{what}: an object was due, a {type(value).__name__} came")
    missing = sorted(set(names) - set(value))
    unknown = sorted(set(value) - set(names))
    if missing or unknown:
        listed = [
            f"{kind} {', '.join(map(str, keys))}"
            for kind, keys in (("missing", missing), ("unknown", unknown))
            if keys
        ]
        raise ProtocolViolation(f"{what}: {'; '.join(listed)}")
    return value


def require_hex(value: object, *, what: str, size_bytes: int) -> str:
    """Return `value` when it is `size_bytes` in lower-case hex."""
    if not isinstance(value, str) or not re.fullmatch(rf"[0-9a-f]{{{2 * size_bytes}}}", value):
        came = f"{len(value)} characters" if isinstance(value, str) else type(value).__name__
        raise ProtocolViolation(f"{what}: {2 * size_bytes} lower-case hex digits due, {came} came")
    return value


def require_hospital(value: object, *, what: str) -> str:
    """Return `value` when it is a hospital's name: a-z, 0-9 and -, at most 63 characters."""
    if not isinstance(value, str) or not _HOSPITAL.fullmatch(value):
        came = repr(value[:64]) if isinstance(value, str) else type(value).__name__
        raise ProtocolViolation(f"{what}: a hospital's name (a-z, 0-9, -) was due, {came} came")
    return value


def require_integer(value: object, *, what: str, least: int, most: int) -> int:
    """Return `value` when it is an integer (not a boolean) in the closed range."""
    if type(value) is not int:
        raise ProtocolViolation(f"{what}: an integer was due, a {type(value).__name__} came")
    if not least <= value <= most:
        raise ProtocolViolation(f"{what}: {value} came, {least} to {most} was due")
    return value
