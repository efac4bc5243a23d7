"""A message's content: its kind and body, strictly checked, and its vector."""

from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from wardround.errors import ProtocolViolation
from wardround.protocol.messages import BODIES, Body, Kind
from wardround.study.files import checked
from wardround.vectors import AnyVector
from wardround.wire import WireLimits, pack, unpack

if TYPE_CHECKING:
    from flwr.app import RecordDict

Vector = npt.NDArray[Any]
VectorT = TypeVar("VectorT", bound=AnyVector)
BODY_LIMIT_BYTES = 64 << 20  # a whole evidence log travels at the end of a run
LANE_BYTES = 4
_KINDS = {body: kind for kind, body in BODIES.items()}


def seal(body: Body, vector: Vector | None = None) -> "RecordDict":
    """Make the content of a message."""
    return pack(_KINDS[type(body)].value, body.model_dump(mode="json"), vector)


def unseal(content: "RecordDict", *, lanes: int) -> tuple[Body, AnyVector | None]:
    """Read the content of a message; a vector may have the bytes of `lanes` 32-bit values.

    A large vector that came to a coordinator lies in a file (`wardround.vectors`). Raises
    ProtocolViolation or BadInput naming the part that is wrong.
    """
    limits = WireLimits(body_bytes=BODY_LIMIT_BYTES, vector_bytes=LANE_BYTES * lanes)
    kind, value, vector = unpack(content, limits=limits)
    if kind not in list(Kind):
        raise ProtocolViolation(f"message: unknown kind {kind[:40]!r}")
    body = checked(BODIES[Kind(kind)], value, what=f"message {kind}")
    return body, vector


def vector_due(
    vector: VectorT | None, *, dtype: type[np.generic], lanes: int, what: str
) -> VectorT:
    """The vector, when it has `lanes` entries of `dtype`. ProtocolViolation names what came."""
    if vector is None:
        raise ProtocolViolation(f"{what}: a vector was due, none came")
    if vector.dtype != dtype or vector.shape != (lanes,):
        raise ProtocolViolation(
            f"{what}: {np.dtype(dtype)} of shape ({lanes},) was due, "
            f"{vector.dtype} of shape {vector.shape} came"
        )
    return vector
