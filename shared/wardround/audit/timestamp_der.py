"""As much DER as a time stamp token needs around the library that reads it (X.690).

A token's certificates are a SET OF: DER wants them sorted, and authorities that run OpenSSL send
them as they come. No signature covers their order, so a token is put in order before it is kept.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from wardround.errors import BadInput

_SEQUENCE, _INTEGER, _CERTIFICATES = 0x30, 0x02, 0xA0
_LONGEST_LENGTH = 4
_GRANTED = bytes((_SEQUENCE, 3, _INTEGER, 1, 0))


@dataclass(frozen=True, slots=True)
class Element:
    """One element of `source`: its tag, where it begins, and where its content lies."""

    source: bytes
    tag: int
    start: int
    content: int
    end: int

    @property
    def encoded(self) -> bytes:
        """Its bytes, tag and length with them."""
        return self.source[self.start : self.end]

    def children(self) -> Iterator["Element"]:
        """The elements of its content, in order. Raises BadInput where they do not fill it."""
        at = self.content
        while at < self.end:
            child = _element(self.source, at, self.end)
            yield child
            at = child.end


def whole(source: bytes, what: str) -> Element:
    """The one SEQUENCE that `source` has to be. Raises BadInput."""
    found = _element(source, 0, len(source))
    if found.tag != _SEQUENCE or found.end != len(source):
        raise BadInput(f"{what}: one DER sequence was due")
    return found


def token_of(response: bytes) -> bytes | None:
    """The token in a TimeStampResp (RFC 3161, 2.4.2); None where it holds a refusal alone."""
    parts = list(whole(response, "time stamp reply").children())
    if not 1 <= len(parts) <= 2:
        raise BadInput(f"time stamp reply: {len(parts)} parts came, 1 or 2 are due")
    return in_order(parts[1].encoded) if len(parts) == 2 else None


def as_response(token: bytes) -> bytes:
    """A TimeStampResp that grants this token: the library reads nothing smaller."""
    content = _GRANTED + token
    return bytes((_SEQUENCE,)) + _length(len(content)) + content


def in_order(token: bytes) -> bytes:
    """The token with its certificates sorted as DER wants them (X.690, 11.6); else unchanged.

    Raises BadInput for what is no ContentInfo of SignedData in its outline. (RFC 5652, 5.1)
    """
    what = "time stamp"
    try:
        _, content = whole(token, what).children()
        (signed_data,) = content.children()
    except ValueError as error:
        raise BadInput(f"{what}: a CMS content was due") from error
    for part in signed_data.children():
        if part.tag == _CERTIFICATES:
            ordered = b"".join(sorted(child.encoded for child in part.children()))
            return token[: part.content] + ordered + token[part.end :]
    return token


def _element(source: bytes, at: int, end: int) -> Element:
    content = at + 2
    if content > end:
        raise BadInput("time stamp: DER that ends within an element")
    length = source[at + 1]
    if length >= 0x80:
        digits = length & 0x7F
        if not 1 <= digits <= _LONGEST_LENGTH or content + digits > end:
            raise BadInput("time stamp: no length of DER")
        length = int.from_bytes(source[content : content + digits], "big")
        content += digits
    if content + length > end:
        raise BadInput("time stamp: DER that ends within an element")
    return Element(source, source[at], at, content, content + length)


def _length(count: int) -> bytes:
    if count < 0x80:
        return bytes((count,))
    digits = count.to_bytes((count.bit_length() + 7) // 8, "big")
    return bytes((0x80 | len(digits),)) + digits
