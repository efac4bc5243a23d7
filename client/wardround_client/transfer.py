"""A large vector or body on its way: taken up again where it broke off, whole and once.

Down: out of the coordinator's one buffer into ours, hashed as it comes. Up: from where it lies.
(Decision 0013; the coordinator's side is `wardround_server.vector_routes`.)
"""

import hashlib
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Protocol

import numpy as np

from wardround.errors import ProtocolViolation, Unreachable
from wardround.held import PieceReference
from wardround.vectors import DTYPES, Vector
from wardround_client.tls import Answer, HttpsClient

VECTOR_PREFIX = "/v1/vectors/"
DIGEST_HEADER = "wardround-vector"
ANSWER_LIMIT_BYTES = 1024


class Interrupted(Unreachable):
    """Something on the way was lost; it is taken up again."""


class CheckStatus(Protocol):
    """Raises in words what a refusal means."""

    def __call__(self, answer: Answer) -> None:
        """Do nothing for a good answer."""
        ...


class Download:
    """One large piece of a letter, as far as it has come."""

    def __init__(self, letter: str, reference: PieceReference) -> None:
        """Take the memory for it; its size was checked against the limits."""
        self._path = VECTOR_PREFIX + letter
        self.reference = reference
        self._buffer = np.empty(reference.nbytes, dtype=np.uint8)
        self._hash = hashlib.sha256()
        self._arrived = 0

    def go_on(self, https: HttpsClient, check: CheckStatus) -> Vector:
        """Fetch what is missing. Raises Unreachable to be called again, ProtocolViolation."""
        if self._arrived < self.reference.nbytes:
            into = self._buffer[self._arrived :].data
            headers = {
                "range": f"bytes={self._arrived}-",
                DIGEST_HEADER: self.reference.digest,
            }
            answer = https.get_into(self._path, into, headers=headers, arrived=self._take)
            if answer.status != HTTPStatus.PARTIAL_CONTENT:
                check(answer)
                raise ProtocolViolation(f"vector: an answer with status {answer.status}")
        if self._hash.hexdigest() != self.reference.digest:
            raise ProtocolViolation("vector: the bytes are not those that the message refers to")
        vector: Vector = self._buffer.view(DTYPES[self.reference.dtype])
        return vector

    def _take(self, part: memoryview) -> None:
        self._hash.update(part)
        self._arrived += len(part)


@dataclass(slots=True)
class Upload:
    """The vector of one answer; `asks` when some of it may be there already."""

    letter: str
    content: memoryview = field(repr=False)
    digest: str
    asks: bool = False

    def go_on(self, https: HttpsClient, check: CheckStatus) -> None:
        """Send what is missing. Raises Unreachable to be called again, else what `check` says."""
        offset = self._there(https, check) if self.asks else 0
        self.asks = True
        size = len(self.content)
        if offset < size:
            headers = {
                "content-range": f"bytes {offset}-{size - 1}/{size}",
                "content-type": "application/octet-stream",
                DIGEST_HEADER: self.digest,
            }
            part = self.content[offset:]
            path = VECTOR_PREFIX + self.letter
            answer = https.put(path, part, limit_bytes=ANSWER_LIMIT_BYTES, headers=headers)
            offset = _arrived(answer, check)
        if offset != size:
            raise Interrupted(f"vector: {offset} of {size} bytes have arrived")

    def _there(self, https: HttpsClient, check: CheckStatus) -> int:
        headers = {"content-range": f"bytes */{len(self.content)}", DIGEST_HEADER: self.digest}
        path = VECTOR_PREFIX + self.letter
        answer = https.post(path, b"", limit_bytes=ANSWER_LIMIT_BYTES, headers=headers)
        arrived = _arrived(answer, check)
        if arrived > len(self.content):
            raise ProtocolViolation(f"vector: {arrived} bytes have arrived, more than were sent")
        return arrived


def _arrived(answer: Answer, check: CheckStatus) -> int:
    check(answer)
    if not answer.content.isdigit() or len(answer.content) > 15:
        raise ProtocolViolation("vector: a number of bytes was due")
    return int(answer.content)
