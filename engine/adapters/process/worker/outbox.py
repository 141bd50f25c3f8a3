"""The worker's end of the pipe to its pool: whole frames, in order, from any thread and from signal handlers."""

import os
from _thread import allocate_lock
from collections import deque
from os import write


class Outbox:
    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = allocate_lock()
        self._waiting: deque[bytes] = deque()
        self._is_copy = False

    def post(self, frame: bytes) -> None:
        """Send a frame, or leave it to whoever is sending now: never waits for a lock that this thread may hold."""
        waiting, lock = self._waiting, self._lock
        waiting.append(frame)
        while waiting and lock.acquire(blocking=False):
            try:
                while waiting:
                    self._write(waiting.popleft())
            finally:
                lock.release()

    def reply(self, frame: bytes) -> None:
        """Send what others have left, then this frame; it is out when this returns. Main thread only."""
        with self._lock:
            while self._waiting:
                self._write(self._waiting.popleft())
            self._write(frame)

    def become_copy(self) -> None:
        """In a process that a handler has forked: it writes no frame, neither to us nor into a file of its own."""
        self._fd, self._is_copy = -1, True
        self._lock = allocate_lock()  # a thread of the original may hold it
        self._waiting.clear()

    def _write(self, frame: bytes) -> None:
        try:
            written = write(self._fd, frame)
            while written < len(frame):  # a signal came in the middle of a long frame
                frame = frame[written:]
                written = write(self._fd, frame)
        except BrokenPipeError:  # the pool is gone; so are we
            os._exit(1)
        except OSError:  # EBADF: the handler has closed our descriptor
            if not self._is_copy:
                raise
