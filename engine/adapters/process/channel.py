"""The pool's end of a socket pair that keeps the bounds of packets. It never blocks: what does not fit waits here.

Messages may carry descriptors (to the fork server). Those that nobody has begun
to read can be taken back: the pool holds a copy of the worker's end, too.
"""

import contextlib
import os
import socket
from collections import deque
from collections.abc import Sequence

from engine.adapters.poller import WRITE
from engine.core import frames
from engine.core.frames import PIECE_BYTES_MAX
from engine.ports import Poller

_PACKET_BYTES_MAX = PIECE_BYTES_MAX + 1
_BUFFER_BYTES = 1 << 20


class Channel:
    """Sends messages; `close` closes the descriptors that are still to be sent, too."""

    def __init__(self, ours: socket.socket, poller: Poller) -> None:
        self._socket, self._poller = ours, poller
        self.fd = ours.fileno()
        self._backlog: deque[tuple[bytes, Sequence[int]]] = deque()
        self._is_waiting = False  # for room in the buffer
        ours.setblocking(False)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)

    def send(self, message: bytes, fds: Sequence[int] = ()) -> None:
        """Send or keep for later. To an end that is gone it is lost, as to a reader that dies after reading."""
        if not self._backlog and not fds and len(message) <= PIECE_BYTES_MAX:
            try:
                os.write(self.fd, message)
                return
            except BlockingIOError:
                pass
            except OSError:  # its death is reported elsewhere
                return
        for packet in frames.pieces(message):
            self._backlog.append((packet, fds))
            fds = ()
        self._flush(0)

    def take_back(self, theirs: socket.socket) -> list[bytes]:
        """Take messages out of the buffer of their end, and out of our own; one in pieces only if none was sent yet.

        The reader may take one at the same time: each message goes to one of us.
        """
        taken: list[bytes] = []
        with contextlib.suppress(BlockingIOError):
            while theirs.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) not in (frames.FIRST, frames.FURTHER,
                                                                                frames.LAST, b""):
                taken.append(theirs.recv(_PACKET_BYTES_MAX, socket.MSG_DONTWAIT))
        backlog, joiner = self._backlog, frames.Joiner()
        begun: list[tuple[bytes, Sequence[int]]] = []
        while backlog and backlog[0][0][:1] in (frames.FURTHER, frames.LAST):
            begun.append(backlog.popleft())
        while backlog:
            if (message := joiner.feed(backlog.popleft()[0])) is not None:
                taken.append(message)
        backlog.extend(begun)
        self._flush(0)
        return taken

    def close(self) -> None:
        self._forget_backlog()
        self._wait(False)
        self._socket.close()

    def _flush(self, mask: int) -> None:
        backlog = self._backlog
        try:
            while backlog:
                packet, fds = backlog[0]
                if fds:
                    socket.send_fds(self._socket, [packet], list(fds))
                else:
                    os.write(self.fd, packet)
                backlog.popleft()
                _close(fds)
        except BlockingIOError:
            pass
        except OSError:
            self._forget_backlog()
        self._wait(bool(backlog))

    def _forget_backlog(self) -> None:
        while self._backlog:
            _close(self._backlog.popleft()[1])

    def _wait(self, waiting: bool) -> None:
        """Listen for room in the buffer, or no longer."""
        if waiting and not self._is_waiting:
            self._poller.register(self.fd, self._flush, WRITE)
        elif self._is_waiting and not waiting:
            self._poller.unregister(self.fd)
        self._is_waiting = waiting


def _close(fds: Sequence[int]) -> None:
    for fd in fds:
        os.close(fd)
