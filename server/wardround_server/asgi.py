"""What an ASGI application is handed (ASGI 3.0), and how a request is read with a limit.

https://asgi.readthedocs.io/en/latest/specs/main.html
"""

from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from wardround_server.refusals import MalformedRequest, RequestTooLarge

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]


def header_of(scope: Scope, name: bytes) -> bytes:
    """The first header of this name (lower case), or nothing."""
    value: bytes
    for header, value in scope["headers"]:
        if header == name:
            return value
    return b""


async def body_pieces(scope: Scope, receive: Receive, *, limit_bytes: int) -> AsyncIterator[bytes]:
    """Yield the body as it comes; refuse it by its announced length, or once it is too long.

    Raises MalformedRequest when the connection ends within it.
    """
    announced = header_of(scope, b"content-length")
    if announced and int(announced) > limit_bytes:
        raise RequestTooLarge(f"{int(announced)} bytes, at most {limit_bytes} are allowed")
    size, more = 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise MalformedRequest("the connection ended within the request")
        piece: bytes = message.get("body", b"")
        size += len(piece)
        if size > limit_bytes:
            raise RequestTooLarge(f"more than {limit_bytes} bytes")
        more = message.get("more_body", False)
        yield piece


async def read_body(scope: Scope, receive: Receive, *, limit_bytes: int) -> bytes:
    """The whole body, of at most `limit_bytes`."""
    pieces = [piece async for piece in body_pieces(scope, receive, limit_bytes=limit_bytes)]
    return b"".join(pieces)
