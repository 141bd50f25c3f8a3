"""How the root and its children speak: JSON messages, one a packet, on a socket pair that each child inherits.

The same channel is the child's lifeline: when its other end is gone, so is the root.
"""

import contextlib
import socket
from collections.abc import Callable
from typing import Any

import orjson

from engine.ports import Poller

_PACKET_BYTES_MAX = 1 << 18


class Channel:
    """One end. `receive` is called from the poller with each message, and with None once at the end."""

    def __init__(self, end: socket.socket, poller: Poller, receive: Callable[[dict[str, Any] | None], None]) -> None:
        self._end, self._poller, self._receive = end, poller, receive
        self._open = True
        end.setblocking(False)
        poller.register(end.fileno(), self._ready)

    @staticmethod
    def pair() -> tuple[socket.socket, socket.socket]:
        return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    def send(self, message: dict[str, Any]) -> None:
        """Never blocks: a message to a peer that has stopped reading is dropped, as are those to one that is gone."""
        if self._open:
            with contextlib.suppress(BlockingIOError, ConnectionError):
                self._end.send(orjson.dumps(message))

    def close(self) -> None:
        if self._open:
            self._open = False
            self._poller.unregister(self._end.fileno())
            self._end.close()

    def _ready(self, mask: int) -> None:
        while self._open:
            try:
                packet = self._end.recv(_PACKET_BYTES_MAX)
            except BlockingIOError:
                return
            except ConnectionError:
                packet = b""
            if not packet:
                self.close()
                self._receive(None)
                return
            self._receive(orjson.loads(packet))
