"""The answer that is on its way, on disk: a hospital that dies delivers it when it comes back.

One file, mode 0600, with nothing in it but what leaves anyway. It is written before the first byte
leaves and emptied when the coordinator has the answer or does not want it. (RFC 5321, 4.5.4.1 asks
the same of a mail server.) It is synced: it outlives the power, too (decision 0013, with what that
costs).
"""

import hashlib
import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from wardround.durable import sync_folder
from wardround.errors import BadInput
from wardround.framing import frame, unframe

log = logging.getLogger(__name__)

_MAGIC = b"wardround-outbox-1\n"
_WORD, _DIGEST_BYTES = 8, 32
_MOST_PARTS = 64


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as it travels: Flower's envelope and objects, and a large vector beside them."""

    letter: str
    envelope: bytes = field(repr=False)
    objects: Sequence[bytes] = field(repr=False)
    vector: memoryview | None = field(default=None, repr=False)
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Outbox:
    """The one file; for one process. `limit_bytes` bounds it."""

    path: Path
    limit_bytes: int

    def keep(self, reply: Reply) -> None:
        """Write the answer; it is on disk when this returns. Raises BadInput, OSError."""
        head = frame([reply.letter.encode(), reply.digest.encode(), reply.envelope, *reply.objects])
        size = len(head) + (0 if reply.vector is None else len(reply.vector))
        if size > self.limit_bytes:
            raise BadInput(f"outbox: an answer of {size} bytes, at most {self.limit_bytes} fit")
        is_new = not self.path.exists()
        descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            lengths = len(head).to_bytes(_WORD, "big")
            _write_all(file.fileno(), _MAGIC + lengths + hashlib.sha256(head).digest() + head)
            if reply.vector is not None:
                _write_all(file.fileno(), reply.vector)
            os.fsync(file.fileno())
        if is_new:
            sync_folder(self.path.parent)

    def left(self) -> Reply | None:
        """What was kept and not emptied; None, and an empty file, for what is not whole."""
        try:
            return self._read()
        except FileNotFoundError:
            return None
        except (BadInput, OSError, ValueError) as error:
            log.warning("outbox: what was left is not whole (%s)", type(error).__name__)
            self.empty()
            return None

    def empty(self) -> None:
        """The answer has arrived, or is not wanted.

        Not synced: one that comes back is told so by the coordinator, and is emptied again.
        """
        if self.path.exists():
            os.truncate(self.path, 0)

    def _read(self) -> Reply | None:
        with self.path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size == 0:
                return None
            start = len(_MAGIC) + _WORD + _DIGEST_BYTES
            prefix = file.read(start)
            length = int.from_bytes(prefix[len(_MAGIC) : len(_MAGIC) + _WORD], "big")
            if not prefix.startswith(_MAGIC) or start + length > min(size, self.limit_bytes):
                raise BadInput("outbox: not a kept answer")
            head = file.read(length)
            if hashlib.sha256(head).digest() != prefix[-_DIGEST_BYTES:]:
                raise BadInput("outbox: a kept answer that was not written to its end")
            letter, digest, envelope, *objects = unframe(head, most_parts=_MOST_PARTS)
            vector = None
            if digest:
                # Not mapped: a file that is emptied under a mapping ends the process.
                vector = memoryview(file.read(self.limit_bytes))
                if hashlib.sha256(vector).hexdigest() != digest.decode():
                    raise BadInput("outbox: a kept vector that was not written to its end")
        return Reply(letter.decode(), envelope, objects, vector, digest.decode())


def _write_all(descriptor: int, content: bytes | memoryview) -> None:
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]
