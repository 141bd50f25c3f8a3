"""What a run prints and logs, as rows for its log: capped per run, then only counted.

sys.stdout, sys.stderr and the logging module of a worker lead here; output that
goes round Python (C code, children) is on the worker's descriptors 1 and 2,
which the pool reads itself.

The first rows of a run are sent line by line, so that somebody who watches sees
them at once; a run that talks much is sent in larger pieces, since each row
costs the supervisor a few microseconds.
"""

import io
import logging
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from threading import RLock
from typing import Any

import orjson

from engine.core.frames import LOG, TASK_HEAD, frame

_ROWS_AT_ONCE = 256  # of one run, each line on its own; after these in pieces
_PIECE_CHARS = 4096
_PIECE_S = 0.1
_ROW_OVERHEAD_BYTES = 64  # what a row costs beside its text; so a cap in bytes bounds the number of rows too


class Capture:
    """The log of the run that is going on. `message` is the task as it came: its head names token, run and clock."""

    def __init__(self, post: Callable[[bytes], None], bytes_max: int) -> None:
        self._post, self._bytes_max = post, bytes_max
        self.message = b""
        self.used = 0  # not 0 as soon as anything was printed
        self.dropped = 0
        self.rows = 0
        self.stdout, self.stderr = Stream(self, "stdout", 1), Stream(self, "stderr", 2)

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

    def finish(self) -> int:
        """The run is over: send what is left; return how many bytes were thrown away."""
        self.stdout.push()
        self.stderr.push()
        return self.dropped

    @property
    def is_full(self) -> bool:
        return self.used >= self._bytes_max

    def row(self, stream: str, level: str | None, text: str) -> None:
        """Send one row, as much of it as there is room for."""
        room = self._bytes_max - self.used - _ROW_OVERHEAD_BYTES
        encoded = text.encode("utf-8", "replace")
        if room <= 0 or not self.message:
            self.used = max(self.used, 1) if room > 0 else self._bytes_max
            self.dropped += len(encoded)
            return
        self.dropped += max(0, len(encoded) - room)
        self.used += min(len(encoded), room) + _ROW_OVERHEAD_BYTES
        self.rows += 1
        _, token, run, _, offset_ms, _ = TASK_HEAD.unpack_from(self.message)
        row = {"at_ms": int(time.monotonic() * 1000 + offset_ms), "run": run, "stream": stream, "level": level,
               "text": encoded[:room].decode("utf-8", "ignore")}
        self._post(frame(LOG, token, orjson.dumps(row)))


class Stream(io.TextIOBase):
    """sys.stdout or sys.stderr of a worker."""

    def __init__(self, capture: Capture, name: str, fd: int) -> None:
        self._capture, self._stream, self._fd = capture, name, fd
        self._lock = RLock()
        self._parts: list[str] = []
        self._chars = 0
        self._sent_s = 0.0
        self.buffer = _Bytes(self)

    @property
    def name(self) -> str:
        return f"<{self._stream}>"

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        return "replace"

    def fileno(self) -> int:
        return self._fd

    def reconfigure(self, **options: Any) -> None:
        """Encoding and buffering are not ours to choose; some libraries ask at import."""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        capture = self._capture
        if capture.is_full:
            capture.dropped += len(text)
        elif text:
            with self._lock:
                self._add(text)
        return len(text)

    def flush(self) -> None:
        with self._lock:
            if self._parts and self._is_time():
                self.push()

    def push(self) -> None:
        """Send everything, ended by a newline or not."""
        with self._lock:
            if self._parts:
                text = "".join(self._parts)
                self.forget()
                self._send(text)

    def forget(self) -> None:
        self._parts, self._chars = [], 0

    def _add(self, text: str) -> None:
        self._capture.used = self._capture.used or 1
        self._parts.append(text)
        self._chars += len(text)
        if "\n" in text and self._is_time():
            head, newline, tail = "".join(self._parts).rpartition("\n")
            self._parts, self._chars = ([tail] if tail else []), len(tail)
            self._send(head + newline)
        elif self._chars > _PIECE_CHARS:
            self.push()

    def _is_time(self) -> bool:
        return (self._capture.rows < _ROWS_AT_ONCE or self._chars >= _PIECE_CHARS
                or time.monotonic() - self._sent_s > _PIECE_S)

    def _send(self, text: str) -> None:
        self._sent_s = time.monotonic()
        self._capture.row(self._stream, None, text)


class _Bytes(io.RawIOBase):
    """`sys.stdout.buffer`, for those who print bytes."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._stream.fileno()

    def write(self, data: Any) -> int:
        self._stream.write(bytes(data).decode("utf-8", "replace"))
        return len(data)

    def flush(self) -> None:
        with suppress(ValueError):
            self._stream.flush()


class _LogHandler(logging.Handler):
    def __init__(self, capture: Capture) -> None:
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
