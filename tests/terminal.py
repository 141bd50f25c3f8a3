"""A program in a terminal of its own, as a person would see it: its screen as text, and keys to press."""

import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyte

PATIENCE_S = 20.0
UP, DOWN = "\x1b[A", "\x1b[B"


class Terminal:
    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: Path, columns: int = 80,
                 lines: int = 24) -> None:
        self.environment = environment
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(folder)
            os.execve(command[0], list(command), {**environment, "TERM": "xterm-256color", "LANG": "C.UTF-8"})
        self.raw = b""
        self.code: int | None = None  # with which it has ended
        self._screen = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._screen)
        self.resize(columns, lines)
        self.modes_before = self._modes()

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self._screen.resize(lines, columns)

    @property
    def lines(self) -> list[str]:
        return [line.rstrip() for line in self._screen.display]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def press(self, keys: str) -> None:
        os.write(self.fd, keys.encode())

    def until(self, seen: Callable[[str], object]) -> str:
        """Read what it draws until the screen is as wanted; returns the screen."""
        until_s = time.monotonic() + PATIENCE_S
        while not seen(self.text):
            assert self._read(until_s), self.text
        return self.text

    def see(self, words: str) -> str:
        return self.until(lambda text: words in text)

    def end(self) -> int:
        """Read to its end; returns its exit code."""
        until_s = time.monotonic() + PATIENCE_S
        while self._read(until_s):
            pass
        self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.code

    def hang_up(self) -> int:
        """Close it under the program, as closing its window does; returns the program's exit code."""
        os.close(self.fd)
        self.fd = -1
        self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.code

    @property
    def is_as_before(self) -> bool:
        """Whether the terminal does with keys and output what it did at first."""
        return self._modes() == self.modes_before

    def close(self) -> None:
        """End it, if it has not ended."""
        if self.code is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        if self.fd >= 0:
            os.close(self.fd)

    def _modes(self) -> list[object]:
        return list(termios.tcgetattr(self.fd))

    def _read(self, until_s: float) -> bool:
        ready, _, _ = select.select([self.fd], [], [], max(0.0, until_s - time.monotonic()))
        if not ready:
            return False
        try:
            part = os.read(self.fd, 65_536)
        except OSError:  # what Linux says when the other side has closed
            return False
        self.raw += part
        self._stream.feed(part)
        return bool(part)
