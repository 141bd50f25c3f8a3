"""The pool's end of a worker's pipe for tasks. It never blocks: what does not fit waits here.

A pipe in packet mode (O_DIRECT) keeps the bounds of each write, so that messages that were not read can be taken back
one by one. It costs half of what a socket does. The pool opens the worker's end a second time for that.
"""

import fcntl
import os
from collections import deque
from contextlib import suppress

from engine.core.worker import frames
from engine.core.worker.frames import PACKET_BYTES_MAX
from engine.ports.poller import WRITE, Poller

_PIPE_BYTES = 1 << 18  # a packet takes a page, however short: this is 64 of them
_F_SETPIPE_SZ = 1031


class TaskChannel:
    """`theirs` is the worker's end, to be handed over."""

    def __init__(self, poller: Poller) -> None:
        self.theirs, self._fd = os.pipe2(os.O_CLOEXEC | os.O_DIRECT)
        self._poller = poller
        self._backlog: deque[bytes] = deque()
        self._is_waiting = False  # for room in the pipe
        self._second = os.open(f"/proc/self/fd/{self.theirs}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        os.set_blocking(self._fd, False)
        with suppress(OSError):  # over the user's share of pipe memory: more waits here, then
            fcntl.fcntl(self._fd, _F_SETPIPE_SZ, _PIPE_BYTES)

    def send(self, message: bytes) -> None:
        """Send, or keep for later."""
        if not self._backlog and len(message) <= PACKET_BYTES_MAX:
            try:
                os.write(self._fd, message)
                return
            except BlockingIOError:
                pass
        self._backlog.extend(frames.pieces(message))
        self._flush()

    def take_back(self) -> list[bytes]:
        """Take every message that the worker has not begun to read, oldest first.

        The reader may take one at the same time: each goes to one of us. One in pieces can end up with neither; then
        it is in what this returns, without its end, and the reader passes over what it got.
        """
        packets: list[bytes] = []
        with suppress(BlockingIOError):
            while packet := os.read(self._second, PACKET_BYTES_MAX):
                packets.append(packet)
        packets.extend(self._backlog)
        self._backlog.clear()
        messages, begun = frames.sort_taken(packets)
        self._backlog.extend(begun)
        self._flush()
        return messages

    def close(self) -> None:
        """Close the pool's descriptors."""
        self._wait(False)
        os.close(self._fd)
        os.close(self._second)

    def _flush(self, mask: int = 0) -> None:
        backlog = self._backlog
        with suppress(BlockingIOError):
            while backlog:
                os.write(self._fd, backlog[0])
                backlog.popleft()
        self._wait(bool(backlog))

    def _wait(self, waiting: bool) -> None:
        """Listen for room in the pipe, or no longer."""
        if waiting and not self._is_waiting:
            self._poller.register(self._fd, self._flush, WRITE)
        elif self._is_waiting and not waiting:
            self._poller.unregister(self._fd)
        self._is_waiting = waiting
