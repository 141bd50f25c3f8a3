"""How a link to Redis begins: address, TLS, user and protocol are redis-py's business, in a thread of its own.

That may take as long as the network likes; the loop hears of its end through a socket pair.
"""

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import hiredis

from engine.adapters.clock import RedisClock
from engine.adapters.redis.wire.connection import Connections
from engine.errors import GangerError
from engine.ports.poller import Poller

READ_BYTES = 1 << 18
NOTHING = object()  # what a reader gives when there is no whole reply


def new_reader() -> Any:
    return hiredis.Reader(notEnoughData=NOTHING)


class Handshake:
    """Connects, speaks RESP3, subscribes to the channel, and sets the clock by this server's. With a `schema_key`
    it refuses data of a format that we do not know.

    `done(handshake)` is called from the loop: `error` says what went wrong, or `connection` and `socket` are there.
    Raises `OSError` or `RuntimeError` if the kernel has no descriptor or no thread left.
    """

    def __init__(self, url: str, channel: str, clock: RedisClock, poller: Poller, timeout_s: float,
                 done: Callable[["Handshake"], None], schema_key: str = "") -> None:
        self.error: str | None = "the handshake broke off"
        self.connection: Any = None
        self.socket: socket.socket | None = None
        self._url, self._channel, self._clock, self._poller, self._timeout_s = url, channel, clock, poller, timeout_s
        self._done, self._schema_key = done, schema_key
        self._ours, self._theirs = socket.socketpair()
        poller.register(self._ours.fileno(), self._ended)
        try:
            threading.Thread(target=self._connect, name="redis-handshake", daemon=True).start()
        except RuntimeError:  # the kernel has none to give
            self._close_pair()
            raise

    def abandon(self) -> None:
        self._close_pair()

    def _connect(self) -> None:
        try:
            connection: Any = Connections(self._url, timeout_s=self._timeout_s, schema_key=self._schema_key).open()
            self.connection = connection
            self._introduce(connection._sock)
            self.socket, self.error = connection._sock, None
        except (OSError, GangerError, hiredis.HiredisError, ValueError, TypeError) as error:
            self.error = f"{type(error).__name__}: {error}"
        finally:
            with contextlib.suppress(OSError):
                self._theirs.send(b".")

    def _introduce(self, end: socket.socket) -> None:
        """Switch to RESP3, subscribe, and set the clock: three commands, one round trip."""
        sent_s = time.monotonic()
        hello: list[tuple[Any, ...]] = [("HELLO", 3), ("SUBSCRIBE", self._channel), ("TIME",)]
        end.sendall(b"".join(map(hiredis.pack_command, hello)))
        reader, replies = new_reader(), list[Any]()
        while len(replies) < 3:
            data = end.recv(READ_BYTES)
            if not data:
                raise ConnectionResetError("Redis closed the connection")
            reader.feed(data)
            while (reply := reader.gets()) is not NOTHING:
                if isinstance(reply, hiredis.ReplyError):
                    raise reply
                replies.append(reply)
        seconds, microseconds = replies[2]
        self._clock.calibrate(int(seconds) * 1000 + int(microseconds) / 1000, sent_s, time.monotonic())

    def _ended(self, mask: int) -> None:
        self._close_pair()
        self._done(self)

    def _close_pair(self) -> None:
        self._poller.unregister(self._ours.fileno())
        self._ours.close()
        self._theirs.close()
