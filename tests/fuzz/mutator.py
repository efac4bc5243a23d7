"""Changes of JSON that stay JSON: what lies behind a strict parser is reached this way only.

A reader that demands canonical bytes refuses nearly everything that a blind change of bytes gives.
So a value is parsed, changed at one to three places, and written canonically again. Where the input
has a first line before the JSON (the kind of a message), the line is kept.
"""

import json
from typing import Any

import numpy as np

from wardround.canonical import canonical_bytes
from wardround.errors import BadInput

Path = tuple[str | int, ...]

INTERESTING: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31 - 1,
    2**31,
    2**53 - 1,
    1e18,
    1e300,
    0.5,
    -0.5,
    "",
    "0",
    "a",
    "\u0000",
    "\ud7ff\u00e9\U0001f600",
    "\ud800",
    "00" * 32,
    "ff" * 36,
    "0" * 128,
    "x" * 100_000,
    [],
    {},
    [[]],
    {"a": {}},
)
MOST_NODES = 4000


def paths_of(value: Any) -> list[Path]:
    """Where every part of a JSON value is, the whole first."""
    found: list[Path] = [()]
    for path in found:
        part = at(value, path)
        if len(found) > MOST_NODES:
            break
        if isinstance(part, dict):
            found += [(*path, key) for key in part]
        if isinstance(part, list):
            found += [(*path, place) for place in range(len(part))]
    return found


def at(value: Any, path: Path) -> Any:
    """The part of a value at a path."""
    for step in path:
        value = value[step]
    return value


def mutated(data: bytes, seed: int, most_bytes: int) -> bytes | None:
    """A JSON input with some parts changed; None when it is no JSON or grew beyond the limit."""
    rng = np.random.default_rng(seed)
    head, text = split_head(data)
    try:
        value = json.loads(text)
        for _ in range(int(rng.integers(1, 4))):
            value = _changed(value, rng)
        written = head + (_spelled(value, rng) if rng.random() < 0.1 else _canonical(value))
    except (ValueError, RecursionError):
        return None
    return written if len(written) <= most_bytes else None


def _canonical(value: Any) -> bytes:
    """The one spelling; what has none is written as JSON all the same."""
    try:
        return canonical_bytes(value)
    except BadInput:
        return json.dumps(value).encode()


def _spelled(value: Any, rng: np.random.Generator) -> bytes:
    """The same value in other words: order, spaces, escapes, a key twice."""
    text = json.dumps(
        value, ensure_ascii=bool(rng.integers(2)), indent=int(rng.integers(3)) or None
    )
    if rng.random() < 0.3 and text.startswith("{") and len(text) > 2:
        text = '{"a":1,"a":2,' + text[1:]
    return text.encode("utf-8", "surrogatepass")


def split_head(data: bytes) -> tuple[bytes, bytes]:
    """A first line of letters with its end, if there is one, and the rest."""
    line, end, rest = data.partition(b"\n")
    named = bool(end) and line.replace(b"-", b"").replace(b".", b"").replace(b"/", b"").isalnum()
    return (line + end, rest) if named else (b"", data)


def _changed(value: Any, rng: np.random.Generator) -> Any:
    paths = paths_of(value)
    path = paths[int(rng.integers(len(paths)))]
    part = at(value, path)
    return _with(value, path, _other(part, value, paths, rng), remove=rng.random() < 0.08)


def _with(value: Any, path: Path, new: Any, *, remove: bool) -> Any:
    if not path:
        return new
    holder = at(value, path[:-1])
    if remove:
        del holder[path[-1]]
    elif isinstance(holder, dict) and isinstance(path[-1], str) and path[-1] == new:
        holder["unknown"] = holder.pop(path[-1])
    else:
        holder[path[-1]] = new
    return value


def _other(part: Any, value: Any, paths: list[Path], rng: np.random.Generator) -> Any:
    choice = rng.random()
    if choice < 0.3:
        return INTERESTING[int(rng.integers(len(INTERESTING)))]
    if choice < 0.5:
        return json.loads(json.dumps(at(value, paths[int(rng.integers(len(paths)))])))
    if isinstance(part, bool) or part is None:
        return not part
    if isinstance(part, int | float):
        return part + int(rng.integers(-3, 4)) * 10 ** int(rng.integers(0, 12))
    if isinstance(part, str):
        return _text(part, rng)
    if isinstance(part, list):
        return _list(part, rng)
    key = "\udfff" if rng.random() < 0.2 else str(rng.integers(100))
    return {**part, key: 0}


def _text(part: str, rng: np.random.Generator) -> str:
    place = int(rng.integers(len(part) + 1))
    how = int(rng.integers(5))
    if how == 0:
        return part[:place]
    if how == 1:
        return part + part
    if how == 2:
        return part.upper()
    sign = "0123456789abcdef-Z \n\u00e9"[int(rng.integers(21)) % 21]
    return part[:place] + sign + part[place + (how == 3) :]


def _list(part: list[Any], rng: np.random.Generator) -> list[Any]:
    how = int(rng.integers(4))
    if not part or how == 0:
        return part * 3
    if how == 1:
        return part[::-1]
    place = int(rng.integers(len(part)))
    return [*part, part[place]] if how == 2 else part[:place] + part[place + 1 :]
