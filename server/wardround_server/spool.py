"""One large vector as it comes from a hospital: straight into a file, hashed on the way.

The file has no name: nobody else can open it, and a coordinator that dies leaves nothing behind.
"""

import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from wardround.vectors import SpooledVector
from wardround_server.refusals import (
    BadDigest,
    RequestTooLarge,
    SpoolFull,
    UploadElsewhere,
    WrongOffset,
)


class Spool:
    """Takes `nbytes` bytes in order, over as many connections as it needs. Thread-safe.

    The last request that was let in writes; the bytes of one before it are refused, since its
    connection is a broken one that has not been noticed yet.
    """

    def __init__(
        self,
        directory: Path,
        *,
        nbytes: int,
        digest: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make the file, mode 0600. Raises SpoolFull when the disk does not let us."""
        self.nbytes = nbytes
        self.digest = digest
        self._clock = clock
        self._lock = threading.Lock()
        try:
            self._file = tempfile.TemporaryFile(dir=directory, buffering=0)  # noqa: SIM115 - it lives until close()
        except OSError as error:
            raise SpoolFull(f"no file for an upload: {type(error).__name__}") from error
        self._hash = hashlib.sha256()
        self._arrived = 0
        self._writer = 0
        self.seen_at = clock()

    @property
    def arrived(self) -> int:
        """How many bytes are here."""
        return self._arrived

    @property
    def complete(self) -> bool:
        """Whether all bytes are here and are those of the digest."""
        return self._arrived == self.nbytes

    def resume(self) -> int:
        """How many bytes are here; whoever was writing has stopped."""
        with self._lock:
            self._writer += 1
            self.seen_at = self._clock()
            return self._arrived

    def claim(self, offset: int) -> int:
        """Let a request write from here on; its number is for `write`. Raises WrongOffset."""
        with self._lock:
            if offset != self._arrived:
                raise WrongOffset(f"bytes from {offset} came, from {self._arrived} are due")
            self._writer += 1
            self.seen_at = self._clock()
            return self._writer

    def write(self, writer: int, pieces: Sequence[bytes]) -> None:
        """Append. Raises UploadElsewhere, RequestTooLarge, SpoolFull or, at the end, BadDigest."""
        # In one piece: each call that waits for the disk or hashes lets another thread go first.
        whole = b"".join(pieces)
        with self._lock:
            if writer != self._writer or self._file.closed:
                raise UploadElsewhere("another request goes on with this upload")
            if self._arrived + len(whole) > self.nbytes:
                raise RequestTooLarge(f"more than the {self.nbytes} bytes that were announced")
            self._append(whole)
            self.seen_at = self._clock()
            if self.complete and self._hash.hexdigest() != self.digest:
                self._arrived, self._hash = 0, hashlib.sha256()
                raise BadDigest("the bytes are not those of the digest")

    def take(self, dtype: str) -> SpooledVector:
        """The vector, when it is complete; it keeps the file after `close`."""
        with self._lock:
            descriptor = os.dup(self._file.fileno())
        return SpooledVector(descriptor, dtype=dtype, nbytes=self.nbytes, digest=self.digest)

    def close(self) -> None:
        """Free the disk; what still comes is refused."""
        with self._lock:
            self._file.close()

    def _append(self, piece: bytes) -> None:
        left = memoryview(piece)
        while left:
            try:
                count = os.pwrite(self._file.fileno(), left, self._arrived)
            except OSError as error:
                raise SpoolFull(f"an upload cannot be written: {type(error).__name__}") from error
            self._hash.update(left[:count])
            self._arrived += count
            left = left[count:]
