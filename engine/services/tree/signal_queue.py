"""The signals of a process of the tree: they wake its loop, which takes them between two turns.

A signal handler runs between any two instructions of the loop, so it may touch nothing of it.
"""

import contextlib
import signal
import socket
from collections import deque
from collections.abc import Iterable

from engine.ports.poller import Poller


class SignalQueue:
    """Has these signals queued and others ignored, from now on. `pending` are the numbers of those that have come."""

    def __init__(self, poller: Poller, queued: Iterable[int], ignored: Iterable[int] = ()) -> None:
        self.pending: deque[int] = deque()
        self._reader, self._writer = socket.socketpair()
        for end in (self._reader, self._writer):
            end.setblocking(False)
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        poller.register(self._reader.fileno(), self._drain)
        for number in queued:
            signal.signal(number, lambda number, frame: self.pending.append(number))
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)

    def _drain(self, mask: int) -> None:
        with contextlib.suppress(BlockingIOError):
            self._reader.recv(4096)
