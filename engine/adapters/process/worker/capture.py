"""What a run prints and logs, as rows for its log: capped per run, then only counted.

sys.stdout, sys.stderr and the logging module of a worker lead here. Output past Python (C code, children) is on the
worker's descriptors 1 and 2, which the pool reads itself.

The first rows of a run are sent line by line, so that a user that watches sees them at once. A run that writes much is
sent in larger pieces, since each row costs the supervisor a few microseconds.

In a process that a handler has forked, all of these are ordinary streams on descriptors 1 and 2.
"""

import logging
import os
import sys
import time
import traceback
from collections.abc import Callable

import orjson

from engine.adapters.process.own_frames import FOLDER
from engine.adapters.process.worker.outcomes import traceback_of
from engine.adapters.process.worker.streams import CapturedStream
from engine.core.worker.frames import LOG, NO_RUN, TASK_HEAD, frame

_NOT_THE_USERS = (FOLDER, os.path.dirname(logging.__file__), "<string>")
_ROW_OVERHEAD_BYTES = 64  # what a row costs beside its text; so a cap in bytes bounds the number of rows too


class OutputCapture:
    """The log of the run that is going on, and before the first run that of the start hooks.

    `post` sends a frame; `bytes_max` of each run are kept. `message` is the task as it came: its head names token, run
    and clock.
    """

    def __init__(self, post: Callable[[bytes], None], bytes_max: int) -> None:
        self._post, self._bytes_max = post, bytes_max
        self.message = b""
        self.used = 0  # not 0 as soon as anything was printed
        self.dropped = 0
        self.rows = 0
        self.stdout, self.stderr = CapturedStream(self, "stdout", 1), CapturedStream(self, "stderr", 2)
        self._is_copy = False

    def install(self) -> None:
        """Take over stdout, stderr and the root logger of this process."""
        theirs = {sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__}
        sys.stdout, sys.stderr = self.stdout, self.stderr
        root = logging.getLogger()
        for handler in root.handlers[:]:
            if isinstance(handler, logging.StreamHandler) and handler.stream in theirs:
                root.removeHandler(handler)  # else each record would be in the log twice
        if root.level == logging.WARNING and not root.handlers:
            root.setLevel(logging.INFO)
        root.addHandler(_LogHandler(self))

    def reset(self) -> None:
        """A new run begins."""
        self.used = self.dropped = self.rows = 0
        self.stdout.forget()
        self.stderr.forget()

    def become_copy(self) -> None:
        """In a forked process: nothing goes to the pool from here, and nothing is cut."""
        self._is_copy, self.used, self._bytes_max = True, 0, sys.maxsize
        self.stdout.become_plain()
        self.stderr.become_plain()

    def finish(self) -> int:
        """The run is over: send what is left; return how many bytes were thrown away."""
        self.stdout.push()
        self.stderr.push()
        return self.dropped

    @property
    def is_full(self) -> bool:
        """Whether the log of the run has as many bytes as it may have."""
        return self.used >= self._bytes_max

    def row(self, stream: str, level: str | None, text: str) -> None:
        """Send one row, as much of it as there is room for."""
        if self._is_copy:
            self.stderr.write(f"{text}\n")
            return
        room = self._bytes_max - self.used - _ROW_OVERHEAD_BYTES
        encoded = text.encode("utf-8", "replace")
        if room <= 0:
            self.used = self._bytes_max
            self.dropped += len(encoded)
            return
        self.dropped += max(0, len(encoded) - room)
        self.used += min(len(encoded), room) + _ROW_OVERHEAD_BYTES
        self.rows += 1
        row = {"stream": stream, "level": level, "text": encoded[:room].decode("utf-8", "ignore")}
        if not self.message:  # a start hook
            self._post(frame(LOG, NO_RUN, orjson.dumps(row)))
            return
        _, token, run, _, offset_ms, _ = TASK_HEAD.unpack_from(self.message)
        moment = {"at_ms": int(time.monotonic() * 1000 + offset_ms), "run": run}
        self._post(frame(LOG, token, orjson.dumps(moment | row)))


class _LogHandler(logging.Handler):
    def __init__(self, capture: OutputCapture) -> None:
        super().__init__()
        self._capture = capture

    def emit(self, record: logging.LogRecord) -> None:
        capture = self._capture
        if capture.is_full:
            capture.dropped += len(str(record.msg))
        else:
            try:
                capture.row("log", record.levelname, self.format(record))
            except Exception:  # noqa: BLE001  arguments that don't fit the message: logging's own way to say so
                self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """As logging tells it, but of the call stack only what is the user's."""
        error = sys.exc_info()[1]
        if not logging.raiseExceptions or error is None:
            return
        stack = [frame for frame in traceback.extract_stack() if not frame.filename.startswith(_NOT_THE_USERS)]
        self._capture.stderr.write("".join((
            "--- Logging error ---\n", traceback_of(error) or "".join(traceback.format_exception_only(error)),
            "Call stack:\n", *traceback.format_list(stack), f"Message: {record.msg!r}\n",
            f"Arguments: {record.args!r}\n")))
