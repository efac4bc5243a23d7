"""What one message holds: a kind, a canonical JSON body and at most one vector.

The form is a Flower RecordDict of one ConfigRecord "parcel" {version, kind, nonce, dtype} and two
pieces of bytes, "body" and "vector" (raw, little-endian). A piece of up to 1 MiB lies in the
parcel; a larger one in an ArrayRecord of its own, which our transport sends beside the message
(`wardround.held`) and a stock Flower cuts into chunks. Flower is imported inside the functions
only: whoever verifies evidence reads the protocol without it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from wardround.canonical import Json, canonical_bytes, parse_canonical
from wardround.errors import BadInput
from wardround.randomness import Randomness, system_randomness
from wardround.vectors import DTYPES, AnyVector, SpooledVector, Vector, blocks_of

if TYPE_CHECKING:
    from flwr.app import ConfigRecord, RecordDict

VERSION = 1
NONCE_BYTES = 16
KIND_LIMIT = 40
PARCEL, BODY, VECTOR, ENTRY = "parcel", "body", "vector", "0"
SERIALISATION = "wardround/1 bytes"
INLINE_BYTES = 1024 * 1024
# As Flower 1.41 cuts arrays; a contract test compares.
CHUNK_BYTES = 5 * 1024 * 1024
# Message, RecordDict, ConfigRecord, and ArrayRecord and Array for a large body.
OBJECTS_WITHOUT_CHUNKS = 5
OVERHEAD_BYTES = 64 * 1024
ARRAY_JSON_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class WireLimits:
    """The largest message that is read at all."""

    body_bytes: int = 4 * 1024 * 1024
    vector_bytes: int = 256 * 1024 * 1024

    @property
    def message_bytes(self) -> int:
        """All objects of one message together, what travels beside it left out.

        An answer has one piece beside it: its body is inside where its vector is large as well.
        """
        return self.body_bytes + INLINE_BYTES + OVERHEAD_BYTES

    @property
    def objects(self) -> int:
        """The most objects that one message is made of."""
        return OBJECTS_WITHOUT_CHUNKS + 2 + self.message_bytes // CHUNK_BYTES


DEFAULT_LIMITS = WireLimits()


class Parcel(NamedTuple):
    """One message, read; the vector is read-only, and in a file when our transport put it there."""

    kind: str
    body: Json
    vector: AnyVector | None


def pack(
    kind: str,
    body: Json,
    vector: Vector | None = None,
    *,
    randomness: Randomness = system_randomness,
) -> "RecordDict":
    """Make the content of a Flower message.

    Every parcel carries a fresh nonce: Flower's object store knows objects by their digest, and two
    hospitals that answer with the same bytes would own the same object. A vector of more than 1 MiB
    is not copied: it has to stay as it is until the message has been answered.
    """
    from flwr.app import ConfigRecord, RecordDict  # noqa: PLC0415 - see the module's docstring

    from wardround.held import HeldVector  # noqa: PLC0415 - it imports Flower

    _check_kind(kind)
    parcel = ConfigRecord({"version": VERSION, "kind": kind, "nonce": randomness(NONCE_BYTES)})
    content = RecordDict({PARCEL: parcel})
    piece = canonical_bytes(body)
    if len(piece) <= INLINE_BYTES:
        parcel[BODY] = piece
    else:
        content[BODY] = HeldVector(np.frombuffer(piece, dtype=np.uint8))
    if vector is not None:
        parcel["dtype"], ordered = _ordered(vector)
        if ordered.nbytes <= INLINE_BYTES:
            parcel[VECTOR] = ordered.tobytes()
        else:
            content[VECTOR] = HeldVector(ordered)
    return content


def kind_of(content: "RecordDict") -> str:
    """The kind of a message that `pack` has made, without reading the rest."""
    return str(content[PARCEL]["kind"])


def unpack(content: "RecordDict", *, limits: WireLimits = DEFAULT_LIMITS) -> Parcel:
    """Read what `pack` made, and nothing else. Raises BadInput before anything large is copied."""
    from flwr.app import ConfigRecord  # noqa: PLC0415 - see the module's docstring

    parcel = content.get(PARCEL)
    if not isinstance(parcel, ConfigRecord) or not set(content) <= {PARCEL, BODY, VECTOR}:
        raise BadInput(f"message: a ConfigRecord {PARCEL!r}, {BODY!r} and {VECTOR!r} were due")
    if not set(parcel) <= {"version", "kind", "nonce", "dtype", BODY, VECTOR}:
        raise BadInput("message: the parcel has an unknown field")
    kind = _read_head(parcel)
    body = _piece(content, parcel, BODY, limit_bytes=limits.body_bytes)
    vector = _read_vector(content, parcel, limit_bytes=limits.vector_bytes)
    if body is None or (vector is None) != ("dtype" not in parcel):
        raise BadInput("message: a body, and a dtype together with a vector, were due")
    what = f"body of a {kind!r} message"
    value = parse_canonical(body, what=what, limit_bytes=limits.body_bytes)
    return Parcel(kind, value, vector)


def check_objects(contents: Mapping[str, bytes], *, limits: WireLimits = DEFAULT_LIMITS) -> None:
    """Refuse the objects of a message that would grow when Flower inflates them.

    Flower's Array lists its chunks by index and may name one chunk a million times; it is inflated
    before `unpack` can look at it. Here a chunk may be named only as often as the limit on the
    whole message allows. Raises BadInput.
    """
    if len(contents) > limits.objects:
        raise BadInput(f"message: {len(contents)} objects came, at most {limits.objects} are due")
    total = sum(len(content) for content in contents.values())
    if total > limits.message_bytes:
        raise BadInput(f"message: {total} bytes came, at most {limits.message_bytes} are allowed")
    for content in contents.values():
        head, _, body = content.partition(b"\x00")
        if head.startswith(b"Array "):
            children = head.split(b" ")[1].decode("ascii", "replace").split(",")
            sizes = [len(contents.get(child, b"")) for child in children]
            _check_chunks(body, sizes, limits.message_bytes)


def _check_chunks(body: bytes, sizes: list[int], limit_bytes: int) -> None:
    if len(body) > ARRAY_JSON_BYTES:
        raise BadInput(f"message: an array's description has {len(body)} bytes")
    try:
        chunks = json.loads(body)["arraychunk_ids"]
        total = sum(sizes[index] for index in chunks)
    except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
        raise BadInput("message: an array's description is not what Flower writes") from error
    if total > limit_bytes:
        raise BadInput(f"message: a vector would need {total} bytes, allowed are {limit_bytes}")


def _ordered(vector: Vector) -> tuple[str, Vector]:
    dtype = str(vector.dtype)
    if dtype not in DTYPES or vector.ndim != 1:
        raise BadInput(f"vector: one dimension of {', '.join(DTYPES)} was due, {dtype} came")
    ordered: Vector = np.ascontiguousarray(vector, dtype=DTYPES[dtype])
    return dtype, ordered


def _read_head(parcel: "ConfigRecord") -> str:
    version, kind, nonce = (parcel.get(field) for field in ("version", "kind", "nonce"))
    if type(version) is not int or version != VERSION:
        raise BadInput(f"message: version {VERSION} was due")
    if not isinstance(kind, str) or not isinstance(nonce, bytes) or len(nonce) != NONCE_BYTES:
        raise BadInput(f"message: a kind and a nonce of {NONCE_BYTES} bytes were due")
    _check_kind(kind)
    return kind


def _piece(
    content: "RecordDict", parcel: "ConfigRecord", name: str, *, limit_bytes: int
) -> bytes | None:
    """The bytes of one piece, wherever its size puts them; None when there is none."""
    record = content.get(name)
    if record is None:
        piece = parcel.get(name)
    else:
        piece = _record_bytes(record, name, limit_bytes=limit_bytes)
    if piece is None:
        return None
    if not isinstance(piece, bytes):
        raise BadInput(f"message: {name} has to be bytes")
    if len(piece) > limit_bytes:
        raise BadInput(
            f"message: a {name} of {len(piece)} bytes came, at most {limit_bytes} are due"
        )
    if (record is None) != (len(piece) <= INLINE_BYTES) or (record is not None and name in parcel):
        raise BadInput(f"message: {name} is not where its size puts it")  # one value, one spelling
    return piece


def _record_bytes(record: object, name: str, *, limit_bytes: int) -> bytes:
    from flwr.app import ArrayRecord  # noqa: PLC0415 - see the module's docstring

    from wardround.held import HeldVector  # noqa: PLC0415 - it imports Flower

    if isinstance(record, HeldVector):
        held = record.vector
        if str(held.dtype) != "uint8" or held.nbytes > limit_bytes:
            raise BadInput(f"message: a {name} of at most {limit_bytes} bytes was due")
        return b"".join(map(bytes, blocks_of(held)))
    if not isinstance(record, ArrayRecord) or set(record) != {ENTRY}:
        raise BadInput(f"message: {name} has to be an ArrayRecord of one array")
    array = record[ENTRY]
    if (array.dtype, array.stype, array.shape) != ("uint8", SERIALISATION, (len(array.data),)):
        raise BadInput(f"message: {name} has to be one dimension of {SERIALISATION!r}")
    return array.data


def _read_vector(
    content: "RecordDict", parcel: "ConfigRecord", *, limit_bytes: int
) -> AnyVector | None:
    from wardround.held import HeldVector  # noqa: PLC0415 - it imports Flower

    held, dtype = content.get(VECTOR), parcel.get("dtype")
    if isinstance(held, HeldVector):
        if VECTOR in parcel or str(held.vector.dtype) != dtype or held.vector.nbytes > limit_bytes:
            raise BadInput(f"vector: {dtype!r} of at most {limit_bytes} bytes was due")
        return _read_only(held.vector)
    data = _piece(content, parcel, VECTOR, limit_bytes=limit_bytes)
    if data is None:
        return None
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise BadInput(f"vector: {', '.join(DTYPES)} was due")
    if len(data) % np.dtype(DTYPES[dtype]).itemsize:
        raise BadInput(f"vector: {len(data)} bytes are no number of {dtype} entries")
    vector: Vector = np.frombuffer(data, dtype=DTYPES[dtype])
    return vector


def _read_only(vector: AnyVector) -> AnyVector:
    if isinstance(vector, SpooledVector):
        return vector
    seen = vector.view()
    seen.flags.writeable = False
    return seen


def _check_kind(kind: str) -> None:
    if not (0 < len(kind) <= KIND_LIMIT and kind.isascii() and kind.replace("-", "a").isalpha()):
        raise BadInput(f"message kind {kind[:KIND_LIMIT]!r}: letters and '-' were due")
