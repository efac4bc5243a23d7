"""Several pieces of bytes in one: a count, then each with its length (big-endian, 4 bytes).

One request carries all objects of a letter; Flower's own routes carry one each.
"""

from collections.abc import Sequence

from wardround.errors import BadInput

_WORD = 4


def frame(parts: Sequence[bytes]) -> bytes:
    """Put the parts together.

    >>> unframe(frame([b"a", b""]), most_parts=2)
    [b'a', b'']
    """
    pieces = [len(parts).to_bytes(_WORD, "big")]
    for part in parts:
        pieces += [len(part).to_bytes(_WORD, "big"), part]
    return b"".join(pieces)


def unframe(framed: bytes, *, most_parts: int) -> list[bytes]:
    """Take the parts apart. Raises BadInput unless it is exactly what `frame` makes."""
    count = int.from_bytes(framed[:_WORD], "big")
    if len(framed) < _WORD or count > most_parts:
        raise BadInput(f"frame: at most {most_parts} parts were due")
    parts, offset = [], _WORD
    for _ in range(count):
        starts = offset + _WORD
        ends = starts + int.from_bytes(framed[offset:starts], "big")
        if starts > len(framed) or ends > len(framed):
            raise BadInput("frame: it ends within a part")
        parts.append(framed[starts:ends])
        offset = ends
    if offset != len(framed):
        raise BadInput(f"frame: {len(framed) - offset} bytes came after the last part")
    return parts
