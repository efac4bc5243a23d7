"""A large vector beside its message: Flower's object for it, and the reference that travels.

A body of more than 1 MiB, as a whole evidence log is one, travels as a vector of bytes where its
message has no other: one large piece goes beside a message, and is taken up where it broke off.

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

SIZE, DIGEST, DTYPE = "size", "digest", "dtype"
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
class VectorReference:
    """What a message says of the vector that travels beside it."""

    dtype: str
    nbytes: int
    digest: str


def detach(content: RecordDict) -> tuple[RecordDict, HeldVector | None]:
    """A message's content without its large vector or body, which a reference stands for.

    Content without one comes back as it is.
    """
    place = VECTOR if VECTOR in content else BODY
    held = content.get(place)
    if not isinstance(held, HeldVector):
        return content, None
    slim = RecordDict({name: part for name, part in content.items() if name != place})
    parcel = ConfigRecord(dict(content.config_records[PARCEL]))
    parcel[SIZE], parcel[DIGEST] = held.vector.nbytes, held.vector_digest
    slim[PARCEL] = parcel
    return slim, held


def reference_of(content: RecordDict, *, limits: WireLimits) -> VectorReference | None:
    """What the content refers to, or None. Raises BadInput before anything is fetched.

    A vector that is neither small nor referred to is refused too: it would be in memory already.
    """
    parcel = content.get(PARCEL)
    if VECTOR in content:
        raise BadInput("message: a large vector came inside its message")
    if not isinstance(parcel, ConfigRecord) or not {SIZE, DIGEST} & set(parcel):
        return None
    is_body = DTYPE not in parcel and not (BODY in content or BODY in parcel)
    limit_bytes = limits.body_bytes if is_body else limits.vector_bytes
    dtype, nbytes, digest = (parcel.get(field) for field in (DTYPE, SIZE, DIGEST))
    dtype = _BYTES if is_body else dtype
    if type(nbytes) is not int or not INLINE_BYTES < nbytes <= limit_bytes:
        raise BadInput(f"message: a vector of {INLINE_BYTES + 1} to {limit_bytes} bytes was due")
    if not isinstance(dtype, str) or dtype not in DTYPES or VECTOR in parcel:
        raise BadInput(f"message: a reference to a vector of {', '.join(DTYPES)} was due")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise BadInput("message: a vector's SHA-256 in hex was due")
    return VectorReference(dtype, nbytes, digest)


def attach(content: RecordDict, vector: AnyVector) -> None:
    """Put the vector, or the body, where the reference was, so that `unpack` finds it."""
    parcel = content.config_records[PARCEL]
    kept = {name: value for name, value in parcel.items() if name not in {SIZE, DIGEST}}
    content[PARCEL] = ConfigRecord(kept)
    content[VECTOR if DTYPE in kept else BODY] = HeldVector(vector)
