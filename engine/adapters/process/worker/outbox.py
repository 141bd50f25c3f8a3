"""The worker's end of the pipe to its pool: whole frames, in order, from any thread and from signal handlers.

Progress of a run goes the same way: a burst at once, then as much as a user can read.
"""

import os
import time
from _thread import allocate_lock
from collections import deque
from collections.abc import Callable
from os import write

import orjson

from engine.core.worker.frames import PROGRESS, TASK_HEAD, frame

_BURST = 20
_PER_S = 20


class Outbox:
    """Writes to the pipe `fd`."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lock = allocate_lock()
        self._waiting: deque[bytes] = deque()
        self._is_copy = False

    def post(self, frame: bytes) -> None:
        """Send a frame, or leave that to the thread that sends now. Waits for no lock that this thread may hold."""
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
        """In a process that a handler has forked: write no frame, neither to the pool nor into a file of its own."""
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


class ProgressReporter:
    """The `report` of one run's context. `message` is the task as it came: its head names token, run and clock."""

    __slots__ = ("_credit", "_last_s", "_message", "_post")

    def __init__(self, post: Callable[[bytes], None], message: bytes) -> None:
        self._post, self._message = post, message
        self._credit, self._last_s = float(_BURST), time.monotonic()

    def __call__(self, fraction: float | None, text: str) -> None:
        now_s = time.monotonic()
        self._credit = min(_BURST, self._credit + (now_s - self._last_s) * _PER_S)
        self._last_s = now_s
        if self._credit < 1 and fraction != 1:
            return
        self._credit -= 1
        _, token, run, _, offset_ms, _ = TASK_HEAD.unpack_from(self._message)
        body = {"fraction": fraction, "message": text[:1000].encode("utf-8", "replace").decode(), "run": run,
                "at_ms": int(now_s * 1000 + offset_ms)}
        self._post(frame(PROGRESS, token, orjson.dumps(body)))
