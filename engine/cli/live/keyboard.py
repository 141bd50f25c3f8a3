"""Keys as they are pressed, by name; the terminal is put back however it ends."""

import os
import re
import select
import signal
import sys
import termios
import tty
from types import FrameType, TracebackType
from typing import Any, Self

_NAMES = {"\x1b[A": "up", "\x1bOA": "up", "k": "up", "\x1b[B": "down", "\x1bOB": "down", "j": "down", "\t": "tab",
          "\x1b[C": "right", "\x1bOC": "right", "\x1b[D": "left", "\x1bOD": "left", "\x1b[Z": "backtab",
          "\x1b": "escape", "\r": "enter", "\n": "enter", "\x03": "quit", "\x04": "quit",
          "q": "quit", "Q": "quit", "h": "?", "\x1b[5~": "page up", "\x1b[6~": "page down"}
_KEYS = re.compile(r"\x1b[\[O][0-9;]*[A-Za-z~]|.", re.DOTALL)
_CONTROL = 6  # where termios keeps the control characters
_NONE = b"\x00"
_BYTES_MAX = 256


def named(data: bytes) -> list[str]:
    """The names of keys, from what a terminal sends for them; a key that has no name is its own character."""
    return [_NAMES.get(key, key) for key in _KEYS.findall(data.decode(errors="ignore"))]


class Keyboard:
    """While inside, each key comes at once and is not shown, and SIGTERM ends the program through its `finally`s."""

    def __init__(self) -> None:
        self._descriptor = sys.stdin.fileno()
        self._before: list[Any] = []
        self._on_sigterm: Any = None

    def __enter__(self) -> Self:
        self._before = termios.tcgetattr(self._descriptor)
        self._on_sigterm = signal.signal(signal.SIGTERM, _leave)
        tty.setcbreak(self._descriptor)
        changed = termios.tcgetattr(self._descriptor)
        changed[_CONTROL][termios.VSUSP] = _NONE  # stopped by ctrl-Z, it would leave its screen behind
        termios.tcsetattr(self._descriptor, termios.TCSANOW, changed)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        termios.tcsetattr(self._descriptor, termios.TCSAFLUSH, self._before)
        signal.signal(signal.SIGTERM, self._on_sigterm)

    def wait(self, seconds: float, beside: int) -> list[str]:
        """The keys that were pressed, as soon as there are any, `beside` can be read or the time is over."""
        ready, _, _ = select.select([self._descriptor, beside], [], [], max(0.0, seconds))
        if self._descriptor not in ready:
            return []
        data = os.read(self._descriptor, _BYTES_MAX)
        return named(data) if data else ["quit"]


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
