"""Decoders that are written in C, in a process of their own.

A frame whose header is right can still break one: among thousands that were mutated at random, some
ended the process in which GDCM 3.2.6 unpacked them. So that process is a child, which has the frame
and nothing else, bounded memory and bounded time; when it breaks, the file is refused and the next
one gets a new child.
"""

import atexit
import json
import os
import resource
import select
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from typing import IO

from wardround.errors import BadInput
from wardround_client.data.dicom_header import unreadable

TIMEOUT_S = 300.0
MEMORY_LIMIT_BYTES = 4 << 30
CANNOT = "has pixels that cannot be decoded here"
_FRAME = struct.Struct("<IQ")
_DONE, _FAILED = b"\x01", b"\x00"
Options = Mapping[str, str | int]


class DecoderProcess:
    """The child, started for the first frame and again after each one that breaks it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._owner = os.getpid()

    def decoded(self, frame: bytes, options: Options, *, size: int) -> bytes:
        """The `size` bytes that a packed frame becomes, in this machine's byte order.

        Raises BadInput when it becomes something else, breaks its decoder, or takes too long.
        """
        with self._lock:
            child = self._running()
            try:
                said = json.dumps(dict(options)).encode()
                _send(child, _FRAME.pack(len(said), len(frame)) + said + frame)
                until = time.monotonic() + TIMEOUT_S
                if _receive(child, 1, until) == _DONE:
                    return _receive(child, size, until)
            except (OSError, EOFError):
                self._end()
            raise BadInput(CANNOT)

    def close(self) -> None:
        """End the child, if there is one."""
        with self._lock:
            self._end()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._owner != os.getpid():  # a copy of this process: the child is the other one's
            self._child, self._owner = None, os.getpid()
        if self._child is None or self._child.poll() is not None:
            self._end()
            self._child = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__],  # -P: nothing of the folder we are in
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
            )
        return self._child

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is None or self._owner != os.getpid():
            return
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()


DECODER = DecoderProcess()
atexit.register(DECODER.close)


def _send(child: subprocess.Popen[bytes], content: bytes) -> None:
    left = memoryview(content)
    while left and child.stdin is not None:
        left = left[child.stdin.write(left) or 0 :]


def _receive(child: subprocess.Popen[bytes], size: int, until: float) -> bytes:
    if child.stdout is None:
        raise EOFError
    pipe, found = child.stdout.fileno(), bytearray()
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    while len(found) < size:
        if not poll.poll(max(0.0, until - time.monotonic()) * 1000):
            raise TimeoutError
        piece = os.read(pipe, min(size - len(found), 1 << 20))
        if not piece:
            raise EOFError
        found += piece
    return bytes(found)


def _serve(asked: IO[bytes], answers: IO[bytes]) -> None:
    """Decode frame after frame, until nothing is asked any more."""
    from pydicom.encaps import encapsulate  # noqa: PLC0415  # an extra
    from pydicom.pixels.decoders.base import get_decoder  # noqa: PLC0415  # an extra

    while len(head := asked.read(_FRAME.size)) == _FRAME.size:
        said, length = _FRAME.unpack(head)
        options = json.loads(asked.read(said))
        frame = asked.read(length)
        try:
            decoder = get_decoder(options.pop("syntax"))
            values, _ = decoder.as_array(encapsulate([frame]), index=0, **options)
            answer = _DONE + values.tobytes()
        except unreadable():  # anything else ends this process, which is no harm
            answer = _FAILED
        answers.write(answer)
        answers.flush()


def main() -> None:
    """The child: frames come in, pixels go out; the libraries may say nothing."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no pixel
    _serve(sys.stdin.buffer, answers)


if __name__ == "__main__":
    main()
