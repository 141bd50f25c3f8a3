"""sys.stdout and sys.stderr of a worker, and their `buffer`: what is written there becomes rows of the run's log.

In a process that a handler has forked they are ordinary streams on descriptors 1 and 2.
"""

import codecs
import io
import os
import time
from contextlib import suppress
from threading import RLock
from typing import Any, Protocol

_ROWS_AT_ONCE = 256  # of one run, each line on its own; after these in pieces
_PIECE_CHARS = 4096
_PIECE_S = 0.1


class OutputRows(Protocol):
    """Where a stream sends its rows, and what is known of the run's log."""

    used: int  # not 0 as soon as anything was printed
    dropped: int
    rows: int

    @property
    def is_full(self) -> bool:
        """Whether further rows would be dropped."""

    def row(self, stream: str, level: str | None, text: str) -> None:
        """Send a row of `stream`; `level` is that of a log record."""


class CapturedStream(io.TextIOBase):
    """sys.stdout or sys.stderr of a worker."""

    def __init__(self, capture: OutputRows, name: str, fd: int) -> None:
        self._capture, self._stream, self._fd = capture, name, fd
        self._lock = RLock()
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._parts: list[str] = []
        self._chars = 0
        self._sent_s = 0.0
        self._plain: io.TextIOWrapper | None = None  # what it is in a forked process
        self.buffer = _Bytes(self)

    mode = "w"
    line_buffering = True
    write_through = False

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
        if self._plain is not None:
            return self._plain.write(text)
        capture = self._capture
        if capture.is_full:
            capture.dropped += len(text)
        elif text:
            with self._lock:
                self._add(text)
        return len(text)

    def write_bytes(self, data: bytes) -> None:
        """Bytes for `buffer`: a character may be split over two of these."""
        if self._plain is not None:
            self._plain.flush()
            self._plain.buffer.write(data)
            self._plain.flush()
        else:
            self.write(self._decoder.decode(data))

    def flush(self) -> None:
        """Send what is held back, unless the run writes too much."""
        if self._plain is not None:
            self._plain.flush()
            return
        with self._lock:
            if self._parts and self._is_time():
                self.push()

    def become_plain(self) -> None:
        """In a forked process: an ordinary text stream. What the original holds back, the original will send."""
        self._lock = RLock()  # a thread of the original may hold it
        self.forget()
        try:
            self._plain = open(self._fd, "w", encoding="utf-8", errors="replace", buffering=1,  # noqa: SIM115
                               closefd=False)
        except OSError:  # the handler has closed the descriptor
            self._plain = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115

    def push(self) -> None:
        """Send everything, ended by a newline or not."""
        with self._lock:
            if rest := self._decoder.decode(b"", final=True):
                self._parts.append(rest)
            if self._parts:
                text = "".join(self._parts)
                self.forget()
                self._send(text)

    def forget(self) -> None:
        """Drop what is held back."""
        self._parts, self._chars = [], 0
        self._decoder.reset()

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


class _Bytes(io.BufferedIOBase):
    """`sys.stdout.buffer`, for code that prints bytes. It stays open when a wrapper around it is dropped."""

    mode = "wb"

    def __init__(self, stream: CapturedStream) -> None:
        self._stream = stream

    @property
    def name(self) -> str:
        return self._stream.name

    @property
    def raw(self) -> "_Bytes":
        return self

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._stream.fileno()

    def write(self, data: Any) -> int:
        data = bytes(data)
        self._stream.write_bytes(data)
        return len(data)

    def flush(self) -> None:
        with suppress(ValueError):
            self._stream.flush()

    def close(self) -> None:
        self.flush()
