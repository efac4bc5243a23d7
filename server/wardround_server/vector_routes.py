"""Large vectors on their way, beside Flower: the model down, an update up, each resumable.

`/v1/vectors/LETTER` answers the hospital that has the letter; `Wardround-Vector: SHA-256` says
which vector is meant, or which body. GET with `Range: bytes=N-` gives that of the letter from byte
N on, out of the one buffer that all hospitals share. PUT with `Content-Range: bytes N-M/SIZE` takes
that of the answer from byte N on; POST with `Content-Range: bytes */SIZE` says how many bytes of it
are here. (RFC 9110, 14)
"""

import asyncio
import re
from http import HTTPStatus

from wardround.vectors import bytes_of, in_memory
from wardround_server.asgi import Receive, Scope, Send, body_pieces, header_of
from wardround_server.flower_adapter import FlowerFleet
from wardround_server.presence import Presence
from wardround_server.refusals import GatewayRefusal, MalformedRequest, NoSuchRoute
from wardround_server.spool import Spool

VECTOR_PREFIX = "/v1/vectors/"
TEXT, OCTETS = b"text/plain", b"application/octet-stream"
# What all vectors under way hold in memory together: each has two blocks, small ones when they are
# many. Thirty hospitals with large blocks would add up to a model.
BLOCKS_BYTES = 8 << 20
_FEW = 4
SMALLEST_BLOCK_BYTES, LARGEST_BLOCK_BYTES = 64 << 10, 1 << 20
_LETTER = re.compile(r"[0-9a-f]{64}")
_DIGEST = re.compile(rb"[0-9a-f]{64}")
_RANGE = re.compile(rb"bytes=([0-9]{1,15})-")
_CONTENT_RANGE = re.compile(rb"bytes (?:([0-9]{1,15})-([0-9]{1,15})|\*)/([0-9]{1,15})")


class VectorRoutes:
    """The three methods; all of it runs in the gateway's event loop, writing beside it."""

    def __init__(self, fleet: FlowerFleet, presence: Presence) -> None:
        self._fleet = fleet
        self._presence = presence
        self._under_way = 0

    async def answer(
        self, hospital: str, scope: Scope, receive: Receive, send: Send
    ) -> tuple[bytes, bytes] | None:
        """Carry out one request; None when the answer has been sent. Raises GatewayRefusal."""
        letter = scope["path"].removeprefix(VECTOR_PREFIX)
        if not _LETTER.fullmatch(letter):
            raise NoSuchRoute(scope["path"])
        self._under_way += 1
        try:
            if scope["method"] == "GET":
                await self._give(hospital, letter, scope, send)
                return None
            if scope["method"] not in {"PUT", "POST"}:
                raise NoSuchRoute(scope["path"])
            spool, offset, length = self._asked(hospital, letter, scope)
            if offset is not None:
                await self._take(hospital, spool, offset, length, scope, receive)
            return TEXT, b"%d" % (spool.resume() if offset is None else spool.arrived)
        finally:
            self._under_way -= 1

    @property
    def _block_bytes(self) -> int:
        share = BLOCKS_BYTES // (2 * self._under_way)
        return max(SMALLEST_BLOCK_BYTES, min(LARGEST_BLOCK_BYTES, share))

    async def _give(self, hospital: str, letter: str, scope: Scope, send: Send) -> None:
        digest = header_of(scope, b"wardround-vector").decode("ascii", "replace")
        held = in_memory(self._fleet.vector_for(hospital, letter, digest).vector)
        if held is None:
            raise NoSuchRoute("no vector")
        whole = bytes_of(held)
        match = _RANGE.fullmatch(header_of(scope, b"range"))
        offset = int(match[1]) if match else len(whole)
        if offset >= len(whole):
            raise MalformedRequest(f"a range that begins before byte {len(whole)} was due")
        headers = [
            (b"content-type", OCTETS),
            (b"content-length", b"%d" % (len(whole) - offset)),
            (b"content-range", b"bytes %d-%d/%d" % (offset, len(whole) - 1, len(whole))),
        ]
        status = int(HTTPStatus.PARTIAL_CONTENT)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        while offset < len(whole):
            if not self._is_wanted(hospital, letter, digest):
                return  # unfinished, so that uvicorn closes the connection
            self._presence.seen(hospital)
            block = whole[offset : offset + self._block_bytes]
            offset += len(block)
            more = offset < len(whole)
            await send({"type": "http.response.body", "body": block, "more_body": more})

    def _is_wanted(self, hospital: str, letter: str, digest: str) -> bool:
        try:
            self._fleet.vector_for(hospital, letter, digest)
        except GatewayRefusal:  # it was withdrawn while it went out
            return False
        return True

    def _asked(self, hospital: str, letter: str, scope: Scope) -> tuple[Spool, int | None, int]:
        """The upload that is meant, where it goes on (None for a question), and how many bytes."""
        digest = header_of(scope, b"wardround-vector")
        match = _CONTENT_RANGE.fullmatch(header_of(scope, b"content-range"))
        if match is None or not _DIGEST.fullmatch(digest):
            raise MalformedRequest("a content-range and the vector's SHA-256 in hex were due")
        size = int(match[3])
        asks = match[1] is None
        if size == 0 or asks != (scope["method"] == "POST"):
            raise MalformedRequest("bytes N-M/SIZE to send, or bytes */SIZE to ask, were due")
        offset, last = (0, 0) if asks else (int(match[1]), int(match[2]))
        if not offset <= last < size:
            raise MalformedRequest(f"bytes {offset} to {last} of {size}")
        spool = self._fleet.upload_for(hospital, letter, nbytes=size, digest=digest.decode())
        return spool, None if asks else offset, last + 1 - offset

    async def _take(
        self,
        hospital: str,
        spool: Spool,
        offset: int,
        length: int,
        scope: Scope,
        receive: Receive,
    ) -> None:
        """Write the body beside the event loop, a block while the next one comes."""
        writer = spool.claim(offset)
        pieces: list[bytes] = []
        size = 0
        writing: asyncio.Task[None] | None = None
        try:
            async for piece in body_pieces(scope, receive, limit_bytes=length):
                pieces.append(piece)
                size += len(piece)
                if size < self._block_bytes:
                    continue
                if writing is not None:
                    await writing
                self._presence.seen(hospital)
                writing = asyncio.create_task(asyncio.to_thread(spool.write, writer, pieces))
                pieces, size = [], 0
                if self._under_way > _FEW:
                    await writing  # enough others keep both sides busy
        finally:
            # What came before a connection broke counts: the upload goes on after it.
            if writing is not None:
                await writing
            await asyncio.to_thread(spool.write, writer, pieces)
