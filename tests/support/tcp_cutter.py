"""A TCP relay on loopback that cuts connections after so many bytes, in either direction."""

import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress


class TcpCutter:
    """Relays to `port`; the n-th connection is cut after `cuts[n]` bytes, later ones never.

    Bytes of both directions count together; a cut is a reset, as when a router forgets. With
    `stalls` the connection stays, and nothing goes through it any more.
    """

    stalls = False

    def __init__(self, port: int, cuts: Sequence[int]) -> None:
        self._target = port
        self._cuts = list(cuts)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self.cut = 0
        self._sockets: list[socket.socket] = []
        self._left: list[int | None] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Cut everything, take no connection any more."""
        self._listener.close()
        self.reset()

    def cut_after(self, count: int) -> None:
        """Cut the newest connection when so many bytes more have gone through."""
        self._left[0] = count

    def reset(self) -> None:
        """Cut every connection that is there."""
        for each in self._sockets:
            _reset(each)

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._sockets += [client, server]
                limit = self._cuts.pop(0) if self._cuts else None
                self.connections += 1
                self._relay(client, server, limit)

    def _relay(self, client: socket.socket, server: socket.socket, limit: int | None) -> None:
        left = self._left = [limit]
        lock = threading.Lock()

        def allowed(count: int) -> int:
            with lock:
                if left[0] is None:
                    return count
                count = min(count, left[0])
                left[0] -= count
                return count

        for source, sink in ((client, server), (server, client)):
            ended = self._ended(client, server, left)
            threading.Thread(target=_pump, args=(source, sink, allowed, ended), daemon=True).start()

    def _ended(self, client: socket.socket, server: socket.socket, left: list[int | None]):
        def ended() -> None:
            if left[0] == 0:
                left[0] = -1
                self.cut += 1
            if self.stalls and left[0] == -1:
                return
            _reset(client)
            _reset(server)

        return ended


def _pump(
    source: socket.socket,
    sink: socket.socket,
    allowed: Callable[[int], int],
    ended: Callable[[], None],
) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            count = allowed(len(data))
            sink.sendall(data[:count])
            if count < len(data):
                break
    ended()


def _reset(each: socket.socket) -> None:
    with suppress(OSError):
        each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    with suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    with suppress(OSError):
        each.close()
