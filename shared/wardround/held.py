"""Large pieces beside their message: Flower's object for one, and the reference that travels.

A vector of more than 1 MiB is such a piece, and so is a body, as a whole evidence log is one. Each
is taken up where it broke off.

Inside a process a message holds its vector, however large, without a copy. Our own transport sends
the message with a reference {dtype, size, digest} in its place and the bytes by themselves. Under
a stock SuperNode or Flower's simulation the same message is cut into Flower's objects as any other.
"""

import re
from dataclasses import dataclass
from typing import Any

from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict

from wardround.errors import BadInput
from wardround.vectors import DTYPES, AnyVector, digest_of, in_memory
from wardround.wire import (
    BODY,
    ENTRY,
    INLINE_BYTES,
    PARCEL,
    SERIALISATION,
    VECTOR,
    WireLimits,
)

DTYPE = "dtype"
# What a reference in the parcel has of each piece: its size and its digest.
_FIELDS = {VECTOR: ("size", "digest"), BODY: ("body_size", "body_digest")}
_DIGEST = re.compile(r"[0-9a-f]{64}")
_BYTES = "uint8"


class HeldVector(ArrayRecord):
    """An ArrayRecord whose one array is made only when Flower itself asks for it."""

    def __init__(self, vector: AnyVector) -> None:
        super().__init__()
        self.__dict__["vector"] = vector

    @property
    def vector(self) -> AnyVector:
        """What is held."""
        vector: AnyVector = self.__dict__["vector"]
        return vector

    @property
    def vector_digest(self) -> str:
        """SHA-256 of the bytes in hex; computed once, so the vector must not change."""
        if "digest" not in self.__dict__:
            self.__dict__["digest"] = digest_of(self.vector)
        digest: str = self.__dict__["digest"]
        return digest

    @property
    def children(self) -> Any:  # dict[str, InflatableObject]: a type that Flower keeps to itself
        """As a plain ArrayRecord's."""
        return self._plain().children

    def deflate(self) -> bytes:
        """As a plain ArrayRecord."""
        deflated: bytes = self._plain().deflate()
        return deflated

    def _plain(self) -> ArrayRecord:
        if "plain" not in self.__dict__:
            whole = in_memory(self.vector)
            data = b"" if whole is None else whole.tobytes()
            array = Array(dtype="uint8", shape=(len(data),), stype=SERIALISATION, data=data)
            self.__dict__["plain"] = ArrayRecord({ENTRY: array})
        plain: ArrayRecord = self.__dict__["plain"]
        return plain


@dataclass(frozen=True, slots=True)
class PieceReference:
    """What a message says of a piece that travels beside it; `place` is where it belongs."""

    place: str
    dtype: str
    nbytes: int
    digest: str


def detach(
    content: RecordDict, *, most: int = len(_FIELDS)
) -> tuple[RecordDict, tuple[HeldVector, ...]]:
    """A message's content without its large pieces, which references stand for; and the pieces.

    With `most=1` a large body stays inside when there is a large vector. Content without any comes
    back as it is.
    """
    found = ((place, content.get(place)) for place in _FIELDS)
    held = [(place, part) for place, part in found if isinstance(part, HeldVector)][:most]
    if not held:
        return content, ()
    gone = {place for place, _ in held}
    slim = RecordDict({name: part for name, part in content.items() if name not in gone})
    parcel = ConfigRecord(dict(content.config_records[PARCEL]))
    for place, piece in held:
        size, digest = _FIELDS[place]
        parcel[size], parcel[digest] = piece.vector.nbytes, piece.vector_digest
    slim[PARCEL] = parcel
    return slim, tuple(piece for _, piece in held)


def references_of(content: RecordDict, *, limits: WireLimits) -> tuple[PieceReference, ...]:
    """What the content refers to. Raises BadInput before anything is fetched.

    A vector that is neither small nor referred to is refused too: it would be in memory already.
    """
    parcel = content.get(PARCEL)
    if VECTOR in content:
        raise BadInput("message: a large vector came inside its message")
    if not isinstance(parcel, ConfigRecord):
        return ()
    limit_bytes = {VECTOR: limits.vector_bytes, BODY: limits.body_bytes}
    return tuple(
        _reference(content, parcel, place, limit_bytes=limit_bytes[place])
        for place, fields in _FIELDS.items()
        if set(fields) & set(parcel)
    )


def attach(content: RecordDict, reference: PieceReference, piece: AnyVector) -> None:
    """Put a piece where its reference was, so that `unpack` finds it."""
    parcel, fields = content.config_records[PARCEL], _FIELDS[reference.place]
    kept = {name: value for name, value in parcel.items() if name not in fields}
    content[PARCEL] = ConfigRecord(kept)
    content[reference.place] = HeldVector(piece)


def _reference(
    content: RecordDict, parcel: ConfigRecord, place: str, *, limit_bytes: int
) -> PieceReference:
    nbytes, digest = (parcel.get(field) for field in _FIELDS[place])
    dtype = parcel.get(DTYPE) if place == VECTOR else _BYTES
    if type(nbytes) is not int or not INLINE_BYTES < nbytes <= limit_bytes:
        raise BadInput(f"message: a {place} of {INLINE_BYTES + 1} to {limit_bytes} bytes was due")
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise BadInput(f"message: a reference to a vector of {', '.join(DTYPES)} was due")
    if place in parcel or place in content:
        raise BadInput(f"message: a {place} and a reference to one")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise BadInput(f"message: the SHA-256 of a {place} in hex was due")
    return PieceReference(place, dtype, nbytes, digest)
